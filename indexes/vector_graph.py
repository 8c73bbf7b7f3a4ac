"""A navigable graph over the vectors of a part, by faiss: approximate search in logarithmic time.

faiss is not trusted with files: the graph is kept as plain arrays, checked when it is opened, and
put into an index object through its interface. `levels` (rows,) uint8 says on how many levels a
row stands, at least one; `links` (m,) int32 holds the neighbours of row 0 on level 0, then level 1
and so on, then those of row 1: 2 M on level 0 and M above it, unused places being -1.

What faiss finds is scored again from the stored vectors, so scores are those of exact search.

Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using Hierarchical
Navigable Small World graphs, 2016, https://arxiv.org/abs/1603.09320
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, MissingExtra, UsageError
from ..records import Bitmap
from .vector_part import Blocks, checked, finite

if TYPE_CHECKING:
    from ..storage import Part, PartWriter


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A faiss index, and the arrays it reads, which have to live as long."""

    index: Any
    lent: tuple[NDArray[Any], ...]


def has_faiss() -> bool:
    return importlib.util.find_spec("faiss") is not None


def load_faiss() -> Any:
    """The module. Raises MissingExtra when it is not installed, UsageError when it is in pieces.

    faiss-cpu and faiss-gpu are one module, and pip installs both: the later one wins, and when
    either is removed or of another version, files of both are missing or mixed.
    """
    if not has_faiss():
        raise MissingExtra("faiss", "dense")
    try:
        import faiss

        if not hasattr(faiss, "IndexFlatIP"):
            raise ImportError("it has no IndexFlatIP")
    except (ImportError, NameError, AttributeError) as error:
        raise UsageError(
            f"the package 'faiss' does not load: {error}",
            remedy="Uninstall faiss-cpu and faiss-gpu, and install one of them",
        ) from error
    return faiss


def write_graph(
    writer: "PartWriter", blocks: Blocks, vectors_dtype: str, links: int, effort: int, threads: int
) -> None:
    """Build the graph of all blocks and write it.

    links: M, neighbours a level.  effort: candidates that are looked at for a new row.
    Memory: all vectors once, and the graph.
    """
    faiss, graph = load_faiss(), None
    with threads_of(faiss, threads):
        for block in blocks():
            if graph is None:
                graph = _empty(faiss, block.shape[1], vectors_dtype, links)
                graph.hnsw.efConstruction = effort
            graph.add(np.ascontiguousarray(block, np.float32))
    if graph is None:
        return
    writer.array("levels", faiss.vector_to_array(graph.hnsw.levels).astype(np.uint8))
    writer.array("links", faiss.vector_to_array(graph.hnsw.neighbors))
    writer.facts({"entry": int(graph.hnsw.entry_point), "neighbours": links})


def open_graph(part: "Part", vectors: NDArray[Any]) -> Graph:
    """A faiss index over (n, d) vectors and the stored graph, both used where they lie.

    Raises Damaged for a graph that would lead astray.
    """
    faiss, rows = load_faiss(), len(vectors)
    entry, per_level = _number(part, "entry", 0, rows - 1), _number(part, "neighbours", 2, 1024)
    graph = _empty(faiss, vectors.shape[1], vectors.dtype.name, per_level)
    levels = checked(part, "levels", (rows,), "uint8")
    if not finite(vectors):
        raise _damaged("a vector is not finite")
    deepest = graph.hnsw.cum_nneighbor_per_level.size() - 1
    if levels.min() < 1 or levels.max() > deepest or levels[entry] != levels.max():
        raise _damaged(f"its levels are not 1 to {deepest}, or its entry is not on the highest")
    sizes = faiss.vector_to_array(graph.hnsw.cum_nneighbor_per_level).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[levels])])
    links = checked(part, "links", (int(offsets[-1]),), "int32")
    _check_links(links, levels, offsets, sizes)
    _fill(faiss, graph, levels, offsets, links, vectors)
    graph.hnsw.entry_point, graph.hnsw.max_level = entry, int(levels[entry]) - 1
    return Graph(graph, (links, vectors))


def search_graph(
    graph: Graph, queries: NDArray[np.float32], k: int, effort: int, live: Bitmap | None
) -> NDArray[np.int64]:
    """(queries, k) rows near each query, padded with -1; only live ones.

    effort: candidates that are kept while walking the graph.
    """
    faiss = load_faiss()
    effort = min(effort, len(graph.lent[1]))  # faiss makes room for all of it
    asked = faiss.SearchParametersHNSW(efSearch=max(effort, k))
    if live is not None:
        asked.sel = lent = selector(faiss, live)
        assert lent is not None  # it has to outlive the search
    rows: NDArray[np.int64] = graph.index.search(queries, k, params=asked)[1]
    return rows


def selector(faiss: Any, live: Bitmap) -> Any:
    """Lets faiss look at live rows only."""
    return faiss.IDSelectorBitmap(np.packbits(live, bitorder="little"))


def _empty(faiss: Any, dimensions: int, dtype: str, links: int) -> Any:
    if dtype == "float32":
        return faiss.IndexHNSWFlat(dimensions, links, faiss.METRIC_INNER_PRODUCT)
    half = faiss.ScalarQuantizer.QT_fp16
    graph = faiss.IndexHNSWSQ(dimensions, half, links, faiss.METRIC_INNER_PRODUCT)
    graph.train(np.zeros((1, dimensions), np.float32))  # a formality: nothing is learned
    return graph


def _fill(
    faiss: Any,
    graph: Any,
    levels: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    links: NDArray[np.int32],
    vectors: NDArray[Any],
) -> None:
    faiss.copy_array_to_vector(levels.astype(np.int32), graph.hnsw.levels)
    faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.hnsw.offsets)
    _lend(faiss, graph.hnsw.neighbors, links)
    storage = faiss.downcast_index(graph.storage)
    _lend(faiss, storage.codes, vectors.reshape(-1).view(np.uint8))
    storage.ntotal = graph.ntotal = len(vectors)


def _lend(faiss: Any, vector: Any, array: NDArray[Any]) -> None:
    """Let a faiss vector read an array where it lies, or copy it where faiss cannot do that."""
    if not hasattr(vector, "view_data"):
        faiss.copy_array_to_vector(np.ascontiguousarray(array), vector)
        return
    address = faiss.swig_ptr(array)
    vector.is_owned = False
    vector.view_data = vector.c_ptr = address
    vector.view_size = vector.c_size = array.size


def _check_links(
    links: NDArray[np.int32],
    levels: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> None:
    """Every link leads to a row, and on the upper levels to one that stands on that level."""
    if links.min() < -1 or links.max() >= len(levels):
        raise _damaged("a link leads out of the part")
    for level in range(1, int(levels.max())):
        there = np.flatnonzero(levels > level)
        places = offsets[there][:, None] + np.arange(sizes[level], sizes[level + 1])
        targets = links[places]
        if (levels[targets[targets >= 0]] <= level).any():
            raise _damaged(f"a link of level {level} leads to a row that is not on it")


def _number(part: "Part", name: str, least: int, most: int) -> int:
    value = part.facts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _damaged(f"{name} is {value!r}, not {least} to {most}")
    return value


def _damaged(what: str) -> Damaged:
    return Damaged(
        f"the graph of a part of vectors is damaged: {what}",
        remedy="Run: ragstone verify, or ragstone compact, which builds it anew",
    )


@contextmanager
def threads_of(faiss: Any, threads: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
