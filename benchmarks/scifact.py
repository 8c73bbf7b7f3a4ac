"""Every kind of index on BEIR SciFact in one table: quality, bytes, time to search and to build.

    python benchmarks/scifact.py path/to/scifact [--cache FOLDER] [--out FOLDER]

The one model is the embedded all-MiniLM-L6-v2, which was trained for one vector a text: its token
vectors stand in for those of a model trained for late interaction. For want of a learned sparse
model BM25's own weights stand in for its impacts, to show what pruning them costs.

nDCG@10 is taken from searches for 10 passages and R@100 from searches for 100, as an approximate
index finds more where more is asked for; fusions take 1,000 of each leg, and are timed once for all
methods. Times are of one thread's processor time, for 10 passages. "search": a query of a batch,
its encoding left out. "single": one query alone with its encoding, the median. "encode": all
passages, by the model. "build": the index from what is encoded, on disk (BM25: with its analysis).
What is learned is learned on the split "train"; "known" is nDCG@10 of test queries with a relevant
passage that is relevant to a training query too, "new" that of the others: what "known" gains it
gains on passages seen in training.

What is finished stays in --cache, so that an interrupted run goes on; remove the folder to measure
again, as after a change to the indexes. --out gets the table, its rows as JSON lines, and two
pictures (matplotlib). About 25 minutes of processor time, 4 GB of disk and 3.5 GB of memory.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from adapters import relevant
from scifact_data import SciFact
from scifact_indexes import Made, System
from scifact_pictures import draw, need_matplotlib

from ragstone.eval import evaluate, parse_measure
from ragstone.indexes.impact_pruning import heaviest_postings, heaviest_share
from ragstone.pipeline.training import judged_queries
from ragstone.retrieval import METHODS
from ragstone.stages import Retriever

Row = dict[str, Any]
Systems = Mapping[str, Callable[[], System]]

ENOUGH = 5.0
"""Seconds after which a time is not taken again."""

FEW = 30
"""Queries of a batch by which a slow system is timed."""

MEASURES = [parse_measure(name) for name in ("nDCG@10", "R@100")]
DIMENSIONS, LAYERS = (256, 128, 64), 4
BITS = {"4 bits": "residual4", "2 bits": "residual2", "1 bit": "residual1"}
LEGS = ("bm25+dense", "bm25+late", "bm25+dense+late")


def systems(made: Made) -> Systems:
    """What is compared, by name, in the order of the table."""
    return {
        "bm25": made.bm25,
        **{f"bm25, {share:.0%} left out": partial(made.bm25, share) for share in (0.1, 0.25)},
        **impacts(made),
        "dense": made.vectors,
        **{f"dense {n}": partial(made.vectors, n) for n in DIMENSIONS},
        f"dense, {LAYERS} layers": partial(made.fewer_layers, LAYERS),
        "dense float16": partial(made.vectors, dtype="float16"),
        **{
            f"dense {search}": partial(made.vectors, search=search, least_rows=1000)
            for search in ("hnsw", "ivf-pq", "ivf-sq8", "ivf-rabitq", "binary")
        },
        "dense:adapter": made.adapted,
        "dense:tower": made.tower,
        **late(made),
        "bm25 > late float16": partial(made.reranked, "float16", "exact"),
        "bm25 > late 2 bits": partial(made.reranked, "residual2", "centroids"),
        "bm25 > late from texts": made.reranked_from_texts,
        **{
            f"{legs} {method}": partial(made.fused, legs.split("+"), method)
            for legs in LEGS
            for method in METHODS
        },
    }


def impacts(made: Made) -> Systems:
    return {
        "impacts": made.impacts,
        "impacts, 90% of weight": partial(made.impacts, partial(heaviest_share, share=0.9), "w90"),
        "impacts, 75% of weight": partial(made.impacts, partial(heaviest_share, share=0.75), "w75"),
        "impacts, half of postings": partial(
            made.impacts, partial(heaviest_postings, share=0.5), "p50"
        ),
    }


def late(made: Made) -> Systems:
    coded = {name: partial(made.late, codes, "centroids") for name, codes in BITS.items()}
    return {
        "late float16, exact": partial(made.late, "float16", "exact"),
        **{f"late {name}": make for name, make in coded.items()},
        "late float16, fixed": partial(made.late, "float16", "fixed"),
        "late 2 bits, pooled by 2": partial(made.late, "residual2", "centroids", pool=2),
        "late 2 bits, pooled by 3": partial(made.late, "residual2", "centroids", pool=3),
        "late 2 bits, words": partial(made.late, "residual2", "centroids", words=True),
    }


class Measuring:
    """The figures of systems."""

    def __init__(self, data: SciFact) -> None:
        self.data, self.times = data, dict[str, tuple[float, float]]()
        train, qrels = judged_queries(data.folder, "train")
        trained = {id for query in train for id in relevant(qrels, query.id)}
        judged = [query for query, grades in data.qrels.items() if grades]
        self.known = np.array([bool(trained & relevant(data.qrels, one)) for one in judged])

    def row(self, name: str, system: System) -> Row:
        found_by = system.found_by or system.retriever
        found = self._values(found_by, 100)
        recall = found["R@100"]
        ndcg = (found if system.cuts else self._values(found_by, 10))["nDCG@10"]
        batch, single = self._times(system)
        return {
            "system": name,
            "group": system.group,
            "nDCG@10": ndcg.mean(),
            "R@100": recall.mean(),
            "bytes": system.stored,
            "search ms": batch,
            "single ms": single,
            "encode s": system.encoding,
            "build s": system.building,
            "known": ndcg[self.known].mean(),
            "new": ndcg[~self.known].mean(),
            "note": system.note,
        }

    def _values(self, retriever: Retriever, k: int) -> Mapping[str, np.ndarray]:
        """(queries,) of each measure; a passage with the query's own id does not count."""
        found = evaluate(
            {"": retriever}, self.data.queries, self.data.qrels, measures=MEASURES, k=k,
            latency_queries=0,
        )  # fmt: skip
        return found.systems[""].per_query

    def _times(self, system: System) -> tuple[float, float]:
        """Milliseconds of a query of a batch, and of one alone."""
        if system.timed_as not in self.times:
            single = self._single(system.retriever)
            times = self._batch(system), single
            if not system.timed_as:
                return times
            self.times[system.timed_as] = times
        return self.times[system.timed_as]

    def _single(self, retriever: Retriever) -> float:
        """Milliseconds of one query with its encoding, the median of some."""
        some = self.data.queries[:: max(1, len(self.data.queries) // 50)]
        retriever.retrieve(some[:1], 10)
        return 1e3 * statistics.median(again([partial(retriever.retrieve, [q], 10) for q in some]))

    def _batch(self, system: System) -> float:
        """Milliseconds a query of many at once, without their encoding."""
        some = self.data.queries[: FEW if system.slow else None]

        def ask() -> float:
            """The seconds that were encoding."""
            before = sum(clock.seconds for clock in system.clocks)
            system.retriever.retrieve(some, 10)
            return sum(clock.seconds for clock in system.clocks) - before

        return 1e3 * statistics.median(again([ask] * 5)) / len(some)


def again(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Processor time of each call, less what the call says was not of it, until it is enough."""
    taken: list[float] = []
    for call in calls:
        begin = time.process_time()
        other = call()
        spent = time.process_time() - begin
        taken.append(spent - (other if isinstance(other, float) else 0.0))
        if sum(taken) > ENOUGH:
            break
    return taken


HEADER = (
    "| system | nDCG@10 | R@100 | bytes/passage | search ms | single ms | encode s | build s "
    "| known | new |"
)


def line(row: Row) -> str:
    """A row of the table."""
    name = f"{row['system']} ({row['note']})" if row["note"] else row["system"]
    quality = f"{row['nDCG@10']:.4f} | {row['R@100']:.4f} | {row['bytes']:,.0f}"
    speed = f"{figure(row['search ms'])} | {figure(row['single ms'])}"
    made = f"{row['encode s']:.0f} | {row['build s']:.1f}"
    return f"| {name} | {quality} | {speed} | {made} | {row['known']:.4f} | {row['new']:.4f} |"


def figure(value: float) -> str:
    """Two significant digits at least."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="BEIR's SciFact, or a folder like it")
    parser.add_argument("--cache", type=Path, default=Path("scifact-cache"))
    parser.add_argument("--out", type=Path, default=Path("scifact-table"))
    parser.add_argument("--only", help="systems whose name begins with this; no pictures")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    options = parser.parse_args(arguments)
    if not options.only:
        need_matplotlib()
    one_thread()
    data = SciFact(options.folder, options.cache)
    chosen = systems(Made(data, options.model))
    rows = measured(data, {n: s for n, s in chosen.items() if n.startswith(options.only or "")})
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scifact.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = "\n".join([HEADER, "|---" + "|---:" * 9 + "|", *map(line, rows)])
    (options.out / "scifact.md").write_text(table + "\n")
    if not options.only:
        size = f"{len(data.passages):,} passages, {len(data.queries):,} queries"
        draw(rows, f"{data.folder.name}: {size}", options.out)


def measured(data: SciFact, chosen: Systems) -> list[Row]:
    """A row for each system, printed as it is there, taken from the cache where it is known."""
    measuring, rows = Measuring(data), []
    print(HEADER + "\n|---" + "|---:" * 9 + "|")
    for name, make in chosen.items():
        kept = data.kept("row", name).with_suffix(".json")
        if not kept.exists():
            row = measuring.row(name, make())
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(row))
        rows.append(json.loads(kept.read_text()))
        print(line(rows[-1]), flush=True)
    return rows


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
