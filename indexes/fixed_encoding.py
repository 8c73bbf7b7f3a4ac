"""Fixed dimensional encodings: one vector for many, whose inner product approximates MaxSim.

Space is cut into 2^bits cells by random hyperplanes. A query's vectors are summed in each cell, a
passage's are averaged, and a cell in which a passage has none gets the one of its vectors that
fewest hyperplanes part from the cell; so the product of a cell is that of each query vector with
something near it. Vectors are projected to `width` dimensions first, it is done `repetitions` times
with other hyperplanes, and all of it can be added up in `final` places with random signs.

Dhulipala et al., MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings, NeurIPS 2024,
https://arxiv.org/abs/2405.19504
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import boolean, float32, int64, njit, void
from numpy.typing import NDArray

from ..records import TokenVectors
from .maxsim import blocks
from .vector_codes import read_only

_BLOCK = 8192
"""Vectors that are projected at once."""

Encoded = NDArray[np.float32]


@dataclass(frozen=True)
class FixedEncoding:
    """How vectors of `dimensions` become one; final: 0 = as many places as cells have."""

    dimensions: int
    repetitions: int
    bits: int
    width: int
    final: int
    seed: int = 0

    @property
    def length(self) -> int:
        """Dimensions of an encoding."""
        return self.final or (self.repetitions << self.bits) * self.width

    def encode_queries(self, queries: TokenVectors) -> Encoded:
        """(queries, length): sums in each cell."""
        return self._encode(queries, query=True)

    def encode_passages(self, passages: TokenVectors) -> Encoded:
        """(passages, length): means in each cell, empty ones filled; zero without a vector."""
        return self._encode(passages, query=False)

    def _encode(self, texts: TokenVectors, query: bool) -> Encoded:
        whole = (self.repetitions << self.bits) * self.width
        encoded = np.zeros((len(texts), self.length), np.float32)
        for first, last in blocks(texts.offsets, _BLOCK):
            offsets = texts.offsets[first : last + 1]
            vectors = texts.vectors[offsets[0] : offsets[-1]]
            sides, projected = (vectors @ matrix for matrix in self._matrices)
            cells = np.zeros((last - first, whole), np.float32)
            some = offsets - offsets[0]
            _fill_cells(sides, projected, some, self.bits, self.width, query, cells)
            encoded[first:last] = self._added_up(cells)
        return encoded

    def _added_up(self, cells: Encoded) -> Encoded:
        if not self.final:
            return cells
        order, starts, signs, targets = self._sketch
        found = np.zeros((len(cells), self.final), np.float32)
        found[:, targets] = np.add.reduceat((cells * signs)[:, order], starts, axis=1)
        return found

    @cached_property
    def _matrices(self) -> tuple[Encoded, Encoded]:
        """Hyperplanes (d, repetitions bits), and random signs (d, repetitions width)."""
        random = np.random.default_rng(self.seed)
        planes = random.standard_normal((self.dimensions, self.repetitions * self.bits))
        signs = random.integers(0, 2, (self.dimensions, self.repetitions * self.width)) * 2 - 1
        return planes.astype(np.float32), (signs / np.sqrt(self.width)).astype(np.float32)

    @cached_property
    def _sketch(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Encoded, NDArray[np.int64]]:
        """Places by the target they are added to, where each target's begin, signs, targets."""
        random = np.random.default_rng(self.seed + 1)
        whole = (self.repetitions << self.bits) * self.width
        target = random.integers(0, self.final, whole)
        signs = (random.integers(0, 2, whole) * 2 - 1).astype(np.float32)
        targets, starts = np.unique(np.sort(target), return_index=True)
        return np.argsort(target, kind="stable"), starts, signs, targets


@njit(cache=True, nogil=True)
def _nearest_cell(inside: Any, first: Any, last: Any, cell: Any) -> Any:
    """The first vector whose cell differs from `cell` in the fewest bits."""
    best, least = first, 64
    for token in range(first, last):
        apart, differs = 0, inside[token] ^ cell
        while differs:
            differs &= differs - 1
            apart += 1
        if apart < least:
            best, least = token, apart
    return best


@njit(
    void(
        read_only(float32, 2), read_only(float32, 2), read_only(int64, 1), int64, int64, boolean,
        float32[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _fill_cells(
    sides: Any, projected: Any, offsets: Any, bits: Any, width: Any, query: Any, cells: Any
) -> None:
    """cells[p, (r << bits | cell) * width + i] from the sides of hyperplanes of each vector."""
    count = 1 << bits
    inside, held = np.empty(sides.shape[0], np.int64), np.empty(count, np.int64)
    for passage in range(offsets.shape[0] - 1):
        first, last = offsets[passage], offsets[passage + 1]
        for repetition in range(sides.shape[1] // bits):
            held[:] = 0
            for token in range(first, last):
                cell = 0
                for bit in range(bits):
                    cell |= (sides[token, repetition * bits + bit] > 0) << bit
                inside[token] = cell
                held[cell] += 1
                place = (repetition * count + cell) * width
                for i in range(width):
                    cells[passage, place + i] += projected[token, repetition * width + i]
            if query or first == last:
                continue
            for cell in range(count):
                place = (repetition * count + cell) * width
                if held[cell] > 1:
                    for i in range(width):
                        cells[passage, place + i] /= held[cell]
                elif held[cell] == 0:
                    token = _nearest_cell(inside, first, last, cell)
                    for i in range(width):
                        cells[passage, place + i] = projected[token, repetition * width + i]
