"""Approximate MaxSim of blocks of passages for a batch of queries, with a bound on its error.

Two ways: in float32 by NumPy, or in bfloat16 by torch, which has several times the speed on
processors that are made for it. For a query vector q and a passage vector v that are multiplied as
q' and v', and with products rounded to x (1 + u),

    |q.v - x| <= |q - q'| |v| + |q'| |v - v'| + u |x|

A maximum is off by no more than the worst of what it is taken of, and a sum by the sum, so that

    margin = sum over q of (|q - q'| longest + |q'| error + w |q'| longest) + u sum of |maxima|

with the longest v and the greatest |v - v'| of the block; w = (d + 2) 2^-23 covers the float32
sums of d products, here and in the exact score (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). Whoever drops passages by it loses none.
"""

import importlib.util
import sys
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import float32, float64, int16, int64, njit, uint16, void
from numpy.typing import NDArray

from ..records import TokenVectors
from .vector_codes import read_only

WORTH_TORCH = 200_000_000
"""Multiplications below which loading torch costs more than it saves."""

_TINY = 1e-30
"""Beyond all that is lost where numbers too small for float32 are taken as zero."""


class Approximate(NamedTuple):
    """scores, margins: (passages, queries) float64; the exact score is within the margin."""

    scores: NDArray[np.float64]
    margins: NDArray[np.float64]


class Product(Protocol):
    """Multiplies blocks of passages by one batch of queries."""

    def block(self, tokens: TokenVectors) -> Approximate:
        """Scores of passages that have a vector each at least."""
        ...


class Float32Product:
    """Products by NumPy."""

    def __init__(self, queries: TokenVectors) -> None:
        self._queries = queries
        self._turned = np.ascontiguousarray(queries.vectors.T)
        self._lengths = norms(queries.vectors)

    def block(self, tokens: TokenVectors) -> Approximate:
        maxima = np.empty((len(tokens), self._turned.shape[1]), np.float32)
        greatest((tokens.vectors @ self._turned).reshape(-1), tokens.offsets, maxima)
        longest = norms(tokens.vectors).max()
        errors = roundings(tokens.vectors) * self._lengths * longest + _TINY
        offsets = self._queries.offsets
        return Approximate(
            sums(maxima, offsets), np.tile(sums(errors[None], offsets), (len(tokens), 1))
        )


class BFloat16Product:
    """Products by torch. They come as bfloat16 too: off by 2^-8 of themselves."""

    def __init__(self, queries: TokenVectors) -> None:
        import torch

        self._torch, self._queries = torch, queries
        bits, _, _ = rounding(queries.vectors)
        rounded = widened(bits)
        left = queries.vectors.astype(np.float64) - rounded
        self._lefts, self._lengths = np.linalg.norm(left, axis=1), norms(rounded)
        self._turned = torch.from_numpy(bits).view(torch.bfloat16).t()

    def block(self, tokens: TokenVectors) -> Approximate:
        torch, offsets = self._torch, self._queries.offsets
        rounded, longest, error = rounding(tokens.vectors)
        products = torch.mm(torch.from_numpy(rounded).view(torch.bfloat16), self._turned)
        bits = np.empty((len(tokens), self._turned.shape[1]), np.int16)
        greatest_bits(products.view(torch.int16).numpy().reshape(-1), tokens.offsets, bits)
        maxima = widened(bits)
        error += roundings(tokens.vectors) * longest
        off = self._lefts * longest + self._lengths * error + _TINY
        margins = sums(off[None], offsets) + 2.0**-8 * sums(np.abs(maxima), offsets)
        return Approximate(sums(maxima, offsets), margins)


def product(queries: TokenVectors, vectors: int) -> Product:
    """The fastest product for this batch of queries against so many vectors of passages."""
    much = "torch" in sys.modules or queries.vectors.size * vectors >= WORTH_TORCH
    return BFloat16Product(queries) if much and has_bfloat16() else Float32Product(queries)


@cache
def has_bfloat16() -> bool:
    """Whether torch is installed and the processor is made for bfloat16 products."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def roundings(vectors: NDArray[np.float32]) -> float:
    """w of the module's text."""
    return float(vectors.shape[1] + 2) * 2.0**-23


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) lengths of (n, d) vectors, rounded up."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    roomy: NDArray[np.float64] = np.sqrt(squares.astype(np.float64)) * (1 + 1e-5)
    return roomy


def sums(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, queries) sums of the columns of each query; every query has one at least."""
    total: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), offsets[:-1], axis=1)
    return total


def rounding(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.int16], float, float]:
    """The bits of the vectors as bfloat16, the length of the longest, the greatest error."""
    bits, found = np.empty(vectors.shape, np.uint16), np.zeros(2)
    _round(vectors, bits, found)
    longest, error = np.sqrt(found) * (1 + 1e-5)
    return bits.view(np.int16), float(longest), float(error)


def widened(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """The float32 numbers that bfloat16 bits stand for."""
    return (bits.astype(np.int32) << 16).view(np.float32)


@njit(cache=True, nogil=True)
def _round_off(bits, halves, wide):  # type: ignore[no-untyped-def]
    """To the nearest bfloat16, to the even one between two: what float32 bits become, and are."""
    for j in range(bits.shape[0]):
        half = bits[j] + np.uint32(0x7FFF) + ((bits[j] >> np.uint32(16)) & np.uint32(1))
        halves[j] = half >> np.uint32(16)
        wide[j] = half & np.uint32(0xFFFF0000)


@njit(cache=True, nogil=True, fastmath=True)
def _squares(vector, rounded, found):  # type: ignore[no-untyped-def]
    length, error = np.float32(0), np.float32(0)
    for j in range(vector.shape[0]):
        length += vector[j] * vector[j]
        error += (vector[j] - rounded[j]) * (vector[j] - rounded[j])
    found[0], found[1] = max(found[0], length), max(found[1], error)


@njit(void(read_only(float32, 2), uint16[:, ::1], float64[::1]), cache=True, nogil=True)
def _round(vectors, halves, found):  # type: ignore[no-untyped-def]
    bits = vectors.view(np.uint32)
    rounded = np.empty(vectors.shape[1], np.float32)
    wide = rounded.view(np.uint32)
    for i in range(vectors.shape[0]):
        _round_off(bits[i], halves[i], wide)
        _squares(vectors[i], rounded, found)


@njit(cache=True, nogil=True)
def _fold(values, first, last, width):  # type: ignore[no-untyped-def]
    """Into row `first` of a flat array the greatest of each column of the rows up to `last`.

    The second half is laid onto the first again and again: long loops, whatever the width.
    """
    rows = last - first
    while rows > 1:
        half = rows // 2
        upper = values[first * width : (first + half) * width]
        lower = values[(first + rows - half) * width : (first + rows) * width]
        for i in range(upper.shape[0]):
            upper[i] = max(upper[i], lower[i])
        rows -= half


@njit(void(float32[::1], int64[::1], float32[:, ::1]), cache=True, nogil=True)
def greatest(products, offsets, maxima):  # type: ignore[no-untyped-def]
    """maxima[p, i] = the greatest product of a vector of passage p with query vector i.

    products: (tokens * query vectors,) flat; they are overwritten.
    """
    width = maxima.shape[1]
    for passage in range(offsets.shape[0] - 1):
        first = offsets[passage]
        _fold(products, first, offsets[passage + 1], width)
        maxima[passage] = products[first * width : (first + 1) * width]


@njit(cache=True, nogil=True)
def _turn(bits):  # type: ignore[no-untyped-def]
    """bfloat16 compare like whole numbers once all but the sign of negative ones is turned."""
    for i in range(bits.shape[0]):
        bits[i] ^= (bits[i] >> np.int16(15)) & np.int16(32767)


@njit(void(int16[::1], int64[::1], int16[:, ::1]), cache=True, nogil=True)
def greatest_bits(products, offsets, maxima):  # type: ignore[no-untyped-def]
    """The same of bfloat16."""
    width = maxima.shape[1]
    _turn(products)
    for passage in range(offsets.shape[0] - 1):
        first = offsets[passage]
        _fold(products, first, offsets[passage + 1], width)
        maxima[passage] = products[first * width : (first + 1) * width]
    _turn(maxima.reshape(-1))
