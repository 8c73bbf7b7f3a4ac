"""A disk that fails costs the commit in work and nothing else, and the message says what to do."""

import errno
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from ragstone.errors import DiskError
from ragstone.indexes import compaction
from ragstone.indexes.collection import Collection
from ragstone.storage import Store
from ragstone.storage.faults import WRITES, FaultyDisk
from ragstone.storage.folder import generations
from ragstone.storage.power import MemoryDisk, fail

from .lives import FOLDER, OPERATIONS, Life, Operation, batch, check_goes_on, survey
from .real_process import Server, calls_on, can_trace, serving
from .test_contract import CASES, ENOUGH

CAUSES = {
    errno.ENOSPC: ("No space left on device", "Free space on this disk"),
    errno.EDQUOT: ("Disk quota exceeded", "Free space in your quota"),
    errno.EIO: ("Input/output error", "The disk failed: check it"),
    errno.EROFS: ("Read-only file system", "The disk is read-only: mount it writable"),
}
needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or not allowed")
TAKES_SPACE = frozenset(["create", "write", "sync", "sync_folder", "make_folder", "link"])


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the commits of a short life merge segments too."""
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", 2)


@dataclass
class Failing:
    """A watch that makes call number `at` fail, and if it lasts all later ones that could too."""

    at: int
    error: int
    lasting: bool
    calls: int = 0
    hit: str = ""

    def __call__(self, name: str, path: Path) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.hit = name
        later = self.lasting and self.calls > self.at
        full = self.error in (errno.ENOSPC, errno.EDQUOT)
        if self.calls == self.at or later and (name in TAKES_SPACE or not full):
            fail(self.error, path)


@dataclass
class Scene:
    """The disk that an operation finds, and the life around it."""

    life: Life
    operation: Operation
    disk: MemoryDisk
    before: int
    after: int
    calls: int


def scenes(name: str) -> Iterator[Scene]:
    """Every operation of a life, one at a time."""
    life, disk = Life(CASES[name]), MemoryDisk()
    for operation in OPERATIONS:
        found, before = disk.copy(), life.acknowledged
        disk.watch = counting = Failing(0, 0, False)
        life.go_through(operation, FOLDER, disk)
        yield Scene(life, operation, found, before, life.acknowledged, counting.calls)


def fail_once(scene: Scene, at: int, error: int, lasting: bool) -> None:
    """The operation with a failing call, and what is there afterwards."""
    failing = Failing(at, error, lasting)
    disk = scene.disk.copy(failing)
    acknowledged, caught = scene.before, None
    try:
        for _ in scene.operation(FOLDER, scene.life.case, disk):
            acknowledged += 1
    except DiskError as raised:
        caught = raised
        check_message(raised, error)
    disk.watch = None
    assert caught or acknowledged == scene.after, failing
    check_left(scene, disk, acknowledged, caught, failing)


def check_message(raised: DiskError, error: int) -> None:
    """It names the path, the cause and the remedy in one line."""
    cause, remedy = CAUSES[error]
    above = str(FOLDER.parent)  # where the name of a new collection has to last
    assert raised.where.startswith(str(FOLDER)) or raised.where == above, raised
    assert cause in raised.what, raised
    assert raised.remedy.startswith(remedy) or "does not confirm" in raised.what, raised
    assert "\n" not in str(raised)


def check_left(
    scene: Scene, disk: MemoryDisk, acknowledged: int, caught: DiskError | None, failing: Failing
) -> None:
    """The generation before serves, nothing temporary stays, and writing goes on."""
    case, digests = scene.life.case, scene.life.digests
    confirmed = caught is None or "does not confirm" not in caught.what
    seen = survey(FOLDER, case, disk)
    assert seen == digests[acknowledged] or not confirmed and seen == digests[acknowledged + 1]
    removes = not failing.lasting or failing.error in (errno.ENOSPC, errno.EDQUOT)
    if removes and not failing.hit.startswith("remove") and caught and seen:
        assert Store.verify(FOLDER, disk=disk).unused == (), failing
    check_goes_on(FOLDER, case, disk)


@pytest.mark.parametrize("name", ENOUGH)
def test_a_failing_call_is_explained_and_the_old_generation_serves(name: str) -> None:
    errors, turns = list(CAUSES), count()
    for scene in scenes(name):
        for at in range(1, scene.calls + 1, 19):
            turn = next(turns)
            fail_once(scene, at, errors[turn % 4], lasting=turn // 4 % 2 == 0)


@pytest.mark.long
@pytest.mark.parametrize("name", ENOUGH)
@pytest.mark.parametrize("error", CAUSES)
def test_every_call_may_fail(name: str, error: int) -> None:
    calls = 0
    for scene in scenes(name):
        for at in range(1, scene.calls + 1):
            fail_once(scene, at, error, lasting=at % 2 == 0)
            calls += 1
    print(f"{calls:,} failures, 0 lost")


@pytest.mark.parametrize("name", ENOUGH)
def test_reading_makes_no_call_that_writes(name: str, tmp_path: Path) -> None:
    Life(CASES[name]).live(tmp_path / "c", FaultyDisk())
    disk = FaultyDisk()
    survey(tmp_path / "c", CASES[name], disk)
    assert disk.calls and not WRITES & set(disk.calls)


READING = "access close faccessat2 fstat getdents64 lseek mmap munmap newfstatat pread64 read statx"


@needs_strace
def test_the_system_sees_no_call_that_writes(tmp_path: Path) -> None:
    """Of all calls that name the collection, or a handle on a file in it."""
    with serving(tmp_path) as server:
        for name in CASES:
            folder = tmp_path / name
            Life(CASES[name]).live(folder, FaultyDisk())
            end, log = server.run(name, folder, "read", "-e", "trace=all")
            assert end.status == 0
            concerned = [line for line in log.splitlines() if str(folder) in line]
            opened = [line for line in concerned if " openat(" in line]
            assert opened and all("O_RDONLY" in one and "O_CREAT" not in one for one in opened)
            calls = {call for call, _ in calls_on(folder, log)}
            assert calls - {"openat"} <= set(READING.split()), calls


def fail_really(server: Server, name: str, tmp_path: Path, points: int, draw: random.Random) -> int:
    """A process whose system calls fail, `points` of them; its commits come one by one."""
    life = Life(CASES[name])
    for operation in OPERATIONS[:2]:
        life.go_through(operation, tmp_path / "start", FaultyDisk())
    for _ in range(points):
        call = draw.choice(["pwrite64", "fsync", "link", "mkdir"])
        error = draw.choice(list(CAUSES))
        when = draw.randint(1, {"pwrite64": 15, "fsync": 15}.get(call, 1))
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "start", folder)
        inject = f"inject={call}:error={errno.errorcode[error]}:when={when}"
        end, _ = server.run(name, folder, "append", "-e", f"trace={call}", "-e", inject)
        if (call, when) == ("pwrite64", 1):  # the text in the lock, which is only for people
            assert end.status == 0
        else:
            cause, remedy = CAUSES[error]
            assert end.status == DiskError.exit_code and str(folder) in end.error, end
            assert cause in end.error and (remedy in end.error or "not confirm" in end.error)
            seen = survey(folder, life.case)
            assert seen == life.digests[-1] or "does not confirm" in end.error
        assert not list(folder.rglob(".tmp-*"))
        check_goes_on(folder, life.case, FaultyDisk())
        shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "start")
    return points


@needs_strace
def test_system_calls_that_fail_are_explained(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for name in CASES:
            fail_really(server, name, tmp_path, 3, random.Random(name))


@needs_strace
@pytest.mark.long
def test_many_system_calls_that_fail_are_explained(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        failed = [fail_really(server, name, tmp_path, 60, random.Random(1)) for name in CASES]
    print(f"{sum(failed):,} failures of system calls, 0 lost")


def test_a_commit_does_not_fail_with_the_merge_after_it() -> None:
    """The next call of the writer says what is wrong, and the next writer merges."""
    case, disk = CASES["tall"], MemoryDisk()
    collection = Collection.create(FOLDER, {"one": case.family}, disk=disk)
    with collection.writer() as writer:
        for number in range(3):
            writer.add(*batch(case, range(number, number + 1), number))
            if number == 2:
                disk.watch = FullAfterCommit(disk)
            assert writer.commit() == number + 2
        with pytest.raises(DiskError, match="No space left"):
            writer.add(*batch(case, range(5, 6), 5))
    disk.watch = None
    assert collection.refresh().segments == 3
    check_goes_on(FOLDER, case, disk)
    assert collection.refresh().segments < 3


class FullAfterCommit:
    """Lets one generation come into being; after that the disk is full."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk, self._before = disk, generations(disk, FOLDER)[-1]

    def __call__(self, name: str, path: Path) -> None:
        if name == "make_folder" and generations(self._disk, FOLDER)[-1] > self._before:
            fail(errno.ENOSPC, path)
