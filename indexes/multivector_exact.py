"""The exact top k by MaxSim among some rows of a part, and the exact scores of pairs.

Rows are read back in blocks and multiplied approximately; those whose bounds leave open whether
they are among the top k are scored exactly, with float32 products that are always summed in the
same order and float64 sums of maxima. So a score depends on the stored vectors and the query alone.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import float32, float64, int64, njit, void
from numpy.typing import NDArray

from ..records import Neighbours, TokenVectors
from .maxsim import blocks, rows_for
from .multivector_part import Tokens, chosen
from .multivector_products import product
from .vector_codes import read_only
from .vector_search import best_of

_WINDOW = 1 << 16
"""Rows between two prunings."""

AT_ONCE = 4096
"""Vectors that are read back and scored exactly at once."""


class _Open(NamedTuple):
    """Rows that may be among the top k of a query, with the bounds of their scores."""

    rows: NDArray[np.int64]
    lowers: NDArray[np.float64]
    uppers: NDArray[np.float64]


def search_rows(
    tokens: Tokens, rows: NDArray[np.int64], queries: TokenVectors, k: int
) -> Neighbours:
    """The k best of `rows`, ascending and none without a vector, for each query with vectors."""
    found = [_Open(np.empty(0, np.int64), np.empty(0), np.empty(0)) for _ in range(len(queries))]
    size = rows_for(len(queries.vectors))
    offsets = chosen(tokens.offsets, rows)
    multiply = product(queries, int(offsets[-1]))
    for first in range(0, len(rows), _WINDOW):
        window = rows[first : first + _WINDOW]
        parts = [
            multiply.block(tokens.read(window[a:b]))
            for a, b in blocks(offsets[first : first + len(window) + 1], size)
        ]
        scores = np.concatenate([part.scores for part in parts])
        margins = np.concatenate([part.margins for part in parts])
        for i, before in enumerate(found):
            lowers, uppers = scores[:, i] - margins[:, i], scores[:, i] + margins[:, i]
            found[i] = _pruned(before, _Open(window, lowers, uppers), k)
    best = [
        _ranked(one.rows, exact_scores(tokens, one.rows, query), k)
        for one, query in zip(found, single(queries), strict=True)
    ]
    return Neighbours(
        np.concatenate([one.numbers for one in best]), np.concatenate([one.scores for one in best])
    )


def single(queries: TokenVectors) -> Iterator[NDArray[np.float32]]:
    """The vectors of each query."""
    return iter(np.split(queries.vectors, queries.offsets[1:-1]))


def _pruned(before: _Open, new: _Open, k: int) -> _Open:
    """What is left of both: bounds that reach the k-th lower bound, less its rounding."""
    both = _Open(*(np.concatenate(pair) for pair in zip(before, new, strict=True)))
    if len(both.rows) <= k:
        return both
    reached = np.partition(both.lowers, len(both.lowers) - k)[-k]
    kept = ~(both.uppers < reached - abs(reached) * 2.0**-22 - 1e-44)
    return _Open(*(one[kept] for one in both))


def _ranked(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Neighbours:
    return best_of([Neighbours(rows[None], scores[None])], k)


def exact_scores(
    tokens: Tokens, rows: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n,) scores of rows for the vectors (m, d) of one query; -inf without a vector."""
    scores = np.empty(len(rows))
    for first, last in blocks(chosen(tokens.offsets, rows), AT_ONCE):
        some = tokens.read(rows[first:last])
        _score(some.vectors, some.offsets, query, scores[first:last])
    return scores.astype(np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _dots(vector, queries, first, best):  # type: ignore[no-untyped-def]
    """Raise `best` for four vectors of a query at once: the passage's is loaded once for them."""
    a, b, c, e = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for j in range(vector.shape[0]):
        a += vector[j] * queries[first, j]
        b += vector[j] * queries[first + 1, j]
        c += vector[j] * queries[first + 2, j]
        e += vector[j] * queries[first + 3, j]
    best[first] = max(best[first], a)
    best[first + 1] = max(best[first + 1], b)
    best[first + 2] = max(best[first + 2], c)
    best[first + 3] = max(best[first + 3], e)


@njit(
    void(read_only(float32, 2), read_only(int64, 1), read_only(float32, 2), float64[::1]),
    cache=True,
    nogil=True,
)
def _score(vectors: Any, offsets: Any, query: Any, scores: Any) -> None:
    """The query is filled up to four vectors with zeros, which are not counted."""
    asked = query.shape[0]
    padded = np.zeros(((asked + 3) // 4 * 4, query.shape[1]), np.float32)
    padded[:asked] = query
    best = np.empty(padded.shape[0], np.float32)
    for passage in range(offsets.shape[0] - 1):
        best[:] = -np.inf
        for token in range(offsets[passage], offsets[passage + 1]):
            for first in range(0, padded.shape[0], 4):
                _dots(vectors[token], padded, first, best)
        total = 0.0 if asked else -np.inf
        for i in range(asked):
            total += best[i]
        scores[passage] = total
