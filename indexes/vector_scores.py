"""The exact scores of rows: float64 sums of the stored numbers, rounded to float32.

They do not depend on blocks, segments or the other queries of a batch.
"""

from typing import Any

import numpy as np
from numba import float32, int64, njit, void
from numpy.typing import NDArray

from ..records import Neighbours
from .prefetch import prefetch
from .vector_codes import read_only

_AHEAD = 3
"""Candidates between a row that is scored and the one that is fetched."""

AT_ONCE = 4096
"""Candidates that are scored in one call."""


def exact_scores(
    vectors: NDArray[Any],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    which: NDArray[np.int64],
) -> NDArray[np.float32]:
    """(n,) the score of vectors[rows[i]] for queries[which[i]]; float16 vectors are widened."""
    scores = np.empty(len(rows), np.float32)
    if vectors.dtype == np.float16:  # numba has no float16
        vectors, rows = vectors[rows].astype(np.float32), np.arange(len(rows))
    score(vectors, rows, queries, which, scores)
    return scores


def in_order(numbers: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Neighbours:
    """The first k, best first, equal scores by ascending number; -1 stands for none."""
    # as unsigned numbers -1 is the greatest, which loses every tie
    order = np.lexsort((numbers.view(np.uint64), -scores), axis=1)[:, :k]
    return Neighbours(
        np.take_along_axis(numbers, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def scores_by_row(
    vectors: NDArray[Any],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    which: NDArray[np.int64],
) -> NDArray[np.float32]:
    """exact_scores, but row after row, so that a row of several queries is read once."""
    order = np.empty(len(rows), np.int64)
    sort_rows(rows, len(vectors), order)
    scores = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), AT_ONCE):
        some = order[first : first + AT_ONCE]
        scores[some] = exact_scores(vectors, rows[some], queries, which[some])
    return scores


@njit(void(int64[::1], int64, int64[::1]), cache=True, nogil=True)
def sort_rows(rows, size, order):  # type: ignore[no-untyped-def]
    """order = what sorts row numbers below `size`; equal ones stay in their order."""
    places = np.zeros(size + 1, np.int64)
    for row in rows:
        places[row + 1] += 1
    for row in range(size):
        places[row + 1] += places[row]
    for i in range(rows.shape[0]):
        order[places[rows[i]]] = i
        places[rows[i]] += 1


@njit(
    void(read_only(float32, 2), int64[::1], read_only(float32, 2), int64[::1], float32[::1]),
    cache=True, nogil=True, fastmath=True,
)  # fmt: skip
def score(vectors, rows, queries, which, scores):  # type: ignore[no-untyped-def]
    """scores[i] = vectors[rows[i]] . queries[which[i]] as a float64 sum, for float32 vectors."""
    d = vectors.shape[1]
    for i in range(rows.shape[0]):
        if i + _AHEAD < rows.shape[0]:
            for at in range(rows[i + _AHEAD] * d, (rows[i + _AHEAD] + 1) * d, 16):
                prefetch(vectors, at)  # type: ignore[call-arg]
        row, query, total = rows[i], which[i], 0.0
        for j in range(d):
            total += np.float64(vectors[row, j]) * np.float64(queries[query, j])
        scores[i] = total
