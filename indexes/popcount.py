"""How many bits of a number are set, as the one instruction that processors have for it."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic


def _popcount(typing_context: Any, number: Any) -> Any:
    """The set bits of a uint64, as uint64; in a loop over an array, several numbers at once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        find: Any = cgutils.get_or_insert_function
        return builder.call(find(builder.module, kind, "llvm.ctpop.i64"), arguments)

    return types.uint64(types.uint64), generate


popcount: Any = intrinsic(_popcount)
