"""The vector index: passages as float vectors, found by inner product or cosine.

Search is exact up to a size at which cells take over, see `Vector.exact_rows`, unless another
structure is asked for. A score is the product of the stored vector and the query (both normalised
for cosine), summed in float64 and rounded to float32, so it depends neither on the structure nor
on how the passages came into the index.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Bitmap, Neighbours
from .family import BadKey, OpenPart, check_search, part_in_memory
from .vector_codes import LARGEST, norms_of
from .vector_device import device_for
from .vector_exact import Coded, search_exactly
from .vector_finders import NEED_FAISS, write_structure
from .vector_graph import load_faiss
from .vector_part import Blocks, in_blocks, live_blocks, live_rows, open_coded, write_vectors
from .vector_pq import pieces_of
from .vector_search import VectorPart, best_of, search_approximately

if TYPE_CHECKING:
    from ..storage import PartWriter

Vectors = NDArray[np.float32]

SEARCHES = ("auto", "exact", "hnsw", "ivf-pq", "ivf-sq8", "ivf-rabitq", "binary")
_COUNTS = ("build_effort", "effort", "exact_rows", "threads", "depth", "least_rows")


@dataclass(frozen=True, slots=True)
class Vector:
    """The settings of a vector index.

    dimensions: of every vector.  metric: "cosine" or "ip", the inner product.
    dtype: "float32" or "float16", how vectors are stored.
    search: "exact"; "hnsw", by a graph; "ivf-pq", "ivf-rabitq" or "ivf-sq8", in cells, by 4 bits,
    1 bit or 8 bits a dimension or so; "binary", by 1 bit a dimension without cells; or "auto",
    exact for parts of fewer than `exact_rows` rows and "ivf-rabitq" for others. Whatever leads to
    them, results have exact scores from the stored vectors.
    links, build_effort, effort: M, efConstruction and efSearch of the graph; a search for k uses
    at least 2 k as its effort.  threads: for building it, or for learning codes.
    lists: cells of a part, 1.5 times the root of its rows unless given.  probes: cells that a
    query looks into, more for a large k. Unless given it is 32, or 1.5 times the root of `lists`
    where that is more, by which recall does not fall as parts grow.
    depth: rows whose short codes are the best, which are looked at more closely; at least 5 k.
    pieces: numbers of 4 bits that "ivf-pq" makes of a vector, one for two dimensions unless given.
    least_rows: smaller parts have no cells and no bits, and are searched exactly; a merge makes
    large ones.
    device: where exact search multiplies; "auto" takes a CUDA device, where torch finds one, for
    what is worth the way there. The answers are the same. No figures were taken on a GPU.

    The defaults, judged at 384 dimensions on one core: exact search takes 2.5 ms for a single
    query among 100,000 rows, 6 ms among 200,000 and 24 ms among 500,000, and in batches is ahead of
    all others up to 50,000. Cells answer a single query in 0.3 to 0.5 ms at any of these sizes,
    take 0.03 ms a row to build and 64 (one bit) to 103 bytes (four bits, by faiss, a quarter faster
    in batches), and found 0.96 of the ten best among 90,000 sentences, 0.98 with 48 probes. A graph
    answers as soon and found 0.985, but takes 0.3 to 0.5 ms a row to build and 260 bytes. Binary
    codes answer single queries sooner than exact search, and batches later. A build effort of 40,
    which is faiss's own, left recall below 0.95 at any effort on half a million vectors.
    """

    dimensions: int
    metric: Literal["cosine", "ip"] = "cosine"
    dtype: Literal["float32", "float16"] = "float32"
    search: Literal["auto", "exact", "hnsw", "ivf-pq", "ivf-sq8", "ivf-rabitq", "binary"] = "auto"
    links: int = 32
    build_effort: int = 100
    effort: int = 48
    exact_rows: int = 200_000
    threads: int = 1
    lists: int | None = None
    probes: int | None = None
    depth: int = 100
    pieces: int | None = None
    least_rows: int = 10_000
    device: Literal["auto", "cpu", "cuda"] = "auto"
    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        self._check_choice("metric", ("cosine", "ip"))
        self._check_choice("dtype", ("float32", "float16"))
        self._check_choice("search", SEARCHES)
        self._check_choice("device", ("auto", "cpu", "cuda"))
        self._check_number("dimensions", 1, 65_536)
        self._check_number("links", 2, 1024)
        for name in _COUNTS:
            self._check_number(name, 1, 2**31 - 1)
        for name in ("lists", "probes"):
            if getattr(self, name) is not None:
                self._check_number(name, 1, 2**24)
        if self.pieces is not None:
            self._check_number("pieces", 1, self.dimensions)
            if self.dimensions % self.pieces:
                raise UsageError(
                    f"pieces={self.pieces} do not divide {self.dimensions} dimensions",
                    remedy=f"Use {pieces_of(self.dimensions)} or another divisor",
                )

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            raise UsageError(
                f"{name}={getattr(self, name)!r} is unknown", remedy=f"Known: {' '.join(known)}"
            )

    def _check_number(self, name: str, least: int, most: int) -> None:
        if type(getattr(self, name)) is not int or not least <= getattr(self, name) <= most:
            raise UsageError(
                f"{name}={getattr(self, name)} is out of range", remedy=f"Use {least} to {most}"
            )

    @property
    def settings(self) -> Mapping[str, JSON]:
        return asdict(self)

    def check(self, keys: Vectors) -> None:
        """Raise BadKey for the first vector that cannot be stored."""
        check_vectors(keys, self)

    def builder(self) -> "VectorBuilder":
        if self.search in NEED_FAISS:
            load_faiss()
        return VectorBuilder(self)

    def open(self, parts: Sequence[OpenPart]) -> "VectorIndex":
        return VectorIndex(self, parts)

    def merge(self, parts: Sequence[OpenPart], writer: "PartWriter") -> None:
        for part in parts:
            open_coded(part, self.dimensions, self.dtype)
        self._write(writer, lambda: live_blocks(parts))

    def _write(self, writer: "PartWriter", blocks: Blocks) -> None:
        rows = write_vectors(writer, blocks, self.dimensions, self.dtype)
        write_structure(writer, blocks, rows, self)


def check_vectors(keys: Vectors, family: Vector) -> None:
    """Raise BadKey with the first row of (n, d) float32 `keys` that can be no vector of an index.

    Not finite, all zero for cosine, or too long for the scores to be float32.
    """
    if keys.ndim != 2 or keys.shape[1] != family.dimensions or keys.dtype != np.float32:
        raise BadKey(
            f"vectors are {keys.dtype} {keys.shape}, not float32 (n, {family.dimensions})",
            0,
            remedy="Encode with the model that the index was made for, as float32",
        )
    _refuse(~np.isfinite(keys).all(axis=1), "the vector has NaN or infinity", "Encode it again")
    norms = norms_of(keys)
    if family.metric == "cosine":
        _refuse(norms == 0, "the vector is zero and has no direction", "Leave it out, or use 'ip'")
        return
    _refuse(norms > LARGEST, f"the vector is longer than {LARGEST:g}", "Scale the vectors down")
    if family.dtype == "float16":
        too_great = np.abs(keys).max(axis=1, initial=0) > np.finfo(np.float16).max
        _refuse(too_great, "the vector does not fit into float16", "Use dtype 'float32'")


def _refuse(wrong: NDArray[np.bool_] | np.bool_, what: str, remedy: str) -> None:
    if wrong.any():
        raise BadKey(what, int(wrong.argmax()), remedy=remedy)


def scaled(keys: Vectors, family: Vector) -> Vectors:
    """The vectors as they are multiplied: of length one for cosine."""
    if family.metric == "ip":
        return np.ascontiguousarray(keys)
    return (keys / norms_of(keys)[:, None]).astype(np.float32)


class VectorBuilder:
    """The vectors of one segment, in memory as they will be stored."""

    def __init__(self, family: Vector) -> None:
        self._family = family
        self._arrays: list[NDArray[Any]] = []

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in self._arrays)

    def add(self, keys: Vectors) -> None:
        """Append (n, d) float32 vectors; all of them, or none with a BadKey."""
        check_vectors(keys, self._family)
        stored = scaled(keys, self._family).astype(self._family.dtype)  # a copy
        self._arrays.append(stored)

    def write(self, writer: "PartWriter") -> None:
        """Write the vectors, their codes and, from some size on, a graph."""
        self._family._write(writer, self._blocks)

    def _blocks(self) -> Iterator[NDArray[Any]]:
        return in_blocks(self._arrays)


class VectorIndex:
    """A vector index over the parts of its segments."""

    def __init__(self, family: Vector, parts: Sequence[OpenPart]) -> None:
        self._family = family
        self._parts = [self._open(part) for part in parts]

    def _open(self, part: OpenPart) -> VectorPart:
        return VectorPart(part, self._family)

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        return sum(part.opened.rows for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        return sum(part.opened.part.nbytes for part in self._parts)

    def add(self, numbers: NDArray[np.int64], keys: Vectors) -> None:
        """Append vectors in memory. numbers: the next ones, ``arange(rows, rows + n)``."""
        added = part_in_memory(self._family.builder(), numbers, keys, self.rows)
        self._parts.append(self._open(added))

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        """(n, d) float32: what is stored under these passage numbers, deleted ones included.

        Raises UsageError for a number that no passage has.
        """
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < self.rows):
            span = f"{numbers.min()} to {numbers.max()}"
            remedy = f"Ask for numbers from 0 to {self.rows - 1}"
            raise UsageError(f"there are no vectors for the passages {span}", remedy=remedy)
        found = np.empty((len(numbers), self._family.dimensions), np.float32)
        for part in self._parts:
            rows = numbers - part.opened.base
            here = (rows >= 0) & (rows < part.opened.rows)
            found[here] = part.coded.vectors[rows[here]]
        return found

    def search(self, keys: Vectors, k: int, *, allowed: Bitmap | None = None) -> Neighbours:
        """The k live passages with the greatest scores for each of (n, d) queries.

        allowed: (rows,) bool. Raises UsageError for k < 1 or a bitmap of another size, BadKey for
        a query that could not be stored either.
        """
        check_search(k, allowed, self.rows)
        check_vectors(keys, self._family)
        queries, depth = scaled(keys, self._family), min(k, max(self.rows, 1))
        device = device_for(self._family.device, queries.size * self.rows)
        exactly: list[tuple[Coded, Bitmap | None]] = []
        found: list[Neighbours] = []
        for part in self._parts:
            live = live_rows(part.opened, allowed)
            if part.is_approximate(live):
                found.append(search_approximately(part, live, queries, depth))
            elif device:
                found.append(part.on_cuda.search(queries, depth, live))
            else:
                exactly.append((part.coded, live))
        if exactly or not found:
            found.append(search_exactly(exactly, queries, depth))
        return found[0] if len(found) == 1 and depth == k else best_of(found, k)
