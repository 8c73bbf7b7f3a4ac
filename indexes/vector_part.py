"""One part of a vector index: its arrays, how they are written, and how they are opened.

vectors  (rows, d) float32 or float16, as they are searched: normalised for cosine
codes    (rows, d) int8, ranges (rows, 3) float32, centre (d,) float32: see vector_codes
levels, links: the graph, where there is one: see vector_graph
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from ..records import JSON, Bitmap
from .family import OpenPart
from .vector_codes import LARGEST, encode
from .vector_exact import Coded

if TYPE_CHECKING:
    from ..storage import Part, PartWriter

BLOCK = 4096
"""Rows that are coded and written at once."""

Blocks = Callable[[], Iterator[NDArray[Any]]]
"""Gives the stored vectors of a part from the start, in blocks (n, d); called more than once."""


def open_coded(opened: OpenPart, dimensions: int, dtype: str) -> Coded:
    """The arrays of a part. Raises Damaged unless they fit each other and the family."""
    part, rows = opened.part, opened.rows
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "vectors": ((rows, dimensions), dtype),
        "codes": ((rows, dimensions), "int8"),
        "ranges": ((rows, 3), "float32"),
        "centre": ((dimensions,), "float32"),
    }
    arrays = {name: checked(part, name, *wanted) for name, wanted in expected.items()}
    return Coded(**arrays, base=opened.base)


def checked(part: "Part", name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An array of a part. Raises Damaged when it is not there or not of this shape and dtype."""
    if name not in part:
        raise Damaged(f"a part of vectors has no {name}", remedy="Run: ragstone verify")
    array = part.array(name)
    if array.shape != shape or array.dtype != dtype:
        raise Damaged(
            f"{name} are {array.dtype} {array.shape} where {dtype} {shape} was expected",
            remedy="Run: ragstone verify",
        )
    return array


def live_rows(opened: OpenPart, allowed: Bitmap | None) -> Bitmap | None:
    """Which rows of a part a search may return; None = all."""
    here = None if allowed is None else allowed[opened.base : opened.base + opened.rows]
    if opened.deleted is None or here is None:
        return here if opened.deleted is None else ~opened.deleted
    kept: Bitmap = here & ~opened.deleted
    return kept


def write_vectors(writer: "PartWriter", blocks: Blocks, dimensions: int, dtype: str) -> int:
    """Write vectors with their codes, a block at a time; returns how many there were."""
    centre = _centre(blocks, dimensions)
    writer.array("centre", centre)
    kinds: Mapping[str, tuple[str, int]] = {
        "vectors": (dtype, dimensions),
        "codes": ("int8", dimensions),
        "ranges": ("float32", 3),
    }
    rows = 0
    with ExitStack() as stack:
        streams = {name: stack.enter_context(writer.stream(name, *kinds[name])) for name in kinds}
        for vectors in blocks():
            codes, ranges = coded(vectors, centre)
            streams["vectors"].append(vectors)
            streams["codes"].append(codes)
            streams["ranges"].append(ranges)
            rows += len(vectors)
    facts: dict[str, JSON] = {"rows": rows}
    writer.facts(facts)
    return rows


def coded(
    vectors: NDArray[Any], centre: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (n, d) and ranges (n, 3) of stored vectors."""
    codes = np.empty(vectors.shape, np.int8)
    ranges = np.empty((len(vectors), 3), np.float32)
    encode(np.ascontiguousarray(vectors, np.float32), centre, codes, ranges)
    return codes, ranges


def _centre(blocks: Blocks, dimensions: int) -> NDArray[np.float32]:
    """The mean of all vectors: what is left of a vector after it has a smaller error."""
    total, rows = np.zeros(dimensions), 0
    for vectors in blocks():
        total += vectors.sum(axis=0, dtype=np.float64)
        rows += len(vectors)
    return (total / max(rows, 1)).astype(np.float32)


def finite(vectors: NDArray[Any]) -> bool:
    """Whether stored vectors are such as `Vector.check` lets through; NaN makes faiss run wild."""
    if vectors.dtype == np.float16:
        return bool(np.isfinite(vectors).all())
    for first in range(0, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.einsum("ij,ij->i", block, block)
        if not (lengths <= 1.01 * LARGEST**2).all():
            return False
    return True


def in_blocks(arrays: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The rows of several arrays in blocks."""
    for array in arrays:
        for first in range(0, len(array), BLOCK):
            yield array[first : first + BLOCK]


def live_blocks(parts: Sequence[OpenPart]) -> Iterator[NDArray[Any]]:
    """The live vectors of several parts, in order, in blocks."""
    for opened in parts:
        vectors = opened.part.array("vectors")
        for first in range(0, opened.rows, BLOCK):
            block = vectors[first : first + BLOCK]
            if opened.deleted is not None:
                block = block[~opened.deleted[first : first + BLOCK]]
            if not finite(block):
                raise Damaged("a stored vector is not finite", remedy="Run: ragstone verify")
            if len(block):
                yield block
