"""Token vectors as codes: a centroid, what a passage adds to all of its vectors, and a few bits.

A vector is written as

    v = centroid + context + mean + gain * deviation * number

The centroid is the one that is nearest. The context is the mean over a passage of what its
centroids leave: a model that reads a token in its passage moves all vectors of the passage in
common, and one vector of int8 a passage holds that. Of what is left each dimension gets the mean
zero and the deviation one, each vector too, by a gain of one byte; then it is written by trellis
codes in 1, 2 or 4 bits a dimension. Read back, a vector has the length one again where vectors are
normalised.

Centroids and contexts are int8 with a scale each; what is coded next is the difference from them as
they are read back.

Santhanam et al., ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction,
NAACL 2022, https://arxiv.org/abs/2112.01488
"""

from typing import Any, NamedTuple

import numpy as np
from numba import boolean, float32, int8, int32, int64, njit, uint8, uint16, void
from numpy.typing import NDArray

from ..records import TokenVectors
from . import multivector_trellis as trellis
from .multivector_trellis import spread
from .vector_codes import encode as encode_int8
from .vector_codes import read_only

SAMPLE = 8192
"""Vectors that means and deviations are those of, at least where there are so many."""


GAINS: NDArray[np.float32] = np.exp((np.arange(256) - 128) / 24).astype(np.float32)
"""What the first byte of a code stands for: steps of 4%, and nothing at 0."""
GAINS[0] = 0
GAINS.flags.writeable = False


class Codebook(NamedTuple):
    """What some vectors are coded with.

    centroids: (K, d) int8.  scales: (K,) float32.  spreads: (2, d) float32, the mean and the
    deviation of each dimension.
    """

    centroids: NDArray[np.int8]
    scales: NDArray[np.float32]
    spreads: NDArray[np.float32]


class Contexts(NamedTuple):
    """What each passage adds to its vectors: codes (rows, d) int8, scales (rows,) float32."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]


def bytes_each(dimensions: int, bits: int) -> int:
    """Bytes of a code."""
    return 1 + trellis.length(dimensions, bits)


def eighths(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(n, d) vectors as int8 with a scale each."""
    codes, ranges = np.empty(vectors.shape, np.int8), np.empty((len(vectors), 3), np.float32)
    encode_int8(vectors, np.zeros(vectors.shape[1], np.float32), codes, ranges)
    return codes, np.ascontiguousarray(ranges[:, 0])


def contexts(keys: TokenVectors, ids: NDArray[np.uint16], book: Codebook) -> Contexts:
    """The contexts of passages with vectors from their first offset on, and their centroids."""
    means = np.zeros((len(keys), keys.vectors.shape[1]), np.float32)
    _means(keys.vectors, keys.offsets, ids, book.centroids, book.scales, means)
    return Contexts(*eighths(means))


def rests(
    keys: TokenVectors, ids: NDArray[np.uint16], book: Codebook, added: Contexts
) -> NDArray[np.float32]:
    """(tokens, d) what centroids and contexts leave."""
    found = np.empty(keys.vectors.shape, np.float32)
    _rests(keys.vectors, keys.offsets, ids, book.centroids, book.scales, *added, found)
    return found


def spreads(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, d) mean and deviation of the dimensions of (n, d) rests, n >= 1."""
    return np.stack((sample.mean(axis=0), sample.std(axis=0))).astype(np.float32)


def coded(found: NDArray[np.float32], book: Codebook, bits: int) -> NDArray[np.uint8]:
    """(n, bytes) codes of (n, d) rests."""
    mean, deviation = book.spreads
    even = (found - mean) / np.where(deviation > 0, deviation, np.inf)
    gains = np.sqrt(np.einsum("ij,ij->i", even, even) / even.shape[1])
    first = np.clip(np.rint(24 * np.log(np.maximum(gains, 1e-30)) + 128), 0, 255).astype(np.uint8)
    gains = GAINS[first]
    even *= np.where(gains > 0, 1 / np.where(gains > 0, gains, 1), 0)[:, None].astype(np.float32)
    return np.concatenate((first[:, None], trellis.coded(even.astype(np.float32), bits)), axis=1)


@njit(
    void(
        read_only(float32, 2), read_only(int64, 1), read_only(uint16, 1), read_only(int8, 2),
        read_only(float32, 1), float32[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _means(vectors: Any, offsets: Any, ids: Any, centroids: Any, scales: Any, means: Any) -> None:
    total = np.empty(vectors.shape[1], np.float64)
    for row in range(offsets.shape[0] - 1):
        first, last = offsets[row], offsets[row + 1]
        total[:] = 0
        for token in range(first, last):
            centroid, scale = centroids[ids[token]], scales[ids[token]]
            for j in range(total.shape[0]):
                total[j] += vectors[token, j] - np.float32(centroid[j]) * scale
        for j in range(total.shape[0]):
            means[row, j] = total[j] / max(last - first, 1)


@njit(
    void(
        read_only(float32, 2), read_only(int64, 1), read_only(uint16, 1), read_only(int8, 2),
        read_only(float32, 1), read_only(int8, 2), read_only(float32, 1), float32[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _rests(
    vectors: Any, offsets: Any, ids: Any, centroids: Any, scales: Any, added: Any, sizes: Any,
    found: Any,
) -> None:  # fmt: skip
    for row in range(offsets.shape[0] - 1):
        for token in range(offsets[row], offsets[row + 1]):
            centroid, scale = centroids[ids[token]], scales[ids[token]]
            for j in range(vectors.shape[1]):
                near = np.float32(centroid[j]) * scale + np.float32(added[row, j]) * sizes[row]
                found[token, j] = vectors[token, j] - near


@njit(cache=True, nogil=True)
def _add(centroid, scale, ground, deviation, gain, numbers, vector):  # type: ignore[no-untyped-def]
    for j in range(vector.shape[0]):
        there = ground[j] + deviation[j] * gain * numbers[j]
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
        read_only(uint16, 1), read_only(uint8, 2), read_only(int8, 2), read_only(float32, 1),
        read_only(float32, 2), read_only(int8, 2), read_only(float32, 1), read_only(float32, 1),
        read_only(float32, 1), int64, boolean, float32[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def decode(  # type: ignore[no-untyped-def]
    rows, offsets, books, starts, ids, codes, centroids, scales, spreads, added, sizes, gains,
    levels, bits, unit, vectors,
):  # fmt: skip
    """The vectors of some passages, one after the other.

    rows: passages.  offsets: (passages + 1,) of tokens.  books: (passages,) the codebook of each.
    starts: (books + 1,) where the centroids of each codebook begin.  ids, codes: of all tokens.
    centroids, scales, spreads: of all codebooks.  added, sizes: contexts.  gains: of codes.
    levels: of the trellis.  unit: whether vectors have the length one.
    """
    numbers, place = np.empty((codes.shape[1] - 1) * (8 // bits), np.float32), 0
    ground = np.empty(vectors.shape[1], np.float32)
    for row in rows:
        book = books[row]
        deviation = spreads[2 * book + 1]
        for j in range(ground.shape[0]):
            ground[j] = spreads[2 * book, j] + np.float32(added[row, j]) * sizes[row]
        for token in range(offsets[row], offsets[row + 1]):
            centroid = starts[book] + ids[token]
            code = codes[token]
            spread(code[1:], bits, levels, numbers)
            _add(
                centroids[centroid], scales[centroid], ground, deviation, gains[code[0]], numbers,
                vectors[place],
            )  # fmt: skip
            if unit:
                _normalise(vectors[place])
            place += 1
