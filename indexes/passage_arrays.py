"""The arrays of a part of passages, checked against each other when the part is opened."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from .family import OpenPart
from .stored import stored

PLACE = "part passages"


class PassageArrays(NamedTuple):
    """What passage_builder wrote.

    ids: the bytes of all ids, a line each.  records: title, text and metadata of every row.
    id_offsets: (rows + 1,), record_offsets: (3 rows + 1,): where each of them begins and ends.
    hashes: (rows,) of the ids, ascending.  order: (rows,) the row of each hash.
    """

    ids: NDArray[np.uint8]
    id_offsets: NDArray[np.int64]
    records: NDArray[np.uint8]
    record_offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    order: NDArray[np.int32]


_TYPES = ("uint8", "int64", "uint8", "int64", "uint64", "int32")


def passage_arrays(opened: OpenPart) -> PassageArrays:
    """Raises Damaged unless they fit together, so that no look-up can leave the arrays."""
    names = zip(PassageArrays._fields, _TYPES, strict=True)
    arrays = PassageArrays(*(stored(opened.part, name, dtype, PLACE) for name, dtype in names))
    fits = (
        bounds(arrays.id_offsets, opened.rows, len(arrays.ids))
        and bounds(arrays.record_offsets, 3 * opened.rows, len(arrays.records))
        and len(arrays.hashes) == opened.rows
        and inside(arrays.order, opened.rows, opened.rows)
    )
    if not fits:
        raise Damaged("the arrays of a segment do not fit together", where=PLACE)
    return arrays


def bounds(offsets: NDArray[np.int64], count: int, end: int) -> bool:
    """Whether offsets cut an array of length `end` into `count` stretches."""
    if len(offsets) != count + 1 or offsets[0] != 0 or offsets[-1] != end:
        return False
    return bool((offsets[1:] >= offsets[:-1]).all())


def inside(places: NDArray[np.int32], count: int, end: int) -> bool:
    """Whether these are `count` places in an array of length `end`."""
    return len(places) == count and (count == 0 or 0 <= places.min() <= places.max() < end)
