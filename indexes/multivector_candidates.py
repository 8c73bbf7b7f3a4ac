"""Candidates by centroids: MaxSim with centroid and context of every token in place of its vector.

The products of the query's vectors with all centroids become a table of bytes that stays in the
processor's cache; a passage then costs two bytes and one look-up of all query vectors a token, a
hundredth of its exact score.

Santhanam et al., PLAID: An Efficient Engine for Late Interaction Retrieval, CIKM 2022,
https://arxiv.org/abs/2205.09707
"""

from typing import Any

import numpy as np
from numba import float32, int8, int32, int64, njit, uint8, uint16, void
from numpy.typing import NDArray

from .multivector_codes import Contexts
from .multivector_part import Centroids
from .vector_codes import read_only

_WIDTH = 32
"""Query vectors that are looked up at once."""


def candidates(
    centroids: Centroids,
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    query: NDArray[np.float32],
    depth: int,
    added: Contexts | None = None,
) -> NDArray[np.int64]:
    """The `depth` rows, ascending, that are best by their centroids, of `rows` with vectors.

    added: what each passage adds to its centroids.
    """
    if len(rows) <= depth:
        return rows
    scores = np.zeros(len(rows), np.int32)
    tables, step = _tables(centroids, query)
    if added is not None:
        _start(rows, *added, (query.sum(axis=0) / step).astype(np.float32), scores)
    for table in tables:
        _scan(rows, offsets, centroids.books, centroids.starts, centroids.ids, table, scores)
    # the number decides between equal scores, so that the same rows come whatever the selection
    keys = (scores.astype(np.int64) << 32) - np.arange(len(rows))
    return np.sort(rows[np.argpartition(keys, len(rows) - depth)[-depth:]])


def _tables(
    centroids: Centroids, query: NDArray[np.float32]
) -> tuple[list[NDArray[np.uint8]], float]:
    """(K, 32) tables for 32 query vectors each: 0 is the least product, 255 the greatest.

    With the product that one step of them is.
    """
    wide = -(-len(query) // _WIDTH) * _WIDTH
    products = np.empty((len(centroids.scales), len(query)), np.float32)
    for first in range(0, len(products), 4096):
        some = slice(first, first + 4096)
        np.matmul(centroids.centroids[some].astype(np.float32), query.T, out=products[some])
    products *= centroids.scales[:, None]
    least, greatest = products.min(), products.max()
    table = np.zeros((len(products), wide), np.uint8)
    step = max(float(greatest - least) / 255, 1e-30)
    table[:, : len(query)] = (products - least) / step
    return [np.ascontiguousarray(table[:, i : i + _WIDTH]) for i in range(0, wide, _WIDTH)], step


@njit(cache=True, nogil=True, fastmath=True)
def _dot(codes, query):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(query.shape[0]):
        total += np.float32(codes[j]) * query[j]
    return total


@njit(
    void(
        read_only(int64, 1), read_only(int8, 2), read_only(float32, 1), float32[::1], int32[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _start(rows: Any, codes: Any, scales: Any, query: Any, scores: Any) -> None:
    """What contexts add: every vector of a passage has its context, so a maximum has it once."""
    for i in range(rows.shape[0]):
        product = np.float64(_dot(codes[rows[i]], query)) * scales[rows[i]]
        scores[i] = np.int32(min(max(np.rint(product), -1e9), 1e9))


@njit(
    void(
        read_only(int64, 1), read_only(int64, 1), read_only(int32, 1), read_only(int64, 1),
        read_only(uint16, 1), uint8[:, ::1], int32[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _scan(
    rows: Any, offsets: Any, books: Any, starts: Any, ids: Any, table: Any, scores: Any
) -> None:
    best = np.empty(table.shape[1], np.uint8)
    for i in range(rows.shape[0]):
        row = rows[i]
        base = starts[books[row]]
        best[:] = 0
        token, last = offsets[row], offsets[row + 1]
        while token < last:  # four at once, the last one again if there are fewer
            a = table[base + ids[token]]
            b = table[base + ids[min(token + 1, last - 1)]]
            c = table[base + ids[min(token + 2, last - 1)]]
            d = table[base + ids[min(token + 3, last - 1)]]
            for j in range(32):
                left, right = max(a[j], b[j]), max(c[j], d[j])
                best[j] = max(best[j], max(left, right))
            token += 4
        for j in range(32):
            scores[i] += best[j]
