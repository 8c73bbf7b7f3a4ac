"""Token vectors fetched ahead: the system is told which pages of a memory map will be read soon.

The codes of candidates lie apart from each other; read one after the other from a cold disk, each
waits for the disk. Named all at once, they are read together, while the first are scored.

Shrestha, Reddy and Li, ESPN: Memory-Efficient Multi-Vector Information Retrieval, ISMM 2024,
https://arxiv.org/abs/2312.05417
"""

import ctypes
import mmap
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def will_need(array: NDArray[Any], offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Announce array[offsets[r]:offsets[r + 1]] of the ascending rows r; only a hint."""
    advise = _advise()
    if advise is None or not len(rows):
        return
    page, start = mmap.PAGESIZE, array.ctypes.data
    firsts = (start + offsets[rows] * array.strides[0]) // page * page
    lasts = start + offsets[rows + 1] * array.strides[0]
    apart = np.append(True, firsts[1:] > lasts[:-1])
    lengths = np.append(lasts[:-1][apart[1:]], lasts[-1]) - firsts[apart]
    for first, length in zip(firsts[apart].tolist(), lengths.tolist(), strict=True):
        advise(first, length, mmap.MADV_WILLNEED)


@cache
def _advise() -> Any:
    """The system's madvise; None where there is none."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is not None:
        advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
