"""Learned sparse search beside scipy and pyseismic-lsr: queries a CPU second, recall, bytes, build.

    python benchmarks/sparse.py --passages 100000 500000 --kinds lognormal powerlaw
    python benchmarks/sparse.py --passages 100000 --pruning

The vectors are made up, see sparse_data.py. One thread; rounds take turns, figures are medians of
CPU time. Recall is the share of the best k by a float32 product of scipy that is found, where
passages that tie with the last count as found. seismic is asked with several settings, each a row:
the number of terms of a query that it looks at, and its heap factor. `ratio` is the rate of a row
over that of the fastest setting of seismic at recall 0.99 or more. --pruning shows what static
pruning of passages saves and costs instead.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sparse_data import KINDS, TERMS, Sparse, generated

from ragstone.indexes.family import OpenPart
from ragstone.indexes.impact_pruning import heaviest_postings, heaviest_share, heaviest_terms
from ragstone.indexes.inverted import Inverted
from ragstone.records import WeightedTerms
from ragstone.storage import MemoryPart

FAMILIES: dict[str, Mapping[str, Any]] = {
    "exact": {},
    "exact, uint8": {"weights": "uint8"},
    "margin 0.25": {"search": "approximate", "margin": 0.25},
    "margin 0.15": {"search": "approximate", "margin": 0.15},
    "margin 0.1": {"search": "approximate", "margin": 0.1},
}
SEISMIC = ((4, 0.9), (6, 0.8), (6, 0.9), (8, 0.9), (10, 0.9), (15, 0.9))
PRUNED: dict[str, Callable[[WeightedTerms], WeightedTerms]] = {
    "all": lambda keys: keys,
    "share 0.9": lambda keys: heaviest_share(keys, 0.9),
    "share 0.8": lambda keys: heaviest_share(keys, 0.8),
    "share 0.6": lambda keys: heaviest_share(keys, 0.6),
    "64 terms": lambda keys: heaviest_terms(keys, 64),
    "32 terms": lambda keys: heaviest_terms(keys, 32),
    "postings 0.5": lambda keys: heaviest_postings(keys, 0.5),
}
Search = Callable[[int], NDArray[np.int64]]
Row = dict[str, float]


def matrix_of(vectors: Sparse) -> csr_matrix:
    return csr_matrix((vectors.weights, vectors.ids, vectors.offsets), shape=(len(vectors), TERMS))


def truth(passages: Sparse, queries: Sparse, k: int) -> NDArray[np.float32]:
    """The k-th best score of each query."""
    columns, asked = matrix_of(passages).T.tocsr(), matrix_of(queries)
    bars = []
    for first in range(0, len(queries), 16):
        scores = (asked[first : first + 16] @ columns).toarray()
        bars.append(np.partition(scores, len(passages) - k, axis=1)[:, -k])
    return np.concatenate(bars)


def recall(found: NDArray[np.int64], passages: csr_matrix, queries: csr_matrix, bars: Any) -> float:
    """How many of the best there are were found, by their true scores."""
    good = 0
    for row, query, bar in zip(found, queries, bars, strict=True):
        scores = (passages[row[row >= 0]] @ query.T).toarray()[:, 0]
        good += int((scores >= bar * (1 - 1e-5)).sum())
    return good / found.size


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.process_time()
    result = call()
    return result, time.process_time() - begin


# --- systems: what each builds, and how it is asked -----------------------------------------------


def built(family: Inverted, keys: Sequence[WeightedTerms]) -> MemoryPart:
    builder, part = family.builder(), MemoryPart()
    for batch in keys:
        builder.add(batch)
    builder.write(part)
    return part


def ragstone_rows(
    passages: Sparse, queries: Sparse, names: Sequence[str]
) -> tuple[dict[str, Search], dict[str, Row]]:
    asked, searches, rows = queries.keys(), {}, {}
    batches = [
        passages.rows(first, min(first + 20_000, len(passages))).keys()
        for first in range(0, len(passages), 20_000)
    ]
    parts: dict[str, tuple[MemoryPart, float]] = {}
    for name in names:
        family = Inverted("impact", **FAMILIES[name])
        if family.weights not in parts:
            built(family, [passages.rows(0, 10).keys()])
            parts[family.weights] = timed(lambda family=family: built(family, batches))
        part, seconds = parts[family.weights]
        index = family.open([OpenPart(part, 0, len(passages))])
        searches[name] = lambda k, index=index: index.search(asked, k).numbers
        rows[name] = {"build s": seconds, "bytes": index.nbytes / len(passages)}
    return searches, rows


def scipy_rows(passages: Sparse, queries: Sparse) -> tuple[dict[str, Search], dict[str, Row]]:
    columns, seconds = timed(lambda: matrix_of(passages).T.tocsr())
    asked = matrix_of(queries)

    def search(k: int) -> NDArray[np.int64]:
        best = []
        for first in range(0, len(queries), 8):
            scores = (asked[first : first + 8] @ columns).toarray()
            top = np.argpartition(-scores, k, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable")
            best.append(np.take_along_axis(top, order, 1))
        return np.concatenate(best)

    size = 8 * len(passages.ids) / len(passages)
    return {"scipy": search}, {"scipy": {"build s": seconds, "bytes": size}}


def seismic_rows(
    passages: Sparse, queries: Sparse, postings: int
) -> tuple[dict[str, Search], dict[str, Row]]:
    import seismic

    data = seismic.SeismicDataset()
    for first in range(0, len(passages), 10_000):
        some = passages.rows(first, min(first + 10_000, len(passages)))
        names = [str(first + i) for i in range(len(some))]
        data.add_documents_by_id(names, some.ids.astype(np.int64), some.weights, some.offsets)
    index, seconds = timed(
        lambda: seismic.SeismicIndex.build_from_dataset(data, n_postings=postings)
    )
    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / len(passages)
    text = seismic.get_seismic_string()
    cuts = [slice(*pair) for pair in zip(queries.offsets, queries.offsets[1:], strict=False)]
    terms = [queries.ids[cut].astype(str).astype(text) for cut in cuts]
    weights = [queries.weights[cut] for cut in cuts]
    ids = np.array([str(i) for i in range(len(queries))], dtype=text)

    def search(k: int, cut: int, factor: float) -> NDArray[np.int64]:
        options = {"query_cut": cut, "heap_factor": factor, "num_threads": 1}
        found = np.full((len(queries), k), -1, np.int64)
        for hits in index.batch_search(ids, terms, weights, k=k, **options):
            if hits:
                found[int(hits[0][0]), : len(hits)] = [int(hit[2]) for hit in hits]
        return found

    searches = {
        f"seismic {cut}, {factor}": lambda k, cut=cut, factor=factor: search(k, cut, factor)
        for cut, factor in SEISMIC
    }
    return searches, dict.fromkeys(searches, {"build s": seconds, "bytes": size})


# --- measuring ------------------------------------------------------------------------------------


def compared(options: argparse.Namespace, size: int, kind: str) -> dict[str, Row]:
    """All systems over one set of vectors."""
    passages, queries = generated(size, options.queries, kind)
    searches, rows = ragstone_rows(passages, queries, list(FAMILIES))
    if "scipy" in options.peers:
        more, figures = scipy_rows(passages, queries)
        searches, rows = searches | more, rows | figures
    if "seismic" in options.peers:
        more, figures = seismic_rows(passages, queries, options.postings)
        searches, rows = searches | more, rows | figures
    rows = {name: dict(row) for name, row in rows.items()}
    product, asked = matrix_of(passages), matrix_of(queries)
    for k in options.k:
        bars = truth(passages, queries, k)
        taken: dict[str, list[float]] = {name: [] for name in searches}
        for turn in range(options.rounds + 1):
            for name, search in searches.items():
                if name == "scipy" and turn > 1:
                    continue
                found, seconds = timed(lambda search=search, k=k: search(k))
                if turn:
                    taken[name].append(seconds)
                else:
                    rows[name][f"recall@{k}"] = recall(found, product, asked, bars)
        for name, seconds_of in taken.items():
            rows[name][f"q/s k={k}"] = len(queries) / statistics.median(seconds_of)
        _add_ratios(rows, k)
    return rows


def _add_ratios(rows: dict[str, Row], k: int) -> None:
    peers = [
        row[f"q/s k={k}"]
        for name, row in rows.items()
        if name.startswith("seismic") and row[f"recall@{k}"] >= 0.99
    ]
    for row in rows.values():
        row[f"ratio k={k}"] = row[f"q/s k={k}"] / max(peers, default=np.nan)


def pruned(options: argparse.Namespace, size: int, kind: str) -> dict[str, Row]:
    """What static pruning saves and costs: recall against the vectors as they were."""
    passages, queries = generated(size, options.queries, kind)
    product, asked, rows = matrix_of(passages), matrix_of(queries), {}
    bars = truth(passages, queries, 10)
    for name, prune in PRUNED.items():
        keys = prune(passages.keys())
        part, seconds = timed(lambda keys=keys: built(Inverted("impact"), [keys]))
        index = Inverted("impact").open([OpenPart(part, 0, size)])
        found = index.search(queries.keys(), 10)
        spent = [
            timed(lambda index=index: index.search(queries.keys(), 10))[1]
            for _ in range(options.rounds)
        ]
        rows[name] = {
            "terms": len(keys.ids) / size,
            "build s": seconds,
            "bytes": index.nbytes / size,
            "recall@10": recall(found.numbers, product, asked, bars),
            "q/s k=10": len(queries) / statistics.median(spent),
        }
    return rows


def show(title: str, rows: Mapping[str, Row]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':>16}" + "".join(f"{name:>13}" for name in names))
    for system, row in rows.items():
        cells = [
            f"{row[name]:>13,.0f}" if row[name] >= 100 else f"{row[name]:>13.4g}" for name in names
        ]
        print(f"{system:>16}" + "".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["lognormal"])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--peers", nargs="*", default=["scipy", "seismic"])
    parser.add_argument("--postings", type=int, default=1000, help="of seismic, a term on average")
    parser.add_argument("--pruning", action="store_true", help="show static pruning instead")
    parser.add_argument("--json", type=Path, help="write all figures here as well")
    options = parser.parse_args()
    everything = {}
    for size in options.passages:
        for kind in options.kinds:
            title = f"{size:,} passages, {kind}"
            everything[title] = (pruned if options.pruning else compared)(options, size, kind)
            show(title, everything[title])
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
