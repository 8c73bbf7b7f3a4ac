"""`ragstone train`: learn something for an index from queries."""

import argparse
import time

from ..corpus import open_beir, read_queries
from ..indexes.collection import Collection
from ..pipeline.training import (
    TrainingReport,
    train_for_adapter,
    train_for_score_map,
    train_for_tower,
)
from .output import json_line, notice, out


def train(arguments: argparse.Namespace) -> None:
    """Learn, keep it beside the index, and say what came of it on what was held out."""
    begin = time.perf_counter()
    report = _learn(arguments)
    seconds = time.perf_counter() - begin
    if arguments.json:
        facts = {"kind": report.kind, "index": report.index, "folder": str(report.folder)}
        json_line({**facts, "facts": dict(report.facts), "seconds": seconds})
        return
    out().print(
        f"{report.kind} for {report.index}: {report.folder} ({seconds:.1f} s)", markup=False
    )
    for name, value in report.facts.items():
        out().print(f"  {name}: {value}", markup=False)
    notice(f"ask by it: ragstone search {arguments.collection} QUERY --using "
           f"{report.index}:{report.kind}")  # fmt: skip


def _learn(arguments: argparse.Namespace) -> TrainingReport:
    collection = Collection.open(arguments.collection)
    if arguments.what == "tower":
        queries = read_queries(open_beir(arguments.source).queries)
        texts = [query.text for query in queries]
        return train_for_tower(collection, texts, index=arguments.index)
    learn = {"adapter": train_for_adapter, "score-map": train_for_score_map}[arguments.what]
    return learn(collection, arguments.source, index=arguments.index, split=arguments.split)
