"""Dense search beside faiss and usearch: queries a CPU second, latency, recall, bytes, build time.

    python benchmarks/dense.py --vectors 100000 500000
    python benchmarks/dense.py --vectors 100000 --graphs ragstone faiss usearch
    python benchmarks/dense.py --vectors 100000 --cells ivf-pq ivf-rabitq ivf-sq8 binary
    python benchmarks/dense.py --file embeddings.npy --graphs ragstone faiss
    python benchmarks/dense.py --sweep --vectors 5000 50000 500000 --graphs ragstone --cells ivf-pq

--cells compares each of these with faiss's index of the same kind, with as many lists, probes and
rows that are scored again from float32 vectors (faiss has them in memory, ragstone on disk).
--sweep compares ragstone's ways to search with each other, by default settings but for small parts
too.

Vectors are generated in 1,000 clusters, or read from a .npy file of float32 rows, some of which
serve as queries. One thread; CPU seconds; the median of several rounds that take turns. Recall is
the share of what was found that scores no worse than the k-th of faiss flat, to 1e-6. "anonymous"
is memory, in bytes a vector, that the process cannot share or drop after the index was opened and
searched; what ragstone maps from disk is not in it.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import faiss
import numpy as np
import torch
from usearch.index import Index as UsearchIndex

from ragstone.indexes.family import OpenPart
from ragstone.indexes.vector import Vector
from ragstone.indexes.vector_exact import search_exactly
from ragstone.indexes.vector_part import open_coded
from ragstone.indexes.vector_products import Float32Product
from ragstone.records import Neighbours
from ragstone.storage import Store

Search = Callable[[np.ndarray, int], np.ndarray]
"""(n, d) queries and k -> (n, k) row numbers."""

DIMENSIONS, CLUSTERS, SINGLES = 384, 1_000, 50

TIE = 1e-6
"""Scores this close are equal: float32 sums in another order differ by as much."""


@dataclass
class System:
    """A way to search, and what was measured of it."""

    name: str
    search: Search
    build_seconds: float = 0.0
    open_seconds: float = 0.0
    stored: float = 0.0
    anonymous: float = 0.0
    batches: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    recall: float = 0.0

    def row(self, queries: int, base: "System") -> dict[str, Any]:
        rate = queries / statistics.median(self.batches)
        return {
            "system": self.name,
            "batch q/s": round(rate),
            "ratio": round(rate * statistics.median(base.batches) / queries, 2),
            "p50 ms": round(1e3 * float(np.percentile(self.singles, 50)), 2),
            "p99 ms": round(1e3 * float(np.percentile(self.singles, 99)), 2),
            "recall": round(self.recall, 4),
            "build s": round(self.build_seconds, 1),
            "open s": round(self.open_seconds, 3),
            "bytes/vector": round(self.stored),
            "anonymous": round(self.anonymous),
        }


def generate(rows: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around CLUSTERS centres, as far from the centre as the centre from zero."""
    random = np.random.default_rng(seed)
    centres = _normalised(random.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32))

    def draw(n: int) -> np.ndarray:
        noise = random.standard_normal((n, DIMENSIONS), dtype=np.float32)
        noise *= np.float32(DIMENSIONS**-0.5)
        return _normalised(noise + centres[random.integers(0, CLUSTERS, n)])

    return draw(rows), draw(queries)


def read(path: Path, rows: int | None, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a file, all unless given; queries are drawn from them at random and taken out."""
    vectors = _normalised(np.load(path, allow_pickle=False).astype(np.float32))
    order = np.random.default_rng(0).permutation(len(vectors))
    return vectors[order[queries:][:rows]], vectors[order[:queries]]


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of an action, and its result."""
    begin = time.process_time()
    result = action()
    return time.process_time() - begin, result


def anonymous_memory() -> int:
    """Bytes of this process that are backed by no file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def flat(vectors: np.ndarray) -> System:
    index = faiss.IndexFlatIP(vectors.shape[1])
    seconds, _ = timed(lambda: index.add(vectors))
    size = 4 * vectors.shape[1]
    return System("faiss flat", lambda q, k: index.search(q, k)[1], seconds, 0, size, size)


def ours(vectors: np.ndarray, folder: Path, **settings: Any) -> tuple[System, Store]:
    """An index in a store on disk, opened anew."""
    family = Vector(vectors.shape[1], **settings)

    def build() -> None:
        builder = family.builder()
        for first in range(0, len(vectors), 10_000):
            builder.add(vectors[first : first + 10_000])
        with Store.create(folder, settings={}).begin() as change:
            with change.new_segment(len(vectors)) as segment:
                builder.write(segment.part("dense"))
            change.commit(note={})

    build_seconds, _ = timed(build)
    before = anonymous_memory()
    open_seconds, (store, index) = timed(lambda: reopen(folder, family))
    name = "ragstone " + {"hnsw": "graph"}.get(family.search, family.search)
    name += " float16" if family.dtype == "float16" else ""
    system = System(
        name,
        lambda q, k: index.search(q, k).numbers,
        build_seconds,
        open_seconds,
        index.nbytes / len(vectors),
    )
    index.search(vectors[:2], 10)
    system.anonymous = (anonymous_memory() - before) / len(vectors)
    return system, store


def reopen(folder: Path, family: Vector) -> tuple[Store, Any]:
    store = Store.open(folder)
    part = OpenPart(store.segments[0].part("dense"), 0, store.segments[0].rows)
    return store, family.open([part])


def without_torch(store: Store, like: System) -> System:
    """The same stored index through NumPy's float32 products."""
    segment = store.segments[0]
    opened = OpenPart(segment.part("dense"), 0, segment.rows)
    coded = open_coded(opened, opened.part.array("vectors").shape[1], "float32")

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        found: Neighbours = search_exactly(
            [(coded, None)], queries, k, lambda batch, rows: Float32Product(batch)
        )
        return found.numbers

    return System("ragstone exact, NumPy", search, 0, 0, like.stored, like.anonymous)


def faiss_graph(vectors: np.ndarray, effort: int, build_effort: int) -> System:
    before = anonymous_memory()
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = build_effort
    seconds, _ = timed(lambda: index.add(vectors))
    index.hnsw.efSearch = effort
    size = (anonymous_memory() - before) / len(vectors)
    links = 4 * index.hnsw.neighbors.size() / len(vectors)
    stored = 4 * vectors.shape[1] + links + 12
    return System("faiss HNSW32", lambda q, k: index.search(q, k)[1], seconds, 0, stored, size)


def faiss_cells(vectors: np.ndarray, kind: str, probes: int, depth: int, lists: int) -> System:
    """faiss's index of a kind, with float32 vectors in memory to score `depth` rows again."""
    if kind == "binary":
        return faiss_binary(vectors, depth)
    d = vectors.shape[1]
    codes = {"ivf-pq": f"PQ{d // 2}x4fs", "ivf-rabitq": "RaBitQ", "ivf-sq8": "SQ8"}[kind]
    before = anonymous_memory()
    index = faiss.index_factory(d, f"IVF{lists},{codes},RFlat", faiss.METRIC_INNER_PRODUCT)
    seconds, _ = timed(lambda: (index.train(vectors), index.add(vectors)))
    faiss.extract_index_ivf(index).nprobe = probes
    size = (anonymous_memory() - before) / len(vectors)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        index.k_factor = max(1, depth / k)
        return np.asarray(index.search(queries, k)[1])

    stored = faiss.extract_index_ivf(index).code_size + 8 + 4 * d
    return System(f"faiss IVF {codes}", search, seconds, 0, stored, size)


def faiss_binary(vectors: np.ndarray, depth: int) -> System:
    """Signs by Hamming distance, and NumPy for the rest."""
    index = faiss.IndexBinaryFlat(-(-vectors.shape[1] // 8) * 8)
    seconds, _ = timed(lambda: index.add(np.packbits(vectors > 0, axis=1)))

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        rows = index.search(np.packbits(queries > 0, axis=1), max(k, depth))[1]
        scores = np.stack([vectors[row] @ one for row, one in zip(rows, queries, strict=True)])
        return np.take_along_axis(rows, np.argsort(-scores, axis=1)[:, :k], axis=1)

    stored = index.code_size + 4 * vectors.shape[1]
    return System("faiss binary", search, seconds, 0, stored, stored)


def usearch_graph(vectors: np.ndarray, effort: int) -> System:
    before = anonymous_memory()
    index = UsearchIndex(
        ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=32, expansion_search=effort
    )
    seconds, _ = timed(lambda: index.add(np.arange(len(vectors)), vectors, threads=1))
    size = (anonymous_memory() - before) / len(vectors)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        return np.asarray(index.search(queries, k, threads=1).keys).reshape(len(queries), -1)

    return System("usearch f16", search, seconds, 0, index.memory_usage / len(vectors), size)


def scores_of(rows: np.ndarray, vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(n, k) products in float64 of the rows that were found; none stands twice."""
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    pairs = zip(rows, queries.astype(np.float64), strict=True)
    return np.stack([vectors[row].astype(np.float64) @ query for row, query in pairs])


def measure(
    systems: list[System], vectors: np.ndarray, queries: np.ndarray, k: int, rounds: int
) -> None:
    """Fill in recall, batch times and single times; the systems take turns."""
    truth = scores_of(systems[0].search(queries, k), vectors, queries)
    for system in systems:
        found = scores_of(system.search(queries, k), vectors, queries)
        system.recall = float((found >= truth[:, -1:] - TIE).mean())
    for _ in range(rounds):
        for system in systems:
            system.batches.append(timed(lambda: system.search(queries, k))[0])  # noqa: B023
            for i in range(SINGLES):
                one = queries[i : i + 1]
                system.singles.append(timed(lambda: system.search(one, k))[0])  # noqa: B023


def compare(options: argparse.Namespace, rows: int | None) -> list[dict[str, Any]]:
    vectors, queries = (
        read(options.file, rows, options.queries)
        if options.file
        else generate(rows or 100_000, options.queries, options.seed)
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        systems = (swept if options.sweep else peers)(options, vectors, Path(folder))
        measure(systems, vectors, queries, options.k, options.rounds)
    return [{"vectors": len(vectors), **one.row(len(queries), systems[0])} for one in systems]


def swept(options: argparse.Namespace, vectors: np.ndarray, folder: Path) -> list[System]:
    """Every way to search by default settings, but for small parts too."""
    kinds = ("exact", *(["hnsw"] if "ragstone" in options.graphs else []), *options.cells)
    settings = {"dtype": options.dtype, "least_rows": 1}
    return [ours(vectors, folder / kind, search=kind, **settings)[0] for kind in kinds]


def peers(options: argparse.Namespace, vectors: np.ndarray, folder: Path) -> list[System]:
    exact, store = ours(vectors, folder / "exact", search="exact", dtype=options.dtype)
    systems = [flat(vectors), exact]
    if options.dtype == "float32":
        systems.append(without_torch(store, exact))
    if "ragstone" in options.graphs:
        settings = {"search": "hnsw", "effort": options.effort, "dtype": options.dtype}
        settings["build_effort"] = options.build_effort
        systems.append(ours(vectors, folder / "graph", **settings)[0])
    if "faiss" in options.graphs:
        systems.append(faiss_graph(vectors, options.effort, options.build_effort))
    if "usearch" in options.graphs:
        systems.append(usearch_graph(vectors, options.effort))
    lists = math.ceil(1.5 * math.sqrt(len(vectors)))
    for kind in options.cells:
        asked = {"probes": options.probes, "depth": options.depth}
        settings = {"search": kind, "lists": lists, "dtype": options.dtype, **asked}
        systems.append(ours(vectors, folder / kind, **settings)[0])
        systems.append(faiss_cells(vectors, kind, **asked, lists=lists))
    return systems


def table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
             for row in cells]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, nargs="+")
    parser.add_argument("--file", type=Path, help=".npy of float32 rows")
    parser.add_argument("--sweep", action="store_true", help="--graphs and --cells of ragstone")
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    known = ["ragstone", "faiss", "usearch"]
    parser.add_argument("--graphs", nargs="*", choices=known, default=[], help="minutes to build")
    parser.add_argument("--effort", type=int, default=48, help="efSearch of all graphs")
    parser.add_argument("--build-effort", type=int, default=100, help="efConstruction, not usearch")
    kinds = ["ivf-pq", "ivf-rabitq", "ivf-sq8", "binary"]
    parser.add_argument("--cells", nargs="*", choices=kinds, default=[])
    parser.add_argument("--probes", type=int, default=32, help="of --cells")
    parser.add_argument("--depth", type=int, default=100, help="rows of --cells scored again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the index is written")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    results = []
    for rows in options.vectors or [None]:
        results += compare(options, rows)
    if options.json:
        print(json.dumps({"command": sys.argv, "k": options.k, "results": results}, indent=1))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
