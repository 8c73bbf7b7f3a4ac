"""Product quantization: parts of vectors as numbers of 4 bits, scanned by faiss.

A vector is cut into `pieces` parts of d / pieces dimensions, and each part is kept as the number
of the nearest of 16 codewords. faiss learns the codewords and scans the codes, 32 rows at a time.
It is not trusted with files: `codebooks` (16 pieces, d / pieces) float32 and `pieces` (rows, bytes)
uint8 in the order of the cells, two codes a byte, are plain arrays of which an index is made in
memory.

Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, IEEE Transactions on
Pattern Analysis and Machine Intelligence 33(1), 2011.
André, Kermarrec and Le Scouarnec, Cache locality is not enough: High-Performance Nearest Neighbor
Search with Product Quantization Fast Scan, VLDB 2015 (4 bits, scanned in registers).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap
from .vector_cells import Cells, damaged, sample
from .vector_graph import load_faiss, selector, threads_of
from .vector_part import Blocks, checked, finite

if TYPE_CHECKING:
    from ..storage import Part, PartWriter

_CODEWORDS = 16
_SAMPLE = 16_384
"""Rows that the codewords are learned from."""


def pieces_of(dimensions: int) -> int:
    """Pieces of two dimensions, or of as few as divide them all."""
    return next(dimensions // size for size in range(2, dimensions + 1) if dimensions % size == 0)


def write_pieces(
    writer: "PartWriter", blocks: Blocks, cells: Cells, pieces: int, threads: int
) -> None:
    """Learn codewords from a sample, code all rows and write both."""
    faiss, dimensions = load_faiss(), cells.centroids.shape[1]
    quantizer = faiss.ProductQuantizer(dimensions, pieces, 4)
    quantizer.cp.min_points_per_centroid = 1
    rows = sample(blocks, len(cells.order), _SAMPLE, seed=1)
    with threads_of(faiss, threads):
        quantizer.train(np.resize(rows, (max(_CODEWORDS, len(rows)), dimensions)))
        codes = [quantizer.compute_codes(np.ascontiguousarray(b, np.float32)) for b in blocks()]
    codebooks = faiss.vector_to_array(quantizer.centroids)
    writer.array("codebooks", codebooks.reshape(-1, dimensions // pieces))
    writer.array("pieces", np.concatenate(codes)[cells.order])


class Pieces:
    """The codes of a part in faiss."""

    def __init__(self, part: "Part", cells: Cells) -> None:
        """Raises Damaged unless the arrays fit the cells."""
        books, codes = self._arrays(part, cells)
        faiss, (lists, dimensions) = load_faiss(), cells.centroids.shape
        pieces = dimensions // books.shape[1]
        self._directions = faiss.IndexFlatIP(dimensions)
        self._directions.add(cells.directions)
        settings = (dimensions, lists, pieces, 4, faiss.METRIC_INNER_PRODUCT)
        plain = faiss.IndexIVFPQ(self._directions, *settings)
        plain.by_residual, plain.is_trained, plain.ntotal = False, True, len(codes)
        faiss.copy_array_to_vector(books.reshape(-1), plain.pq.centroids)
        order = cells.order.astype(np.int64)
        for cell, (first, last) in enumerate(zip(cells.starts, cells.starts[1:], strict=False)):
            some = codes[first:last]
            if len(some):
                ids, flat = faiss.swig_ptr(order[first:last]), faiss.swig_ptr(some)
                plain.invlists.add_entries(cell, len(some), ids, flat)
        self._index = faiss.IndexIVFPQFastScan(plain)

    def _arrays(self, part: "Part", cells: Cells) -> tuple[NDArray[np.float32], NDArray[Any]]:
        rows, dimensions = len(cells.order), cells.centroids.shape[1]
        books = part.array("codebooks") if "codebooks" in part else np.empty((0, 0), np.float32)
        size = books.shape[-1]
        if size < 1 or dimensions % size or books.shape != (_CODEWORDS * dimensions // size, size):
            raise damaged(f"the codebooks are {books.dtype} {books.shape}")
        if books.dtype != np.float32 or not finite(books):
            raise damaged("a codeword is not finite, or no float32")
        return books, checked(part, "pieces", (rows, -(-dimensions // (2 * size))), "uint8")

    def candidates(
        self, queries: NDArray[np.float32], probes: int, depth: int, live: Bitmap | None
    ) -> NDArray[np.int32]:
        """The `depth` live rows that seem nearest in the nearest cells; -1 for none."""
        faiss = load_faiss()
        asked = faiss.SearchParametersIVF(nprobe=min(probes, self._index.nlist))
        if live is not None:
            asked.sel = lent = selector(faiss, live)
            assert lent is not None  # it has to outlive the search
        rows: NDArray[np.int64] = self._index.search(queries, depth, params=asked)[1]
        return rows.astype(np.int32)
