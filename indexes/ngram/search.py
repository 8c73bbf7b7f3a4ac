"""The best passages of one part for weighted n-grams.

N-grams are located from the rarest on. What those of a passage are worth together is the most that
it can score from them, so that passages are scored in that order until what is left cannot come
among the best; and more frequent n-grams are located only while passages without a rare one could.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...records import Bitmap
from .part import NgramPart, Tokens
from .scoring import Asked, Scoring, some_of
from .scoring_kernels import PAIRS, note_beginnings, score_stretches, tally

FEW_HITS = 2048
"""Occurrences of n-grams that are located at first; eight times as many each time after."""

FEW_ROWS = 256
"""Allowed passages of which all are scored."""

_MARGIN = 1 + 1e-6
"""Sums in another order differ by less."""


class Matcher(NamedTuple):
    """The n-grams of a query that occur in a part, as the kernels take them."""

    table: NDArray[np.int32]
    pairs: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    codes: NDArray[np.int64]
    ranks: NDArray[np.int64]
    by_rank: NDArray[np.int64]
    worths: NDArray[np.float64]
    unigrams: NDArray[np.float64]


def matcher_of(asked: Asked, tokens: Tokens) -> Matcher:
    """asked: only n-grams that occur."""
    codes = tokens.codes[asked.ngrams.tokens].astype(np.int64)
    table, pairs = np.zeros((len(tokens.ids), 2), np.int32), np.zeros(PAIRS, np.bool_)
    note_beginnings(asked.ngrams.offsets, codes, table, pairs)
    unigrams = np.zeros(len(tokens.ids))
    known = (asked.unigrams >= 0) & (asked.unigrams < len(tokens.codes))
    places = tokens.codes[np.where(known, asked.unigrams, 0)]
    known &= places >= 0
    unigrams[places[known]] = asked.unigram_worths[known]
    by_rank = np.argsort(asked.ranks)
    return Matcher(
        table, pairs, asked.ngrams.offsets, codes, asked.ranks, by_rank, asked.worths, unigrams
    )


class Best:
    """The k best passages so far: rows and float32 scores, equal scores by ascending row."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.rows = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def add(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        found = ~np.isneginf(scores)
        all_rows = np.concatenate((self.rows, rows[found]))
        all_scores = np.concatenate((self.scores, scores[found].astype(np.float32)))
        order = np.lexsort((all_rows, -all_scores))[: self._k]
        self.rows, self.scores = all_rows[order], all_scores[order]

    def excludes(self, bound: float) -> bool:
        """Whether a passage that scores at most this cannot be among the best."""
        return len(self.rows) == self._k and bound * _MARGIN < float(self.scores[-1])


def search_part(
    part: NgramPart,
    asked: Asked,
    ranges: NDArray[np.int64],
    k: int,
    live: Bitmap | None,
    scoring: Scoring,
) -> Best:
    """ranges: (n, 2) of the n-grams asked for.  live: (rows,) which passages may be found."""
    occur = ranges[:, 1] > ranges[:, 0]
    asked, ranges = some_of(asked, occur), ranges[occur]
    best = Best(k)
    if len(ranges):
        query = _Query(part, asked, ranges, scoring)
        if live is not None and np.count_nonzero(live) <= FEW_ROWS:
            rows = np.flatnonzero(live)
            best.add(rows, query.scores(rows))
        else:
            query.search(best, live)
    return best


class _Query:
    """One query in one part."""

    def __init__(
        self, part: NgramPart, asked: Asked, ranges: NDArray[np.int64], scoring: Scoring
    ) -> None:
        self._part, self._scoring = part, scoring
        self._matcher = matcher_of(asked, part.tokens)
        self._order = np.argsort(ranges[:, 1] - ranges[:, 0], kind="stable")
        self._ranges, self._worths = ranges[self._order], asked.worths[self._order]
        self._lengths = np.diff(asked.ngrams.offsets)[self._order]
        separators = asked.ngrams.tokens[asked.ngrams.offsets[:-1]] == part.tokens.vocabulary
        self._shifts = separators[self._order].astype(np.int64)
        top = np.sort(self._matcher.unigrams[self._matcher.unigrams > 0])[::-1]
        self._most_unigrams = np.concatenate((np.zeros(1), np.cumsum(top)))

    def scores(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) float64, -inf for passages without an n-gram."""
        scores = np.full(len(rows), -np.inf)
        if len(rows):
            how = self._scoring  # integers as floats, so that kernels are compiled once
            settings = float(how.beta), float(how.single), how.overlaps
            stretches = self._part.layout.stretches(rows)
            score_stretches(*stretches, *self._matcher, *settings, scores)
        return scores

    def search(self, best: Best, live: Bitmap | None) -> None:
        count, most = len(self._ranges), FEW_HITS
        hits = self._ranges[:, 1] - self._ranges[:, 0]
        if self._scoring.most_hits is not None:
            count = int(np.searchsorted(hits, self._scoring.most_hits, "right"))
        seen, left = _Seen(self._part.tokens.rows), self._scoring.depth
        located = 0
        while located < count:
            ready = min(max(int(np.searchsorted(hits, most, "right")), located + 1), count)
            self._locate(seen, located, ready)
            located, most = ready, most * 8
            rest = float(self._worths[located:].sum())
            rows = seen.unscored(live)
            scored = self._score_best(best, rows, seen.worth[rows] + rest, left)
            seen.scored[scored] = True
            left = None if left is None else left - len(scored)
            if left == 0 or best.excludes(self._bound(rest, float(self._most_unigrams[-1]))):
                return

    def _locate(self, seen: "_Seen", first: int, last: int) -> None:
        """Add what these n-grams are worth to the passages that they occur in."""
        some, tokens = slice(first, last), self._part.tokens
        positions, stretches = self._part.layout.located(self._ranges[some], self._lengths[some])
        of_ngrams = stretches, self._shifts[some], self._worths[some], first
        seen.count = tally(
            positions, *of_ngrams, tokens.starts, tokens.directory, seen.worth, seen.last,
            seen.rows, seen.count,
        )  # fmt: skip

    def _bound(self, ngrams: float, unigrams: float) -> float:
        """The most that a passage can score with n-grams that are worth so much."""
        single = self._scoring.single
        return (1 - single) * (ngrams + unigrams) + single * float(self._worths.max())

    def _score_best(
        self, best: Best, rows: NDArray[np.int64], promised: NDArray[np.float64], left: int | None
    ) -> NDArray[np.int64]:
        """Score the rows that promise most until none can be among the best; gives those."""
        starts = self._part.tokens.starts
        lengths = np.minimum(starts[rows + 1] - starts[rows], len(self._most_unigrams) - 1)
        bounds = promised + self._most_unigrams[lengths]
        order = np.lexsort((rows, -bounds))[:left]
        first, size = 0, FEW_ROWS
        while first < len(order) and not best.excludes(self._bound(bounds[order[first]], 0.0)):
            some = rows[order[first : first + size]]
            best.add(some, self.scores(some))
            first, size = first + size, 2 * size
        return rows[order[:first]]


class _Seen:
    """The passages that have n-grams which were located."""

    def __init__(self, rows: int) -> None:
        self.worth, self.last = np.zeros(rows), np.zeros(rows, np.int32)
        self.scored, self.rows, self.count = np.zeros(rows, np.bool_), np.empty(rows, np.int64), 0

    def unscored(self, live: Bitmap | None) -> NDArray[np.int64]:
        rows = self.rows[: self.count]
        rows = rows[~self.scored[rows]]
        return rows if live is None else rows[live[rows]]
