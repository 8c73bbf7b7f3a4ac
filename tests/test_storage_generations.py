"""Generations: what a commit adds, deletes and drops, what is kept, and how to go back."""

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ragstone import __version__
from ragstone.errors import Conflict, UsageError
from ragstone.storage import Store
from ragstone.storage.faults import FaultyDisk


def add(change, values):
    with change.new_segment(len(values)) as segment:
        segment.part("p").array("values", np.asarray(values, np.int64))
    return segment.name


def live(store):
    """The values of all rows that are not deleted, in order."""
    found = []
    for segment in store.segments:
        values = segment.part("p").array("values")
        assert len(values) == segment.rows
        found += (values if segment.deleted is None else values[~segment.deleted]).tolist()
    return found


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "a" / "store", settings={"k1": 1.2}, disk=FaultyDisk())
    with store.begin() as change:
        add(change, [1, 2, 3])
        add(change, [4, 5])
        return change.commit(note={"read": 5})


def test_creation_gives_generation_one_with_private_modes(tmp_path):
    store = Store.create(tmp_path / "new" / "store", settings={"b": [1, {"x": None}]})
    assert (store.generation, store.segments, dict(store.note)) == (1, (), {})
    with store.begin() as change:
        name = add(change, [1])
        change.delete(name, np.array([0]))
        change.commit()
    again = Store.open(store.folder)
    assert again.settings == {"b": [1, {"x": None}]}
    for path in [store.folder, *store.folder.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_creation_refuses_a_folder_with_anything_in_it(tmp_path, store):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty: it has 'a'"):
        Store.create(tmp_path, settings={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "notes.txt"]
    with pytest.raises(UsageError, match="not empty: it has 'manifest-000000000001.json'"):
        Store.create(store.folder, settings={})
    with pytest.raises(UsageError, match="settings.x"):
        Store.create(tmp_path / "other", settings={"x": {1, 2}})
    assert not (tmp_path / "other").exists()


def test_a_commit_is_what_opening_gives(store):
    assert (store.generation, live(store), store.note) == (2, [1, 2, 3, 4, 5], {"read": 5})
    opened = Store.open(store.folder)
    assert (opened.generation, live(opened)) == (2, [1, 2, 3, 4, 5])
    assert opened.manifest == store.manifest
    assert opened.manifest.created_by == f"ragstone {__version__}"


def test_deletes_add_up_over_commits_and_within_one(store):
    first, second = (segment.name for segment in store.segments)
    with store.begin() as change:
        change.delete(first, np.array([0, 0]))
        change.delete(first, np.array([2]))
        two = change.commit()
    with two.begin() as change:
        change.delete(first, np.array([2, 1], np.int32))
        change.delete(second, np.array([], np.int64))
        three = change.commit()
    assert [live(one) for one in (store, two, three)] == [[1, 2, 3, 4, 5], [2, 4, 5], [4, 5]]
    assert three.segments[0].deleted.tolist() == [True] * 3
    assert three.segments[1].deleted is None
    assert (three.manifest.rows, three.manifest.deleted) == (5, 3)
    assert live(Store.open(store.folder)) == [4, 5]


def test_deleting_what_is_deleted_writes_no_file(store):
    with store.begin() as change:
        change.delete(store.segments[0].name, np.array([1]))
        store = change.commit()
    with store.begin() as change:
        change.delete(store.segments[0].name, np.array([1]))
        again = change.commit()
    assert again.segments[0].record == store.segments[0].record


def test_a_segment_can_be_deleted_from_and_dropped_in_the_change_that_adds_it(store):
    with store.begin() as change:
        kept, gone = add(change, [6, 7, 8]), add(change, [9])
        change.delete(kept, np.array([1]))
        change.delete(gone, np.array([0]))
        change.drop(gone)
        change.drop(store.segments[0].name)
        store = change.commit()
    assert live(store) == live(Store.open(store.folder)) == [4, 5, 6, 8]
    assert Store.verify(store.folder, deep=True).unused == ()


@pytest.mark.parametrize("rows", [[3], [-1], [0.0], [True]])
def test_rows_that_do_not_exist_are_refused(store, rows):
    with store.begin() as change, pytest.raises(UsageError, match="of a segment with 3 rows"):
        change.delete(store.segments[0].name, np.array(rows))


def test_unknown_segments_are_refused(store):
    with store.begin() as change:
        for call in (lambda: change.drop("x"), lambda: change.delete("x", np.array([0]))):
            with pytest.raises(UsageError, match="no segment 'x'. There are: "):
                call()


def test_settings_and_note_belong_to_their_commit(store):
    with store.begin() as change:
        assert change.settings == {"k1": 1.2}
        change.settings = {"k1": 0.9, "more": (1, 2)}
        changed = change.commit(note={"n": 1})
        assert changed.settings == {"k1": 0.9, "more": [1, 2]}
        same = change.commit()
    assert (same.settings, same.note) == ({"k1": 0.9, "more": [1, 2]}, {})
    assert store.settings == {"k1": 1.2}


def test_one_change_can_commit_many_times(store):
    with store.begin() as change:
        for value in (6, 7):
            assert change.store.generation == value - 4
            add(change, [value])
            change.commit()
        add(change, [8])
    assert live(Store.open(store.folder)) == [1, 2, 3, 4, 5, 6, 7]


def test_leaving_without_commit_abandons_everything(store):
    before = {path for path in store.folder.rglob("*") if path.is_file()}
    with pytest.raises(ZeroDivisionError), store.begin() as change:
        add(change, [6])
        change.delete(store.segments[0].name, np.array([0]))
        raise ZeroDivisionError
    with store.begin() as change:
        add(change, [7])
        with pytest.raises(ZeroDivisionError), change.new_segment(3) as segment:
            segment.part("p").array("values", np.arange(3))
            raise ZeroDivisionError
    assert {path for path in store.folder.rglob("*") if path.is_file()} == before
    assert live(Store.open(store.folder)) == [1, 2, 3, 4, 5]


def test_a_failed_segment_does_not_spoil_the_change(store):
    with store.begin() as change:
        with pytest.raises(UsageError), change.new_segment(3) as segment:
            segment.part("p").array("BAD", np.arange(3))
        add(change, [6])
        assert live(change.commit()) == [1, 2, 3, 4, 5, 6]


def test_a_change_is_used_inside_its_block(store):
    change = store.begin()
    for use in (
        lambda: change.new_segment(1).__enter__(),
        lambda: change.drop(store.segments[0].name),
        lambda: change.commit(),
    ):
        with pytest.raises(UsageError, match="with store.begin"):
            use()


def test_open_ends_are_refused(store):
    with store.begin() as change:
        with change.new_segment(1), pytest.raises(UsageError, match="still being written"):
            change.commit()
        with pytest.raises(UsageError, match="stream of part 'p' is still open"):
            with change.new_segment(1) as segment:
                stream = segment.part("p").stream("s", "f4")
                stream.__enter__()
        with pytest.raises(UsageError, match="-1 rows"), change.new_segment(-1):
            pass


def test_a_note_that_cannot_be_stored_spends_the_change(store):
    with store.begin() as change:
        add(change, [6])
        with pytest.raises(UsageError, match="note.count"):
            change.commit(note={"count": np.int64(3)})
        with pytest.raises(UsageError, match="its commit failed"):
            change.commit()
    assert live(Store.open(store.folder)) == [1, 2, 3, 4, 5]
    assert Store.verify(store.folder).unused == ()


def test_two_generations_are_kept(store):
    for value in range(3, 9):
        with store.begin() as change:
            if value % 2:
                change.drop(store.segments[0].name)
            name = add(change, [value])
            change.delete(name, np.array([0]))
            store = change.commit(note={"value": value})
        kept = store.log()
        assert [one.generation for one in kept] == [value, value - 1]
        needed = {path for one in kept for path, _ in one.paths()}
        assert {str(p.relative_to(store.folder)) for p in data_files(store.folder)} == needed
    assert kept[0].note == {"value": 8} and kept[0].created.endswith("Z")
    assert kept[0].nbytes == sum(
        (store.folder / path).stat().st_size for path, _ in kept[0].paths()
    )


def data_files(folder: Path):
    return [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


def test_older_generations_open_until_they_are_collected(store):
    opened = [store]
    for value in (6, 7):
        with opened[-1].begin() as change:
            change.drop(opened[-1].segments[0].name)
            add(change, [value])
            opened.append(change.commit())
    assert [live(one) for one in opened] == [[1, 2, 3, 4, 5], [4, 5, 6], [6, 7]]
    assert live(Store.open(store.folder, generation=3)) == [4, 5, 6]
    with pytest.raises(UsageError, match="no generation 2. Kept generations: 3, 4"):
        Store.open(store.folder, generation=2)


def test_restore_makes_an_older_generation_the_newest(store):
    with store.begin() as change:
        change.drop(store.segments[0].name)
        change.settings = {}
        change.commit(note={"oops": True})
    restored = Store.restore(store.folder, to=2)
    assert (restored.generation, restored.manifest.parent) == (4, 2)
    assert live(restored) == live(Store.open(store.folder)) == [1, 2, 3, 4, 5]
    assert (restored.settings, restored.note) == ({"k1": 1.2}, {"read": 5})
    with restored.begin() as change:
        add(change, [6])
        change.commit()
    assert live(Store.open(store.folder, check="sha256")) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UsageError, match="no generation 1. Kept generations: 4, 5"):
        Store.restore(store.folder, to=1)


def test_a_change_on_an_old_generation_is_a_conflict(store):
    with store.begin() as change:
        add(change, [6])
        newer = change.commit()
    with pytest.raises(Conflict, match="generation 3 was committed after generation 2"):
        store.begin().__enter__()
    with store.refresh().begin() as change:
        change.commit()
    assert newer.refresh().generation == 4


def test_refresh_opens_only_what_is_new(store):
    reader = Store.open(store.folder, disk=FaultyDisk())
    assert reader.refresh() is reader
    with store.begin() as change:
        add(change, [6])
        change.delete(store.segments[1].name, np.array([0]))
        change.commit()
    opens = reader.disk.calls.count("open")
    newer = reader.refresh()
    assert (newer.generation, live(newer)) == (3, [1, 2, 3, 5, 6])
    assert reader.disk.calls.count("open") - opens == 4  # FORMAT, manifest, values, tombstones
    assert newer.segments[0].part("p").array("values").base is not None
    assert live(reader) == [1, 2, 3, 4, 5]


def test_verify_counts_what_it_reads_and_lists_what_nobody_needs(store):
    report = Store.verify(store.folder, deep=True)
    assert report.ok and report.remedy == "" and report.good == (2, 1)
    assert report.bytes == store.manifest.nbytes
    assert len(report.files) == 3 + 2
    (store.folder / ".tmp-x").write_bytes(b"")
    (store.folder / "my own notes").write_bytes(b"")
    assert Store.verify(store.folder).unused == (".tmp-x",)
    with store.begin() as change:
        change.commit()
    left = {path.name for path in store.folder.iterdir()}
    assert left - {path.name for path in store.folder.glob("manifest-*")} == {
        *("FORMAT", "deletes", "my own notes", "segments", "write.lock")
    }


class Model(RuleBasedStateMachine):
    """Random changes against lists of values; every generation that is kept stays as it was."""

    @initialize(folder=st.uuids())
    def create(self, folder):
        import tempfile

        self.root = tempfile.TemporaryDirectory()
        self.store = Store.create(Path(self.root.name) / "s", settings={}, disk=FaultyDisk())
        self.expected = {1: []}
        self.next = 0

    def teardown(self):
        self.root.cleanup()

    @rule(
        sizes=st.lists(st.integers(0, 9), max_size=2),
        deletes=st.lists(st.integers(0, 30), max_size=6),
        drops=st.sets(st.integers(0, 5), max_size=1),
        reopen=st.booleans(),
    )
    def change(self, sizes, deletes, drops, reopen):
        if reopen:
            self.store = Store.open(self.store.folder, disk=FaultyDisk())
        values = [list(self.segment_values(one)) for one in self.store.segments]
        names = [one.name for one in self.store.segments]
        with self.store.begin() as change:
            for size in sizes:
                new = list(range(self.next, self.next + size))
                self.next += size
                names.append(add(change, new))
                values.append([[value, False] for value in new])
            for place in deletes:
                self.delete_at(change, names, values, place)
            for drop in sorted(drops):
                if drop < len(names):
                    change.drop(names[drop])
                    values[drop] = []
            self.store = change.commit()
        expected = [value for one in values for value, gone in one if not gone]
        self.remember(expected)

    def segment_values(self, segment):
        gone = np.zeros(segment.rows, bool) if segment.deleted is None else segment.deleted
        values = segment.part("p").array("values").tolist()
        return [list(pair) for pair in zip(values, gone.tolist(), strict=True)]

    def delete_at(self, change, names, values, place):
        for name, rows in zip(names, values, strict=True):
            if place < len(rows):
                rows[place][1] = True
                change.delete(name, np.array([place]))
                return
            place -= len(rows)

    def remember(self, expected):
        self.expected[self.store.generation] = expected
        kept = [one.generation for one in self.store.log()]
        for generation in kept:
            opened = Store.open(self.store.folder, generation=generation, disk=FaultyDisk())
            assert live(opened) == self.expected[generation]

    @precondition(lambda self: self.store.generation > 1)
    @rule(back=st.integers(0, 1))
    def restore(self, back):
        to = self.store.log()[back].generation
        self.store = Store.restore(self.store.folder, to=to, disk=FaultyDisk())
        self.remember(self.expected[to])


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
