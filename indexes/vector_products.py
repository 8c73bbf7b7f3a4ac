"""Products of int8 codes with a batch of queries, by the fastest means that this machine has.

Three ways, all of which leave the bound of vector_codes intact:

    Int8Product      int8 by int8 on the processor's matrix instructions, through torch (optional)
    Float32Product   the codes widened to float32, one block at a time, by NumPy
    FewProduct       for a query or a few: a kernel that reads the codes once, as memory gives them
"""

import ctypes
import importlib.util
from functools import cache
from typing import Any, Protocol

import numpy as np
from numba import float32, int8, njit, void
from numpy.typing import NDArray

from .prefetch import prefetch
from .vector_codes import float32_queries, int8_queries, read_only

QUERIES = 256
"""Queries in a batch."""

PRODUCTS = 1024 * QUERIES
"""Products in a block: the block and its codes stay in the L2 cache."""

MOST_ROWS = 8192
"""Codes in a block, at most."""

_AHEAD = 16
"""Rows between the one that is multiplied and the one that is fetched."""

LEAST_WIDTH = 8
"""Dimensions from which torch is asked."""

_FEW = 2
"""Queries up to which FewProduct is the fastest."""

_WORTH_WIDENING = 24
"""Queries from which widening the codes costs less than it saves."""

_WORTH_TORCH = 200_000_000
"""Multiplications below which loading torch costs more than it saves."""


class Product(Protocol):
    """Multiplies blocks of the codes of one part by one batch of queries.

    rows: codes in a block.  steps: (queries,) float32 and rests: (queries,) float64, t and |f| of
    vector_codes.
    """

    rows: int
    steps: NDArray[np.float32]
    rests: NDArray[np.float64]

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        """(n, queries) int32 or float32 for (n, d) codes, n <= rows; valid until the next call."""
        ...


class Int8Product:
    """Exact whole-number products by torch (oneDNN: AMX, VNNI), of at least LEAST_WIDTH columns."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        import torch

        codes, self.steps, self.rests = int8_queries(queries)
        self._torch, self.rows = torch, rows_for(len(queries))
        self._queries = torch.from_numpy(codes).t()
        self._products = torch.empty((self.rows, len(queries)), dtype=torch.int32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        products = self._products[: len(codes)]
        tensor = self._torch.from_numpy(_as_writeable(codes))
        self._torch._int_mm(tensor, self._queries, out=products)
        return products.numpy()


class Float32Product:
    """float32 products by NumPy, of codes that are widened block by block."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        scaled, self.steps, self.rests = float32_queries(queries)
        self._queries, self.rows = np.ascontiguousarray(scaled.T), rows_for(len(queries))
        self._codes = np.empty((self.rows, queries.shape[1]), np.float32)
        self._products = np.empty((self.rows, len(queries)), np.float32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        wide = self._codes[: len(codes)]
        wide[...] = codes
        return np.matmul(wide, self._queries, out=self._products[: len(codes)])


class FewProduct:
    """float32 products of a few queries."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self._queries, self.steps, self.rests = float32_queries(queries)
        self.rows = rows_for(len(queries))
        self._products = np.empty((self.rows, len(queries)), np.float32)

    def block(self, codes: NDArray[np.int8]) -> NDArray[Any]:
        products = self._products[: len(codes)]
        multiply(codes, self._queries, products)
        return products


def rows_for(queries: int) -> int:
    """Codes in a block that is multiplied by so many queries."""
    return max(1, min(PRODUCTS // queries, MOST_ROWS))


def product(queries: NDArray[np.float32], rows: int) -> Product:
    """The fastest product for this batch of queries (n, d) against so many rows."""
    if len(queries) <= _FEW:
        return FewProduct(queries)
    wide = queries.shape[1] >= LEAST_WIDTH
    if wide and queries.size * rows >= _WORTH_TORCH and has_int8():
        return Int8Product(queries)
    return Float32Product(queries) if len(queries) >= _WORTH_WIDENING else FewProduct(queries)


@cache
def has_int8() -> bool:
    """Whether torch is installed, the processor is made for int8 products, and they are right."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    wanted = ("amx_int8", "avx512_vnni", "avx_vnni")
    return any(capabilities.get(name, False) for name in wanted) and _multiplies_exactly()


def _multiplies_exactly() -> bool:
    """A sample: torch._int_mm is no promised interface, and wrong in some release for one column.

    The pattern has all values from -127 to 127 in both operands.
    """
    codes = np.resize(np.arange(-127, 128), (70, 67)).astype(np.int8)
    product = Int8Product(codes[:33].astype(np.float32))
    coded = int8_queries(codes[:33].astype(np.float32))[0].astype(np.int64)
    return np.array_equal(product.block(codes), codes.astype(np.int64) @ coded.T)


@njit(
    void(read_only(int8, 2), read_only(float32, 2), float32[:, ::1]),
    cache=True,
    nogil=True,
    fastmath=True,
)
def multiply(codes, queries, products):  # type: ignore[no-untyped-def]
    """products[i, q] = codes[i] . queries[q], for (n, d) int8 codes and (m, d) float32 queries.

    fastmath: in any order, which the bound of float32_queries allows.
    """
    d = codes.shape[1]
    for i in range(codes.shape[0]):
        for at in range((i + _AHEAD) * d, (i + _AHEAD + 1) * d, 64):
            prefetch(codes, at)  # type: ignore[call-arg]
        for query in range(queries.shape[0]):
            total = np.float32(0)
            for j in range(d):
                total += np.float32(codes[i, j]) * queries[query, j]
            products[i, query] = total


def _as_writeable(array: NDArray[np.int8]) -> NDArray[np.int8]:
    """The same memory without the read-only mark, at which torch warns; nobody writes to it."""
    if array.flags.writeable:
        return array
    memory = (ctypes.c_int8 * array.size).from_address(array.ctypes.data)
    writeable: NDArray[np.int8] = np.ctypeslib.as_array(memory).reshape(array.shape)
    return writeable
