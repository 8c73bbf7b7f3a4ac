"""Search in the parts of a vector index that have a graph, and the union of what parts found."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .family import OpenPart
from .vector_exact import search_exactly
from .vector_graph import Graph, has_faiss, open_graph, search_graph
from .vector_part import open_coded
from .vector_topk import exact_scores

FEW_ROWS = 20_000
"""With fewer live rows than this a part is searched exactly, graph or not."""

FEW_SHARE = 0.1
"""The same for the share of live rows: a walk through rows that do not count finds too little."""


class VectorPart:
    """A part that is open; its graph is opened when it is first walked."""

    def __init__(self, opened: OpenPart, dimensions: int, dtype: str) -> None:
        self.opened = opened
        self.coded = open_coded(opened, dimensions, dtype)

    @cached_property
    def graph(self) -> Graph:
        return open_graph(self.opened.part, self.coded.vectors)

    def takes_graph(self, live: Bitmap | None, search: str) -> bool:
        """Whether a search among the live rows walks the graph."""
        if "links" not in self.opened.part or (search == "auto" and not has_faiss()):
            return False
        if live is None:
            return True
        count = int(live.sum())
        return count >= FEW_ROWS and count >= FEW_SHARE * self.opened.rows


def search_by_graph(
    part: VectorPart, live: Bitmap | None, queries: NDArray[np.float32], k: int, effort: int
) -> Neighbours:
    """The k best rows that the graph leads to, with exact scores.

    The fewer rows are live, the more are looked at. Queries for which the walk finds fewer than k
    although there are more are walked again with four times the effort, then searched exactly.
    """
    count = part.opened.rows if live is None else int(live.sum())
    effort = round(max(effort, 2 * k) * part.opened.rows / max(count, 1))
    rows = np.full((len(queries), k), -1, np.int64)
    short = np.arange(len(queries))
    for tries in (effort, 4 * effort):
        rows[short] = search_graph(part.graph, queries[short], k, tries, live)
        short = short[(rows[short] >= 0).sum(axis=1) < min(k, count)]
        if not len(short):
            break
    found = _scored(part, rows, queries)
    if len(short):
        exact = search_exactly([(part.coded, live)], queries[short], k)
        found.numbers[short], found.scores[short] = exact.numbers, exact.scores
    return found


def _scored(part: VectorPart, rows: NDArray[np.int64], queries: NDArray[np.float32]) -> Neighbours:
    """Rows (queries, k) with the scores of the stored vectors, -1 standing for no row."""
    numbers = np.where(rows >= 0, rows + part.opened.base, -1)
    scores = np.full(rows.shape, -np.inf, np.float32)
    which, places = (np.ascontiguousarray(at) for at in np.nonzero(rows >= 0))
    some = rows[which, places]
    scores[which, places] = exact_scores(part.coded.vectors, some, queries, which)
    return Neighbours(numbers, scores)


def best_of(found: Sequence[Neighbours], k: int) -> Neighbours:
    """The k best of several results over different passages, padded with -1 and -inf."""
    queries, width = len(found[0].numbers), sum(one.numbers.shape[1] for one in found)
    numbers = np.full((queries, max(k, width)), -1, np.int64)
    scores = np.full(numbers.shape, -np.inf, np.float32)
    np.concatenate([one.numbers for one in found], axis=1, out=numbers[:, :width])
    np.concatenate([one.scores for one in found], axis=1, out=scores[:, :width])
    # as unsigned numbers -1 is the greatest, which loses every tie
    order = np.lexsort((numbers.view(np.uint64), -scores), axis=1)[:, :k]
    return Neighbours(
        np.take_along_axis(numbers, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )
