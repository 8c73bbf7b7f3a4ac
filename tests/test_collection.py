"""A collection holds what a dictionary of passages would, commit by commit."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Conflict, Damaged, DuplicateId, InputError, Locked, Mismatch, UsageError
from ragstone.indexes import compaction
from ragstone.indexes.collection import Collection
from ragstone.indexes.family import FAMILIES, OpenPart, load_family
from ragstone.records import Fingerprint, Passage
from ragstone.storage import Disk, Store


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here: the medium need not confirm every commit."""
    monkeypatch.setattr(Disk, "sync", lambda *_: None)
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: None)


@dataclass(frozen=True)
class Counted:
    """A family whose keys are numbers, of which it stores how many there are; 13 interrupts it."""

    kind: ClassVar[str] = "counted"
    settings: ClassVar[Mapping[str, Any]] = {}

    def check(self, keys: Sequence[int]) -> None: ...

    def builder(self) -> "CountedBuilder":
        return CountedBuilder()

    def open(self, parts: Sequence[OpenPart]) -> int:
        return sum(int(part.part.array("rows")[0]) for part in parts)

    def merge(self, parts: Sequence[OpenPart], writer: Any) -> None:
        writer.array("rows", np.array([sum(part.live for part in parts)]))


class CountedBuilder:
    def __init__(self) -> None:
        self.nbytes = 0

    def add(self, keys: Sequence[int]) -> None:
        if 13 in keys:
            raise KeyboardInterrupt
        self.nbytes += 8 * len(keys)

    def write(self, writer: Any) -> None:
        writer.array("rows", np.array([self.nbytes // 8]))


FAMILIES["counted"] = Counted


def passages(*ids: str, text: str = "") -> list[Passage]:
    return [Passage(id, text or f"text of {id}") for id in ids]


def plain(folder: Path) -> Collection:
    return Collection.create(folder / "c", {})


def ids_of(collection: Collection) -> list[str]:
    return [passage.id for passage in collection.refresh().passages]


def test_definitions_come_back(tmp_path) -> None:
    encoders = {"b": Fingerprint("small", "ab" * 32, {"class": "hashing", "dimensions": 3})}
    canaries = {"b": np.array([[1, np.pi, -0.0], [np.nan, np.inf, 3e-45]], dtype=np.float32)}
    families = {"a": Counted(), "b": Counted()}
    made = Collection.create(tmp_path / "c", families, encoders=encoders, canaries=canaries)
    opened = Collection.open(tmp_path / "c")
    for collection in (made, opened):
        assert collection.encoders == encoders
        assert collection.canaries["b"].tobytes() == canaries["b"].tobytes()
        assert collection.canaries["b"].shape == (2, 3)
        assert collection.families == families
        assert sorted(collection.indexes) == ["a", "b"] and len(collection.indexes) == 2
        assert collection.generation == 1 and len(collection) == 0 and collection.note == {}
        assert collection.folder == tmp_path / "c"
        with pytest.raises(KeyError):
            collection.indexes["c"]


@pytest.mark.parametrize("name", ["passages", "", "BM25", "a b", "../x", "-a", "x" * 65])
def test_names_that_an_index_cannot_have(name, tmp_path) -> None:
    with pytest.raises(UsageError, match="cannot be the name of an index"):
        Collection.create(tmp_path / "c", {name: Counted()})
    assert not (tmp_path / "c").exists()
    with pytest.raises(UsageError, match="cannot be the name"):
        plain(tmp_path).add_index(name, Counted(), len)


def test_what_cannot_be_created(tmp_path) -> None:
    with pytest.raises(UsageError, match="for 'dense', which is no index.*bm25"):
        Collection.create(
            tmp_path / "c", {"bm25": Counted()}, encoders={"dense": Fingerprint("", "")}
        )
    plain(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        plain(tmp_path)
    with pytest.raises(UsageError, match="'sometimes' is unknown.*error replace keep"):
        Collection.open(tmp_path / "c").writer(duplicates="sometimes")  # type: ignore[arg-type]


def test_settings_of_another_version(tmp_path) -> None:
    with pytest.raises(Mismatch, match="'quantum' is unknown here; known: .*inverted.*vector"):
        load_family("quantum", {})
    with pytest.raises(Mismatch, match="does not take these settings"):
        load_family("counted", {"new": 1})
    Store.create(tmp_path / "c", settings={"indexes": {"a": 1}})
    with pytest.raises(Damaged, match="make no sense"):
        Collection.open(tmp_path / "c")


def test_nothing_is_seen_before_its_commit(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer() as writer:
        empty = writer.nbytes
        writer.add(passages("a", "b"), {})
        assert writer.nbytes > empty
        assert ids_of(collection) == []
        assert writer.commit(note={"read": 2}) == 2
        assert writer.nbytes == empty
        writer.delete(["a"])
        assert ids_of(collection) == ["a", "b"]
        writer.commit()
        assert ids_of(collection) == ["b"]
        writer.add(passages("c"), {})
    assert ids_of(collection) == ["b"], "what is not committed is abandoned"
    assert len(collection) == 0, "an open generation never changes"
    second = Collection.open(tmp_path / "c", generation=2)
    assert [p.id for p in second.passages] == ["a", "b"] and second.note == {"read": 2}


def test_an_exception_abandons_and_frees_the_lock(tmp_path) -> None:
    collection = plain(tmp_path)
    with pytest.raises(ZeroDivisionError), collection.writer() as writer:
        writer.add(passages("a"), {})
        writer.commit()
        writer.add(passages("b"), {})
        1 / 0  # noqa: B018
    assert ids_of(collection) == ["a"]
    with pytest.raises(UsageError, match="the writer is closed"):
        writer.add(passages("c"), {})
    with collection.writer() as writer, pytest.raises(Locked), collection.writer():
        pass
    with collection.writer() as writer:
        writer.add(passages("c"), {})
        writer.commit()
    assert ids_of(collection) == ["a", "c"]
    assert not list((tmp_path / "c").glob(".tmp*"))


def test_a_commit_of_nothing_makes_no_generation(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer() as writer:
        assert writer.commit() == 1
        assert writer.add([], {}) == 0
        writer.add(passages("a"), {})
        assert writer.delete(["a", "a", "b"]) == 1
        assert writer.commit() == 1
        assert writer.commit(note={"progress": 7}) == 2
    assert collection.refresh().note == {"progress": 7} and collection.refresh().segments == 0


def test_duplicates_are_errors_that_say_where_the_first_stands(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer() as writer:
        with pytest.raises(DuplicateId, match="'a' is twice in this batch, as passages 0 and 2"):
            writer.add(passages("a", "b", "a"), {})
        writer.add(passages("a", "b"), {})
        with pytest.raises(DuplicateId, match="'b' is already added as passage 1 of this commit"):
            writer.add(passages("c", "b"), {})
        writer.commit()
        with pytest.raises(DuplicateId, match="'b' is passage number 1 of generation 2 already"):
            writer.add(passages("c", "b"), {})
        assert writer.known(["a", "c", "b"]).tolist() == [True, False, True]
        writer.delete(["b"])
        assert writer.known(["b"]).tolist() == [False]
        assert writer.add(passages("b", "c"), {}) == 0
        writer.commit()
    assert ids_of(collection) == ["a", "b", "c"]


def test_replace_lets_the_last_one_stay(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer(duplicates="replace") as writer:
        assert writer.add([Passage("a", "1"), Passage("b", "1"), Passage("a", "2")], {}) == 0
        assert writer.add([Passage("b", "3")], {}) == 0
        writer.commit()
        assert [p.text for p in collection.refresh().passages] == ["2", "3"]
        writer.add([Passage("a", "4")], {})
        writer.add([Passage("a", "5")], {})
        writer.commit()
    assert {p.id: p.text for p in collection.refresh().passages} == {"a": "5", "b": "3"}


def test_keep_skips_and_counts(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer(duplicates="keep") as writer:
        assert writer.add([Passage("a", "1"), Passage("a", "2"), Passage("b", "1")], {}) == 1
        assert writer.add([Passage("a", "3")], {}) == 1
        writer.commit()
        assert writer.add([Passage("b", "4"), Passage("c", "1"), Passage("c", "2")], {}) == 2
        writer.commit()
    assert [(p.id, p.text) for p in collection.refresh().passages] == [
        ("a", "1"),
        ("b", "1"),
        ("c", "1"),
    ]


def test_a_batch_with_one_bad_passage_is_not_taken(tmp_path) -> None:
    collection = Collection.create(tmp_path / "c", {"n": Counted()})
    with collection.writer() as writer:
        empty = writer.nbytes
        with pytest.raises(InputError, match="'b': the text has a NUL"):
            writer.add([*passages("a"), Passage("b", "\0")], {"n": [1, 2]})
        for keys, words in (
            ({}, "keys were given for .*, the indexes are .'n'."),
            ({"n": [1], "m": [1]}, "keys were given for"),
            ({"n": [1]}, "2 passages came with 1 keys for 'n'"),
        ):
            with pytest.raises(UsageError, match=words):
                writer.add(passages("a", "b"), keys)
        assert writer.nbytes == empty
        writer.add(passages("a", "b"), {"n": [1, 2]})
        writer.commit()
    assert ids_of(collection) == ["a", "b"] and collection.refresh().indexes["n"] == 2


def test_an_interrupted_call_spoils_the_open_segment_only(tmp_path) -> None:
    collection = Collection.create(tmp_path / "c", {"n": Counted()})
    with collection.writer() as writer:
        writer.add(passages("a"), {"n": [1]})
        writer.commit()
        with pytest.raises(KeyboardInterrupt):
            writer.add(passages("b"), {"n": [13]})
        for call in (lambda: writer.add(passages("c"), {"n": [1]}), writer.commit):
            with pytest.raises(UsageError, match="interrupted call.*committed is safe"):
                call()
    assert ids_of(collection) == ["a"]


def test_a_segment_without_live_rows_is_dropped(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer() as writer:
        for ids in ("ab", "cd"):
            writer.add(passages(*ids), {})
            writer.commit()
        assert writer.delete(["a"]) == 1
        writer.commit()
        assert collection.refresh().segments == 2
        assert writer.delete(["a", "b"]) == 1
        writer.commit()
    assert collection.refresh().segments == 1 and ids_of(collection) == ["c", "d"]


def test_compaction(tmp_path) -> None:
    collection = Collection.create(tmp_path / "c", {"n": Counted()})
    assert collection.compact().generation == 1
    with collection.writer() as writer:
        for ids in ("abc", "def", "g"):
            writer.add(passages(*ids), {"n": [0] * len(ids)})
            writer.commit()
        writer.delete(["b", "g"])
        writer.commit(note={"x": 1})
    compacted = collection.compact()
    assert compacted.segments == 1 and compacted.note == {"x": 1}
    assert compacted.passages.rows == len(compacted) == compacted.indexes["n"] == 5
    assert ids_of(collection) == ["a", "c", "d", "e", "f"]
    assert compacted.compact().generation == compacted.generation, "nothing to do"
    with compacted.writer() as writer:
        writer.delete(["a", "c", "d", "e", "f"])
        writer.commit()
    assert collection.compact().segments == 0


def test_many_small_commits_are_merged_on_the_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", 4)
    collection = Collection.create(tmp_path / "c", {"n": Counted()})
    with collection.writer() as writer:
        for i in range(40):
            writer.add(passages(f"p{i}"), {"n": [0]})
            writer.commit(note={"i": i})
            assert collection.refresh().segments <= 4
            assert collection.refresh().note == {"i": i}
    assert ids_of(collection) == [f"p{i}" for i in range(40)]
    assert collection.refresh().indexes["n"] == 40


def test_generations_are_logged_verified_and_restored(tmp_path) -> None:
    collection = plain(tmp_path)
    with collection.writer() as writer:
        for id in "ab":
            writer.add(passages(id), {})
            writer.commit()
    assert [manifest.generation for manifest in collection.log()] == [3, 2]
    assert Collection.verify(tmp_path / "c", deep=True).ok
    restored = Collection.restore(tmp_path / "c", to=2)
    assert [p.id for p in restored.passages] == ["a"] and restored.generation == 4
    assert collection.refresh().generation == 4


def test_whoever_holds_old_definitions_cannot_write(tmp_path) -> None:
    old = plain(tmp_path)
    new = old.add_index("n", Counted(), len)
    for change in (lambda: old.writer().__enter__(), old.compact):
        with pytest.raises(Conflict, match="indexes of the collection were changed"):
            change()
    with new.writer() as writer:
        writer.add(passages("a"), {"n": [1]})
        writer.commit()
    assert ids_of(old) == ["a"]
    with pytest.raises(UsageError, match="an index 'n' already"):
        new.add_index("n", Counted(), len)


def test_the_page_about_collections_does_what_it_says(tmp_path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "collections.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    run = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout == "['intro']\n"


IDS = st.sampled_from("abcdef")
CALLS = st.one_of(
    st.tuples(st.just("add"), st.lists(IDS, min_size=1, max_size=4)),
    st.tuples(st.just("delete"), st.lists(IDS, max_size=3)),
    st.tuples(st.sampled_from(["commit", "leave", "compact"]), st.just([])),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(CALLS, max_size=15), st.sampled_from(["error", "replace", "keep"]))
def test_a_collection_is_a_dictionary(tmp_path_factory, calls, duplicates) -> None:
    """Read = indexed + refused + skipped, whatever the order of calls."""
    collection = Collection.create(tmp_path_factory.mktemp("c") / "c", {"n": Counted()})
    committed: dict[str, str] = {}
    live: dict[str, str] = {}
    count = 0
    writer = collection.writer(duplicates).__enter__()
    for what, ids in [*calls, ("leave", [])]:
        if what == "add":
            batch = [Passage(id, str(count + i)) for i, id in enumerate(ids)]
            count += len(ids)
            clash = len(set(ids)) < len(ids) or any(id in live for id in ids)
            assert writer.known(ids).tolist() == [id in live for id in ids]
            if duplicates == "error" and clash:
                with pytest.raises(DuplicateId):
                    writer.add(batch, {"n": [0] * len(batch)})
                continue
            before = len(live)
            skipped = writer.add(batch, {"n": [0] * len(batch)})
            for passage in batch:
                if duplicates == "keep" and passage.id in live:
                    continue
                live.pop(passage.id, None)
                live[passage.id] = passage.text
            expected = len(batch) - (len(live) - before) if duplicates == "keep" else 0
            assert skipped == expected
        elif what == "delete":
            assert writer.delete(ids) == len({id for id in ids if id in live})
            live = {id: text for id, text in live.items() if id not in ids}
        elif what == "commit":
            writer.commit()
            committed = dict(live)
        else:
            writer.__exit__(None, None, None)
            live = dict(committed)
            if what == "compact":
                collection.compact()
            writer = collection.writer(duplicates).__enter__()
        now = collection.refresh()
        assert [(p.id, p.text) for p in now.passages] == list(committed.items())
        assert len(now) == len(committed)
        assert now.passages.fetch(list(committed)) == list(now.passages)
        assert now.indexes["n"] == now.passages.rows
    writer.__exit__(None, None, None)
