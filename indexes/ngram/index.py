"""The n-gram index: passages as tokens, found by weighted n-grams, and every n-gram counted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...records import Bitmap, Neighbours
from ..family import OpenPart, check_search, part_in_memory
from ..vector_part import live_rows
from ..vector_search import best_of
from .explain import Evidence, evidence
from .part import NgramPart, texts_at
from .scoring import Asked, Scoring, prepared
from .search import search_part
from .texts import Marks, TokenText, WeightedNgrams, check_ngrams, check_offsets, flat

if TYPE_CHECKING:
    from .family import Ngram


class Continuations(NamedTuple):
    """The tokens that may follow each of many prefixes, one prefix after the other.

    offsets: (prefixes + 1,) int64, where each prefix's tokens begin.  tokens, counts: int64, the
    tokens, each once and ascending, and how often each follows.
    """

    offsets: NDArray[np.int64]
    tokens: NDArray[np.int64]
    counts: NDArray[np.int64]


class Occurrences(NamedTuple):
    """Where an n-gram occurs: passage numbers, and places among the tokens of each.

    Ascending. A place of -1 is the separator before the passage.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]


class NgramIndex:
    """An n-gram index over the parts of its segments."""

    def __init__(self, family: "Ngram", parts: Sequence[OpenPart]) -> None:
        self._family = family
        self.marks = Marks.of(family.vocabulary)
        self._parts = [family.open_part(part) for part in parts]

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        return sum(part.opened.rows for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        return sum(part.opened.part.nbytes for part in self._parts)

    @property
    def size(self) -> int:
        """Tokens of all passages, with one separator for each field."""
        return sum(part.tokens.size - 1 for part in self._parts)

    def add(self, numbers: NDArray[np.int64], keys: TokenText) -> None:
        """Append texts in memory. numbers: the next ones, ``arange(rows, rows + n)``."""
        added = part_in_memory(self._family.builder(), numbers, keys, self.rows)
        self._parts.append(self._family.open_part(added))

    # what decoding asks

    def counts(self, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) how often each of (n, length) prefixes occurs; `size` for one of no token."""
        if prefixes.shape[1] == 0:
            return np.full(len(prefixes), self.size)
        return self._counts(*_rows_of(prefixes))

    def counts_of(self, ngrams: TokenText) -> NDArray[np.int64]:
        """(n,) how often each of n n-grams occurs; 0 for one of no token."""
        check_offsets(ngrams.offsets, len(ngrams.tokens))
        return self._counts(*_flat_ids(ngrams))

    def _counts(self, offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        found = [part.layout.ranges(offsets, ids) for part in self._parts]
        if not found:
            return np.zeros(len(offsets) - 1, np.int64)
        total: NDArray[np.int64] = found[0][:, 1] - found[0][:, 0]
        for ranges in found[1:]:
            total += ranges[:, 1] - ranges[:, 0]
        return total

    def allowed(
        self, prefixes: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n, m) whether each of the (n, m) candidates may follow its prefix."""
        found = np.zeros(candidates.shape, np.bool_)
        for part in self._parts:
            if prefixes.shape[1] == 0:
                found |= part.tokens.occur(candidates)
            else:
                ranges = self._going_on(part, prefixes)
                found |= part.layout.allowed(ranges, prefixes.shape[1], candidates)
        return found

    def continuations(self, prefixes: NDArray[np.int64]) -> Continuations:
        """Every token that may follow each of (n, length) prefixes, however many there are."""
        found = [self._following(part, prefixes) for part in self._parts]
        if len(found) == 1:
            return found[0]
        rows = [np.repeat(np.arange(len(prefixes)), np.diff(one.offsets)) for one in found]
        keys = [row << 32 | one.tokens for row, one in zip(rows, found, strict=True)]
        nothing = np.empty(0, np.int64)
        both, places = np.unique(np.concatenate([nothing, *keys]), return_inverse=True)
        counts = np.zeros(len(both), np.int64)
        np.add.at(counts, places, np.concatenate([nothing, *(one.counts for one in found)]))
        offsets = np.searchsorted(both >> 32, np.arange(len(prefixes) + 1))
        return Continuations(offsets, both & 0xFFFFFFFF, counts)

    def _following(self, part: NgramPart, prefixes: NDArray[np.int64]) -> Continuations:
        if prefixes.shape[1] == 0:
            tokens, counts = part.tokens.unigrams
            offsets = np.arange(len(prefixes) + 1) * len(tokens)
            return Continuations(
                offsets, np.tile(tokens, len(prefixes)), np.tile(counts, len(prefixes))
            )
        ranges = self._going_on(part, prefixes)
        offsets, codes, counts = part.layout.continuations(ranges, prefixes.shape[1])
        return Continuations(offsets, part.tokens.ids[codes].astype(np.int64), counts)

    def _going_on(self, part: NgramPart, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ranges of prefixes, none for those that ended with a separator."""
        ranges = part.layout.ranges(*_rows_of(prefixes))
        if prefixes.shape[1] > 1:
            ranges[prefixes[:, -1] == self.marks.separator] = 0
        return ranges

    # what ranking and grounding ask

    def search(
        self,
        keys: WeightedNgrams,
        k: int,
        *,
        allowed: Bitmap | None = None,
        scoring: Scoring | None = None,
    ) -> Neighbours:
        """The k live passages with the greatest scores of those that have an n-gram of the query.

        allowed: (rows,) bool.  scoring: other than the settings of the index say. Raises UsageError
        for k < 1 or a bitmap of another size, BadKey for a query that cannot be asked.
        """
        check_search(k, allowed, self.rows)
        check_ngrams(keys)
        scoring = scoring or self._family.scoring
        asked = prepared(keys, scoring)
        nothing = Neighbours(
            np.full((len(keys), 1), -1), np.full((len(keys), 1), -np.inf, np.float32)
        )
        found = [self._search_part(part, keys, asked, k, allowed, scoring) for part in self._parts]
        return best_of([nothing, *found], k)

    def _search_part(
        self,
        part: NgramPart,
        keys: WeightedNgrams,
        asked: list[Asked],
        k: int,
        allowed: Bitmap | None,
        scoring: Scoring,
    ) -> Neighbours:
        live, width = live_rows(part.opened, allowed), min(k, max(part.opened.rows, 1))
        numbers = np.full((len(asked), width), -1, np.int64)
        scores = np.full(numbers.shape, -np.inf, np.float32)
        ranges = part.layout.ranges(*_flat_ids(keys.ngrams))
        for query, one in enumerate(asked):
            best = search_part(part, one, ranges[one.places], width, live, scoring)
            numbers[query, : len(best.rows)] = best.rows + part.opened.base
            scores[query, : len(best.rows)] = best.scores
        return Neighbours(numbers, scores)

    def explain(
        self, keys: WeightedNgrams, number: int, *, scoring: Scoring | None = None
    ) -> list[list[Evidence]]:
        """For each query what counts for a passage, n-grams by weight and then single tokens."""
        check_ngrams(keys)
        scoring = scoring or self._family.scoring
        part, row = self._place_of(number)
        ranges, told = part.layout.ranges(*_flat_ids(keys.ngrams)), []
        for query, asked in enumerate(prepared(keys, scoring)):
            found = evidence(part, keys, query, asked, ranges[asked.places], row, scoring)
            counts = self.counts_of(flat([one.ngram for one in found])).tolist()
            told.append([replace(a, count=n) for a, n in zip(found, counts, strict=True)])
        return told

    def occurrences(
        self, ngram: Sequence[int], *, allowed: Bitmap | None = None, most: int | None = None
    ) -> Occurrences:
        """Where an n-gram of at least one token occurs in live passages.

        allowed: (rows,) bool.  most: so many occurrences of a segment are looked at, for n-grams
        that occur everywhere; None: all. Raises UsageError for an n-gram of no token.
        """
        check_search(1, allowed, self.rows)
        if not len(ngram):
            raise UsageError("an n-gram of no token is everywhere", remedy="Give a token at least")
        rows, found = flat([ngram]), [np.empty((2, 0), np.int64)]
        for part in self._parts:
            ranges = part.layout.ranges(*_flat_ids(rows))
            if most is not None:
                ranges[:, 1] = np.minimum(ranges[:, 1], ranges[:, 0] + most)
            found.append(self._occurrences(part, ranges, ngram, live_rows(part.opened, allowed)))
        both = np.concatenate(found, axis=1)
        return Occurrences(*both[:, np.lexsort(both[::-1])])

    def _occurrences(
        self, part: NgramPart, ranges: NDArray[np.int64], ngram: Sequence[int], live: Bitmap | None
    ) -> NDArray[np.int64]:
        """(2, n): passage numbers and places in one part."""
        positions, [stretch] = part.layout.located(ranges, np.array([len(ngram)]))
        starts, shift = part.tokens.starts, int(ngram[0] == self.marks.separator)
        places = positions[slice(*stretch)].astype(np.int64) + shift
        rows = np.searchsorted(starts, places, "right") - 1
        real = (rows >= 0) & (rows < part.opened.rows)
        rows, places = rows[real], places[real]
        if live is not None:
            rows, places = rows[live[rows]], places[live[rows]]
        return np.stack((rows + part.opened.base, places - shift - starts[rows]))

    def tokens(self, number: int) -> NDArray[np.int32]:
        """The tokens of a passage, deleted or not; UsageError for a number that there is not."""
        part, row = self._place_of(number)
        return texts_at(part, np.array([row])).tokens

    def _place_of(self, number: int) -> tuple[NgramPart, int]:
        for part in self._parts:
            if 0 <= number - part.opened.base < part.opened.rows:
                return part, number - part.opened.base
        raise UsageError(
            f"there is no passage {number}", remedy=f"Ask for one of 0 to {self.rows - 1}"
        )


def _rows_of(prefixes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and ids of (n, length) prefixes one after the other."""
    rows, length = prefixes.shape
    offsets = np.arange(0, (rows + 1) * length, length)
    return offsets, prefixes.astype(np.int64, copy=False).ravel()


def _flat_ids(ngrams: TokenText) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return ngrams.offsets, ngrams.tokens.astype(np.int64)
