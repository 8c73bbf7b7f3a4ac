"""Processes that write to one collection, or read it, at the same time: python -m tests.rivals."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from ragstone.errors import Conflict, Locked
from ragstone.indexes.collection import Collection
from ragstone.records import Passage
from ragstone.storage import LOCAL, Disk
from ragstone.storage.faults import FaultyDisk

from .lives import batch, digest
from .test_contract import CASES, Case

ROOT = Path(__file__).parent.parent


class NoLocks(FaultyDisk):
    """A file system that says that it has no locks."""

    def lock(self, handle: int) -> bool:
        return False


class LyingLocks(FaultyDisk):
    """A file system that gives everybody the lock, as some do between two machines."""

    def lock(self, handle: int) -> bool:
        return True


DISKS = {"locks": FaultyDisk, "no locks": NoLocks, "lying locks": LyingLocks}


def start(*arguments: object) -> "subprocess.Popen[str]":
    """A process in one of the roles below, with pipes."""
    command = [sys.executable, "-W", "error", "-m", "tests.rivals", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def hold(folder: str) -> None:
    """Hold the lock through two commits, and then on."""
    collection = Collection.open(Path(folder), disk=FaultyDisk())
    with collection.writer() as writer:
        for seed in (1, 2):
            _say("holding")
            sys.stdin.readline()
            writer.add(*batch(CASES["tall"], range(seed, seed + 1), seed))
            writer.commit()
        _say("holding")
        sys.stdin.readline()


def write(name: str, folder: str, rival: str, rounds: str, locks: str) -> None:
    """Add a passage a round, each until it is acknowledged; ends with how often it was refused."""
    refused = 0
    for turn in range(int(rounds)):
        passage = [Passage(f"{rival}-{turn}", "text")]
        keys = {"one": CASES[name].encode(np.random.default_rng(turn), 1)}
        while True:
            try:
                collection = Collection.open(Path(folder), disk=DISKS[locks]())
                with collection.writer() as writer:
                    writer.add(passage, keys)
                    writer.commit()
                break
            except (Conflict, Locked):
                refused += 1
                time.sleep(random.random() * 0.01)
    _say(refused)


def step(folder: Path, case: Case, number: int, disk: Disk = LOCAL) -> None:
    """One change of a row of changes that replaces everything again and again."""
    collection = Collection.open(folder, disk=disk)
    if number % 5 == 4:
        collection.compact()
    with collection.writer() as writer:
        if number % 5 == 2:
            writer.delete([passage.id for passage in collection.passages][:-2])
        writer.add(*batch(case, range(2 * number, 2 * number + 2), number))
        writer.commit(note={"step": number})


def write_steps(folder: str, steps: str) -> None:
    """Make the steps in a collection of every family."""
    for number in range(int(steps)):
        for name, case in CASES.items():
            step(Path(folder) / name, case, number, FaultyDisk())
    _say("done")


def read_steps(folder: str, steps: str) -> None:
    """Say what is seen at which step, until the last; what is open stays as it was."""
    last: dict[str, tuple[Collection, str]] = {}
    unfinished = set(CASES)
    while unfinished:
        for name in sorted(unfinished):
            collection = Collection.open(Path(folder) / name)
            seen = digest(collection, CASES[name])
            number = collection.note.get("step", -1)
            _say(name, number, seen)
            if name in last:
                assert digest(last[name][0], CASES[name]) == last[name][1], "it changed while open"
            if name not in last or random.random() < 0.3:
                last[name] = collection, seen
            if number == int(steps) - 1:
                unfinished.remove(name)


def _say(*words: object) -> None:
    print(*words, flush=True)


ROLES = {role.__name__: role for role in (hold, write, write_steps, read_steps)}

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        ROLES[sys.argv[1]](*sys.argv[2:])
