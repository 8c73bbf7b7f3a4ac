"""The inverted index over impacts: learned sparse vectors, found by their inner product.

A score is the sum of query weight times stored passage weight, in float32, the heaviest query terms
first, so that it is the same, to the bit, however the passage came into the index.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours, WeightedTerms
from .addresses import address_of
from .family import OpenPart, part_in_memory
from .impact_part import ImpactPart, Rows, write_impacts
from .impact_search import ALL, CAPACITY, MARGIN, STATE, K, search_impacts
from .impact_weights import Weights, values
from .inverted_builder import SymbolsOf
from .inverted_check import require
from .postings import RANGE
from .stored import rising
from .vocabulary import RankedTerms, Vocabulary, packed, ranked
from .weighted_terms import check_queries

if TYPE_CHECKING:
    from ..storage import PartWriter


LEAST_TOP = 1e-7


class ImpactBuilder:
    """The impacts of one segment, in memory in the order of the passages until `write`."""

    def __init__(self, symbols_of: SymbolsOf, kind: Weights) -> None:
        self._symbols_of, self._kind = symbols_of, kind
        self._vocabulary = Vocabulary()
        self._rows: list[Rows] = []

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._vocabulary.nbytes + sum(a.nbytes for rows in self._rows for a in rows)

    def add(self, keys: WeightedTerms) -> None:
        """Append passages."""
        symbols = self._symbols_of(keys)
        numbers = self._vocabulary.number(keys.vocabulary).astype(np.uint32)
        self._rows.append((np.diff(keys.offsets), numbers[keys.ids], symbols))

    def write(self, writer: "PartWriter") -> None:
        """Write the part; nothing may be added afterwards."""
        terms = self._vocabulary.ranked()
        kept, top = np.zeros(terms.distinct, np.bool_), 0
        for _, words, symbols in self._rows:
            kept[terms.ranks[words]] = True
            top = max(top, int(symbols.max(initial=0)))
        rows = ((counts, terms.ranks[words], symbols) for counts, words, symbols in self._rows)
        write_impacts(writer, rows, terms, kept, heaviest(top, self._kind), self._kind)


def heaviest(symbol: int, kind: Weights) -> float:
    """The weight of the highest symbol, which anchors the codes of a part."""
    if kind == "uint8":
        return float(values(kind, 1.0)[255])
    return max(float(np.array(symbol, np.uint16).view(np.float16)), LEAST_TOP)


def merge_impacts(parts: Sequence[OpenPart], writer: "PartWriter", kind: Weights) -> None:
    """Write the live rows of several parts, in order, as one part."""
    opened = [ImpactPart(part, kind) for part in parts]
    terms = ranked([(part.text, part.arrays["ends"]) for part in opened])
    ranks = np.split(terms.ranks, np.cumsum([part.words for part in opened])[:-1])
    for own in ranks:
        require(rising(own, terms.distinct), "terms")
    kept, top = _survey(opened, ranks, terms)
    rows = (
        (counts, own[words], symbols)
        for part, own in zip(opened, ranks, strict=True)
        for counts, words, symbols in part.live()
    )
    write_impacts(writer, rows, terms, kept, heaviest(top, kind), kind)


def _survey(
    opened: Sequence[ImpactPart], ranks: Sequence[NDArray[np.uint32]], terms: RankedTerms
) -> tuple[NDArray[np.bool_], int]:
    """Which terms the live rows have, and their highest symbol."""
    kept, top = np.zeros(terms.distinct, np.bool_), 0
    for part, own in zip(opened, ranks, strict=True):
        for _, words, symbols in part.live():
            kept[own[words]] = True
            top = max(top, int(symbols.max(initial=0)))
    return kept, top


class ImpactIndex:
    """An index over the parts of its segments.

    margin: the share of what unread postings could add that is allowed for; with 1 it is exact.
    """

    def __init__(
        self, parts: Sequence[OpenPart], kind: Weights, margin: float, symbols_of: SymbolsOf
    ) -> None:
        self._kind, self._margin, self._symbols_of = kind, round(margin * ALL), symbols_of
        self._parts = [ImpactPart(part, kind) for part in parts]
        self._spare: list[_Scratch] = []

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        return sum(part.rows for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        return sum(part.opened.part.nbytes for part in self._parts)

    def add(self, numbers: NDArray[np.int64], keys: WeightedTerms) -> None:
        """Append passages in memory. numbers: the next ones, ``arange(rows, rows + n)``."""
        added = part_in_memory(
            ImpactBuilder(self._symbols_of, self._kind), numbers, keys, self.rows
        )
        self._parts.append(ImpactPart(added, self._kind))
        self._spare = []

    def search(self, keys: WeightedTerms, k: int, *, allowed: Bitmap | None = None) -> Neighbours:
        """The k best live passages of each query, as `stages.Index` says.

        allowed: (rows,) bool. Raises UsageError for k < 1 or a bitmap of another size, InputError
        for a query weight that is negative or not finite; a weight of zero counts as no term.
        """
        check_queries(keys, k, allowed, self.rows)
        numbers = np.full((len(keys), k), -1, np.int64)
        scores = np.full((len(keys), k), -np.inf, np.float32)
        text, ends, ids = _used_terms(keys)
        masks = [part.mask for part in self._parts]
        if allowed is not None:
            masks = [_allowed_rows(part, allowed) for part in self._parts]
        eligible = [_eligible(part, mask) for part, mask in zip(self._parts, masks, strict=True)]
        with self._scratch(min(k, max(self.rows, 1))) as scratch:
            search_impacts(
                np.array([address_of(part.fields) for part in self._parts], np.int64),
                text,
                ends,
                keys.offsets,
                ids,
                keys.weights,
                np.full((len(ends), len(self._parts)), -2, np.int32),
                np.array([address_of(mask) for mask in masks], np.int64),
                np.concatenate([np.zeros(0, np.int64), *eligible]),
                scratch.state,
                scratch.sums,
                scratch.keys,
                scratch.slots,
                numbers,
                scores,
            )
        return Neighbours(numbers, scores)

    @contextmanager
    def _scratch(self, k: int) -> Iterator["_Scratch"]:
        """Memory for one search at a time; searches in other threads take their own."""
        spare = self._spare
        scratch = spare.pop() if spare else _Scratch(max((p.words for p in self._parts), default=0))
        scratch.prepare(k, self._margin)
        yield scratch
        spare.append(scratch)


class _Scratch:
    """Sums and slots, which are zero between searches, and room for the best."""

    def __init__(self, terms: int) -> None:
        self.sums, self.slots = np.zeros(RANGE, np.uint16), np.zeros(terms, np.uint16)
        self.keys = np.empty((2, 0), np.int64)
        self.state = np.zeros(STATE, np.int64)

    def prepare(self, k: int, margin: int) -> None:
        """Make room for k best passages."""
        if self.keys.shape[1] < max(2 * k, 64):
            self.keys = np.empty((2, max(2 * k, 64)), np.int64)
        self.state[K], self.state[CAPACITY], self.state[MARGIN] = k, max(2 * k, 64), margin


def _used_terms(
    keys: WeightedTerms,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    """The vocabulary as bytes and ends, and ids in it; of a long list only what is asked for."""
    if hasattr(keys.vocabulary, "packed") or len(keys.vocabulary) <= len(keys.ids):
        return *packed(keys.vocabulary), keys.ids
    used, ids = np.unique(keys.ids, return_inverse=True)
    return *packed([keys.vocabulary[i] for i in used.tolist()]), ids.astype(np.int32)


def _allowed_rows(part: ImpactPart, allowed: Bitmap) -> NDArray[np.bool_]:
    here = allowed[part.opened.base : part.opened.base + part.rows]
    return np.ascontiguousarray(here if part.mask is None else here & part.mask)


def _eligible(part: ImpactPart, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """How many rows of each range may be returned."""
    starts = np.arange(0, part.rows, RANGE)
    if mask is None or not part.rows:
        return np.minimum(RANGE, part.rows - starts)
    return np.add.reduceat(mask, starts, dtype=np.int64)
