"""The published figures on BEIR SciFact, and that they do not depend on how an index came about."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ragstone.cli import main
from ragstone.corpus import open_source, read_qrels_tsv, read_queries
from ragstone.eval import measure, parse_measure, read_run
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.models.analyzer import Analyzer
from ragstone.models.passage_text import passage_text
from ragstone.pipeline import Library
from ragstone.records import Passage, Query, Ranking

DATA = Path(os.environ.get("RAGSTONE_DATA", ""))
SCIFACT = DATA / "beir-scifact"
pytestmark = pytest.mark.skipif(
    not os.environ.get("RAGSTONE_DATA"), reason="RAGSTONE_DATA names no data"
)

Change = Callable[[Collection, Sequence[Passage]], None]


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return [passage for passage, _ in open_source(SCIFACT).documents()]


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    judged = read_qrels_tsv(SCIFACT / "qrels" / "test.tsv")
    return [query for query in read_queries(SCIFACT / "queries.jsonl") if query.id in judged]


@pytest.fixture(scope="module")
def built(
    passages: list[Passage], queries: list[Query], tmp_path_factory: pytest.TempPathFactory
) -> list[Ranking]:
    """What one build of everything finds."""
    return found(made(tmp_path_factory.mktemp("once"), lambda c, p: add(c, p), passages), queries)


def made(folder: Path, change: Change, passages: Sequence[Passage]) -> Path:
    """A collection with BM25 that `change` fills."""
    encoders = {"bm25": Analyzer().fingerprint}
    collection = Collection.create(folder / "c", {"bm25": Inverted()}, encoders=encoders)
    change(collection, passages)
    return folder / "c"


def add(collection: Collection, passages: Sequence[Passage]) -> None:
    keys = Analyzer().encode_passages([passage_text(passage) for passage in passages])
    with collection.refresh().writer() as writer:
        writer.add(passages, {"bm25": keys})
        writer.commit()


def delete(collection: Collection, ids: Sequence[str]) -> None:
    with collection.refresh().writer() as writer:
        writer.delete(ids)
        writer.commit()


def found(folder: Path, queries: Sequence[Query]) -> list[Ranking]:
    return Library.open(folder).retriever("bm25").retrieve(queries, 1000)


def test_bm25_gives_the_published_figures(built: list[Ranking]) -> None:
    """Anserini, flat index: nDCG@10 .6789, R@100 .9253, and the same passages on top."""
    names = ("nDCG@10", "R@100", "R@1000")
    qrels = read_qrels_tsv(SCIFACT / "qrels" / "test.tsv")
    values = measure(built, qrels, [parse_measure(name) for name in names])
    means = {str(name): round(float(of.mean()), 4) for name, of in values.items()}
    assert means == {"nDCG@10": 0.6789, "R@100": 0.9253, "R@1000": 0.9767}
    reference = read_run(DATA / "reference-runs" / "bm25.scifact.trec")
    theirs = {ranking.query.id: set(ranking.ids[:10]) for ranking in reference}
    same = [set(ranking.ids[:10]) == theirs[ranking.query.id] for ranking in built]
    assert np.mean(same) >= 0.93


def in_increments(collection: Collection, passages: Sequence[Passage]) -> None:
    for part in range(5):
        start, end = len(passages) * part // 5, len(passages) * (part + 1) // 5
        add(collection, passages[start:end])


def with_a_fifth_replaced(collection: Collection, passages: Sequence[Passage]) -> None:
    add(collection, passages)
    delete(collection, [passage.id for passage in passages[::5]])
    add(collection, passages[::5])


def compacted(collection: Collection, passages: Sequence[Passage]) -> None:
    with_a_fifth_replaced(collection, passages)
    collection.refresh().compact()


@pytest.mark.parametrize("change", [in_increments, with_a_fifth_replaced, compacted])
def test_the_way_it_was_built_changes_no_score(
    change: Change,
    passages: list[Passage],
    queries: list[Query],
    built: list[Ranking],
    tmp_path: Path,
) -> None:
    for ours, once in zip(found(made(tmp_path, change, passages), queries), built, strict=True):
        assert ours.ids[:100] == once.ids[:100]
        assert np.array_equal(ours.scores, once.scores)


def test_a_new_process_finds_the_same(
    passages: list[Passage], queries: list[Query], built: list[Ranking], tmp_path: Path
) -> None:
    folder = made(tmp_path, in_increments, passages)
    command = [sys.executable, "-m", "ragstone.cli", "search", str(folder), queries[7].text]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [record["id"] for record in records] == list(built[7].ids[:10])
    assert [np.float32(record["score"]) for record in records] == list(built[7].scores[:10])


def test_filters_equal_brute_force(passages: list[Passage], tmp_path: Path) -> None:
    """Among the passages that a random condition allows, the order is that of all passages."""
    random = np.random.default_rng(3)
    marked = [
        Passage(one.id, one.text, one.title, {"shelf": int(random.integers(50))})
        for one in passages
    ]
    folder = made(tmp_path, lambda c, p: add(c, p), marked)
    retriever = Library.open(folder).retriever("bm25")
    shelf = {one.id: one.metadata["shelf"] for one in marked}
    asked = [Query(str(n), marked[n].title) for n in range(0, 500, 25)]
    everything = retriever.retrieve(asked, len(marked))
    for limit in (1, 7, 40):
        filtered = retriever.retrieve(asked, 10, filter={"shelf": {"$lt": limit}})
        for ours, unfiltered in zip(filtered, everything, strict=True):
            allowed = [id for id in unfiltered.ids if shelf[id] < limit]
            assert list(ours.ids) == allowed[:10]


@pytest.mark.long
def test_dense_and_hybrid_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dense near its commonly quoted .645, and the fusion above both legs."""
    assert main(["eval", str(SCIFACT), "--out", str(tmp_path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bm25, dense, hybrid = (line["measures"] for line in lines)
    assert abs(dense["nDCG@10"] - 0.645) < 0.003 and dense["R@100"] > 0.92
    assert hybrid["nDCG@10"] > max(bm25["nDCG@10"], dense["nDCG@10"])
    assert hybrid["R@100"] > max(bm25["R@100"], dense["R@100"])
