"""What late interaction over the token vectors of a plain encoder finds, and at what size.

    python benchmarks/token_vectors.py [--data FOLDER] [--model NAME] [--json FILE]

BEIR SciFact (FOLDER/beir-scifact; default: $RAGSTONE_DATA), exact MaxSim of all passages for all
queries, nothing compressed. For each choice of what has a vector: end to end, as a reranker of the
100 best passages of BM25 and of the dense vectors of the same model, and fused with BM25 by
reciprocal ranks. One thread; about 3 minutes of processor time a row.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from numpy.typing import NDArray

from ragstone.corpus import open_source, read_qrels_tsv, read_queries
from ragstone.eval import measure, parse_measure
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.maxsim import maxsim
from ragstone.models.analyzer import Analyzer
from ragstone.models.bi_encoder import BiEncoder
from ragstone.models.passage_text import passage_text
from ragstone.models.token_encoder import TokenEncoder
from ragstone.records import Query, Ranking

Scores = NDArray[np.float32]
Row = dict[str, object]

CHOICES: list[dict[str, Any]] = [
    {},
    {"special_tokens": False},
    {"punctuation": False},
    {"unit": "word"},
    {"unit": "stem"},
    {"unit": "stem", "punctuation": False},
]
SLICE, DEPTH = 256, 100
MEASURES = ("nDCG@10", "R@100")


class SciFact:
    """The passages, the judged queries, and the scores that others give: (queries, passages)."""

    def __init__(self, folder: Path, model: str) -> None:
        passages = sorted((p for p, _ in open_source(folder).documents()), key=lambda p: p.id)
        self.ids = np.array([passage.id for passage in passages])
        self.texts = [passage_text(passage) for passage in passages]
        self.qrels = read_qrels_tsv(folder / "qrels" / "test.tsv")
        self.queries = [q for q in read_queries(folder / "queries.jsonl") if q.id in self.qrels]
        self.asked = [query.text for query in self.queries]
        self.bm25 = self._bm25()
        encoder = BiEncoder(model)
        self.dense = encoder.encode_queries(self.asked) @ encoder.encode_passages(self.texts).T

    def _bm25(self) -> Scores:
        analyzer, index = Analyzer(), Inverted().open([])
        index.add(np.arange(len(self.ids)), analyzer.encode_passages(self.texts))
        found = index.search(analyzer.encode_queries(self.asked), len(self.ids))
        scores = np.full((len(self.asked), len(self.ids)), -np.inf, np.float32)
        rows, columns = np.nonzero(found.numbers >= 0)
        scores[rows, found.numbers[rows, columns]] = found.scores[rows, columns]
        return scores

    def quality(self, scores: Scores) -> list[float]:
        """nDCG@10 and R@100; equal scores by ascending id, in which order the passages are."""
        best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        rankings = [self._ranking(*row) for row in zip(self.queries, best, scores, strict=True)]
        values = measure(rankings, self.qrels, [parse_measure(name) for name in MEASURES])
        return [float(np.mean(value)) for value in values.values()]

    def _ranking(self, query: Query, best: NDArray[np.int64], scores: Scores) -> Ranking:
        best = best[np.isfinite(scores[best])]
        return Ranking(query, tuple(self.ids[best].tolist()), scores[best])


def late(data: SciFact, encoder: TokenEncoder) -> tuple[Scores, float]:
    """MaxSim of all pairs, and how many vectors a passage has."""
    queries = encoder.encode_queries(data.asked)
    scores, vectors = [], 0
    for start in range(0, len(data.texts), SLICE):
        keys = encoder.encode_passages(data.texts[start : start + SLICE])
        scores.append(maxsim(queries, keys))
        vectors += len(keys.vectors)
    return np.concatenate(scores, axis=1), vectors / len(data.texts)


def reranked(first: Scores, second: Scores) -> Scores:
    """The DEPTH best by `first`, in the order of `second`."""
    best = np.argsort(-first, axis=1, kind="stable")[:, :DEPTH]
    scores = np.full_like(second, -np.inf)
    np.put_along_axis(scores, best, np.take_along_axis(second, best, 1), 1)
    return scores


def fused(*systems: Scores) -> Scores:
    """Reciprocal ranks added up."""
    ranks = (np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1) for scores in systems)
    return sum((1 / (61 + rank) for rank in ranks), np.float32(0)).astype(np.float32)


def compare(data: SciFact, model: str) -> list[Row]:
    rows: list[Row] = [
        {"": "BM25", "alone": data.quality(data.bm25)},
        {"": "dense", "alone": data.quality(data.dense)},
        {"": "dense", "fused with BM25": data.quality(fused(data.bm25, data.dense))},
    ]
    for choice in CHOICES:
        begin = time.process_time()
        scores, vectors = late(data, TokenEncoder(model, **choice))
        rows.append(
            {
                "": ", ".join(f"{key}={value}" for key, value in choice.items()) or "defaults",
                "vectors": round(vectors, 1),
                "alone": data.quality(scores),
                "BM25 reranked": data.quality(reranked(data.bm25, scores)),
                "dense reranked": data.quality(reranked(data.dense, scores)),
                "fused with BM25": data.quality(fused(data.bm25, scores)),
                "seconds": round(time.process_time() - begin),
            }
        )
        print(shown(rows[-1]), flush=True)
    return rows


def shown(row: Row) -> str:
    """One line; every pair is nDCG@10 and R@100."""
    pairs = {key: value for key, value in row.items() if key}
    cells = (
        f"{key} {' '.join(f'{v:.4f}' for v in value) if isinstance(value, list) else value}"
        for key, value in pairs.items()
    )
    return f"{row['']!s:34}" + " | ".join(cells)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAGSTONE_DATA", ".")))
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args(arguments)
    data = SciFact(options.data / "beir-scifact", options.model)
    rows = compare(data, options.model)
    for row in rows[:3]:
        print(shown(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
