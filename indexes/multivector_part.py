"""One part of a multi-vector index: its arrays, how they are opened and checked.

offsets (rows + 1,) int64     the tokens of each passage
vectors (tokens, d) float16   as they are, or
codes (tokens, bytes) uint8    residual codes, see multivector_codes
contexts (rows, d) int8, context-scales (rows,) float32: with residual codes
ids (tokens,) uint16          the centroid of each token within the codebook of its passage
books (rows,) int32           the codebook of each passage
starts (books + 1,) int64     where the centroids of each codebook begin
centroids (K, d) int8, scales (K,) float32, spreads (2 books, d) float32: all codebooks

A token is coded once, when its segment is written. Merging copies codes together with the codebooks
they were made with: coding what was read back from codes would add a second error to the first, and
scores would depend on how passages came in. Centroids that no token of a merge has are dropped, so
that a codebook takes no more than the share of its tokens, which `how_many` limits.
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from ..records import TokenVectors
from .family import OpenPart
from .multivector_codes import GAINS, Contexts, bytes_each, decode
from .multivector_trellis import levels
from .passage_arrays import bounds
from .vector_codes import LARGEST
from .vector_part import checked

BLOCK = 1 << 18
"""Tokens that are checked or copied at once."""


class Centroids:
    """The centroid of every token of a part, and the codebooks: what candidates are found by."""

    def __init__(
        self, opened: OpenPart, offsets: NDArray[np.int64], dimensions: int, spreads: bool
    ) -> None:
        part, tokens = opened.part, int(offsets[-1])
        count = _length(opened, "scales")
        self.ids = checked(part, "ids", (tokens,), "uint16")
        self.books = checked(part, "books", (opened.rows,), "int32")
        self.starts = checked(part, "starts", (_length(opened, "starts"),), "int64")
        self.centroids = checked(part, "centroids", (count, dimensions), "int8")
        self.scales = checked(part, "scales", (count,), "float32")
        wanted = (2 * max(len(self.starts) - 1, 0), dimensions)
        self.spreads = checked(part, "spreads", wanted, "float32") if spreads else None
        self._check(offsets)

    def _check(self, offsets: NDArray[np.int64]) -> None:
        """Raises Damaged unless every token has a centroid and all numbers are finite."""
        books = len(self.starts) - 1
        _require(books >= 0 and bounds(self.starts, books, len(self.scales)), "starts")
        rows = len(self.books)
        _require(rows == 0 or 0 <= self.books.min() <= self.books.max() < books, "books")
        sizes = np.diff(self.starts)
        for first in range(0, rows, BLOCK >> 8):
            some = slice(first, min(first + (BLOCK >> 8), rows))
            ends = offsets[some.start : some.stop + 1]
            limits = np.repeat(sizes[self.books[some]], np.diff(ends))
            _require(bool((self.ids[ends[0] : ends[-1]] < limits).all()), "ids")
        numbers = [self.scales] if self.spreads is None else [self.scales, self.spreads]
        _require(all(_finite(one) for one in numbers), "codebooks")


class Halves:
    """Token vectors as float16, with centroids where they are searched by them."""

    name = "vectors"
    contexts = None

    def __init__(self, opened: OpenPart, dimensions: int, centroids: bool) -> None:
        self.offsets = checked(opened.part, "offsets", (opened.rows + 1,), "int64")
        tokens = _length(opened, self.name)
        self.array = checked(opened.part, self.name, (tokens, dimensions), "float16")
        _require(bounds(self.offsets, opened.rows, tokens), "offsets")
        self.centroids = Centroids(opened, self.offsets, dimensions, False) if centroids else None

    def read(self, rows: NDArray[np.int64]) -> TokenVectors:
        """The vectors of some passages as float32."""
        offsets = chosen(self.offsets, rows)
        if len(rows) and (np.diff(rows) == 1).all():
            found = self.array[self.offsets[rows[0]] : self.offsets[rows[-1] + 1]]
        else:
            found = self.array[places(self.offsets, rows)]
        return TokenVectors(offsets, found.astype(np.float32))


class Residuals:
    """Token vectors as residual codes."""

    name = "codes"

    def __init__(self, opened: OpenPart, dimensions: int, bits: int, unit: bool) -> None:
        self.offsets = checked(opened.part, "offsets", (opened.rows + 1,), "int64")
        wanted = (_length(opened, self.name), bytes_each(dimensions, bits))
        self.array = checked(opened.part, self.name, wanted, "uint8")
        _require(bounds(self.offsets, opened.rows, wanted[0]), "offsets")
        self.centroids = Centroids(opened, self.offsets, dimensions, spreads=True)
        self.contexts = Contexts(
            checked(opened.part, "contexts", (opened.rows, dimensions), "int8"),
            checked(opened.part, "context-scales", (opened.rows,), "float32"),
        )
        _require(_finite(self.contexts.scales), "context-scales")
        self._bits, self._unit, self._dimensions = bits, unit, dimensions

    def read(self, rows: NDArray[np.int64]) -> TokenVectors:
        """The vectors of some passages as float32."""
        offsets, coded = chosen(self.offsets, rows), self.centroids
        vectors = np.empty((int(offsets[-1]), self._dimensions), np.float32)
        decode(
            rows, self.offsets, coded.books, coded.starts, coded.ids, self.array, coded.centroids,
            coded.scales, coded.spreads, *self.contexts, GAINS, levels(self._bits), self._bits,
            self._unit, vectors,
        )  # fmt: skip
        return TokenVectors(offsets, vectors)


Tokens = Halves | Residuals


def chosen(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets of some passages, one after the other."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(offsets[rows + 1] - offsets[rows])])


def places(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of all tokens of some passages."""
    apart = chosen(offsets, rows)
    return np.arange(apart[-1]) + np.repeat(offsets[rows] - apart[:-1], np.diff(apart))


def live_numbers(opened: OpenPart) -> NDArray[np.int64]:
    """The rows of a part that are not deleted."""
    if opened.deleted is None:
        return np.arange(opened.rows)
    return np.flatnonzero(~opened.deleted)


def _length(opened: OpenPart, name: str) -> int:
    return len(opened.part.array(name)) if name in opened.part else 0


def _finite(numbers: NDArray[np.float32]) -> bool:
    return bool((np.abs(numbers) <= LARGEST).all())


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise Damaged(
            f"the {name} of a part of token vectors do not fit", remedy="Run: ragstone verify"
        )
