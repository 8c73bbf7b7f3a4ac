"""A writer that is killed at any call has lost nothing that was acknowledged, whatever it did."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from ragstone.indexes import compaction
from ragstone.storage.faults import FaultyDisk, Killed
from ragstone.storage.power import MemoryDisk, View

from .lives import FOLDER, OPERATIONS, Life, Operation, check_goes_on, survey
from .memories import Memories
from .real_process import CALLS, Server, calls_on, can_trace, serving
from .test_contract import CASES, ENOUGH

needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or not allowed")


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the commits of a short life merge segments too."""
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", 2)


@cache
def kills(name: str) -> tuple[Life, list[tuple[int, View]]]:
    """A life, and what a kill before every call that writes leaves; a write is two calls."""
    life, found = Life(CASES[name]), []

    def watch(*_: object) -> None:
        found.append((life.acknowledged, disk.now.copy()))

    disk = MemoryDisk(watch=watch)
    life.live(FOLDER, disk)
    return life, found


def check_every_kill(name: str, goes_on: int) -> int:
    """Survey all, write on after every `goes_on`-th; returns how many there were."""
    life, found = kills(name)
    look = Memories(lambda disk: survey(FOLDER, life.case, disk))
    for i, (acknowledged, view) in enumerate(found):
        assert look(view) in life.digests[acknowledged : acknowledged + 2]
        if i % goes_on == 0:
            check_goes_on(FOLDER, life.case, MemoryDisk(view.copy()))
    return len(found)


@pytest.mark.parametrize("name", ENOUGH)
def test_a_kill_at_every_call_loses_nothing(name: str) -> None:
    assert check_every_kill(name, goes_on=50) > 400


@pytest.mark.long
@pytest.mark.parametrize("name", ENOUGH)
def test_after_a_kill_at_every_call_writing_goes_on(name: str) -> None:
    print(f"{check_every_kill(name, goes_on=1):,} kills, 0 lost")


class Starts:
    """A copy of the folder before every operation, on the local disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.life, self._folder = Life(CASES[name]), folder
        self.before: dict[Operation, int] = {}
        self.calls: dict[Operation, int] = {}
        for operation in OPERATIONS:
            self.before[operation] = self.life.acknowledged
            if operation is not OPERATIONS[0]:
                shutil.copytree(folder / "grown", folder / operation.__name__)
            disk = FaultyDisk()
            self.life.go_through(operation, folder / "grown", disk)
            self.calls[operation] = len(disk.calls)

    @contextmanager
    def copy(self, operation: Operation) -> Iterator[Path]:
        """A folder as the operation finds it."""
        folder = self._folder / "copy"
        if operation is not OPERATIONS[0]:
            shutil.copytree(self._folder / operation.__name__, folder)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def check(self, operation: Operation, acknowledged: int, folder: Path) -> None:
        """What is there is as acknowledged or as was being written, and can be written to."""
        first = self.before[operation] + acknowledged
        assert survey(folder, self.life.case) in self.life.digests[first : first + 2]
        check_goes_on(folder, self.life.case, FaultyDisk())


MakeStarts = Callable[[str], Starts]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> MakeStarts:
    return cache(lambda name: Starts(name, tmp_path_factory.mktemp(name)))


def kill_counted(starts: Starts, operation: Operation, at: int) -> None:
    """Kill it at call number `at`, reading or writing, before or after it takes effect."""
    acknowledged = 0
    with starts.copy(operation) as folder:
        with pytest.raises(Killed):
            for _ in operation(folder, starts.life.case, FaultyDisk(at, late=at % 2 == 0)):
                acknowledged += 1
        starts.check(operation, acknowledged, folder)


@pytest.mark.parametrize("name", ENOUGH)
def test_a_kill_on_the_local_disk_loses_nothing(name: str, starts: MakeStarts) -> None:
    draw = random.Random(name)
    for operation in OPERATIONS:
        kill_counted(starts(name), operation, draw.randint(1, starts(name).calls[operation]))


@pytest.mark.long
@pytest.mark.parametrize("name", ENOUGH)
def test_a_kill_at_any_call_on_the_local_disk_loses_nothing(name: str, starts: MakeStarts) -> None:
    points = 0
    for operation, calls in starts(name).calls.items():
        for at in range(1, calls + 1, 11):
            kill_counted(starts(name), operation, at)
            points += 1
    print(f"{points:,} kills, 0 lost")


def kill_really(
    starts: Starts, server: Server, name: str, operation: Operation, places: random.Random, n: int
) -> int:
    """Kill a process at `n` of the system calls of an operation; returns how many it has."""
    with starts.copy(operation) as folder:
        end, log = server.run(name, folder, operation.__name__, "-e", f"trace={CALLS}")
        assert end.status == 0, end
    calls = calls_on(folder, log)
    for call, when in places.sample(calls, min(n, len(calls))):
        inject = f"inject={call}:signal=SIGKILL:when={when}"
        with starts.copy(operation) as folder:
            options = "-e", f"trace={call}", "-e", inject
            end, _ = server.run(name, folder, operation.__name__, *options)
            assert end.status == -9, (call, when, end)
            starts.check(operation, end.acknowledged, folder)
    return min(n, len(calls))


@needs_strace
def test_a_process_killed_by_the_system_loses_nothing(starts: MakeStarts, tmp_path: Path) -> None:
    draw = random.Random(1)
    with serving(tmp_path) as server:
        for name in CASES:
            for operation in draw.sample(OPERATIONS, 2):
                assert kill_really(starts(name), server, name, operation, draw, 1) == 1


@needs_strace
@pytest.mark.long
def test_a_thousand_processes_killed_by_the_system_lose_nothing(
    starts: MakeStarts, tmp_path: Path
) -> None:
    draw, killed = random.Random(2), 0
    each = 1 + 1100 // (len(CASES) * len(OPERATIONS))
    with serving(tmp_path) as server:
        for name in CASES:
            for operation in OPERATIONS:
                killed += kill_really(starts(name), server, name, operation, draw, each)
    print(f"{killed:,} processes killed, 0 lost")
    assert killed >= 1000
