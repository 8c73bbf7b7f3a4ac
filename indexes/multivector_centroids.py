"""Centroids of token vectors by k-means, on a sample and from a fixed seed.

The same vectors give the same centroids. Where torch is installed and the processor is made for
bfloat16, many vectors are multiplied in that, and centroids come out a little different.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, float64, int16, int64, njit, void
from numpy.typing import NDArray

from .multivector_products import WORTH_TORCH, has_bfloat16
from .vector_codes import read_only

SAMPLE = 16
"""Vectors a centroid that are trained on."""

ROUNDS = 4

MOST = 1 << 14
"""Centroids of one table: a vector costs 13 microseconds to be compared with so many."""

LEAST_VECTORS = 64
"""Vectors a centroid, at least: the table stays small beside the codes."""

_BLOCK = 512


def how_many(vectors: int) -> int:
    """Centroids for so many vectors: a power of two up to 16 times the root of their number.

    Santhanam et al., PLAID: An Efficient Engine for Late Interaction Retrieval, CIKM 2022.
    """
    wanted = min(16 * math.sqrt(vectors), vectors / LEAST_VECTORS, MOST)
    return 1 << max(0, math.floor(math.log2(max(wanted, 1))))


def train(vectors: NDArray[Any], count: int, seed: int = 0) -> NDArray[np.float32]:
    """(at most count, d) float32 centroids of (n, d) vectors, n >= 1."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(vectors))[: count * SAMPLE])
    sample = vectors[chosen].astype(np.float32)
    start = np.sort(random.permutation(len(sample))[:count])
    centroids: NDArray[np.float32] = sample[start]
    for _ in range(ROUNDS):
        centroids = _means(sample, nearest(sample, centroids), centroids)
    return centroids


def _means(
    sample: NDArray[np.float32], ids: NDArray[np.uint16], before: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of the vectors of each centroid; one that has none stays where it was."""
    sums, counts = np.zeros(before.shape), np.zeros(len(before), np.int64)
    _add(sample, ids.astype(np.int64), sums, counts)
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return np.where(counts[:, None] > 0, means, before)


def nearest(vectors: NDArray[Any], centroids: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(n,) the centroid with the least distance to each vector, to the precision of products."""
    halves = (np.einsum("ij,ij->i", centroids, centroids) / 2).astype(np.float32)
    much = len(vectors) * centroids.size >= WORTH_TORCH
    ways = _with_torch if much and has_bfloat16() else _with_numpy
    find = ways(centroids, halves)
    found = np.empty(len(vectors), np.int64)
    for first in range(0, len(vectors), _BLOCK):
        few = slice(first, first + _BLOCK)
        find(np.ascontiguousarray(vectors[few], np.float32), found[few])
    return found.astype(np.uint16)


Find = Callable[[NDArray[np.float32], NDArray[np.int64]], None]


def _with_numpy(centroids: NDArray[np.float32], halves: NDArray[np.float32]) -> Find:
    turned = np.ascontiguousarray(centroids.T)
    held = np.empty((_BLOCK, len(centroids)), np.float32)

    def find(vectors: NDArray[np.float32], found: NDArray[np.int64]) -> None:
        products = np.matmul(vectors, turned, out=held[: len(vectors)])
        products -= halves
        np.argmax(products, axis=1, out=found)

    return find


def _with_torch(centroids: NDArray[np.float32], halves: NDArray[np.float32]) -> Find:
    """The half squares go in as two more columns: a bfloat16 alone is too coarse for them."""
    import torch

    coarse = torch.from_numpy(halves).bfloat16()
    rest = (torch.from_numpy(halves) - coarse.float()).bfloat16()
    columns = [torch.from_numpy(centroids).bfloat16(), -coarse[:, None], -rest[:, None]]
    turned = torch.cat(columns, dim=1).t()
    held = torch.empty((_BLOCK, len(centroids)), dtype=torch.bfloat16)

    def find(vectors: NDArray[np.float32], found: NDArray[np.int64]) -> None:
        wide = torch.ones((len(vectors), turned.shape[0]), dtype=torch.bfloat16)
        wide[:, :-2] = torch.from_numpy(vectors)
        products = torch.mm(wide, turned, out=held[: len(vectors)])
        _greatest(products.view(torch.int16).numpy(), found)

    return find


@njit(void(int16[:, ::1], int64[:]), cache=True, nogil=True)
def _greatest(bits: Any, found: Any) -> None:
    """The first place of the greatest number of each row, all bfloat16."""
    for row in range(bits.shape[0]):
        best = np.int16(-32768)
        for i in range(bits.shape[1]):
            value = bits[row, i]
            value ^= (value >> np.int16(15)) & np.int16(32767)
            best = max(best, value)
        best ^= (best >> np.int16(15)) & np.int16(32767)
        place = 0
        while bits[row, place] != best:
            place += 1
        found[row] = place


@njit(void(read_only(float32, 2), int64[::1], float64[:, ::1], int64[::1]), cache=True, nogil=True)
def _add(sample: Any, ids: Any, sums: Any, counts: Any) -> None:
    for row in range(sample.shape[0]):
        counts[ids[row]] += 1
        for j in range(sample.shape[1]):
            sums[ids[row], j] += sample[row, j]
