"""Fixed dimensional encodings of the passages of a part, searched like any vectors."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap
from .family import OpenPart
from .vector_exact import Coded, search_exactly
from .vector_part import checked, coded

if TYPE_CHECKING:
    from ..storage import PartWriter, Stream

_PREFIX = "fixed-"


def write_fixed(writer: "PartWriter", blocks: Iterable[NDArray[Any]], length: int) -> None:
    """Write encodings (n, length) as float16 with their int8 codes, a block at a time.

    The centre that codes are relative to is that of the first block: any would do.
    """
    kinds: dict[str, tuple[str, int]] = {
        "vectors": ("float16", length),
        "codes": ("int8", length),
        "ranges": ("float32", 3),
    }
    waiting = iter(blocks)
    first = next(waiting, np.zeros((0, length), np.float16))
    centre = first.sum(axis=0, dtype=np.float64) / max(len(first), 1)
    writer.array(_PREFIX + "centre", centre.astype(np.float32))
    with ExitStack() as stack:
        streams: dict[str, Stream] = {
            name: stack.enter_context(writer.stream(_PREFIX + name, *kinds[name])) for name in kinds
        }
        for block in chain([first], waiting):
            vectors = block.astype(np.float16)
            codes, ranges = coded(vectors, centre.astype(np.float32))
            streams["vectors"].append(vectors)
            streams["codes"].append(codes)
            streams["ranges"].append(ranges)


def open_fixed(opened: OpenPart, length: int) -> Coded:
    """The encodings of a part. Raises Damaged unless they fit."""
    part, rows = opened.part, opened.rows
    return Coded(
        checked(part, _PREFIX + "vectors", (rows, length), "float16"),
        checked(part, _PREFIX + "codes", (rows, length), "int8"),
        checked(part, _PREFIX + "ranges", (rows, 3), "float32"),
        checked(part, _PREFIX + "centre", (length,), "float32"),
        base=0,
    )


def kept_fixed(sources: Sequence[tuple[Coded, NDArray[np.int64]]]) -> Iterable[NDArray[Any]]:
    """The encodings of these rows of several parts, in blocks."""
    for one, rows in sources:
        for first in range(0, len(rows), 1024):
            yield one.vectors[rows[first : first + 1024]]


def fixed_candidates(
    one: Coded, live: Bitmap, queries: NDArray[np.float32], depth: int
) -> list[NDArray[np.int64]]:
    """The `depth` live rows, ascending, with the best products for each query (n, length)."""
    found = search_exactly([(one, live)], queries, depth)
    return [np.sort(row[row >= 0]) for row in found.numbers]
