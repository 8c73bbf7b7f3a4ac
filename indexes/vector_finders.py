"""The structures that a part of vectors may have beside its codes: written, opened, asked.

    hnsw          a graph, walked by faiss                                        vector_graph
    ivf-pq        cells, in them product quantization, scanned by faiss           vector_pq
    ivf-rabitq    cells, in them one bit a dimension                              vector_rabitq
    ivf-sq8       cells, in them the int8 codes that exact search has anyway      vector_narrow
    binary        one bit a dimension of every row, without cells                 vector_rabitq

Each says which rows to look at; what is found is scored from the stored vectors.
"""

import math
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .family import OpenPart
from .vector_cells import Cells, open_cells, probe, sort_into_cells, write_cells
from .vector_exact import Coded
from .vector_graph import Graph, open_graph, search_graph, write_graph
from .vector_narrow import best_among, slices_of
from .vector_part import Blocks
from .vector_pq import Pieces, pieces_of, write_pieces
from .vector_rabitq import open_signs, sign_candidates, write_signs
from .vector_scores import exact_scores, in_order

if TYPE_CHECKING:
    from ..storage import PartWriter
    from .vector import Vector

Queries = NDArray[np.float32]

NEED_FAISS = ("hnsw", "ivf-pq")

_AUTO = "ivf-rabitq"
"""What large parts have by default: it is built in seconds, and needs no faiss."""

_PROBES, _PROBES_A_ROOT = 32, 1.5
"""Cells that are looked into, at least, and for each root of their number."""

_PROBED = 10
"""Rows in the cells that are looked into for each result that is asked for, at least."""

_RESCORED = 5
"""Rows that are scored again for each result that is asked for, at least."""


class Finder(Protocol):
    """A structure that is open."""

    def find(self, queries: Queries, k: int, live: Bitmap | None, wider: float) -> Neighbours:
        """k live rows near each query, or fewer, with exact scores and in order.

        wider: how many times more is looked at than usual.
        """
        ...


def structure_of(family: "Vector", rows: int) -> str:
    """Which structure a part of so many rows is given: a value of `Vector.search`."""
    if family.search == "auto":
        return _AUTO if rows >= max(family.exact_rows, family.lists or 1) else "exact"
    if family.search in ("exact", "hnsw"):
        return family.search if rows else "exact"
    return family.search if rows >= max(family.least_rows, family.lists or 1) else "exact"


def write_structure(writer: "PartWriter", blocks: Blocks, rows: int, family: "Vector") -> None:
    """Write what the family wants beside the vectors of a part, from its size on."""
    search = structure_of(family, rows)
    if search == "hnsw":
        write_graph(writer, blocks, family.dtype, family.links, family.build_effort, family.threads)
    elif search != "exact":
        cells = sort_into_cells(blocks, rows, _lists(family, rows))
        write_cells(writer, cells)
        if search == "ivf-pq":
            pieces = family.pieces or pieces_of(family.dimensions)
            write_pieces(writer, blocks, cells, pieces, family.threads)
        elif search != "ivf-sq8":
            write_signs(writer, blocks, cells)


def _lists(family: "Vector", rows: int) -> int:
    if family.search == "binary":
        return 1
    return family.lists or math.ceil(1.5 * math.sqrt(rows))


def has_structure(opened: OpenPart, search: str) -> bool:
    """Whether a part has what this search needs."""
    names = {"hnsw": "links", "ivf-pq": "pieces", "ivf-sq8": "order"}
    return search != "exact" and names.get(search, "signs") in opened.part


def open_finder(opened: OpenPart, coded: Coded, family: "Vector") -> Finder:
    """The structure of a part that has it. Raises Damaged for one that would lead astray."""
    if family.search == "hnsw":
        return _Walk(coded, open_graph(opened.part, coded.vectors), family.effort)
    cells = open_cells(opened.part, opened.rows, family.dimensions)
    if family.search == "ivf-sq8":
        return _CodeScan(coded, cells, family.probes)
    if family.search == "ivf-pq":
        pieces = Pieces(opened.part, cells)
        return _Scan(coded, cells, pieces.candidates, family)
    signs = open_signs(opened.part, cells)
    return _Scan(coded, cells, partial(sign_candidates, signs), family)


class _Walk:
    """The walk through a graph."""

    def __init__(self, coded: Coded, graph: Graph, effort: int) -> None:
        self._coded, self._graph, self._effort = coded, graph, effort

    def find(self, queries: Queries, k: int, live: Bitmap | None, wider: float) -> Neighbours:
        effort = round(max(self._effort, 2 * k) * wider)
        rows = search_graph(self._graph, queries, k, effort, live)
        numbers = np.where(rows >= 0, rows + self._coded.base, -1)
        scores = np.full(rows.shape, -np.inf, np.float32)
        which, places = (np.ascontiguousarray(at) for at in np.nonzero(rows >= 0))
        some = rows[which, places]
        scores[which, places] = exact_scores(self._coded.vectors, some, queries, which)
        return in_order(numbers, scores, k)


def _probes(cells: Cells, asked: int | None, k: int, wider: float) -> int:
    lists = len(cells.lengths)
    usual = asked or max(_PROBES, _PROBES_A_ROOT * math.sqrt(lists))
    return min(math.ceil(max(usual, _PROBED * k * lists / len(cells.order)) * wider), lists)


class _CodeScan:
    """All rows of the nearest cells, by their int8 codes."""

    def __init__(self, coded: Coded, cells: Cells, probes: int | None) -> None:
        self._coded, self._cells, self._probes = coded, cells, probes

    def find(self, queries: Queries, k: int, live: Bitmap | None, wider: float) -> Neighbours:
        probes = _probes(self._cells, self._probes, k, wider)
        cells = probe(self._cells, queries, probes)[0].reshape(-1)
        which = np.repeat(np.arange(len(queries)), probes)
        starts = self._cells.starts
        slices = np.stack([which, starts[cells], starts[cells + 1]], axis=1)
        return best_among(self._coded, live, queries, k, self._cells.order, slices)


class _Scan:
    """The best of the nearest cells by short codes, then by int8 codes and vectors."""

    def __init__(
        self, coded: Coded, cells: Cells, candidates: "Candidates", family: "Vector"
    ) -> None:
        self._coded, self._cells, self._candidates = coded, cells, candidates
        self._usual_probes, self._depth = family.probes, family.depth

    def find(self, queries: Queries, k: int, live: Bitmap | None, wider: float) -> Neighbours:
        probes = _probes(self._cells, self._usual_probes, k, wider)
        depth = min(max(self._depth, _RESCORED * k), len(self._cells.order))
        rows = self._candidates(queries, probes, depth, live)
        return best_among(self._coded, live, queries, k, rows.reshape(-1), slices_of(rows))


class Candidates(Protocol):
    """The `depth` live rows of a part that look best to a structure, -1 standing for none."""

    def __call__(
        self, queries: Queries, probes: int, depth: int, live: Bitmap | None
    ) -> NDArray[np.int32]: ...
