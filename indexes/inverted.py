"""The inverted index: passages as weighted terms, found by exact scores.

BM25 over term frequencies (here), or impacts: the product of query and passage weights, as learned
sparse encoders want it (impact). BM25 counts the live passages of all segments, so a score is the
same, to the bit, however they came into the index.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Bitmap, Neighbours, WeightedTerms
from .addresses import address_of
from .bm25 import Statistics, saturation
from .family import BadKey, OpenPart, part_in_memory
from .impact import ImpactBuilder, ImpactIndex, merge_impacts
from .impact_weights import MOST, Weights, symbols_of
from .inverted_builder import InvertedBuilder, SymbolsOf
from .inverted_part import InvertedPart
from .inverted_search import search
from .inverted_writer import merge_parts
from .postings import COMMON_TOPS, DENSE_TOPS, RANGE, SYMBOL_BITS, TABLE, TOP
from .scoring import ACCUMULATOR, ALLOWED, CANDIDATES, CAPACITY, KEYS, STATE, TOUCHED, TRIAL, K
from .vocabulary import packed
from .weighted_terms import check_queries, check_shape, refuse

if TYPE_CHECKING:
    from ..storage import PartWriter

Scoring = Literal["bm25", "impact"]
MOST_SYMBOL = 65_535
"""Term frequencies above it count as it."""


@dataclass(frozen=True, slots=True)
class Inverted:
    """The settings of an inverted index.

    scoring: "bm25" (weights are term frequencies) or "impact" (a score is the sum of query weight
    times passage weight).  k1, b: of BM25; the defaults are Anserini's.

    The others are of impacts.  weights: how those of passages are kept: "float16", off by at most
    1 part in 2,048, or "uint8", off by at most 2.2 % and a byte a posting smaller.
    search: "exact", or "approximate", which is faster and misses a passage now and then.
    margin: the share, above 0 and up to 1, of what the unread postings could add that the
    approximate search allows for; the greater, the surer and the slower, and 1 is exact. The
    default missed under 1 in 1,000 of the ten best, on made-up vectors like those of SPLADE.
    """

    scoring: Scoring = "bm25"
    k1: float = 0.9
    b: float = 0.4
    weights: Weights = "float16"
    search: Literal["exact", "approximate"] = "exact"
    margin: float = 0.15
    kind: ClassVar[str] = "inverted"

    def __post_init__(self) -> None:
        if self.scoring not in ("bm25", "impact"):
            raise UsageError(
                f"scoring={self.scoring!r} is unknown", remedy="Use 'bm25' or 'impact'"
            )
        if not (0 <= self.k1 <= 1e6 and 0 <= self.b <= 1):
            raise UsageError(
                f"k1={self.k1}, b={self.b} is no BM25",
                remedy="Use k1 from 0 to 1e6 and b from 0 to 1",
            )
        if self.weights not in MOST or self.search not in ("exact", "approximate"):
            raise UsageError(
                f"weights={self.weights!r}, search={self.search!r} are unknown",
                remedy="Use weights 'float16' or 'uint8' and search 'exact' or 'approximate'",
            )
        if not 0 < self.margin <= 1:
            raise UsageError(f"margin={self.margin} is no share", remedy="Use above 0 and up to 1")
        if self.scoring == "bm25" and (self.weights, self.search) != ("float16", "exact"):
            raise UsageError(
                f"weights={self.weights!r}, search={self.search!r} are of impacts, not of BM25",
                remedy="Leave them out, or use scoring='impact'",
            )

    @property
    def settings(self) -> Mapping[str, JSON]:
        return asdict(self)

    def check(self, keys: WeightedTerms) -> None:
        """Raise BadKey for the first passage whose weights cannot be stored."""
        self._symbols_of(keys)

    def builder(self) -> InvertedBuilder | ImpactBuilder:
        if self.scoring == "impact":
            return ImpactBuilder(self._symbols_of, self.weights)
        return InvertedBuilder(self._symbols_of)

    def open(self, parts: Sequence[OpenPart]) -> "InvertedIndex | ImpactIndex":
        if self.scoring == "impact":
            margin = 1.0 if self.search == "exact" else self.margin
            return ImpactIndex(parts, self.weights, margin, self._symbols_of)
        return InvertedIndex(self, parts)

    def merge(self, parts: Sequence[OpenPart], writer: "PartWriter") -> None:
        if self.scoring == "impact":
            merge_impacts(parts, writer, self.weights)
        else:
            merge_parts([InvertedPart(part) for part in parts], writer)

    @property
    def _symbols_of(self) -> SymbolsOf:
        """What is stored of weights, or a BadKey."""
        return partial(_impacts, self.weights) if self.scoring == "impact" else _frequencies


class InvertedIndex:
    """An inverted index over the parts of its segments."""

    def __init__(self, family: Inverted, parts: Sequence[OpenPart]) -> None:
        self._family = family
        self._parts = [InvertedPart(part) for part in parts]
        self._spare: list[_Scratch] = []
        self._weigh()

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        return sum(part.rows for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        return sum(part.nbytes for part in self._parts)

    def _weigh(self) -> None:
        """Compute what depends on the statistics of all parts."""
        highest = max([255, *(part.facts["highest"] | 255 for part in self._parts)])
        statistics = sum((part.statistics() for part in self._parts), Statistics())
        self._passages = statistics.passages
        self._table = saturation(highest, statistics, self._family.k1, self._family.b)
        self._tops = [np.full(part.tops, -1, np.float32) for part in self._parts]
        self._fields = np.zeros((len(self._parts), 0), np.int64)
        if self._parts:
            self._fields = np.stack([part.fields for part in self._parts])
        for fields, part, tops in zip(self._fields, self._parts, self._tops, strict=True):
            fields[TABLE] = address_of(self._table)
            fields[COMMON_TOPS] = address_of(tops)
            fields[DENSE_TOPS] = address_of(tops) + 4 * len(part.arrays["common"]) * part.ranges
            shortest = int(
                part.norms[: part.rows].min(initial=255, where=part.norms[: part.rows] > 0)
            )
            fields[TOP] = (min(part.facts["highest"], (1 << SYMBOL_BITS) - 1) << 8) + shortest

        at = address_of(self._fields) + self._fields.strides[0] * np.arange(len(self._parts))
        self._addressed = at, self._fields

    def add(self, numbers: NDArray[np.int64], keys: WeightedTerms) -> None:
        """Append passages in memory. numbers: the next ones, ``arange(rows, rows + n)``."""
        opened = part_in_memory(InvertedBuilder(_frequencies), numbers, keys, self.rows)
        self._parts.append(InvertedPart(opened))
        self._weigh()

    def search(self, keys: WeightedTerms, k: int, *, allowed: Bitmap | None = None) -> Neighbours:
        """The k best live passages of each query, as `stages.Index` says. Exact.

        allowed: (rows,) bool. Raises UsageError for k < 1 or a bitmap of another size, InputError
        for a query weight that is negative or not finite.
        """
        check_queries(keys, k, allowed, self.rows)
        numbers = np.full((len(keys), k), -1, np.int64)
        scores = np.full((len(keys), k), -np.inf, np.float32)
        text, ends = packed(keys.vocabulary)
        with self._scratch(min(k, max(self.rows, 1))) as scratch:
            if allowed is not None:
                allowed = np.ascontiguousarray(allowed)
                scratch.state[ALLOWED] = address_of(allowed)
            queries = keys.offsets, keys.ids, keys.weights
            search(
                *self._addressed,
                text,
                ends,
                *queries,
                self._passages,
                scratch.state,
                numbers,
                scores,
            )
        return Neighbours(numbers, scores)

    @contextmanager
    def _scratch(self, k: int) -> Iterator["_Scratch"]:
        """Memory for one search at a time; searches in other threads take their own."""
        scratch = self._spare.pop() if self._spare else _Scratch()
        scratch.prepare(k)
        yield scratch
        self._spare.append(scratch)


class _Scratch:
    """An accumulator, which is zero between searches, and buffers."""

    def __init__(self) -> None:
        self._acc = np.zeros(RANGE, np.float32)
        self._touched, self._candidates = np.empty((2, RANGE + 8), np.uint16)
        self._keys = np.empty((2, 0), np.int64)
        self.state = np.zeros(STATE, np.int64)
        self.state[ACCUMULATOR] = address_of(self._acc)
        self.state[TOUCHED], self.state[CANDIDATES] = map(
            address_of, (self._touched, self._candidates)
        )

    def prepare(self, k: int) -> None:
        """Make room for k best passages, and forget the filter of the last search."""
        capacity = max(4 * k, 64)
        if self._keys.shape[1] < max(capacity, RANGE // 2):  # which a range's scores fill as well
            self._keys = np.empty((2, max(capacity, RANGE // 2)), np.int64)
        self.state[KEYS], self.state[TRIAL] = map(address_of, self._keys)
        self.state[K], self.state[CAPACITY], self.state[ALLOWED] = k, capacity, 0


def _frequencies(keys: WeightedTerms) -> NDArray[np.uint16]:
    """What BM25 stores of each weight. Raises BadKey, naming the row, for what cannot be."""
    check_shape(keys)
    weights = keys.weights
    whole = (weights >= 1) & (weights < np.inf) & (np.floor(weights) == weights)
    remedy = "Leave the term out, or use scoring='impact' for weights"
    refuse(keys, ~whole, "is no term frequency", remedy)
    missing = (keys.lengths == 0) & (np.diff(keys.offsets) > 0)
    if missing.any():
        row = int(missing.argmax())
        raise BadKey("a passage with terms has the length 0", row, remedy="Give lengths in tokens")
    return np.minimum(weights, MOST_SYMBOL).astype(np.uint16)


def _impacts(kind: Weights, keys: WeightedTerms) -> NDArray[np.uint16]:
    """What is stored of each impact. Raises BadKey, naming the row, for what cannot be."""
    check_shape(keys)
    most = MOST[kind]
    kept = (keys.weights > 0) & (keys.weights <= most)
    refuse(keys, ~kept, f"is not above 0 and up to {most:,.0f}", "Leave the term out, or scale")
    return symbols_of(keys.weights, kind)
