"""A build: what it counts, what it keeps when it is interrupted, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ragstone.errors import DuplicateId, InputError, UsageError
from ragstone.indexes.collection import Collection
from ragstone.models import HashingEncoder
from ragstone.pipeline import Library, Step, build
from ragstone.pipeline import intake as intake_module
from ragstone.pipeline.intake import Intake


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def facts(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"d{number}",
            "title": f"Title {number}",
            "text": f"fact {number} about colour{number % 7}",
            "metadata": {"even": number % 2 == 0},
        }
        for number in range(start, start + count)
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "facts.jsonl", facts(40))


def both(source: Path, to: Path, **options: Any) -> Any:
    """A build with BM25 and the hashing encoder, so that no model is loaded."""
    return build(source, to, using=("bm25", "dense"), model="hashing", **options)


def test_a_build_can_be_searched_through_every_index(source: Path, tmp_path: Path) -> None:
    report = both(source, tmp_path / "c")
    assert (report.counts.read, report.counts.indexed, report.passages) == (40, 40, 40)
    library = Library.open(tmp_path / "c")
    assert library.systems == ("bm25", "dense", "hybrid")
    for using in library.systems:
        found = library.search("fact 33", 3, using=using)
        assert found[0].passage.id == "d33", using
        assert found[0].passage.metadata == {"even": False}


def test_a_filter_is_honoured_inside_the_search(source: Path, tmp_path: Path) -> None:
    both(source, tmp_path / "c")
    library = Library.open(tmp_path / "c")
    for using in library.systems:
        found = library.search("fact about colour1", 20, using=using, filter={"even": True})
        assert len(found) == 20
        assert all(one.passage.metadata["even"] for one in found)


def test_documents_are_cut_and_fold_back(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    text = (
        "# Storks\n\n" + "Storks nest on roofs. " * 60 + "\n\n# Owls\n\nOwls hunt by night. " * 30
    )
    (folder / "birds.md").write_text(text)
    (folder / "fish.txt").write_text("Eels migrate to the Sargasso Sea.")
    report = build(folder, tmp_path / "c", using=("bm25",), chunk=40)
    assert report.counts.indexed == 2
    assert report.passages > 5
    library = Library.open(tmp_path / "c")
    assert library.search("owls at night", 1)[0].passage.metadata["headings"][-1] == "Owls"
    from ragstone.records import Query

    ranking = library.documents().retrieve([Query("", "owls eels roofs")], 5)[0]
    assert sorted(ranking.ids) == ["birds.md", "fish.txt"]


def test_every_document_is_accounted_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", [*facts(5), *facts(2), {"id": "x", "text": 3}])
    report = both(path, tmp_path / "c", duplicates="keep", on_error="skip")
    counts = report.counts
    assert (counts.read, counts.indexed, counts.duplicate, counts.rejected) == (8, 5, 2, 1)
    rejected = json.loads(report.rejects.read_text())
    assert rejected["line"] == 8 and rejected["id"] == "x"


def test_replacing_keeps_the_last_and_counts_one(tmp_path: Path) -> None:
    again = [{"id": "d1", "text": "walrus"}]
    path = write_jsonl(tmp_path / "s.jsonl", [*facts(5), *again])
    report = both(path, tmp_path / "c", duplicates="replace")
    assert (report.counts.indexed, report.counts.duplicate, report.passages) == (5, 1, 5)
    assert Library.open(tmp_path / "c").search("walrus", 1)[0].passage.text == "walrus"


def test_a_duplicate_is_refused_by_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", [*facts(3), *facts(1)])
    with pytest.raises(DuplicateId, match=r"s\.jsonl:4.*'d0'.*--duplicates"):
        both(path, tmp_path / "c")


def test_a_build_that_fails_at_once_leaves_nothing(source: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", [{"id": "a", "text": 7}])
    with pytest.raises(InputError):
        both(path, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert both(source, tmp_path / "c").passages == 40


def test_an_update_replaces_whole_documents(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Herons wade in the shallows. " * 50)
    (folder / "b.txt").write_text("Bees dance.")
    build(folder, tmp_path / "c", using=("bm25",), chunk=20)
    (folder / "a.txt").write_text("Gone fishing.")
    report = build(folder, tmp_path / "c", mode="update", chunk=20)
    assert (report.passages, report.counts.indexed) == (2, 2)
    assert not Library.open(tmp_path / "c").search("herons", 5)


def test_building_over_something_is_refused(source: Path, tmp_path: Path) -> None:
    both(source, tmp_path / "c")
    with pytest.raises(UsageError, match="--resume.*--update"):
        both(source, tmp_path / "c")
    with pytest.raises(UsageError, match="complete"):
        both(source, tmp_path / "c", mode="resume")


@pytest.mark.parametrize("call", [1, 2, 3, 5])
def test_an_interrupt_keeps_what_was_indexed(
    call: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the `call`-th encoding, resumed: the same as never interrupted."""
    monkeypatch.setattr(intake_module, "BATCH", 7)
    encode, calls = HashingEncoder.encode_passages, 0

    def interrupted(self: HashingEncoder, texts: Any) -> Any:
        nonlocal calls
        batch = len(texts) in (7, 40 % 7)  # else something is encoded to make the collection
        calls += batch
        if batch and calls == call:
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr(HashingEncoder, "encode_passages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both(source, tmp_path / "c")
    assert len(Collection.open(tmp_path / "c")) == 7 * (call - 1)
    report = both(source, tmp_path / "c", mode="resume")
    assert (report.counts.read, report.counts.indexed, report.passages) == (40, 40, 40)


def test_resuming_refuses_another_source(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Intake, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both(source, tmp_path / "c")
    monkeypatch.undo()
    write_jsonl(source, facts(41))
    with pytest.raises(InputError, match="--update"):
        both(source, tmp_path / "c", mode="resume")


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_can_be_resumed(sent: signal.Signals, tmp_path: Path) -> None:
    """A real process, stopped when it has committed some segments."""
    path = write_jsonl(tmp_path / "big.jsonl", facts(8_000))
    to = tmp_path / "c"
    command = [sys.executable, "-m", "ragstone.cli", "index", str(path), "--to", str(to)]
    command += ["--with", "bm25", "--memory", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    _wait(lambda: len(list(to.glob("manifest-*"))) > 1 or process.poll() is not None)
    os.kill(process.pid, sent)
    process.communicate()
    if process.returncode == 0:
        pytest.skip("the build was over before the signal came")
    assert process.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    kept = len(Collection.open(to))
    assert 0 < kept < 8_000
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert len(Collection.open(to)) == 8_000


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)


def test_progress_reaches_the_end(source: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    both(source, tmp_path / "c", progress=steps.append)
    assert steps[-1].bytes_done == steps[-1].bytes_total
    assert steps[-1].passages == 40
