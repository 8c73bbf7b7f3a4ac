"""Weighted terms from files: what is read, what is refused, and how they reach an index."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.corpus.term_weights import read_weights, weighted
from ragstone.errors import DuplicateId, InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.given_weights import BATCH, add_weights
from ragstone.indexes.inverted import Inverted
from ragstone.models import check_encoder, load_encoder
from ragstone.models.given_weights import GivenWeights
from ragstone.records import Passage, Query
from ragstone.retrieval.index_retriever import IndexRetriever

ROWS: list[dict[str, Any]] = [
    {"id": "p1", "contents": "the fox", "vector": {"fox": 2.5, "the": 1, "dog": 0}},
    {"_id": "p2", "text": "a dog", "title": "Dogs", "weights": {"dog": 3, "ünï": 0.5}},
    {"id": "p3", "contents": "", "vector": {}},
    {"id": "p4", "vector": {"fox": 1.25}},
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def terms(keys: Any, row: int) -> dict[str, float]:
    span = slice(keys.offsets[row], keys.offsets[row + 1])
    names = [keys.vocabulary[id].decode() for id in keys.ids[span]]
    return dict(zip(names, keys.weights[span].tolist(), strict=True))


@pytest.mark.parametrize("name", ["w.jsonl", "w.jsonl.gz"])
def test_passages_come_with_their_weights(tmp_path: Path, name: str) -> None:
    found = list(read_weights(written(tmp_path / name, ROWS)))
    assert [one.passage for one in found] == [
        Passage("p1", "the fox"),
        Passage("p2", "a dog", "Dogs"),
        Passage("p3", ""),
        Passage("p4", ""),
    ]
    keys = weighted([one.weights for one in found])
    expected = [{"fox": 2.5, "the": 1}, {"dog": 3, "ünï": 0.5}, {}, {"fox": 1.25}]
    assert [terms(keys, row) for row in range(4)] == expected
    assert len(weighted([])) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a"}', r"w.jsonl:2: passage 'a': field 'weights' is .*, not an object"),
        ('{"id": "a", "vector": [1]}', "field 'vector' is .*, not an object"),
        ('{"id": "a", "vector": {"x": -1}}', "the weight of 'x' is -1"),
        ('{"id": "a", "vector": {"x": "1"}}', "the weight of 'x' is .*, not a number"),
        ('{"id": "a", "vector": {"x": true}}', "the weight of 'x' is .*, not a number"),
        ('{"id": "a", "vector": {"x": NaN}}', "NaN"),
        ('{"id": "a", "contents": 3, "vector": {}}', "field 'contents' is .*, not a string"),
        ('{"vector": {}}', "id"),
        ("[]", "not an object"),
        ("{", "not valid JSON"),
    ],
)
def test_lines_that_make_no_sense_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "w.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    reader = read_weights(path)
    next(reader)
    with pytest.raises(InputError, match=said):
        next(reader)


def many(count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {
            "id": f"d{row}",
            "contents": f"text {row}",
            "vector": {
                f"t{t}": round(float(random.random()) + 0.01, 3) for t in random.choice(50, 9)
            },
        }
        for row in range(count)
    ]


def test_a_file_becomes_a_collection_that_is_searched(tmp_path: Path) -> None:
    rows = many(BATCH + 40)
    path = written(tmp_path / "w.jsonl.gz", rows)
    encoder = GivenWeights(path, made_by="test weights")
    collection = Collection.create(
        tmp_path / "c.ragstone",
        {"weights": Inverted(scoring="impact")},
        encoders={"weights": encoder.fingerprint},
    )
    collection = add_weights(collection, path, index="weights")
    assert len(collection) == len(rows)
    again = load_encoder(json.loads(json.dumps(collection.encoders["weights"].settings)))
    check_encoder(again, collection.encoders["weights"], name="weights")
    path.unlink()  # queries do not need it
    retriever = IndexRetriever(again, collection.indexes["weights"], collection.passages)
    ranking = retriever.retrieve([Query("q", "t3 t9 t3")], 10)[0]
    plain = {row["id"]: 2 * row["vector"].get("t3", 0) + row["vector"].get("t9", 0) for row in rows}
    best = sorted(plain.values(), reverse=True)[:10]
    np.testing.assert_allclose(ranking.scores, best, rtol=1e-3)
    with pytest.raises(DuplicateId):
        add_weights(collection, written(tmp_path / "again.jsonl", rows[:3]), index="weights")
    with pytest.raises(UsageError, match="the indexes are"):
        add_weights(collection, tmp_path / "again.jsonl", index="other")


def test_passages_are_found_by_id_in_any_order(tmp_path: Path) -> None:
    rows = many(40)
    encoder = GivenWeights(written(tmp_path / "w.jsonl", rows))
    order = np.random.default_rng(1).permutation(40).tolist()
    for start in range(0, 40, 7):
        some = order[start : start + 7]
        keys = encoder.keys_of([Passage(f"d{row}", "") for row in some])
        for place, row in enumerate(some):
            assert terms(keys, place) == pytest.approx(rows[row]["vector"])
    with pytest.raises(InputError, match="no weights for the passage 'nowhere'"):
        encoder.keys_of([Passage("d1", ""), Passage("nowhere", "")])
    with pytest.raises(UsageError, match="keys_of"):
        encoder.encode_passages(["text 1"])


def test_each_line_is_read_once_where_the_order_is_the_same(tmp_path: Path) -> None:
    encoder = GivenWeights(written(tmp_path / "w.jsonl", many(40)))
    encoder.keys_of([Passage(f"d{row}", "") for row in range(10)])
    reader = encoder._reader
    encoder.keys_of([Passage(f"d{row}", "") for row in range(15, 40)])
    assert encoder._reader is reader
    encoder.keys_of([Passage("d0", "")])
    assert encoder._reader is not reader


def test_queries_with_weights_of_their_own(tmp_path: Path) -> None:
    passages = written(tmp_path / "w.jsonl", ROWS)
    queries = written(tmp_path / "q.jsonl", [{"id": "1", "text": "what fox", "vector": {"fox": 3}}])
    plain, given = GivenWeights(passages), GivenWeights(passages, queries=str(queries))
    keys = plain.encode_queries(["fox dog fox", ""])
    assert [terms(keys, row) for row in range(2)] == [{"fox": 2, "dog": 1}, {}]
    assert terms(given.encode_queries(["what fox"]), 0) == {"fox": 3}
    with pytest.raises(InputError, match="no weights for the query 'a fox'"):
        given.encode_queries(["a fox"])
    again = load_encoder(json.loads(json.dumps(given.fingerprint.settings)))
    assert again.fingerprint == given.fingerprint
    for other in (plain, GivenWeights(passages, queries=str(queries), made_by="another")):
        with pytest.raises(Mismatch):
            check_encoder(other, given.fingerprint, name="weights")
