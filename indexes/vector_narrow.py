"""The exact top k among some rows of a part: by their codes first, then by their vectors.

An approximate structure says which rows to look at. Their int8 codes and error bounds (see
vector_codes) rule out most of them without a look at the vectors, which may still be on disk; the
others are scored as in exact search, so that the scores are the same to the bit.

Rows come as slices of one array: `slices` (m, 3) int64 are query, start and end in `rows`, by
ascending query.
"""

from typing import Any

import numpy as np
from numba import boolean, float32, int8, int32, int64, njit
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .prefetch import prefetch
from .vector_codes import float32_queries, query_terms, read_only
from .vector_exact import Coded
from .vector_products import QUERIES
from .vector_topk import QUERY_TERMS, TOP, begin, open_part, prune, ranked, settle

_AHEAD = 8
"""Rows between the one that is multiplied and the one that is fetched."""

ALL_LIVE = np.empty(0, np.bool_)
"""Stands for a bitmap in which every row is live."""


def best_among(
    coded: Coded,
    live: Bitmap | None,
    queries: NDArray[np.float32],
    k: int,
    rows: NDArray[np.int32],
    slices: NDArray[np.int64],
) -> Neighbours:
    """The k best of the live rows that the slices list for each of (n, d) queries."""
    alive = ALL_LIVE if live is None else live
    if len(queries) <= QUERIES:
        return _best_of_batch(coded, alive, queries, k, rows, slices)
    numbers = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for first in range(0, len(queries), QUERIES):
        batch = queries[first : first + QUERIES]
        start, end = np.searchsorted(slices[:, 0], (first, first + len(batch)))
        here = slices[start:end] - np.array([first, 0, 0])
        found = _best_of_batch(coded, alive, batch, k, rows, here)
        numbers[first : first + QUERIES] = found.numbers
        scores[first : first + QUERIES] = found.scores
    return Neighbours(numbers, scores)


def _best_of_batch(
    coded: Coded,
    alive: Bitmap,
    queries: NDArray[np.float32],
    k: int,
    rows: NDArray[np.int32],
    slices: NDArray[np.int64],
) -> Neighbours:
    scaled, steps, rests = float32_queries(queries)
    terms, top = query_terms(queries, coded.centre, steps, rests), begin(len(queries), k)
    open_part(top, terms)
    at = np.zeros(2, np.int64)
    while not look_at(coded.codes, coded.ranges, rows, slices, alive, scaled, terms, top, at):
        settle(top, terms, coded.vectors, queries, coded.base)
    settle(top, terms, coded.vectors, queries, coded.base)
    return ranked(top)


@njit(cache=True, nogil=True, fastmath=True)
def _product(codes, row, queries, query):  # type: ignore[no-untyped-def]
    """codes[row] . queries[query] as float32, in any order, which float32_queries allows."""
    total = np.float32(0)
    for j in range(codes.shape[1]):
        total += np.float32(codes[row, j]) * queries[query, j]
    return total


@njit(cache=True, nogil=True, inline="always")
def _fetch(codes, ranges, row):  # type: ignore[no-untyped-def]
    d = codes.shape[1]
    prefetch(ranges, np.int64(row) * ranges.shape[1])  # type: ignore[call-arg]
    for near in range(np.int64(row) * d, (np.int64(row) + 1) * d, 64):
        prefetch(codes, near)


@njit(
    boolean(read_only(int8, 2), read_only(float32, 2), read_only(int32, 1), int64[:, ::1],
            read_only(boolean, 1), read_only(float32, 2), QUERY_TERMS, TOP, int64[::1]),
    cache=True, nogil=True,
)  # fmt: skip
def look_at(codes, ranges, rows, slices, live, queries, terms, top, at):  # type: ignore[no-untyped-def]
    """Make candidates of the listed rows whose upper bounds reach the limit of their query.

    at: slice and place at which to go on. Returns False when a query has no place for another
    candidate: the call has to be repeated after `settle`.
    """
    while at[0] < slices.shape[0]:
        query, first, last = slices[at[0], 0], slices[at[0], 1], slices[at[0], 2]
        step, base = np.float64(terms.steps[query]), terms.bases[query]
        reach, norm = np.float64(terms.reaches[query]), np.float64(terms.norms[query])
        for place in range(first + at[1], min(first + at[1] + _AHEAD, last)):
            _fetch(codes, ranges, rows[place])
        for place in range(first + at[1], last):
            row = rows[place]
            if place + _AHEAD < last:
                _fetch(codes, ranges, rows[place + _AHEAD])
            if live.shape[0] > 0 and not live[row]:
                continue
            if top.counts[query] == top.turns[query]:
                prune(top, terms, query)
                if top.counts[query] == top.turns[query]:
                    at[1] = place - first
                    return False
            value = base + np.float64(_product(codes, row, queries, query)) * ranges[row, 0] * step
            margin = ranges[row, 1] * reach + ranges[row, 2] * norm + terms.slacks[query]
            if value + margin >= top.limits[query]:
                count = top.counts[query]
                top.rows[query, count] = row
                top.uppers[query, count] = value + margin
                top.lowers[query, count] = value - margin
                top.counts[query] = count + 1
        at[0] += 1
        at[1] = 0
    return True


def slices_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    """The slices of (n, m) row numbers that are read one query after the other; -1 ends a query."""
    counts = (rows >= 0).sum(axis=1)
    starts = np.arange(len(rows), dtype=np.int64) * rows.shape[1]
    return np.stack([np.arange(len(rows)), starts, starts + counts], axis=1)
