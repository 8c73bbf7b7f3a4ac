"""Lucene beside a collection, through a stand-in for the retriever that needs Java."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ragstone.cli import main
from ragstone.errors import UsageError
from ragstone.models.passage_text import passage_text
from ragstone.pipeline import Library, beside, build


class Standing:
    """Notes that it was built, as the index of a collection is."""

    def __init__(self, collection: Any, text_of: Any) -> None:
        assert text_of is passage_text
        (collection.folder / "lucene").mkdir(exist_ok=True)

    def close(self) -> None: ...

    def retrieve(self, queries: Any, k: int, *, filter: Any = None) -> list[Any]:
        return [f"ranking of {query.text}" for query in queries]


def test_lucene_is_built_when_it_is_asked_for_and_is_no_leg_of_the_hybrid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "lucene_beside", Standing)
    source, folder = tmp_path / "x.jsonl", tmp_path / "c"
    source.write_text(json.dumps({"id": "a", "text": "some words"}))
    report = build(source, folder, using=("bm25",))
    assert Library.open(folder).systems == ("bm25",)
    report = build(source, tmp_path / "d", using=("bm25", "lucene"))
    library = Library.open(report.collection)
    assert library.systems == ("bm25", "lucene") and library.legs("lucene") == ()
    assert isinstance(library.retriever("lucene"), Standing)
    assert library.search("words")[0].passage.id == "a"  # by default the collection's own
    with pytest.raises(UsageError, match="no index was named"):
        build(source, tmp_path / "e", using=())


def test_extend_builds_lucene_beside_other_indexes_or_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "lucene_beside", Standing)
    source, folder = tmp_path / "x.jsonl", tmp_path / "c"
    source.write_text(json.dumps({"id": "a", "text": "some words"}))
    build(source, folder, using=("bm25",))
    assert main(["extend", str(folder), "--with", "lucene"]) == 0
    assert Library.open(folder).systems == ("bm25", "lucene")
    shutil.rmtree(folder / "lucene")
    words = ["--with", "dense,lucene", "--model", "hashing"]
    assert main(["extend", str(folder), *words]) == 0
    assert Library.open(folder).systems == ("bm25", "dense", "hybrid", "lucene")
