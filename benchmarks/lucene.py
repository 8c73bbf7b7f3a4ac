"""Lucene as the oracle of BM25 and of impacts: the same passages, and queries a CPU second.

    python benchmarks/lucene.py --beir path/to/scifact
    python benchmarks/lucene.py --passages 100000 --kinds BM25

Needs the extra `lucene`. Both systems get the same texts with k1=0.9, b=0.4, or the same weights:
whole numbers that a hash of the word decides (Anserini writes a word as often as its weight says,
so that building takes long). One thread asks; rounds take turns, figures are medians. Java's CPU
time has its compiler and its collector in it; the first rounds warm it up. ragstone builds in
memory here, Lucene in a folder.
Generated text is that of lexical.py.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from lexical import passages_of, queries_of

from ragstone.corpus import open_source, read_qrels_tsv, read_queries
from ragstone.eval import measure, parse_measure
from ragstone.indexes.inverted import Inverted
from ragstone.models.analyzer import Analyzer
from ragstone.records import Bitmap, Filter, Fingerprint, Query, Ranking, WeightedTerms
from ragstone.retrieval import IndexRetriever
from ragstone.retrieval.lucene import LuceneRetriever
from ragstone.retrieval.lucene_build import build_lucene, build_lucene_impacts

NDCG, WARM = parse_measure("nDCG@10"), 2


class Weighted:
    """The analyzer's terms with whole weights from 20 on that grow with their frequency."""

    fingerprint = Fingerprint("weighted", "0")

    def __init__(self) -> None:
        self._analyzer = Analyzer()
        self._weights = np.random.default_rng(0).integers(20, 200, 4096).astype(np.float32)

    def encode_passages(self, texts: Sequence[str]) -> WeightedTerms:
        counted = self._analyzer.encode_passages(texts)
        places = np.array([sum(word) * 31 + len(word) for word in counted.vocabulary]) % 4096
        weights = self._weights[places][counted.ids] * np.ceil(np.sqrt(counted.weights))
        terms = counted.offsets, counted.ids, weights, counted.vocabulary, counted.lengths
        return WeightedTerms(*terms)

    encode_queries = encode_passages


KINDS: Mapping[str, Any] = {"BM25": Analyzer, "impacts": Weighted}


class Named:
    """Passages by number under ids of their own."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    def ids(self, numbers: np.ndarray) -> list[str]:
        return [self._ids[number] for number in numbers.tolist()]

    def select(self, filter: Filter) -> Bitmap:
        raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beir", type=Path, help="real text: a folder in BEIR layout")
    parser.add_argument("--passages", type=int, default=100_000, dest="size")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    texts, queries, qrels = data(options)
    print(f"{len(texts)} passages, {len(queries)} queries")
    head = "build, CPU s", "MB", "q/s k=10", "q/s k=100", "nDCG@10"
    print("| system |", " | ".join(head), "|\n|---|" + "---:|" * len(head))
    for kind in options.kinds:
        compared(kind, KINDS[kind](), texts, queries, qrels, options.rounds)


def data(options: argparse.Namespace) -> tuple[dict[str, str], list[Query], Mapping[str, Any]]:
    """Texts by id, queries, and judgements where there are any."""
    if options.beir is None:
        texts = [text for batch in passages_of(options) for text in batch]
        asked = queries_of(options, "full")
        queries = [Query(str(number), text) for number, text in enumerate(asked)]
        return {str(number): text for number, text in enumerate(texts)}, queries, {}
    qrels = read_qrels_tsv(options.beir / "qrels" / "test.tsv")
    judged = [one for one in read_queries(options.beir / "queries.jsonl") if one.id in qrels]
    documents = [one for one, _ in open_source(options.beir).documents()]
    return {one.id: f"{one.title} {one.text}" for one in documents}, judged, qrels


def compared(
    kind: str,
    encoder: Any,
    texts: Mapping[str, str],
    queries: Sequence[Query],
    qrels: Mapping[str, Any],
    rounds: int,
) -> None:
    """One row a system, and how far they agree."""
    ids = list(texts)
    with tempfile.TemporaryDirectory() as work:
        begin = time.process_time()
        ours, size = built(kind, encoder, texts)
        built_ours, begin = time.process_time() - begin, time.process_time()
        folder = Path(work) / "lucene"
        if kind == "BM25":
            build_lucene(texts.items(), folder)
            theirs = LuceneRetriever(folder)
        else:
            keys = encoder.encode_passages(list(texts.values()))
            build_lucene_impacts([(ids, keys)], folder, scale=1)
            theirs = LuceneRetriever(folder, encoder=encoder, scale=1)
        built_theirs = time.process_time() - begin
        bytes_theirs = sum(one.stat().st_size for one in folder.iterdir())
        found = speeds((ours, theirs), queries, rounds)
        rankings = [one.retrieve(queries, 10) for one in (ours, theirs)]
        rows = (("ragstone", built_ours, size), ("Lucene", built_theirs, bytes_theirs))
        for (name, seconds, used), speed, ranked in zip(rows, found, rankings, strict=True):
            gain = f"{measure(ranked, qrels, [NDCG])[NDCG].mean():.4f}" if qrels else ""
            cells = f"{seconds:.1f} | {used / 1e6:.1f} | {speed[0]:,.0f} | {speed[1]:,.0f}"
            print(f"| {name}, {kind} | {cells} | {gain} |")
        print(f"{kind}: {agreement(*rankings)}")
        theirs.close()


def built(kind: str, encoder: Any, texts: Mapping[str, str]) -> tuple[IndexRetriever, int]:
    index = Inverted(scoring="bm25" if kind == "BM25" else "impact").open([])
    values = list(texts.values())
    for start in range(0, len(values), 1 << 17):
        keys = encoder.encode_passages(values[start : start + (1 << 17)])
        index.add(np.arange(start, start + len(keys)), keys)
    return IndexRetriever(encoder, index, Named(list(texts))), index.nbytes


def speeds(systems: Sequence[Any], queries: Sequence[Query], rounds: int) -> list[list[float]]:
    """Queries a CPU second of each system for the best 10 and 100."""
    taken: dict[tuple[int, int], list[float]] = {}
    for _ in range(WARM + rounds):
        for k in (10, 100):
            for place, system in enumerate(systems):
                begin = time.process_time()
                system.retrieve(queries, k)
                taken.setdefault((place, k), []).append(time.process_time() - begin)
    return [
        [len(queries) / statistics.median(taken[place, k][WARM:]) for k in (10, 100)]
        for place in range(len(systems))
    ]


def agreement(ours: Sequence[Ranking], theirs: Sequence[Ranking]) -> str:
    """Which of the tied come last is each one's own choice: sets are compared above that score."""
    pairs = list(zip(ours, theirs, strict=True))
    orders = np.mean([one.ids == two.ids for one, two in pairs])
    sets = np.mean([above_last(one) == above_last(two) for one, two in pairs])
    apart = max(np.abs(one.scores - two.scores).max(initial=0) for one, two in pairs)
    return f"of the top 10, sets {sets:.1%}, orders {orders:.1%}, scores within {apart:.1e}"


def above_last(ranking: Ranking) -> set[str]:
    """The ids whose scores are above the last one by more than Lucene's rounding."""
    last = ranking.scores.min(initial=np.inf) + 2e-4
    return {hit.id for hit in ranking if hit.score > last}


if __name__ == "__main__":
    main()
