"""Token vectors as residual codes: the nearest centroid, and a few bits a dimension for the rest.

A vector is written as the number of its centroid and, for each dimension, at which of 2, 4 or 16
levels its difference from the centroid lies. Levels of a dimension are evenly spaced: they begin at
the quantiles of the differences in a sample and are fitted to it by least squares. (Free levels
would lower the squared error of normal differences by 1% at 2 bits, and be read back at a third of
the speed.) Read back, a vector has the length one again where vectors are normalised.

Centroids are int8 with a scale each; differences are taken from them as they are read back.
The 64-bit words of a code hold a level a byte, the next ones above it, so that a shift and a mask
spread eight dimensions at once.

Santhanam et al., ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction,
NAACL 2022, https://arxiv.org/abs/2112.01488
"""

from typing import NamedTuple

import numpy as np
from numba import boolean, float32, int8, int32, int64, njit, uint16, uint64, void
from numpy.typing import NDArray

from .vector_codes import encode as encode_int8
from .vector_codes import read_only

SAMPLE = 8192
"""Vectors whose differences the levels are made for."""

_ROUNDS = 10


class Codebook(NamedTuple):
    """What some vectors are coded with.

    centroids: (K, d) int8.  scales: (K,) float32.  levels: (2, d) float32, the lowest level of each
    dimension and the step to the next.
    """

    centroids: NDArray[np.int8]
    scales: NDArray[np.float32]
    levels: NDArray[np.float32]


def words(dimensions: int, bits: int) -> int:
    """64-bit words of a code."""
    return -(-dimensions * bits // 64)


def codebook(
    sample: NDArray[np.float32], ids: NDArray[np.uint16], centroids: NDArray[np.float32], bits: int
) -> Codebook:
    """The codebook for these centroids (K, d); bits: 0 for one without levels.

    sample: (n, d) vectors, n >= 1, with their centroids.
    """
    codes, ranges = np.empty(centroids.shape, np.int8), np.empty((len(centroids), 3), np.float32)
    encode_int8(centroids, np.zeros(centroids.shape[1], np.float32), codes, ranges)
    scales = np.ascontiguousarray(ranges[:, 0])
    if not bits:
        return Codebook(codes, scales, np.empty((0, sample.shape[1]), np.float32))
    rests = sample.astype(np.float64) - codes[ids] * scales[ids, None].astype(np.float64)
    return Codebook(codes, scales, _levels(rests, 1 << bits))


def _levels(rests: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """(2, d) lowest level and step for `count` levels; rests: (n, d), n >= 1."""
    low, high = np.quantile(rests, [0.5 / count, 1 - 0.5 / count], axis=0)
    step = (high - low) / (count - 1)
    for _ in range(_ROUNDS):
        places = np.rint((rests - low) / np.where(step > 0, step, np.inf))
        places = np.clip(places, 0, count - 1)
        middle, mean = places.mean(axis=0), rests.mean(axis=0)
        spread = ((places - middle) ** 2).sum(axis=0)
        fitted = ((places - middle) * (rests - mean)).sum(axis=0)
        step = np.where(spread > 0, fitted / np.where(spread > 0, spread, 1), 0)
        low = mean - step * middle
    return np.stack((low, step)).astype(np.float32)


def coded(
    vectors: NDArray[np.float32], ids: NDArray[np.uint16], book: Codebook, bits: int
) -> NDArray[np.uint64]:
    """(n, words) codes of (n, d) vectors with their centroids."""
    codes = np.zeros((len(vectors), words(vectors.shape[1], bits)), np.uint64)
    _encode(vectors, ids, book.centroids, book.scales, book.levels, bits, codes)
    return codes


@njit(
    void(
        read_only(float32, 2), read_only(uint16, 1), read_only(int8, 2), read_only(float32, 1),
        read_only(float32, 2), int64, uint64[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _encode(vectors, ids, centroids, scales, levels, bits, codes):  # type: ignore[no-untyped-def]
    width, most = 8 * codes.shape[1], (1 << bits) - 1
    for i in range(vectors.shape[0]):
        for j in range(vectors.shape[1]):
            rest = vectors[i, j] - np.float32(centroids[ids[i], j]) * scales[ids[i]] - levels[0, j]
            level = 0.0
            if levels[1, j] > 0:
                level = min(max(np.rint(rest / levels[1, j]), 0.0), np.float64(most))
            part, byte = j // width, j % width
            codes[i, byte >> 3] |= np.uint64(level) << np.uint64(8 * (byte & 7) + bits * part)


@njit(cache=True, nogil=True)
def _spread(code, bits, wide):  # type: ignore[no-untyped-def]
    """A level a byte."""
    mask = np.uint64(0x0101010101010101) * np.uint64((1 << bits) - 1)
    for i in range(code.shape[0]):
        rest, place = code[i], i
        for _ in range(8 // bits):
            wide[place] = rest & mask
            rest >>= np.uint64(bits)
            place += code.shape[0]


@njit(cache=True, nogil=True)
def _add(spread, centroid, scale, low, step, vector):  # type: ignore[no-untyped-def]
    for j in range(vector.shape[0]):
        there = low[j] + step[j] * np.float32(spread[j])
        vector[j] = np.float32(centroid[j]) * scale + there


@njit(cache=True, nogil=True, fastmath=True)
def _normalise(vector):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(vector.shape[0]):
        total += vector[j] * vector[j]
    if total > 0:
        factor = np.float32(1) / np.sqrt(total)
        for j in range(vector.shape[0]):
            vector[j] *= factor


@njit(
    void(
        read_only(int64, 1), read_only(int64, 1), read_only(int32, 1), read_only(int64, 1),
        read_only(uint16, 1), read_only(uint64, 2), read_only(int8, 2), read_only(float32, 1),
        read_only(float32, 2), int64, boolean, float32[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def decode(  # type: ignore[no-untyped-def]
    rows, offsets, books, starts, ids, codes, centroids, scales, levels, bits, unit, vectors
):
    """The vectors of some passages, one after the other.

    rows: passages.  offsets: (passages + 1,) of tokens.  books: (passages,) the codebook of each.
    starts: (books + 1,) where the centroids of each codebook begin.  ids, codes: of all tokens.
    centroids, scales, levels: of all codebooks.  unit: whether vectors have the length one.
    """
    wide, place = np.empty(codes.shape[1] * (8 // bits), np.uint64), 0
    spread = wide.view(np.uint8)
    for row in rows:
        book = books[row]
        low, step = levels[2 * book], levels[2 * book + 1]
        for token in range(offsets[row], offsets[row + 1]):
            centroid = starts[book] + ids[token]
            _spread(codes[token], bits, wide)
            _add(spread, centroids[centroid], scales[centroid], low, step, vectors[place])
            if unit:
                _normalise(vectors[place])
            place += 1
