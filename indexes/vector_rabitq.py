"""RaBitQ: one bit a dimension, from which products are estimated without bias.

A vector v of a cell with the mean c is turned: o = P (v - c), P a random rotation, and kept as the
signs of o and two numbers. With x = +1 or -1 by the signs, and r = P (q - c) of a query q,

    q.v = q.c + (v - c).c + (v - c).(q - c)        (v - c).(q - c) = o.r, estimated as f (x.r)

where f = |o|^2 / (x.o) makes the estimate right on average over rotations. r is rounded to 4 bits a
dimension, r = low + step u, so that x.r = 2 (low n + step (s.u)) - sum r with n signs set and s.u
the count of set bits that the signs have in common with each of the four bit planes of u.

The signs are kept cell by cell: word 0 of each row of the cell, then word 1 and so on, so that one
instruction counts the bits of several rows.

Gao and Long, RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
Approximate Nearest Neighbor Search, SIGMOD 2024, https://arxiv.org/abs/2405.12497
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import boolean, float32, int32, int64, njit, uint64, void
from numpy.typing import NDArray

from ..records import Bitmap
from .popcount import popcount
from .topk import LOWER, select
from .vector_cells import Cells, damaged, probe
from .vector_codes import read_only
from .vector_narrow import ALL_LIVE
from .vector_part import Blocks, checked, finite

if TYPE_CHECKING:
    from ..storage import Part, PartWriter

_CHUNK = 512
"""Rows whose estimates are made at once."""

_TILE = 32
"""Estimates that are compared with the limit at once, by their maximum."""


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """The codes of a part.

    signs: (rows * words,) uint64, cell by cell, transposed.  factors: (rows, 2) float32, f and
    (v - c).c in the order of the cells.  rotation: (d, d) float32.  means: (lists, d) float32, the
    means turned.
    """

    cells: Cells
    signs: NDArray[np.uint64]
    factors: NDArray[np.float32]
    rotation: NDArray[np.float32]
    means: NDArray[np.float32]


def rotation_of(dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    """A random rotation (d, d)."""
    noise = np.random.default_rng(seed).standard_normal((dimensions, dimensions))
    turned: NDArray[np.float32] = np.linalg.qr(noise)[0].astype(np.float32)
    return turned


def write_signs(writer: "PartWriter", blocks: Blocks, cells: Cells) -> None:
    """Code all rows and write the codes."""
    rotation = rotation_of(cells.centroids.shape[1])
    member = np.empty(len(cells.order), np.int64)
    member[cells.order] = np.repeat(np.arange(len(cells.lengths)), np.diff(cells.starts))
    base, packed, factors = 0, [], []
    for block in blocks():
        centroids = cells.centroids[member[base : base + len(block)]]
        some = sign_code(np.asarray(block, np.float32), centroids, rotation)
        packed.append(some[0])
        factors.append(some[1])
        base += len(block)
    writer.array("rotation", rotation)
    writer.array("signs", _by_cell(np.concatenate(packed)[cells.order], cells.starts))
    writer.array("factors", np.concatenate(factors)[cells.order])


def sign_code(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], rotation: NDArray[np.float32]
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Signs (n, words) uint64 and factors (n, 2) of vectors with the means of their cells."""
    rests = vectors - centroids
    turned = rests @ rotation.T
    signs = np.zeros((len(vectors), words_of(vectors.shape[1]) * 64), np.bool_)
    signs[:, : vectors.shape[1]] = turned > 0
    squares = np.einsum("ij,ij->i", rests, rests, dtype=np.float64)
    sums = np.abs(turned).sum(axis=1, dtype=np.float64)
    shifts = np.einsum("ij,ij->i", rests, centroids, dtype=np.float64)
    factors = np.stack([squares / np.where(sums > 0, sums, np.inf), shifts], axis=1)
    return np.packbits(signs, axis=1, bitorder="little").view(np.uint64), factors.astype(np.float32)


def words_of(dimensions: int) -> int:
    """Words of 64 signs that a row takes."""
    return -(-dimensions // 64)


def _by_cell(signs: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    bounds = zip(starts, starts[1:], strict=False)
    return np.concatenate([signs[first:last].T.reshape(-1) for first, last in bounds])


def open_signs(part: "Part", cells: Cells) -> Signs:
    """The codes of a part. Raises Damaged unless they fit the cells."""
    rows, dimensions = len(cells.order), cells.centroids.shape[1]
    signs = checked(part, "signs", (rows * words_of(dimensions),), "uint64")
    factors = checked(part, "factors", (rows, 2), "float32")
    rotation = checked(part, "rotation", (dimensions, dimensions), "float32")
    if not finite(rotation):
        raise damaged("the rotation is not finite")
    return Signs(cells, signs, factors, rotation, cells.centroids @ rotation.T)


def sign_candidates(
    signs: Signs, queries: NDArray[np.float32], probes: int, depth: int, live: Bitmap | None
) -> NDArray[np.int32]:
    """The `depth` live rows with the greatest estimates in the nearest cells; -1 for none."""
    cells = signs.cells
    best, products = probe(cells, queries, probes)
    turned = queries @ signs.rotation.T
    found = np.full((len(queries), depth), -1, np.int32)
    alive = ALL_LIVE if live is None else live
    layout = (cells.starts, cells.order, signs.signs, signs.factors, signs.means)
    estimate(best, products.astype(np.float32), turned, *layout, alive, found)
    return found


@njit(cache=True, nogil=True, fastmath=True)
def _planes(rest, planes):  # type: ignore[no-untyped-def]
    """Round a vector to 4 bits a dimension and set its bit planes (4, words); low, step and sum."""
    d = rest.shape[0]
    low, high, total = rest[0], rest[0], np.float32(0)
    for j in range(d):
        low, high, total = min(low, rest[j]), max(high, rest[j]), total + rest[j]
    step = (high - low) / np.float32(15)
    factor = np.float32(1) / step if step > 0 else np.float32(0)
    one = np.uint64(1)
    for word in range(planes.shape[1]):
        p0 = p1 = p2 = p3 = np.uint64(0)
        for j in range(min(64, d - 64 * word)):
            value = np.uint64((rest[64 * word + j] - low) * factor + np.float32(0.5))
            place = np.uint64(j)
            p0 |= (value & one) << place
            p1 |= (value >> one & one) << place
            p2 |= (value >> np.uint64(2) & one) << place
            p3 |= (value >> np.uint64(3) & one) << place
        planes[0, word], planes[1, word], planes[2, word], planes[3, word] = p0, p1, p2, p3
    return low, step, total


@njit(cache=True, nogil=True)
def _count(signs, start, rows, first, planes, shared, own):  # type: ignore[no-untyped-def]
    """shared[i] = s.u and own[i] = n of the rows from `first` on of the cell at `start`."""
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    shared[:] = 0
    own[:] = 0
    for word in range(planes.shape[1]):
        p0, p1, p2, p3 = planes[0, word], planes[1, word], planes[2, word], planes[3, word]
        at = start + word * rows + first
        column = signs[at : at + shared.shape[0]]
        for i in range(shared.shape[0]):
            bits = column[i]
            total = popcount(bits & p0) + (popcount(bits & p1) << one)
            total += (popcount(bits & p2) << two) + (popcount(bits & p3) << three)
            shared[i] += np.int32(total)
            own[i] += np.int32(popcount(bits))


@njit(cache=True, nogil=True, fastmath=True)
def _estimates(shared, own, factors, low, step, total, product, values):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        counted = low * np.float32(own[i]) + step * np.float32(shared[i])
        values[i] = product + factors[i, 1] + factors[i, 0] * (np.float32(2) * counted - total)


@njit(cache=True, nogil=True)
def _key(value, place):  # type: ignore[no-untyped-def]
    """A number that has the place in it and is greater for a greater estimate."""
    bits = np.int64(np.float32(value).view(np.int32))
    if bits < 0:
        bits = bits ^ np.int64(0x7FFFFFFF)
    return (bits << 32) | (LOWER - place)


@njit(cache=True, nogil=True)
def _collect(values, start, order, live, keys, have, limit, depth):  # type: ignore[no-untyped-def]
    """Keep the keys of live rows above the limit; returns how many there are, and the new limit."""
    for first in range(0, values.shape[0], _TILE):
        last = min(first + _TILE, values.shape[0])
        best = values[first]
        for i in range(first, last):
            best = max(best, values[i])
        if not _key(best, 0) >= limit:
            continue
        for i in range(first, last):
            key = _key(values[i], start + i)
            if key > limit and (live.shape[0] == 0 or live[order[start + i]]):
                keys[have] = key
                have += 1
        if have > keys.shape[0] - _TILE:
            limit = select(keys, have, depth)
            have = depth
    return have, limit


@njit(
    void(int64[:, ::1], float32[:, ::1], read_only(float32, 2), int64[::1], read_only(int32, 1),
         read_only(uint64, 1), read_only(float32, 2), read_only(float32, 2), read_only(boolean, 1),
         int32[:, ::1]),
    cache=True, nogil=True,
)  # fmt: skip
def estimate(cells, products, turned, starts, order, signs, factors, means, live, found):  # type: ignore[no-untyped-def]
    """found[q] = the rows with the greatest estimates in cells[q], of which products[q] are q.c."""
    d, depth = turned.shape[1], found.shape[1]
    words = -(-d // 64)
    planes = np.empty((4, words), np.uint64)
    shared, own = np.empty(_CHUNK, np.int32), np.empty(_CHUNK, np.int32)
    values, rest = np.empty(_CHUNK, np.float32), np.empty(d, np.float32)
    keys = np.empty(3 * depth + _CHUNK, np.int64)
    for query in range(cells.shape[0]):
        have, limit = 0, np.int64(-(2**63))
        for nth in range(cells.shape[1]):
            cell = cells[query, nth]
            start, rows = starts[cell], starts[cell + 1] - starts[cell]
            for j in range(d):
                rest[j] = turned[query, j] - means[cell, j]
            low, step, total = _planes(rest, planes)
            for first in range(0, rows, _CHUNK):
                some = min(_CHUNK, rows - first)
                at, part = start + first, values[:some]
                _count(signs, start * words, rows, first, planes, shared[:some], own[:some])
                _estimates(shared[:some], own[:some], factors[at : at + some], low, step, total,
                           products[query, nth], part)  # fmt: skip
                have, limit = _collect(part, at, order, live, keys, have, limit, depth)
        if have > depth:
            select(keys, have, depth)
        for i in range(min(have, depth)):
            found[query, i] = order[LOWER - (keys[i] & LOWER)]
