"""Search in the parts of a vector index that have a structure, and the union over parts."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .family import OpenPart
from .vector_device import DevicePart
from .vector_exact import search_exactly
from .vector_finders import Finder, has_structure, open_finder
from .vector_part import open_coded
from .vector_scores import in_order

if TYPE_CHECKING:
    from .vector import Vector

FEW_ROWS = 20_000
"""With fewer live rows than this a part is searched exactly, structure or not."""

FEW_SHARE = 0.1
"""The same for the share of live rows: a way through rows that do not count finds too little."""


class VectorPart:
    """A part that is open; its structure is opened when it is first needed."""

    def __init__(self, opened: OpenPart, family: "Vector") -> None:
        self.opened, self._family = opened, family
        self.coded = open_coded(opened, family.dimensions, family.dtype)

    @cached_property
    def finder(self) -> Finder:
        return open_finder(self.opened, self.coded, self._family)

    @cached_property
    def on_cuda(self) -> DevicePart:
        return DevicePart(self.coded, "cuda")

    def is_approximate(self, live: Bitmap | None) -> bool:
        """Whether a search among the live rows takes the structure."""
        if not has_structure(self.opened, self._family.search):
            return False
        if live is None:
            return True
        count = int(live.sum())
        return count >= FEW_ROWS and count >= FEW_SHARE * self.opened.rows


def search_approximately(
    part: VectorPart, live: Bitmap | None, queries: NDArray[np.float32], k: int
) -> Neighbours:
    """The k best rows that the structure leads to, with exact scores.

    The fewer rows are live, the more are looked at. Queries for which fewer than k are found
    although there are more look at four times as many, and are then searched exactly.
    """
    count = part.opened.rows if live is None else int(live.sum())
    wider = part.opened.rows / max(count, 1)
    found = part.finder.find(queries, k, live, wider)
    for exact in (False, True):
        short = np.flatnonzero((found.numbers >= 0).sum(axis=1) < min(k, count))
        if not len(short):
            break
        if exact:
            more = search_exactly([(part.coded, live)], queries[short], k)
        else:
            more = part.finder.find(queries[short], k, live, 4 * wider)
        found.numbers[short], found.scores[short] = more.numbers, more.scores
    return found


def best_of(found: Sequence[Neighbours], k: int) -> Neighbours:
    """The k best of several results over different passages, padded with -1 and -inf."""
    queries, width = len(found[0].numbers), sum(one.numbers.shape[1] for one in found)
    numbers = np.full((queries, max(k, width)), -1, np.int64)
    scores = np.full(numbers.shape, -np.inf, np.float32)
    np.concatenate([one.numbers for one in found], axis=1, out=numbers[:, :width])
    np.concatenate([one.scores for one in found], axis=1, out=scores[:, :width])
    return in_order(numbers, scores, k)
