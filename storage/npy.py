"""Arrays as .npy files with one fixed kind of header: version 1.0, little-endian, C order.

The header always takes 128 bytes, so it can be written after the rows, when their number is known,
and it is checked by comparing bytes: there is no parser that a hostile file could mislead.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import UsageError

HEADER = 128
"""Length of the header in bytes; the values follow at a multiple of 64."""

DTYPES = frozenset(
    ["|b1", "|i1", "|u1"] + [f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)]
    + ["<f2", "<f4", "<f8"]
)  # fmt: skip
"""The number types that can be stored, as NumPy writes them."""


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The 128 bytes in front of the values of an array."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode("ascii").ljust(HEADER - 11) + b"\n"


def length(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of the whole file."""
    return HEADER + math.prod(shape) * np.dtype(dtype).itemsize


def view(data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array in the bytes of a whole file, without a copy."""
    return data[HEADER:].view(dtype).reshape(shape)


def stored_dtype(dtype: DTypeLike) -> str:
    """The little-endian form of a number type. Raises UsageError for what cannot be stored."""
    name = np.dtype(dtype).newbyteorder("<").str
    if name not in DTYPES:
        raise UsageError(
            f"an array of {np.dtype(dtype)} cannot be stored",
            remedy="Use numbers of 1 to 8 bytes, or bool",
        )
    return name


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """The same values little-endian and in C order. Raises UsageError unless 1-d or 2-d."""
    if array.ndim not in (1, 2):
        raise UsageError(f"an array of {array.ndim} dimensions cannot be stored; 1 or 2 can")
    return np.ascontiguousarray(array, dtype=stored_dtype(array.dtype))


class Rows:
    """An array that comes in chunks: checks that they fit together and counts their rows.

    columns: None for a 1-d array.  rows: how many will come, None if that is not known.
    """

    def __init__(self, dtype: DTypeLike, columns: int | None, rows: int | None) -> None:
        self.dtype = stored_dtype(dtype)
        self._columns, self._expected = columns, rows
        self.count = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,) if self._columns is None else (self.count, self._columns)

    @property
    def announced(self) -> tuple[int, ...] | None:
        """The final shape, if the rows were announced."""
        return None if self._expected is None else (self._expected, *self.shape[1:])

    def accept(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """The chunk in stored form. Raises UsageError for another dtype or another shape."""
        chunk = storable(chunk)
        if chunk.dtype.str != self.dtype or chunk.shape[1:] != self.shape[1:]:
            raise UsageError(
                f"a chunk of {chunk.dtype} {chunk.shape} in an array of {self.dtype} "
                f"(rows, {self._columns})",
                remedy="Convert the chunk first",
            )
        self.count += len(chunk)
        return chunk

    def finish(self) -> None:
        """Raises UsageError when fewer or more rows came than were announced."""
        if self._expected not in (None, self.count):
            raise UsageError(f"{self.count} rows came, {self._expected} were announced")
