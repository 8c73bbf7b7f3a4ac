"""Arrays inside kernels by their address: one compiled call can then walk any number of segments.

Whoever puts an address in a table keeps the array alive, and has checked that the numbers in it
stay within the arrays that they point into.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

UNBOUNDED = np.int64(1 << 40)  # kernels know how far they may go; the address does not
ZERO, ONE = np.int64(0), np.int64(1)  # in kernels plain numbers would be types of their own


@intrinsic
def _pointer(typing_context, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@intrinsic
def _as_float(typing_context, bits):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@intrinsic
def _as_int(typing_context, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


@njit(cache=True, nogil=True)
def float_of(bits):  # type: ignore[no-untyped-def]
    """The float32 whose bits these are; positive floats order as their bits do."""
    return _as_float(np.int32(bits))  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def bits_of(value):  # type: ignore[no-untyped-def]
    """The bits of a float32."""
    return np.int64(_as_int(np.float32(value)))  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def u8(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.uint8)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def u16(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.uint16)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def u32(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.uint32)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def i32(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.int32)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def i64(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.int64)  # type: ignore[call-arg]


@njit(cache=True, nogil=True)
def f32(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (UNBOUNDED,), np.float32)  # type: ignore[call-arg]


def address_of(array: NDArray[Any] | None) -> int:
    """Where the values of an array start; 0 for no array."""
    return 0 if array is None else int(array.__array_interface__["data"][0])
