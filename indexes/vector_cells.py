"""Cells: the rows of a part sorted by the nearest of some directions, so that a search reads few.

The directions are those of cluster means (spherical k-means on a sample), which suits both metrics:
of all cells with equally long vectors, the one whose mean points along the query has the best. A
part keeps the means as `centroids` (lists, d) float32, where each cell ends in `ends` (lists,)
int64, and the row numbers cell by cell in `order` (rows,) int32.

Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, IEEE Transactions on
Pattern Analysis and Machine Intelligence 33(1), 2011, section 4 (the inverted file).
Dhillon and Modha, Concept Decompositions for Large Sparse Text Data Using Clustering, Machine
Learning 42, 2001 (spherical k-means).
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from .vector_part import BLOCK, Blocks, checked, finite

if TYPE_CHECKING:
    from ..storage import Part, PartWriter

SAMPLE = 40
"""Rows a list that the means are learned from."""

LEAST = 10_000
"""Rows that they are learned from, at least."""

_ROUNDS = 10
_WORTH_TORCH = 10**9
"""Multiplications below which loading torch costs more than it saves."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The rows of a part by cell.

    centroids: (lists, d) float32, the means.  directions: the same with length 1, or 0.
    lengths: (lists,) float32 of the means.  starts: (lists + 1,) int64 places in `order`.
    order: (rows,) int32 row numbers.
    """

    centroids: NDArray[np.float32]
    directions: NDArray[np.float32]
    lengths: NDArray[np.float32]
    starts: NDArray[np.int64]
    order: NDArray[np.int32]


def make_cells(centroids: NDArray[np.float32], ends: NDArray[Any], order: NDArray[Any]) -> Cells:
    """Cells of their stored arrays."""
    directions, lengths = _directions(centroids)
    starts = np.concatenate([np.zeros(1, np.int64), ends.astype(np.int64)])
    return Cells(centroids, directions, lengths, starts, order)


def sort_into_cells(blocks: Blocks, rows: int, lists: int, seed: int = 0) -> Cells:
    """Learn `lists` cells from a sample of all rows and put each row into one."""
    centroids = cluster(sample(blocks, rows, max(LEAST, SAMPLE * lists), seed), lists, seed)
    directions = _directions(centroids)[0]
    wide = (np.asarray(block, np.float32) for block in blocks())
    cells = np.concatenate([nearest(block, directions) for block in wide])
    order = np.argsort(cells, kind="stable").astype(np.int32)
    return make_cells(centroids, np.cumsum(np.bincount(cells, minlength=lists)), order)


def write_cells(writer: "PartWriter", cells: Cells) -> None:
    writer.array("centroids", cells.centroids)
    writer.array("ends", cells.starts[1:])
    writer.array("order", cells.order)


def open_cells(part: "Part", rows: int, dimensions: int) -> Cells:
    """The cells of a part. Raises Damaged unless each row is in exactly one of them."""
    ends = part.array("ends") if "ends" in part else np.empty(0, np.int64)
    if ends.ndim != 1 or not 1 <= len(ends) <= rows or ends.dtype != np.int64:
        raise damaged(f"the ends of cells are {ends.dtype} {ends.shape}")
    centroids = checked(part, "centroids", (len(ends), dimensions), "float32")
    order = checked(part, "order", (rows,), "int32")
    if not finite(centroids):
        raise damaged("a mean is not finite")
    if ends[0] < 0 or ends[-1] != rows or (np.diff(ends) < 0).any():
        raise damaged("cells do not end one after the other")
    if order.min() < 0 or order.max() >= rows or np.bincount(order, minlength=rows).max() > 1:
        raise damaged("a row is not in exactly one cell")
    return make_cells(centroids, ends, order)


def damaged(what: str) -> Damaged:
    return Damaged(
        f"the cells of a part of vectors are damaged: {what}",
        remedy="Run: ragstone verify, or ragstone compact, which builds them anew",
    )


def probe(
    cells: Cells, queries: NDArray[np.float32], probes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The cells (n, probes) to look into for each query, and its products with their means."""
    along = queries @ cells.directions.T
    probes = min(probes, along.shape[1])
    best = np.argpartition(-along, probes - 1, axis=1)[:, :probes]
    query = np.arange(len(queries))[:, None]
    best = best[query, np.argsort(-along[query, best], axis=1)]
    return best, along[query, best] * cells.lengths[best]


def sample(blocks: Blocks, rows: int, size: int, seed: int) -> NDArray[np.float32]:
    """At most `size` of all rows, drawn at random, in order."""
    chosen = np.arange(rows)
    if size < rows:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    found, base = [], 0
    for block in blocks():
        here = chosen[(chosen >= base) & (chosen < base + len(block))]
        found.append(np.asarray(block[here - base], np.float32))
        base += len(block)
    return np.concatenate(found)


def cluster(vectors: NDArray[np.float32], lists: int, seed: int) -> NDArray[np.float32]:
    """The means (lists, d) of the clusters of (n, d) vectors, n >= lists.

    A cluster that has run empty starts again at a vector of one of the largest.
    """
    random = np.random.default_rng(seed)
    means = vectors[random.choice(len(vectors), lists, replace=False)]
    for _ in range(_ROUNDS):
        cells = nearest(vectors, _directions(means)[0])
        order, counts = np.argsort(cells, kind="stable"), np.bincount(cells, minlength=lists)
        starts = np.cumsum(counts) - counts
        filled = np.flatnonzero(counts)
        sums = np.add.reduceat(vectors[order], starts[filled], axis=0)
        means[filled] = sums / counts[filled, None].astype(np.float32)
        empty = np.flatnonzero(counts == 0)
        largest = np.argsort(-counts, kind="stable")[np.arange(len(empty)) % len(filled)]
        means[empty] = vectors[order[starts[largest] + random.integers(0, counts[largest])]]
    return means


def nearest(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) the direction of (lists, d) along which each of (n, d) vectors reaches furthest."""
    found = np.empty(len(vectors), np.int64)
    work = len(vectors) * directions.size
    torch = _torch() if work >= _WORTH_TORCH else None
    narrow = None if torch is None else torch.from_numpy(directions).bfloat16().t().contiguous()
    for first in range(0, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        if torch is None:
            found[first : first + BLOCK] = (block @ directions.T).argmax(axis=1)
        else:
            products = torch.from_numpy(np.ascontiguousarray(block)).bfloat16() @ narrow
            found[first : first + BLOCK] = products.max(dim=1).indices.numpy()
    return found


@cache
def _torch() -> Any:
    """torch, where it is installed and this processor is made for bfloat16 products; or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch if able.get("amx_bf16") or able.get("avx512_bf16") else None


def _directions(means: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lengths = np.sqrt(np.einsum("ij,ij->i", means, means, dtype=np.float64))
    divisors = np.where(lengths > 0, lengths, np.inf)
    directions: NDArray[np.float32] = (means / divisors[:, None]).astype(np.float32)
    return directions, lengths.astype(np.float32)
