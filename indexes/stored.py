"""Arrays of a part, held to what they have to be before anybody reads a number in them.

A checksum says that a file is what somebody wrote, not that it makes sense: whoever can write to a
folder can write checksums too. So a part that is opened is looked at as if nothing vouched for it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from ..storage import Part


def stored(part: Part, name: str, dtype: str, where: str, dimensions: int = 1) -> NDArray[Any]:
    """An array of a part. Raises Damaged when it is not there or not of this kind."""
    if name not in part:
        raise Damaged(f"there is no array '{name}'", where=where)
    array = part.array(name)
    if array.dtype != np.dtype(dtype) or array.ndim != dimensions:
        raise Damaged(
            f"the array '{name}' is {array.dtype} in {array.ndim} dimensions, not {dtype} in "
            f"{dimensions}",
            where=where,
        )
    return array


def rising(array: NDArray[Any], limit: int) -> bool:
    """Whether each value is above the one before, and all are below the limit."""
    return not len(array) or bool(
        (array[1:] > array[:-1]).all() and 0 <= array[0] <= array[-1] < limit
    )
