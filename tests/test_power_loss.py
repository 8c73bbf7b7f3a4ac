"""Whenever the power fails, what was acknowledged is there; and a test of this test."""

import random
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from ragstone.indexes import compaction
from ragstone.storage.power import MemoryDisk, Outage, View, Watch

from .lives import FOLDER, Life, check_goes_on, go_on, survey
from .memories import Memories
from .protocol_faults import FAULTS
from .test_contract import CASES, ENOUGH, Case


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the commits of a short life merge segments too."""
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", 2)


Moment = tuple[int, Outage]
"""How much was acknowledged when the power failed, and what the failure may leave."""


def moments(case: Case, make: Callable[[Watch], MemoryDisk]) -> tuple[Life, list[Moment]]:
    """A whole life on a disk, with a power failure before every call that writes and at the end."""
    life, found = Life(case), []

    def watch(*_: object) -> None:
        found.append((life.acknowledged, Outage(disk)))

    disk = make(watch)
    life.live(FOLDER, disk)
    watch()
    return life, found


@cache
def undisturbed(name: str) -> tuple[Life, list[Moment]]:
    """The moments of a life that keeps the rules."""
    return moments(CASES[name], lambda watch: MemoryDisk(watch=watch))


def states(
    life: Life, found: list[Moment], each: int, draw: random.Random
) -> Iterator[tuple[View, object, bool]]:
    """`each` states that every moment may leave, what a reader finds there, and if it may."""
    look = Memories(lambda disk: survey(FOLDER, life.case, disk))
    for acknowledged, outage in found:
        allowed = life.digests[acknowledged : acknowledged + 2]
        for view in outage.views(each, draw):
            seen = look(view)
            yield view, seen, seen in allowed


def check_all(life: Life, found: list[Moment], each: int, goes_on: int, seed: int) -> int:
    """No state is wrong, and every `goes_on`-th can be written to. Returns how many there were."""
    count = 0
    for view, seen, right in states(life, found, each, random.Random(seed)):
        assert right, f"{seen!r} in state {count}"
        if count % goes_on == 0:
            check_goes_on(FOLDER, life.case, MemoryDisk(view))
        count += 1
    return count


@pytest.mark.parametrize("name", ENOUGH)
def test_no_power_failure_loses_anything(name: str) -> None:
    assert check_all(*undisturbed(name), each=2, goes_on=400, seed=1) > 1000


@pytest.mark.long
@pytest.mark.parametrize("name", ENOUGH)
def test_no_power_failure_of_a_million_loses_anything(name: str) -> None:
    life, found = undisturbed(name)
    each = 1_500_000 // (len(found) * len(CASES))
    count = check_all(life, found, each, goes_on=1000, seed=2)
    assert count * len(CASES) > 1_000_000
    print(f"{count:,} power failures, 0 wrong")


def fail_again(life: Life, view: View, most: int, draw: random.Random) -> int:
    """After a failure somebody goes on writing, and the power fails again."""
    disk, outages = MemoryDisk(view), []
    look = Memories(lambda disk: survey(FOLDER, life.case, disk))
    before = look(view)
    disk.watch = lambda *_: outages.append(Outage(disk))
    go_on(FOLDER, life.case, disk)
    allowed = [before, survey(FOLDER, life.case, disk)]
    if before == "":  # it was created first
        allowed.append(life.digests[1])
    second = [look(state) for outage in outages for state in outage.views(most, draw)]
    assert all(seen in allowed for seen in second)
    return len(second)


@pytest.mark.parametrize("name", ENOUGH)
def test_a_second_power_failure_loses_nothing_either(name: str) -> None:
    draw = random.Random(3)
    life, found = undisturbed(name)
    for _, outage in draw.sample(found, 2):
        for view in outage.views(2, draw):
            assert fail_again(life, view, 2, draw) > 50


@pytest.mark.long
@pytest.mark.parametrize("name", ENOUGH)
def test_no_second_power_failure_of_many_loses_anything(name: str) -> None:
    draw = random.Random(5)
    life, found = undisturbed(name)
    count = 0
    for _, outage in draw.sample(found, 30):
        for view in outage.views(2, draw):
            count += fail_again(life, view, 4, draw)
    print(f"{count:,} second power failures, 0 wrong")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_broken_rule_is_found(fault: str) -> None:
    broken = moments(CASES["tall"], FAULTS[fault])
    assert not all(right for _, _, right in states(*broken, each=6, draw=random.Random(4)))


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ENOUGH)
def test_how_often_a_broken_rule_is_found(name: str, fault: str) -> None:
    broken = moments(CASES[name], FAULTS[fault])
    rights = [right for _, _, right in states(*broken, each=6, draw=random.Random(6))]
    assert not all(rights)
    print(f"{rights.count(False):,} of {len(rights):,} states are wrong")
