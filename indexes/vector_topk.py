"""The exact top k out of blocks of approximate products: kernels over one batch of queries.

A passage whose bounds leave open whether it is among the top k is a candidate. From time to time
`prune` takes the k-th greatest number L among the lower bounds of a query's candidates and the
scores that were found already: k passages are known to reach L, so that candidates whose upper
bounds are below L (less a margin for the rounding of scores to float32) are out, and so is
whatever comes later with such an upper bound. `settle` computes the exact scores of the others,
beginning with those that seem to be the best because they raise L. It is called at the end of each
part, and for a query whose bounds are so loose that no place is left for candidates; so however
loose the bounds are, the answer is exact, and only the time differs.

Equal scores go by ascending passage number.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import boolean, float32, float64, int32, int64, njit, types, void
from numpy.typing import NDArray

from ..records import Neighbours
from .vector_codes import QueryTerms, read_only
from .vector_scores import AT_ONCE, exact_scores, scores_by_row

TILE, FINE = 32, 8
"""Rows that are compared with a query's limit at once, by their maximum; fewer for a large k."""

_MANY = 256
"""The k from which most tiles of the larger size would have a candidate."""

_SHARED = 0.25
"""Candidates for each row of a part from which rows are scored in their order."""

_HALVINGS = 32

LAST = np.iinfo(np.int64).max
"""The passage number of a place in `found` that is still empty: it loses every tie."""


class TopK(NamedTuple):
    """The state of a search for the top k of a batch of queries.

    found_scores, found_numbers: (queries, k) float32 and int64, a heap per query with the worst
    hit as its root.  limits: (queries,) float64, upper bounds below are out.  coarse_limits: the
    same as float32, less what is added to every score of the part in work.
    rows, uppers, lowers: (queries, places) candidates, of which the first `counts` are used.
    turns: (queries,) int64, the number of candidates at which they are pruned.
    """

    found_scores: NDArray[np.float32]
    found_numbers: NDArray[np.int64]
    limits: NDArray[np.float64]
    coarse_limits: NDArray[np.float32]
    rows: NDArray[np.int64]
    uppers: NDArray[np.float64]
    lowers: NDArray[np.float64]
    counts: NDArray[np.int64]
    turns: NDArray[np.int64]


QUERY_TERMS = types.NamedTuple(  # type: ignore[no-untyped-call]
    (float64[::1], float32[::1], float32[::1], float32[::1], float64[::1]), QueryTerms
)
TOP = types.NamedTuple(  # type: ignore[no-untyped-call]
    (float32[:, ::1], int64[:, ::1], float64[::1], float32[::1])
    + (int64[:, ::1], float64[:, ::1], float64[:, ::1], int64[::1], int64[::1]),
    TopK,
)


def begin(queries: int, k: int) -> TopK:
    """Nothing found yet."""
    places = 4 * k + 16 * TILE
    return TopK(
        np.full((queries, k), -np.inf, np.float32),
        np.full((queries, k), LAST, np.int64),
        np.full(queries, -np.inf),
        np.full(queries, -np.inf, np.float32),
        np.empty((queries, places), np.int64),
        np.empty((queries, places)),
        np.empty((queries, places)),
        np.zeros(queries, np.int64),
        np.full(queries, 2 * k + 2 * TILE, np.int64),
    )


@njit(cache=True, nogil=True)
def set_limit(top, terms, query, reached):  # type: ignore[no-untyped-def]
    """Derive both limits of a query from a score that k passages are known to reach.

    Numbers that lie further apart than 2^-23 of the larger one round to different float32.
    """
    limit = reached - abs(reached) * 2.0**-22 - 1e-44
    if not limit > top.limits[query]:
        limit = top.limits[query]
    rest = limit - terms.bases[query] - terms.slacks[query]
    top.limits[query] = limit
    top.coarse_limits[query] = np.float32(rest - abs(rest) * 2.0**-22 - 1e-37)


@njit(cache=True, nogil=True)
def reached_by(values, k, low):  # type: ignore[no-untyped-def]
    """A number that at least k of the `values` reach, close to the k-th greatest of them.

    low: one that k values reach already, or -inf. By bisection, because counting has no branches
    to mispredict: a selection takes ten times as long.
    """
    high = values[0]
    least = np.inf
    for value in values:
        high = max(high, value)
        least = min(least, value)
    low = max(low, least)
    if low == -np.inf:
        return low
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        count = 0
        for value in values:
            count += value >= middle
        if count >= k:
            low = middle
        else:
            high = middle
        if count == k:
            break
    least = high
    for value in values:
        if value >= low:
            least = min(least, value)
    return least


@njit(float64[::1](float32[:, ::1], int64), cache=True, nogil=True)
def reached_in(values, k):  # type: ignore[no-untyped-def]
    """A number for each row of `values` that k of them reach; -inf where there are fewer."""
    reached = np.full(values.shape[0], -np.inf)
    if k <= values.shape[1]:
        for i in range(values.shape[0]):
            reached[i] = reached_by(values[i], k, -np.inf)
    return reached


@njit(
    [
        void(int32[:, ::1], read_only(float32, 2), QUERY_TERMS, int64, float32[:, ::1]),
        void(float32[:, ::1], read_only(float32, 2), QUERY_TERMS, int64, float32[:, ::1]),
    ],
    cache=True,
    nogil=True,
)
def scale(products, ranges, terms, at, values):  # type: ignore[no-untyped-def]
    """values[q, at + i] = what product i makes the score of query q seem to be."""
    for i in range(products.shape[0]):
        for query in range(products.shape[1]):
            value = np.float32(products[i, query]) * ranges[i, 0] * terms.steps[query]
            values[query, at + i] = np.float32(terms.bases[query]) + value


@njit(cache=True, nogil=True)
def prune(top, terms, query):  # type: ignore[no-untyped-def]
    """Raise the limit of a query by what its candidates show, and forget those below it."""
    k, count, hits = top.found_scores.shape[1], top.counts[query], 0
    known = np.empty(k + count)
    known[:count] = top.lowers[query, :count]
    for hit in top.found_scores[query]:
        if hit != -np.inf:
            known[count + hits] = hit
            hits += 1
    if count + hits >= k:
        low = np.float64(top.found_scores[query, 0])
        set_limit(top, terms, query, reached_by(known[: count + hits], k, low))
    kept = 0
    for i in range(count):
        if top.uppers[query, i] >= top.limits[query]:
            top.rows[query, kept] = top.rows[query, i]
            top.uppers[query, kept] = top.uppers[query, i]
            top.lowers[query, kept] = top.lowers[query, i]
            kept += 1
    top.counts[query] = kept
    top.turns[query] = min(top.rows.shape[1], 2 * max(k, kept) + 2 * TILE)


@njit(cache=True, nogil=True)
def _worse(score, number, other_score, other_number):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and number > other_number)


@njit(cache=True, nogil=True)
def put(scores, numbers, score, number):  # type: ignore[no-untyped-def]
    """Replace the root of a heap of hits by a better one."""
    size, at = scores.shape[0], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _worse(scores[other], numbers[other], scores[child], numbers[child]):
            child = other
        if not _worse(scores[child], numbers[child], score, number):
            break
        scores[at], numbers[at] = scores[child], numbers[child]
        at = child
    scores[at], numbers[at] = score, number


@njit(void(TOP, QUERY_TERMS), cache=True, nogil=True)
def open_part(top, terms):  # type: ignore[no-untyped-def]
    """Begin a part: the limits stay, what is added to its scores differs."""
    for query in range(top.limits.shape[0]):
        set_limit(top, terms, query, -np.inf)


@njit(cache=True, nogil=True)
def _tile_maxima(products, ranges, first, last, maxima):  # type: ignore[no-untyped-def]
    """maxima[q] = the greatest scaled product of rows `first` to `last`; returns their margins."""
    reach, error = np.float32(0), np.float32(0)
    for query in range(maxima.shape[0]):
        maxima[query] = np.float32(products[first, query]) * ranges[first, 0]
    for row in range(first, last):
        scale = ranges[row, 0]
        reach = max(reach, ranges[row, 1])
        error = max(error, ranges[row, 2])
        for query in range(maxima.shape[0]):
            value = np.float32(products[row, query]) * scale
            maxima[query] = value if value > maxima[query] else maxima[query]
    return reach, error


@njit(cache=True, nogil=True, inline="always")
def _examine(products, ranges, rows, live, first, last, margin32, terms, top, query):  # type: ignore[no-untyped-def]
    """Make candidates of the rows of a tile whose upper bounds reach the limit."""
    step32, limit32 = terms.steps[query], top.coarse_limits[query]
    step, base = np.float64(terms.steps[query]), terms.bases[query]
    reach, norm = np.float64(terms.reaches[query]), np.float64(terms.norms[query])
    column, bounds = products[first:last, query], ranges[first:last]
    for i in range(column.shape[0]):  # counted from 0: no test for negative indices
        coarse = np.float32(column[i]) * bounds[i, 0]
        if coarse * step32 + margin32 < limit32 or not live[first + i]:
            continue
        value = base + np.float64(column[i]) * np.float64(bounds[i, 0]) * step
        margin = np.float64(bounds[i, 1]) * reach + np.float64(bounds[i, 2]) * norm
        margin += terms.slacks[query]
        if value + margin < top.limits[query]:
            continue
        place = top.counts[query]
        top.rows[query, place] = rows[first + i]
        top.uppers[query, place] = value + margin
        top.lowers[query, place] = value - margin
        top.counts[query] = place + 1


@njit(
    [
        int64(read_only(kind, 2), read_only(float32, 2), int64[::1], read_only(boolean, 1),
              QUERY_TERMS, TOP, int64)
        for kind in (int32, float32)
    ],
    cache=True, nogil=True,
)  # fmt: skip
def scan(products, ranges, rows, live, terms, top, resume):  # type: ignore[no-untyped-def]
    """Find candidates in a block of products (n, queries) int32 or float32.

    ranges: (n, 3).  rows: (n,) int64, what is noted of a candidate.  live: (n,) bool.
    resume: 0, or what the last call returned: -1 when the block is done, otherwise some query has
    no place for another tile of candidates, and the call has to be repeated after `settle`.
    """
    queries = products.shape[1]
    maxima = np.empty(queries, np.float32)
    size = TILE if top.found_scores.shape[1] < _MANY else FINE
    tile, from_query = resume // queries, resume % queries
    for first in range(tile * size, products.shape[0], size):
        last = min(first + size, products.shape[0])
        reach, error = _tile_maxima(products, ranges, first, last, maxima)
        for query in range(queries):
            margin = reach * terms.reaches[query] + error * terms.norms[query]
            maxima[query] = maxima[query] * terms.steps[query] + margin - top.coarse_limits[query]
        for query in range(from_query, queries):
            if maxima[query] >= 0:
                margin = reach * terms.reaches[query] + error * terms.norms[query]
                if top.counts[query] + TILE > top.turns[query]:
                    prune(top, terms, query)
                    if top.counts[query] + TILE > top.turns[query]:
                        return (first // size) * queries + query
                _examine(products, ranges, rows, live, first, last, margin, terms, top, query)
        from_query = 0
    return -1


@njit(
    int64(TOP, QUERY_TERMS, boolean, int64, int64, int64[::1], int64[::1]), cache=True, nogil=True
)
def pick(top, terms, likely, first, last, which, rows):  # type: ignore[no-untyped-def]
    """Move candidates of queries `first` to `last` into `which` and `rows`; returns how many.

    likely: only the k in the middle of whose bounds are the greatest. Others below the limit are
    forgotten.
    """
    taken, k = 0, top.found_scores.shape[1]
    for query in range(first, last):
        least = -np.inf
        if likely:
            prune(top, terms, query)
            count = top.counts[query]
            if count > k:
                least = reached_by(
                    top.uppers[query, :count] + top.lowers[query, :count], k, -np.inf
                )
        kept = 0
        for i in range(top.counts[query]):
            upper, lower = top.uppers[query, i], top.lowers[query, i]
            if upper < top.limits[query]:
                continue
            if upper + lower >= least:
                which[taken], rows[taken] = query, top.rows[query, i]
                taken += 1
            else:
                top.rows[query, kept] = top.rows[query, i]
                top.uppers[query, kept], top.lowers[query, kept] = upper, lower
                kept += 1
        top.counts[query] = kept
    return taken


@njit(void(TOP, QUERY_TERMS, int64[::1], int64[::1], float32[::1]), cache=True, nogil=True)
def take(top, terms, which, numbers, scores):  # type: ignore[no-untyped-def]
    """Enter passages with exact scores."""
    for i in range(which.shape[0]):
        query = which[i]
        best, ids = top.found_scores[query], top.found_numbers[query]
        if _worse(best[0], ids[0], scores[i], numbers[i]):
            put(best, ids, scores[i], numbers[i])
            set_limit(top, terms, query, np.float64(best[0]))


def settle(
    top: TopK,
    terms: QueryTerms,
    vectors: NDArray[Any],
    queries: NDArray[np.float32],
    base: int,
    only: int | None = None,
) -> None:
    """Score all candidates that can still be among the top k, or those of one query; none is left.

    vectors: (rows, d) float32 or float16 of the part whose first passage number is `base`.
    """
    first_query, last_query = (0, len(queries)) if only is None else (only, only + 1)
    which = np.empty(int(top.counts[first_query:last_query].sum()), np.int64)
    rows = np.empty_like(which)
    for likely in (True, False):
        taken = pick(top, terms, likely, first_query, last_query, which, rows)
        if taken > _SHARED * len(vectors):
            scores = scores_by_row(vectors, rows[:taken], queries, which[:taken])
            take(top, terms, which[:taken], rows[:taken] + base, scores)
            continue
        for first in range(0, taken, AT_ONCE):
            few = slice(first, min(first + AT_ONCE, taken))
            scores = exact_scores(vectors, rows[few], queries, which[few])
            take(top, terms, which[few], rows[few] + base, scores)


def ranked(top: TopK) -> Neighbours:
    """What was found, best first, equal scores by ascending number, padded with -1 and -inf."""
    numbers, scores = top.found_numbers, top.found_scores
    for query in range(len(scores)):
        sort_hits(scores[query], numbers[query])
    return Neighbours(np.where(numbers == LAST, -1, numbers), scores)


@njit(void(float32[::1], int64[::1]), cache=True, nogil=True)
def sort_hits(scores, numbers):  # type: ignore[no-untyped-def]
    """Sort a heap of hits, the best first: the worst goes to the end, and out of the heap."""
    for size in range(scores.shape[0] - 1, 0, -1):
        score, number = scores[size], numbers[size]
        scores[size], numbers[size] = scores[0], numbers[0]
        put(scores[:size], numbers[:size], score, number)
