"""BEIR folders: queries and judgements are as strict as documents; real ones are read whole."""

import json
import os
from pathlib import Path

import pytest

from ragstone.corpus import Chunker, open_beir, open_source, read_qrels_tsv, read_queries
from ragstone.errors import DuplicateId, InputError
from ragstone.records import Query


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n')
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": 1, "text": "one"}\n{"_id": "q", "text": "two"}\n'
    )
    (tmp_path / "qrels").mkdir()
    for split in ("test", "dev"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n1\td\t2\n")
    return tmp_path


def test_a_folder(folder):
    found = open_beir(folder)
    assert (found.path, found.name, found.splits) == (folder, folder.name, ("dev", "test"))
    assert read_queries(found.queries) == [Query("1", "one"), Query("q", "two")]
    assert read_qrels_tsv(found.qrels("test")) == {"1": {"d": 2}}
    with pytest.raises(InputError, match=r"no split 'train'.*one of: dev, test"):
        found.qrels("train")


def test_a_folder_of_something_else(folder):
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"no BEIR folder: queries.jsonl missing. Wanted: corpus"):
        open_beir(folder)
    with pytest.raises(InputError, match=r"corpus.jsonl and queries.jsonl missing"):
        open_beir(folder / "qrels")


BAD_QUERIES = {
    "empty": (b"", "no query in it"),
    "no JSON": (b"x", "queries.jsonl:1: not valid JSON"),
    "no text": (b'{"_id": "q"}', ":1: field 'text' is null"),
    "empty text": (b'{"_id": "q", "text": " "}', ":1: the text of query 'q' is empty"),
    "no id": (b'{"text": "x"}', ":1: field 'id' is missing"),
    "latin 1": (b'{"_id": "q", "text": "\xe9"}', ":1: byte 22"),
}


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_bad_queries(folder, name):
    content, reason = BAD_QUERIES[name]
    (folder / "queries.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_queries(folder / "queries.jsonl")
    assert reason in str(caught.value) and str(folder) in str(caught.value)


def test_a_query_twice(folder):
    (folder / "queries.jsonl").write_text('{"_id": 1, "text": "a"}\n\n{"_id": "1", "text": "b"}\n')
    with pytest.raises(DuplicateId, match=r"jsonl:3: query '1' stands here and in line 1"):
        read_queries(folder / "queries.jsonl")


QRELS = {
    "no header": ("1\td\t2\n", {"1": {"d": 2}}),
    "carriage returns": ("query-id\tcorpus-id\tscore\r\n1\td\t-1\r\n", {"1": {"d": -1}}),
    "spaces in ids": ("q\tGeneva Durben\t1\n", {"q": {"Geneva Durben": 1}}),
    "the same twice": ("1\td\t1\n1\td\t1\n", {"1": {"d": 1}}),
}


@pytest.mark.parametrize("name", QRELS)
def test_judgements(tmp_path, name):
    content, expected = QRELS[name]
    (tmp_path / "test.tsv").write_text(content, newline="")
    assert read_qrels_tsv(tmp_path / "test.tsv") == expected


BAD_QRELS = {
    "empty": ("", "no judgement in it"),
    "header alone": ("query-id\tcorpus-id\tscore\n", "no judgement in it"),
    "TREC": ("1 0 d 1\n", "test.tsv:1: 1 columns"),
    "four columns": ("1\t0\td\t1\n", ":1: 4 columns"),
    "fraction": ("1\td\t0.5\n", ":1: the score '0.5' is no integer"),
    "underscore": ("1\td\t1_0\n", "is no integer"),
    "no score": ("1\td\t\n", "is no integer"),
    "huge": ("1\td\t9999999999\n", "is no integer"),
    "empty id": ("1\td\t1\n\td\t1\n", ":2: field 'query-id' is empty"),
    "contradiction": ("1\td\t1\n1\td\t2\n", ":2: query '1' and document 'd' were judged otherwise"),
}


@pytest.mark.parametrize("name", BAD_QRELS)
def test_bad_judgements(tmp_path, name):
    content, reason = BAD_QRELS[name]
    (tmp_path / "test.tsv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_qrels_tsv(tmp_path / "test.tsv")
    assert reason in str(caught.value)


def test_no_such_file(tmp_path):
    for read in (read_queries, read_qrels_tsv):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "x")


# --- real collections

COLLECTIONS = {  # name -> documents, queries, judged queries of the test split, empty documents
    "beir-scifact": (5183, 1109, 300, 0),
    "cacm": (3204, 64, 52, 0),
    "cranfield": (1398, 225, 225, 2),
    "limit-small": (46, 1000, 1000, 0),
    "multihop/hotpotqa-kag100-beir": (994, 100, 100, 0),
    "squad-v1.1-dev/beir": (2067, 10570, 10570, 0),
    "vaswani": (11429, 93, 93, 0),
}


@pytest.mark.skipif("RAGSTONE_DATA" not in os.environ, reason="RAGSTONE_DATA is not set")
@pytest.mark.parametrize("name", COLLECTIONS)
def test_real_collections(name):
    path = Path(os.environ["RAGSTONE_DATA"]) / name
    rejects = []
    source = open_source(path, rejects=rejects.append)
    documents = [passage for passage, _ in source.documents()]
    beir = open_beir(path)
    queries, qrels = read_queries(beir.queries), read_qrels_tsv(beir.qrels("test"))
    assert (len(documents), len(queries), len(qrels), len(rejects)) == COLLECTIONS[name]
    assert {reject.code for reject in rejects} <= {"empty"}
    with (path / "corpus.jsonl").open() as file:
        expected = {record["_id"]: record for record in map(json.loads, file)}
    for passage in documents:
        record = expected[passage.id]
        assert (passage.text, passage.title) == (record["text"], record["title"])
        assert passage.metadata == record.get("metadata", {})
    for passage in documents[:200]:
        for chunk in Chunker(50, 10).chunks(passage):
            start, end = chunk.metadata["start"], chunk.metadata["end"]
            assert chunk.text == passage.text[start:end] and len(chunk.text.split()) <= 50
