"""Several processes at one collection: nothing acknowledged is lost, nobody sees a mixture."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from ragstone.errors import Conflict, Damaged, Locked
from ragstone.indexes import compaction
from ragstone.indexes.collection import Collection
from ragstone.storage import Store
from ragstone.storage.faults import FaultyDisk
from ragstone.storage.power import MemoryDisk

from .lives import FOLDER, OPERATIONS, Life, Operation, batch, check_goes_on, digest, go_on
from .rivals import start, step
from .test_contract import CASES, ENOUGH, Case


def create(folder: Path, name: str) -> Collection:
    return Collection.create(folder, {"one": CASES[name].family}, disk=FaultyDisk())


def test_a_second_writer_is_told_who_the_first_is_through_all_its_commits(tmp_path: Path) -> None:
    collection = create(tmp_path / "c", "tall")
    with start("hold", collection.folder) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        for _ in range(3):  # before, between and after its commits
            assert holder.stdout.readline() == "holding\n"
            with pytest.raises(Locked, match=rf"process {holder.pid} on .* is writing"):
                collection.writer().__enter__()
            with pytest.raises(Locked):
                collection.refresh().compact()
            holder.stdin.write("go on\n")
            holder.stdin.flush()
        holder.wait()
    assert len(collection.refresh()) == 2


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    collection = create(tmp_path / "c", "tall")
    with start("hold", collection.folder) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        holder.kill()
        holder.wait()
        check_goes_on(collection.folder, CASES["tall"], FaultyDisk())


def test_a_writer_takes_the_lock_once_however_often_it_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", 2)  # merging is a commit of its own
    calls: list[str] = []
    disk = MemoryDisk()
    collection = Collection.create(FOLDER, {"one": CASES["tall"].family}, disk=disk)
    disk.watch = lambda name, _: calls.append(name)
    with collection.writer() as writer:
        for number in range(5):
            writer.add(*batch(CASES["tall"], range(number, number + 1), number))
            writer.commit()
            with pytest.raises(Locked):
                collection.writer().__enter__()
    assert collection.refresh().generation > 6 and collection.refresh().segments <= 2
    assert calls.count("lock") == 6 and calls.count("open_lock") == 6  # five were refused


def rival(folder: Path, name: str, writers: int, rounds: int, locks: str) -> int:
    """Writers that all want to write; returns how often one was refused."""
    create(folder, name)
    rivals = [start("write", name, folder, number, rounds, locks) for number in range(writers)]
    refused = [int(one.communicate()[0]) for one in rivals]
    collection = Collection.open(folder, check="sha256")
    acknowledged = {f"{number}-{turn}" for number in range(writers) for turn in range(rounds)}
    assert {passage.id for passage in collection.passages} == acknowledged
    assert Store.verify(folder, deep=True).ok
    return sum(refused)


def test_rivals_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rival(tmp_path / "c", "tall", 3, 6, "lying locks")


@pytest.mark.long
@pytest.mark.parametrize("locks", ["locks", "no locks", "lying locks"])
@pytest.mark.parametrize("name", ENOUGH)
def test_four_rivals_lose_nothing_in_many_rounds(name: str, locks: str, tmp_path: Path) -> None:
    refused = rival(tmp_path / "c", name, 4, 25, locks)
    print(f"100 commits of 4 writers, {refused:,} refusals, 0 lost")


class NoLocksInMemory(MemoryDisk):
    def lock(self, handle: int) -> bool:
        return False


class LyingLocksInMemory(MemoryDisk):
    def lock(self, handle: int) -> bool:
        return True


class Replacing(LyingLocksInMemory):
    """A manifest takes the place of one that has its number already."""

    def link(self, source: Path, target: Path) -> None:
        self.now.names(target.parent).pop(target.name, None)
        super().link(source, target)


def ids(collection: Collection) -> set[str]:
    return {passage.id for passage in collection.passages}


def overtaken(operation: Operation, case: Case, disk: MemoryDisk, at: int) -> tuple[int, bool]:
    """Another one commits at call number `at`; how much was acknowledged, and if it came so far."""
    calls = acknowledged = 0

    def watch(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            disk.watch = None
            go_on(FOLDER, case, disk)

    disk.watch = watch
    with suppress(Conflict):
        for _ in operation(FOLDER, case, disk):
            acknowledged += 1
    return acknowledged, calls >= at


def races(operation: Operation, case: Case, disk: MemoryDisk, every: int = 1) -> Iterator[bool]:
    """Whether both are whole, for a rival at every `every`-th call of an operation."""
    after = [ids(Collection.open(FOLDER, disk=disk))]
    after += [ids(one) for one in operation(FOLDER, case, disk.copy())]
    for at in count(1, every):
        copy = disk.copy()
        acknowledged, overtook = overtaken(operation, case, copy, at)
        if not overtook:
            return
        found = Collection.open(FOLDER, disk=copy)
        right = after[acknowledged] | {"p90", "p91"}
        yield ids(found) == right and Store.verify(FOLDER, disk=copy).ok


def check_races(name: str, make: type[MemoryDisk], every: int) -> int:
    """A rival at the calls of every operation but the first; returns how often."""
    case, disk, times = CASES[name], make(), 0
    for operation in OPERATIONS:
        if operation is not OPERATIONS[0]:
            results = list(races(operation, case, disk, every))
            assert all(results)
            times += len(results)
        Life(case).go_through(operation, FOLDER, disk)
    return times


@pytest.mark.parametrize("make", [NoLocksInMemory, LyingLocksInMemory])
def test_a_rival_without_locks_takes_nothing_away_at_any_call(make: type[MemoryDisk]) -> None:
    assert check_races("tall", make, every=9) > 50


@pytest.mark.long
@pytest.mark.parametrize("make", [NoLocksInMemory, LyingLocksInMemory])
@pytest.mark.parametrize("name", ENOUGH)
def test_a_rival_without_locks_takes_nothing_away_at_every_call(
    name: str, make: type[MemoryDisk]
) -> None:
    print(f"{check_races(name, make, every=1):,} races, 0 lost")


def test_a_manifest_that_replaces_another_would_be_found() -> None:
    case, disk = CASES["tall"], Replacing()
    for operation in OPERATIONS[:2]:
        Life(case).go_through(operation, FOLDER, disk)
    with pytest.raises((AssertionError, Damaged)):
        assert all(races(OPERATIONS[2], case, disk))


def follow(folder: Path, steps: int, readers: int) -> dict[str, set[int]]:
    """A writer and readers; all that was read is what was written at that step, for all families.

    Returns the steps that were seen of every family.
    """
    expected: dict[tuple[str, int], str] = {}
    for name, case in CASES.items():
        disk = MemoryDisk()
        alone = Collection.create(FOLDER, {"one": case.family}, disk=disk)
        expected[name, -1] = digest(alone, case)
        for number in range(steps):
            step(FOLDER, case, number, disk)
            expected[name, number] = digest(alone.refresh(), case)
        create(folder / name, name)
    processes = [start("read_steps", folder, steps) for _ in range(readers)]
    processes.append(start("write_steps", folder, steps))
    *read, wrote = [process.communicate()[0] for process in processes]
    assert wrote == "done\n" and not any(process.returncode for process in processes)
    seen: dict[str, set[int]] = {name: set() for name in CASES}
    for line in "".join(read).splitlines():
        name, number, found = line.split()
        assert found == expected[name, int(number)], f"a mixture at step {number} of {name}"
        seen[name].add(int(number))
    return seen


def test_readers_see_one_generation_each(tmp_path: Path) -> None:
    seen = follow(tmp_path, 6, readers=2)
    assert all(5 in steps for steps in seen.values())


@pytest.mark.long
def test_readers_see_one_generation_each_for_long(tmp_path: Path) -> None:
    seen = follow(tmp_path, 300, readers=4)
    print(f"{sum(map(len, seen.values())):,} of {301 * len(CASES):,} generations read, 0 mixed")
