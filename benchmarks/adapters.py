"""What is learned over a frozen encoder: adapters, query towers, score maps; on a BEIR folder.

    python benchmarks/adapters.py path/to/scifact --work adapters-indexes

Learns on the split "train" and measures on "test". The collection is kept in --work. Test queries
are also told apart by whether one of their relevant passages is relevant to a training query: what
is learned about passages that were asked for before need not carry over to others.
"""

import argparse
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ragstone.eval import measure, parse_measure
from ragstone.indexes.collection import Collection
from ragstone.models.adapter_training import AdapterTraining, train_adapter
from ragstone.models.cosine_adapter import best_threshold, train_score_map
from ragstone.models.tower_training import distil_tower
from ragstone.pipeline import build
from ragstone.pipeline.encoders import encoder_of
from ragstone.pipeline.training import Qrels, examples_from, judged_queries
from ragstone.records import Query, Ranking

MEASURES = [parse_measure(name) for name in ("nDCG@10", "R@100")]
AMOUNTS, SAMPLES, JUDGED = (50, 200, None), 3, 20


class Bench:
    """The collection, its vectors, and queries of both splits with theirs."""

    def __init__(self, folder: Path, work: Path) -> None:
        if not work.exists():
            build(folder, work, using=["dense"])
        self.collection = Collection.open(work)
        self.encoder = encoder_of(self.collection, "dense")
        self.ids = [passage.id for passage in self.collection.passages]
        index = self.collection.indexes["dense"]
        self.passages = index.vectors(self.collection.passages.numbers(self.ids))
        self.train, self.train_qrels = judged_queries(folder, "train")
        self.test, self.test_qrels = judged_queries(folder, "test")
        self.queries = self.encoder.encode_queries([query.text for query in self.test])

    def scores(self, queries: np.ndarray, passages: np.ndarray | None = None) -> str:
        """nDCG@10 and R@100, and nDCG@10 by whether a relevant passage is known from training."""
        found = self.rankings(queries, passages, 100)
        values = measure(found, self.test_qrels, MEASURES)
        ndcg, recall = (np.array(values[one]) for one in MEASURES)
        known = self.known()
        parts = ndcg.mean(), recall.mean(), ndcg[known].mean(), ndcg[~known].mean()
        return " | ".join(f"{part:.4f}" for part in parts)

    def rankings(self, queries: np.ndarray, passages: np.ndarray | None, k: int) -> list[Ranking]:
        products = queries @ (self.passages if passages is None else passages).T
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return [
            Ranking(query, tuple(self.ids[i] for i in row), product[row])
            for query, row, product in zip(self.test, order, products, strict=True)
        ]

    def known(self) -> np.ndarray:
        """Of each judged test query, in the order in which they are measured."""
        trained = {id for query in self.train for id in relevant(self.train_qrels, query.id)}
        judged = [query for query, grades in self.test_qrels.items() if grades]
        return np.array([bool(trained & relevant(self.test_qrels, one)) for one in judged])


def relevant(qrels: Qrels, query: str) -> set[str]:
    return {id for id, grade in qrels.get(query, {}).items() if grade > 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=Path("adapters-indexes"))
    parser.add_argument("--sentences", type=int, default=5000)
    arguments = parser.parse_args()
    bench = Bench(arguments.folder, arguments.work)
    known = bench.known()
    print(f"{len(bench.train)} training queries, {len(known)} test queries; {known.sum()} of these")
    print("have a relevant passage that is relevant to a training query (known), the others new\n")
    adapters(bench)
    towers(bench, arguments.sentences)
    cut_offs(bench)


def adapters(bench: Bench) -> None:
    head = "adapter | sides | rank | held out by | queries | nDCG@10 | R@100 | known | new | s |"
    print(f"| {head}\n|{'---|' * 10}")
    print(f"| none | | | | | {bench.scores(bench.queries)} | |")
    settings = [
        {"rank": 8}, {"rank": 64}, {"rank": 256}, {"sides": "both"}, {"apart": "passages"},
    ]  # fmt: skip
    for amount in AMOUNTS:
        for setting in settings:
            print(adapter_row(bench, amount, setting), flush=True)
    print()


def adapter_row(bench: Bench, amount: int | None, setting: dict[str, object]) -> str:
    """Means over samples of the training queries; all of them are one sample."""
    rows, seconds = [], []
    for seed in range(SAMPLES if amount else 1):
        order = np.random.default_rng(seed).permutation(len(bench.train))[:amount]
        queries = [bench.train[place] for place in order]
        examples = examples_from(
            bench.collection, "dense", bench.encoder, queries, bench.train_qrels
        )
        training = AdapterTraining(seed=seed, **setting)
        begin = time.process_time()
        adapter = train_adapter(examples, bench.encoder.fingerprint, training)
        seconds.append(time.process_time() - begin)
        passages = adapter.passage(bench.passages) if adapter.passage else None
        rows.append(bench.scores(adapter.query(bench.queries), passages))
    means = np.mean([[float(part) for part in row.split(" | ")] for row in rows], axis=0)
    figures = " | ".join(f"{mean:.4f}" for mean in means)
    return (
        f"| low rank | {training.sides} | {training.rank} | {training.apart} | "
        f"{amount or len(bench.train)} | {figures} | {np.mean(seconds):.1f} |"
    )


def towers(bench: Bench, sentences: int) -> None:
    print("| queries by | learned from | nDCG@10 | R@100 | known | new | learning s | µs a query |")
    print("|" + "---|" * 8)
    full = f"| the encoder | | {bench.scores(bench.queries)} | |"
    print(f"{full} {microseconds(bench.encoder, bench.test):.0f} |", flush=True)
    asked = [query.text for query in bench.train]
    for name, texts in (
        (f"{len(asked)} queries", asked),
        (f"{len(asked)} queries, {sentences} sentences", asked + some(bench, sentences)),
    ):
        vectors = bench.encoder.encode_queries(texts)
        begin = time.process_time()
        tower = distil_tower(bench.encoder, texts, passages=bench.passages, vectors=vectors)
        seconds = time.process_time() - begin
        found = bench.scores(tower.encode_queries([query.text for query in bench.test]))
        speed = microseconds(tower, bench.test)
        print(f"| a tower | {name} | {found} | {seconds:.1f} | {speed:.0f} |", flush=True)
    print()


def some(bench: Bench, count: int) -> list[str]:
    """Sentences of the passages, drawn at random."""
    everything = [one for passage in bench.collection.passages for one in split(passage.text)]
    order = np.random.default_rng(0).permutation(len(everything))[:count]
    return [everything[place] for place in order]


def split(text: str) -> Iterator[str]:
    return (one for one in re.split(r"(?<=[.!?])\s+", text) if 30 < len(one) < 400)


def microseconds(encoder: object, queries: Sequence[Query]) -> float:
    """Of processor time for one query alone, the median of the test queries."""
    taken = []
    for query in queries[:100]:
        begin = time.process_time()
        encoder.encode_queries([query.text])
        taken.append(time.process_time() - begin)
    return float(np.median(taken) * 1e6)


def cut_offs(bench: Bench) -> None:
    print("| kept of the best 20 | P | R | F1 | F1 of a query | passages | none kept | s |")
    print("|" + "---|" * 8)
    keys = bench.encoder.encode_queries([query.text for query in bench.train])
    scores, labels = judged(bench, keys, bench.train, bench.train_qrels)
    asked, truth = judged(bench, bench.queries, bench.test, bench.test_qrels)
    total = np.array([len(relevant(bench.test_qrels, query.id)) for query in bench.test])
    for depth in (1, 3):
        print(cut_row(f"the first {depth}", np.arange(JUDGED) < depth + 0 * asked, truth, total))
    limit = best_threshold(scores, labels)
    print(cut_row(f"cosine from {limit:.3f} on", asked >= limit, truth, total))
    for seed in range(SAMPLES):
        begin = time.process_time()
        found = train_score_map(keys, scores, labels, bench.encoder.fingerprint, seed=seed)
        seconds = time.process_time() - begin
        kept = asked >= found.limits(bench.queries, found.threshold)[:, None]
        name = f"score map, seed {seed}, from {found.threshold:.3f} on"
        print(cut_row(name, kept, truth, total, f"{seconds:.1f}"))


def judged(
    bench: Bench, keys: np.ndarray, queries: Sequence[Query], qrels: Qrels
) -> tuple[np.ndarray, np.ndarray]:
    """(queries, 20) scores of the best passages, and which of them are relevant."""
    products = keys @ bench.passages.T
    order = np.argsort(-products, axis=1, kind="stable")[:, :JUDGED]
    labels = [
        [bench.ids[place] in relevant(qrels, query.id) for place in row]
        for query, row in zip(queries, order, strict=True)
    ]
    return np.take_along_axis(products, order, axis=1), np.array(labels)


def cut_row(
    name: str, kept: np.ndarray, truth: np.ndarray, total: np.ndarray, seconds: str = ""
) -> str:
    hits, sizes = (kept & truth).sum(axis=1), kept.sum(axis=1)
    precision, recall = hits.sum() / sizes.sum(), hits.sum() / total.sum()
    f1 = 2 * precision * recall / (precision + recall)
    each = np.mean(2 * hits / (sizes + total))
    none = np.mean(sizes == 0)
    figures = f"{precision:.3f} | {recall:.3f} | {f1:.3f} | {each:.3f} | {sizes.mean():.2f}"
    return f"| {name} | {figures} | {none:.0%} | {seconds} |"


if __name__ == "__main__":
    main()
