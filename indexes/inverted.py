"""The inverted index: passages as weighted terms, found by exact scores.

BM25 over term frequencies, or impacts: the product of query and passage weights, as learned sparse
encoders want it (passage weights are kept as float16). BM25 counts the live passages of all
segments, so a score is the same, to the bit, however they came into the index.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..records import JSON, Bitmap, Neighbours, WeightedTerms
from .addresses import address_of
from .bm25 import Statistics, saturation
from .family import BadKey, OpenPart
from .inverted_builder import InvertedBuilder
from .inverted_part import InvertedPart
from .inverted_search import search
from .inverted_writer import merge_parts
from .postings import COMMON_TOPS, DENSE_TOPS, RANGE, SHIFT, SYMBOL_BITS, TABLE, TOP
from .scoring import ACCUMULATOR, ALLOWED, CANDIDATES, CAPACITY, KEYS, STATE, TOUCHED, TRIAL, K
from .vocabulary import packed

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
    """

    scoring: Scoring = "bm25"
    k1: float = 0.9
    b: float = 0.4
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

    @property
    def settings(self) -> Mapping[str, JSON]:
        return {"scoring": self.scoring, "k1": self.k1, "b": self.b}

    def check(self, keys: WeightedTerms) -> None:
        """Raise BadKey for the first passage whose weights cannot be stored."""
        _symbols_of(self.scoring, keys)

    def builder(self) -> InvertedBuilder:
        return InvertedBuilder(partial(_symbols_of, self.scoring), sparse=self.scoring == "bm25")

    def open(self, parts: Sequence[OpenPart]) -> "InvertedIndex":
        return InvertedIndex(self, parts)

    def merge(self, parts: Sequence[OpenPart], writer: "PartWriter") -> None:
        opened = [InvertedPart(part) for part in parts]
        merge_parts(opened, writer, sparse=self.scoring == "bm25")


class InvertedIndex:
    """An inverted index over the parts of its segments."""

    def __init__(self, family: Inverted, parts: Sequence[OpenPart]) -> None:
        self._family = family
        self._by_length = family.scoring == "bm25"
        self._parts = [InvertedPart(part, by_length=self._by_length) for part in parts]
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
        self._passages = -1
        highest = max([255, *(part.facts["highest"] | 255 for part in self._parts)])
        if self._by_length:
            statistics = sum((part.statistics() for part in self._parts), Statistics())
            self._passages = statistics.passages
            self._table = saturation(highest, statistics, self._family.k1, self._family.b)
        else:
            self._table = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        self._tops = [np.full(part.tops, -1, np.float32) for part in self._parts]
        self._fields = np.zeros((len(self._parts), 0), np.int64)
        if self._parts:
            self._fields = np.stack([part.fields for part in self._parts])
        for fields, part, tops in zip(self._fields, self._parts, self._tops, strict=True):
            fields[TABLE], fields[SHIFT] = address_of(self._table), 8 if self._by_length else 0
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
        from ..storage import MemoryPart

        rows = self.rows
        if not np.array_equal(numbers, np.arange(rows, rows + len(keys))):
            raise UsageError(
                f"the passage numbers {numbers!r} are not the next ones",
                remedy=f"Number them from {rows} to {rows + len(keys) - 1}",
            )
        builder, part = self._family.builder(), MemoryPart()
        builder.add(keys)
        builder.write(part)
        opened = OpenPart(part, rows, len(keys))
        self._parts.append(InvertedPart(opened, by_length=self._by_length))
        self._weigh()

    def search(self, keys: WeightedTerms, k: int, *, allowed: Bitmap | None = None) -> Neighbours:
        """The k best live passages of each query, as `stages.Index` says. Exact.

        allowed: (rows,) bool. Raises UsageError for k < 1 or a bitmap of another size, InputError
        for a query weight that is negative or not finite.
        """
        if k < 1:
            raise UsageError(f"k={k} results cannot be found", remedy="Ask for one at least")
        if allowed is not None and (allowed.shape != (self.rows,) or allowed.dtype != np.bool_):
            raise UsageError(
                f"allowed is {allowed.dtype} {allowed.shape}",
                remedy=f"Give one bool for each of the {self.rows} passages",
            )
        _check_shape(keys)
        if not np.all((keys.weights >= 0) & (keys.weights < np.inf)):
            raise InputError("a query weight is negative or not finite", remedy="Use weights >= 0")
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


def _check_shape(keys: WeightedTerms) -> None:
    """Raise UsageError unless the arrays fit together: kernels do not look again."""
    offsets, ids = keys.offsets, keys.ids
    fits = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(ids) == len(keys.weights)
    if not fits or np.any(offsets[1:] < offsets[:-1]) or len(keys.lengths) != len(keys):
        raise UsageError("the arrays of the weighted terms do not fit together")
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(keys.vocabulary):
        raise UsageError(f"a term id is not one of the vocabulary's {len(keys.vocabulary)}")


def _symbols_of(scoring: Scoring, keys: WeightedTerms) -> NDArray[np.uint16]:
    """What is stored of each weight. Raises BadKey, naming the row, for what cannot be."""
    _check_shape(keys)
    weights = keys.weights
    if scoring == "impact":
        _refuse(keys, ~((weights > 0) & (weights <= 65_504)), "is not above 0 and up to 65,504")
        return np.maximum(weights.astype(np.float16).view(np.uint16), 1)
    whole = (weights >= 1) & (weights < np.inf) & (np.floor(weights) == weights)
    _refuse(keys, ~whole, "is no term frequency")
    missing = (keys.lengths == 0) & (np.diff(keys.offsets) > 0)
    if missing.any():
        row = int(missing.argmax())
        raise BadKey("a passage with terms has the length 0", row, remedy="Give lengths in tokens")
    return np.minimum(weights, MOST_SYMBOL).astype(np.uint16)


def _refuse(keys: WeightedTerms, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        entry = int(bad.argmax())
        row = int(np.searchsorted(keys.offsets, entry, side="right")) - 1
        term = keys.vocabulary[keys.ids[entry]].decode("utf-8", "replace")
        remedy = "Leave the term out, or use scoring='impact' for weights"
        raise BadKey(f"the weight {keys.weights[entry]} of {term!r} {why}", row, remedy=remedy)
