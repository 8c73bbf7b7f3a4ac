"""Ways to fuse BM25 with dense search: nDCG@10 on BEIR folders, one column a folder.

    python benchmarks/fusion.py path/to/scifact path/to/cranfield ...

Indexes are kept in --work, so that a second run only searches. Of a folder with more than --queries
judged queries, an evenly spaced sample is asked. Nothing is tuned: weights are equal.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ragstone.corpus import open_beir, read_qrels_tsv, read_queries
from ragstone.eval import measure, parse_measure
from ragstone.pipeline import Library, build
from ragstone.records import Query, Ranking
from ragstone.retrieval import fuse

LEGS, DEPTHS, METHODS = ("bm25", "dense"), (100, 1000), ("rrf", "minmax", "zscore", "sum")
NDCG = parse_measure("nDCG@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--work", type=Path, default=Path("fusion-indexes"))
    arguments = parser.parse_args()
    columns = [figures(folder, arguments.work, arguments.queries) for folder in arguments.folders]
    print("| nDCG@10 |", *[f"{folder.name} |" for folder in arguments.folders], "mean |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name in columns[0]:
        row = [column[name] for column in columns]
        print(f"| {name} |", *[f"{value:.4f} |" for value in row], f"{sum(row) / len(row):.4f} |")


def figures(folder: Path, work: Path, most: int) -> dict[str, float]:
    """nDCG@10 of both legs, and of every method at every depth."""
    dataset = open_beir(folder)
    split = "test" if "test" in dataset.splits else dataset.splits[0]
    qrels = read_qrels_tsv(dataset.qrels(split))
    judged = [query for query in read_queries(dataset.queries) if query.id in qrels]
    queries = judged[:: -(-len(judged) // most)]
    kept = {query.id: qrels[query.id] for query in queries}
    legs = rankings(folder, work / dataset.name, queries)
    found = {name: score(leg, kept) for name, leg in zip(LEGS, legs, strict=True)}
    for depth in DEPTHS:
        cut = [[Ranking(r.query, r.ids[:depth], r.scores[:depth]) for r in leg] for leg in legs]
        for method in METHODS:
            found[f"{method}, depth {depth}"] = score(fuse(cut, 10, method=method), kept)
    return found


def rankings(folder: Path, index: Path, queries: Sequence[Query]) -> list[list[Ranking]]:
    """The best 1,000 passages of each leg for every query; builds the index if it is not there."""
    if not index.exists():
        build(folder, index, using=LEGS)
    library = Library.open(index)
    return [library.retriever(leg).retrieve(queries, max(DEPTHS)) for leg in LEGS]


def score(found: Sequence[Ranking], qrels: Mapping[str, Mapping[str, int]]) -> float:
    return float(np.mean(measure(found, qrels, [NDCG])[NDCG]))


if __name__ == "__main__":
    main()
