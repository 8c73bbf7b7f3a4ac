"""The command line as its users meet it: output, exit codes, and errors of one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ragstone.cli import main
from ragstone.indexes.collection import Collection


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "lease.txt").write_text(
        "The notice period is three months. Rent is due on the first day of each month."
    )
    (folder / "bees.md").write_text("# Bees\n\nBees dance to tell the others where flowers are.")
    return folder


@pytest.fixture
def collection(corpus: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "letters.ragstone"
    assert run("index", corpus, "--to", folder, "--with", "bm25,dense", "--model", "hashing") == 0
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_index_says_what_became_of_each_document(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("index", corpus, "--to", tmp_path / "c", "--with", "bm25") == 0
    shown = lines(capsys)
    assert shown[0] == "2 documents read = 2 indexed, 0 rejected, 0 duplicate"
    assert shown[1].startswith("2 passages in ")


def test_search_prints_one_object_a_line(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(capsys)
    assert run("search", collection, "when is rent due", "-k", 1, "--json") == 0
    (line,) = lines(capsys)
    record = json.loads(line)
    assert list(record) == ["rank", "id", "score", "text", "title", "metadata"]
    assert (record["rank"], record["id"]) == (1, "lease.txt")


def test_search_shows_people_where_a_passage_stands(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(capsys)
    assert run("search", collection, "flowers", "--using", "bm25") == 0
    shown = lines(capsys)
    assert "bees.md" in shown[0] and "Bees" in shown[1]


def test_ask_quotes_and_cites(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(capsys)
    assert run("ask", collection, "How long is the notice period?", "--json") == 0
    answer = json.loads(lines(capsys)[0])
    cited = answer["citations"][0]
    assert cited["quote"] == "The notice period is three months."
    assert (cited["id"], cited["start"], cited["end"]) == ("lease.txt", 0, 34)
    assert answer["trace"]["note"] == "no language model configured"


def test_a_filter_chooses_among_documents(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(capsys)
    condition = json.dumps({"document": "bees.md"})
    assert run("search", collection, "rent", "--filter", condition, "--json") == 0
    assert [json.loads(line)["id"] for line in lines(capsys)] == ["bees.md"]


def test_info_log_verify_compact_restore(
    collection: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "owls.txt").write_text("Owls hunt by night.")
    assert run("index", corpus, "--to", collection, "--update") == 0
    lines(capsys)
    assert run("info", collection, "--json") == 0
    info = json.loads(lines(capsys)[0])
    assert info["passages"] == 3 and set(info["indexes"]) == {"bm25", "dense"}
    assert run("compact", collection) == 0
    assert run("verify", collection, "--deep") == 0
    lines(capsys)
    assert run("log", collection, "--json") == 0
    log = [json.loads(line) for line in lines(capsys)]
    assert [one["generation"] for one in log] == sorted(
        (one["generation"] for one in log), reverse=True
    )
    earlier = log[1]["generation"]
    assert run("restore", collection, "--to", earlier) == 0
    assert Collection.open(collection).generation == log[0]["generation"] + 1
    for verb in ("info", "log", "verify"):  # and as people see them
        assert run(verb, collection) == 0


def test_eval_prints_a_table_and_uses_its_index_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = beir(tmp_path / "toy")
    arguments = ("eval", data, "--model", "hashing", "--out", tmp_path / "out", "--json")
    assert run(*arguments) == 0
    first = [json.loads(line) for line in lines(capsys)]
    assert [one["system"] for one in first] == ["bm25", "dense", "hybrid"]
    assert first[0]["measures"]["nDCG@10"] == 1.0
    assert {"encode_s", "search_s", "p50_ms", "p99_ms", "index_bytes_per_passage"} <= set(
        first[0]["cost"]
    )
    generation = Collection.open(tmp_path / "out" / "index.ragstone").generation
    assert run(*arguments) == 0
    again = [json.loads(line) for line in lines(capsys)]
    assert [one["measures"] for one in again] == [one["measures"] for one in first]
    assert Collection.open(tmp_path / "out" / "index.ragstone").generation == generation
    assert (tmp_path / "out" / "runs" / "bm25.trec").exists()


def beir(folder: Path) -> Path:
    """Four documents, two questions with one relevant document each."""
    (folder / "qrels").mkdir(parents=True)
    texts = ["the owl hunts", "the eel swims", "the bee dances", "the stork nests"]
    corpus = [json.dumps({"_id": f"d{n}", "title": "", "text": t}) for n, t in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    queries = [("q1", "owl"), ("q2", "bee")]
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": id, "text": text}) for id, text in queries)
    )
    rows = "query-id\tcorpus-id\tscore\nq1\td0\t1\nq2\td2\t1\n"
    (folder / "qrels" / "test.tsv").write_text(rows)
    return folder


def failing(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Runs a verb that must fail with `code`; the one line that it says."""
    capsys.readouterr()
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert not shown.out
    said = [line for line in shown.err.splitlines() if line.startswith("ragstone: ")]
    assert len(said) == 1 and "Traceback" not in shown.err
    return said[0]


def test_errors_are_one_line_with_a_code_and_a_cure(
    collection: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file" in failing(capsys, 3, "index", tmp_path / "none", "--to", tmp_path / "x")
    assert "--resume" in failing(capsys, 2, "index", corpus, "--to", collection)
    assert (
        "it has: bm25, dense, hybrid"
        in failing(capsys, 2, "search", collection, "x", "--using", "splade").lower()
    )
    assert "not JSON" in failing(capsys, 2, "search", collection, "x", "--filter", "{")
    assert "$near" in failing(capsys, 2, "search", collection, "x", "--filter", '{"a":{"$near":1}}')
    assert "k" in failing(capsys, 2, "search", collection, "x", "-k", 0)
    other = failing(capsys, 2, "search", corpus, "x")
    assert str(corpus) in other


def test_damage_is_named_with_the_way_out(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = max(collection.glob("segments/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    said = failing(capsys, 4, "search", collection, "x")
    assert target.name in said and "ragstone verify" in said
    assert run("verify", collection) == 4
    assert target.name in capsys.readouterr().out


def test_a_second_writer_is_told_who_holds_the_lock(
    collection: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Collection.open(collection).writer():
        said = failing(capsys, 5, "index", corpus, "--to", collection, "--update")
    assert str(os.getpid()) in said


def test_another_model_is_refused_by_name(
    collection: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ragstone.models import HashingEncoder

    encode = HashingEncoder.encode_queries
    monkeypatch.setattr(HashingEncoder, "encode_queries", lambda self, t: -encode(self, t))
    assert "dense" in failing(capsys, 7, "search", collection, "x", "--using", "dense")


BAD_LINES = [
    (b'{"id": "a", "text": "\xff"}', "UTF-8"),
    (b'{"id": "a", "text": "\\ud800"}', "surrogate"),
    (b'{"id": "a", "text": "x\\u0000y"}', "NUL"),
    (b'{"id": "a", "text": NaN}', "NaN"),
    (b'{"id": "a", "id": "b", "text": "x"}', "twice"),
    (b'{"text": "x"}', "id"),
    (b'{"id": "a", "text": 7}', "text"),
    (b"[" * 100_000, "deep"),
    (b'{"id": "a", "text": "x"', "JSON"),
]


@pytest.mark.parametrize(("line", "word"), BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_can_be_had(
    line: bytes, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_bytes(b'{"id": "good", "text": "fine"}\n' + line + b"\n")
    stop = ("index", source, "--to", tmp_path / "c", "--with", "bm25")
    said = failing(capsys, 3, *stop)
    assert "s.jsonl:2" in said and "--on-error skip" in said
    assert word.lower() in said.lower()
    skip = ("index", source, "--to", tmp_path / "d", "--with", "bm25", "--on-error", "skip")
    assert run(*skip) == 0
    assert "1 indexed, 1 rejected" in capsys.readouterr().out


def test_a_closed_pipe_is_no_error(collection: Path) -> None:
    command = f"{sys.executable} -m ragstone.cli search {collection} rent --json | true"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert shown.stderr == ""


def test_without_a_terminal_there_is_no_progress_bar(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ragstone.cli", "index", str(corpus), "--with", "bm25"]
    shown = subprocess.run(
        [*command, "--to", str(tmp_path / "p")], capture_output=True, text=True, check=True
    )
    assert "\x1b" not in shown.stdout + shown.stderr and "%" not in shown.stderr
