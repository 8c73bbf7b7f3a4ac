"""A hint to the processor: which memory a kernel will read soon."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Fetch the cache line of the flat position `index` of a C-ordered array, while going on.

    It is only a hint: a position outside of the array is harmless, and no result depends on it. A
    kernel that reads rows of some hundred bytes computes too much between two of them for the
    processor to look ahead by itself, and then waits for memory most of its time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        find: Any = cgutils.get_or_insert_function
        hint = find(builder.module, kind, "llvm.prefetch.p0")
        # to be read, kept in all caches, data
        builder.call(hint, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
