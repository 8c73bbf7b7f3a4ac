"""Products of int8 codes with a batch of queries, by the fastest means that this machine has.

Three ways, all of which leave the bound of vector_codes intact:

    Int8Product      int8 by int8 on the processor's matrix instructions, through torch (optional)
    Float32Product   the codes widened to float32, one block at a time, by NumPy
    SingleProduct    one query: a kernel that reads the codes once, at the speed of memory
"""

import ctypes
import importlib.util
from typing import Any, Protocol

import numpy as np
from numba import float32, int8, njit, void
from numpy.typing import NDArray

from .prefetch import prefetch
from .vector_codes import float32_queries, int8_queries, read_only

ROWS = 1024
"""Codes in a block; with QUERIES queries the block and its products stay in the L2 cache."""

QUERIES = 256

_AHEAD = 16
"""Rows between the one that is multiplied and the one that is fetched."""

_WORTH_TORCH = 200_000_000
"""Multiplications below which loading torch costs more than it saves."""


class Product(Protocol):
    """Multiplies blocks of the codes of one part by one batch of queries.

    steps: (queries,) float32 and rests: (queries,) float64, t and |f| of vector_codes.
    """

    steps: NDArray[np.float32]
    rests: NDArray[np.float64]

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        """(n, queries) int32 or float32 for (n, d) codes; valid until the next call."""
        ...


class Int8Product:
    """Exact whole-number products by torch (oneDNN: AMX, VNNI)."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        import torch

        codes, self.steps, self.rests = int8_queries(queries)
        self._torch = torch
        self._queries = torch.from_numpy(codes).t()
        self._products = torch.empty((ROWS, len(queries)), dtype=torch.int32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        products = self._products[: len(codes)]
        tensor = self._torch.from_numpy(_as_writeable(codes))
        self._torch._int_mm(tensor, self._queries, out=products)
        return products.numpy()


class Float32Product:
    """float32 products by NumPy, of codes that are widened block by block."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        scaled, self.steps, self.rests = float32_queries(queries)
        self._queries = np.ascontiguousarray(scaled.T)
        self._codes = np.empty((ROWS, queries.shape[1]), np.float32)
        self._products = np.empty((ROWS, len(queries)), np.float32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        wide = self._codes[: len(codes)]
        wide[...] = codes
        return np.matmul(wide, self._queries, out=self._products[: len(codes)])


class SingleProduct:
    """float32 products of a single query."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        scaled, self.steps, self.rests = float32_queries(queries)
        self._query = np.ascontiguousarray(scaled[0])
        self._products = np.empty((ROWS, 1), np.float32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        products = self._products[: len(codes)]
        multiply_one(codes, self._query, products)
        return products


def product(queries: NDArray[np.float32], rows: int) -> Product:
    """The fastest product for this batch of queries (n, d) against so many rows."""
    if len(queries) == 1:
        return SingleProduct(queries)
    if queries.size * rows >= _WORTH_TORCH and has_int8():
        return Int8Product(queries)
    return Float32Product(queries)


def has_int8() -> bool:
    """Whether torch is installed and the processor multiplies int8 faster than float32."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    wanted = ("amx_int8", "avx512_vnni", "avx_vnni")
    return any(capabilities.get(name, False) for name in wanted)


@njit(
    void(read_only(int8, 2), float32[::1], float32[:, ::1]), cache=True, nogil=True, fastmath=True
)
def multiply_one(codes, query, products):  # type: ignore[no-untyped-def]
    """products[i, 0] = codes[i] . query, for (n, d) int8 codes and a (d,) float32 query.

    fastmath: in any order, which the bound of float32_queries allows.
    """
    d = codes.shape[1]
    for i in range(codes.shape[0]):
        for at in range((i + _AHEAD) * d, (i + _AHEAD + 1) * d, 64):
            prefetch(codes, at)  # type: ignore[call-arg]
        total = np.float32(0)
        for j in range(d):
            total += np.float32(codes[i, j]) * query[j]
        products[i, 0] = total


def _as_writeable(array: NDArray[np.int8]) -> NDArray[np.int8]:
    """The same memory without the read-only mark, at which torch warns; nobody writes to it."""
    if array.flags.writeable:
        return array
    memory = (ctypes.c_int8 * array.size).from_address(array.ctypes.data)
    writeable: NDArray[np.int8] = np.ctypeslib.as_array(memory).reshape(array.shape)
    return writeable
