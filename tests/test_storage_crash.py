"""Whatever call fails or is the last one, the folder stays whole and can be written again."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from ragstone.errors import Conflict, DiskError, RagstoneError, UsageError
from ragstone.storage import Disk, Store
from ragstone.storage.faults import READS, WRITES, FaultyDisk, Killed


def add(change, value, rows=3):
    """A segment with an array, a stream of unknown length and bytes, all telling `value`."""
    with change.new_segment(rows) as segment:
        part = segment.part("numbers")
        part.facts({"value": value})
        part.array("whole", np.full((rows, 2), value, np.float32))
        with part.stream("pieces", np.int64) as stream:
            stream.append(np.arange(value))
        part.blob("text", f"passage {value}".encode())
    return segment.name


def content(store):
    """All that a reader can see of a generation, the random names left out."""
    segments = []
    for segment in store.segments:
        part = segment.part("numbers")
        deleted = None if segment.deleted is None else segment.deleted.tolist()
        arrays = part.array("whole").tolist(), part.array("pieces").tolist()
        segments.append((deleted, dict(part.facts), arrays, part.blob("text").tobytes()))
    return store.generation, dict(store.settings), dict(store.note), segments


def steps(folder, disk):
    """Build, append, delete, delete again, merge and drop; yields after each acknowledgement."""
    store = Store.create(folder, settings={"language": "Klingon"}, disk=disk)
    yield store
    for value in (5, 6):
        with store.begin() as change:
            first = add(change, value)
            store = change.commit(note={"read": value})
        yield store
    for row in (1, 0):
        with store.begin() as change:
            change.delete(store.segments[0].name, np.array([row]))
            store = change.commit()
        yield store
    with store.begin() as change:
        merged = add(change, 11, rows=4)
        for name in (store.segments[0].name, first):
            change.drop(name)
        change.delete(merged, np.array([3]))
        change.settings = {"language": "English"}
        store = change.commit(note={"merged": True})
    yield store


def run(folder, disk):
    """How many steps were acknowledged, and what stopped the next one."""
    acknowledged = 0
    try:
        for _ in steps(folder, disk):
            acknowledged += 1
    except (Killed, RagstoneError) as error:
        return acknowledged, error
    return acknowledged, None


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """The content after every step, and the calls of an undisturbed run."""
    disk = FaultyDisk()
    states = [content(store) for store in steps(tmp_path_factory.mktemp("plain") / "store", disk)]
    return states, disk.calls


def check_whole(folder, states, acknowledged):
    """The folder shows the last acknowledged state or the one in flight, and takes a commit."""
    disk = FaultyDisk()
    if acknowledged == 0 and not (folder / "manifest-000000000001.json").exists():
        with pytest.raises(UsageError):
            Store.open(folder)
        store = Store.create(folder, settings={"language": "Klingon"}, disk=disk)
        assert content(store) == states[0]
    else:
        store = Store.open(folder, check="sha256", disk=disk)
        assert content(store) in states[max(acknowledged - 1, 0) : acknowledged + 1]
    before = content(store)
    with store.begin() as change:
        add(change, 7)
        change.commit()
    after = Store.verify(folder, deep=True)
    assert after.ok and after.unused == (), after
    assert content(Store.open(folder))[3][:-1] == before[3]
    shutil.rmtree(folder)


@pytest.mark.parametrize("late", [False, True])
def test_a_kill_at_any_call_loses_nothing(tmp_path, plain_run, late):
    states, calls = plain_run
    for at in range(1, len(calls) + 1):
        folder = tmp_path / str(at)
        acknowledged, error = run(folder, FaultyDisk(at, late=late))
        assert isinstance(error, Killed)
        check_whole(folder, states, acknowledged)


ERRNOS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT]
CAUSES = ["No space left", "Input/output error", "Read-only", "quota exceeded"]


def fail_at(folder, plain_run, at, which, lasting):
    states, calls = plain_run
    acknowledged, error = run(folder, FaultyDisk(at, ERRNOS[which], lasting=lasting))
    if error is None:  # what was to be removed can stay, what was to be read was not needed
        harmless = ("remove", "remove_folder", "names", "sync_folder", "close", *READS)
        assert calls[at - 1] in harmless or calls[at - 2] == "lock"  # whose text is for people
        assert not lasting or acknowledged == len(states)
    else:
        check_error(error, folder, CAUSES[which])
        if acknowledged and "does not confirm" not in str(error):
            assert content(Store.open(folder)) == states[acknowledged - 1]
    if not lasting:
        assert calls[at - 1] == "remove" or not list(folder.glob(".tmp-*"))
    check_whole(folder, states, acknowledged)


def check_error(error, folder, cause):
    """The message names a path, the cause and the remedy."""
    assert isinstance(error, DiskError | Conflict), error
    assert str(folder.parent) in error.where and error.remedy
    assert cause in str(error) or isinstance(error, Conflict)
    assert "\n" not in str(error)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_failing_call_is_named_and_the_old_generation_serves(tmp_path, plain_run, lasting):
    for at in range(1, len(plain_run[1]) + 1):
        fail_at(tmp_path / str(at), plain_run, at, at % 4, lasting)


@pytest.mark.long
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("which", range(4))
def test_every_call_fails_in_every_way(tmp_path, plain_run, which, lasting):
    for at in range(1, len(plain_run[1]) + 1):
        fail_at(tmp_path / str(at), plain_run, at, which, lasting)


def test_a_call_that_fails_after_the_fact_does_no_harm(tmp_path, plain_run):
    states, calls = plain_run
    for at, name in enumerate(calls, start=1):
        if name in WRITES:
            folder = tmp_path / str(at)
            acknowledged, _ = run(folder, FaultyDisk(at, errno.EIO, late=True))
            check_whole(folder, states, acknowledged)


def test_a_link_that_reports_failure_but_happened_is_a_commit(tmp_path, plain_run):
    states, calls = plain_run
    for at, name in enumerate(calls, start=1):
        if name == "link":
            acknowledged, error = run(tmp_path / str(at), FaultyDisk(at, errno.EIO, late=True))
            assert acknowledged == len(states) or "FORMAT" in str(error)


def test_an_unconfirmed_commit_says_so_and_keeps_its_files(tmp_path, plain_run):
    states, calls = plain_run
    at = max(i for i, name in enumerate(calls) if name == "link") + 1
    at += calls[at:].index("sync_folder") + 1
    acknowledged, error = run(tmp_path / "store", FaultyDisk(at, errno.EIO))
    assert "generation 6 is written, but the disk does not confirm it" in str(error)
    assert acknowledged == 5
    assert content(Store.open(tmp_path / "store")) == states[5]


def test_an_interrupt_at_any_call_is_like_a_kill_that_cleans_up(tmp_path, plain_run):
    states, calls = plain_run

    class InterruptedDisk(FaultyDisk):
        def _raise(self, arguments):
            raise KeyboardInterrupt

    for at, name in enumerate(calls, start=1):
        if name in WRITES:
            folder = tmp_path / str(at)
            acknowledged = 0
            with pytest.raises(KeyboardInterrupt):
                for _ in steps(folder, InterruptedDisk(at, late=name in ("link", "create"))):
                    acknowledged += 1
            check_whole(folder, states, acknowledged)


class LocklessDisk(Disk):
    """A file system without locks."""

    def lock(self, handle):
        return False


def test_without_locks_the_second_commit_is_a_conflict(tmp_path):
    disk = LocklessDisk()
    store = Store.create(tmp_path / "store", settings={}, disk=disk)
    with store.begin() as first, store.begin() as second:
        add(first, 1)
        add(second, 2)
        first.commit()
        with pytest.raises(Conflict, match="generation 2 was committed"):
            second.commit()
    assert [one.part("numbers").facts["value"] for one in Store.open(store.folder).segments] == [1]
    assert Store.verify(store.folder, deep=True).unused == ()


def test_without_locks_the_link_decides(tmp_path):
    class Racing(LocklessDisk):
        """Another writer commits between our last look and our link."""

        def link(self, source: Path, target: Path) -> None:
            if target.name == "manifest-000000000002.json":
                with winner.begin() as change:
                    change.delete(winner.segments[0].name, np.array([2])) if winner.segments else 0
                    add(change, 1)
                    change.commit()
            super().link(source, target)

    winner = Store.create(tmp_path / "store", settings={}, disk=LocklessDisk())
    loser = Store.open(tmp_path / "store", disk=Racing())
    with loser.begin() as change:
        add(change, 2)
        with pytest.raises(Conflict, match=r"manifest-000000000002.json first"):
            change.commit()
    assert [one.part("numbers").facts["value"] for one in Store.open(loser.folder).segments] == [1]
    assert Store.verify(loser.folder, deep=True).unused == ()


def test_a_leftover_tombstone_file_stops_nobody_without_locks(tmp_path):
    store = Store.create(tmp_path / "store", settings={}, disk=LocklessDisk())
    with store.begin() as change:
        name = add(change, 4)
        store = change.commit()
    (store.folder / "deletes" / f"{3:012d}-{name}.bin").write_bytes(b"x")
    with store.begin() as change:
        change.delete(name, np.array([2]))
        change.commit()
    opened = Store.open(store.folder, check="sha256")
    assert opened.segments[0].deleted.tolist() == [False, False, True]
