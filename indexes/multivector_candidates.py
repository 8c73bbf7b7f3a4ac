"""Candidates by centroids: MaxSim with the centroid of every token in the place of its vector.

The products of the query's vectors with all centroids become a table of bytes that stays in the
processor's cache; a passage then costs two bytes and one look-up of all query vectors a token, a
hundredth of its exact score.

Santhanam et al., PLAID: An Efficient Engine for Late Interaction Retrieval, CIKM 2022,
https://arxiv.org/abs/2205.09707
"""

from typing import Any

import numpy as np
from numba import int32, int64, njit, uint8, uint16, void
from numpy.typing import NDArray

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
) -> NDArray[np.int64]:
    """The `depth` rows, ascending, that are best by their centroids, of `rows` with vectors."""
    if len(rows) <= depth:
        return rows
    scores = np.zeros(len(rows), np.int32)
    for table in _tables(centroids, query):
        _scan(rows, offsets, centroids.books, centroids.starts, centroids.ids, table, scores)
    # the number decides between equal scores, so that the same rows come whatever the selection
    keys = (scores.astype(np.int64) << 32) - np.arange(len(rows))
    return np.sort(rows[np.argpartition(keys, len(rows) - depth)[-depth:]])


def _tables(centroids: Centroids, query: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """(K, 32) tables for 32 query vectors each: 0 is the least product, 255 the greatest."""
    wide = -(-len(query) // _WIDTH) * _WIDTH
    products = np.empty((len(centroids.scales), len(query)), np.float32)
    for first in range(0, len(products), 4096):
        some = slice(first, first + 4096)
        np.matmul(centroids.centroids[some].astype(np.float32), query.T, out=products[some])
    products *= centroids.scales[:, None]
    least, greatest = products.min(), products.max()
    table = np.zeros((len(products), wide), np.uint8)
    table[:, : len(query)] = (products - least) * (255 / max(greatest - least, 1e-30))
    return [np.ascontiguousarray(table[:, i : i + _WIDTH]) for i in range(0, wide, _WIDTH)]


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
