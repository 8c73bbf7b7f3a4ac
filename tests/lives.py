"""The life of a collection: all that a writer does to one, and what must be there afterwards.

It is lived by every index family of the contract suite, on whatever disk a test brings.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ragstone.errors import UsageError
from ragstone.indexes.collection import Collection
from ragstone.records import Passage
from ragstone.storage import LOCAL, Disk, Store
from ragstone.storage.folder import generations

from .test_contract import Case

FOLDER = Path("/collection")
"""Where a collection stands on a disk in memory."""

Acts = Iterator[Collection]
"""The collection after each acknowledgement."""

Operation = Callable[[Path, Case, Disk], Acts]
"""Something that a writer does."""


def batch(case: Case, ids: range, seed: int) -> tuple[list[Passage], dict[str, object]]:
    """Passages and their keys, the same for the same seed."""
    passages = [Passage(f"p{i}", f"text {i} of {seed}", "", {"n": i % 5}) for i in ids]
    return passages, {"one": case.encode(np.random.default_rng(seed), len(ids))}


def create(folder: Path, case: Case, disk: Disk) -> Acts:
    yield Collection.create(folder, {"one": case.family}, disk=disk)


def build(folder: Path, case: Case, disk: Disk) -> Acts:
    """One writer that commits twice."""
    collection = Collection.open(folder, disk=disk)
    with collection.writer() as writer:
        for seed, ids in ((1, range(6)), (2, range(6, 10))):
            writer.add(*batch(case, ids, seed))
            writer.commit(note={"read": ids.stop})
            yield collection.refresh()


def append(folder: Path, case: Case, disk: Disk) -> Acts:
    yield _added(folder, case, disk, range(10, 14), 3)


def update(folder: Path, case: Case, disk: Disk) -> Acts:
    """Replaces passages of both segments and one of its own."""
    collection = Collection.open(folder, disk=disk)
    with collection.writer(duplicates="replace") as writer:
        writer.add(*batch(case, range(4, 8), 4))
        writer.add(*batch(case, range(7, 9), 5))
        writer.commit()
    yield collection.refresh()


def delete(folder: Path, case: Case, disk: Disk) -> Acts:
    """Twice from the same segment, the second time with all that is left of another."""
    collection = Collection.open(folder, disk=disk)
    with collection.writer() as writer:
        for ids in (["p1"], ["p2", "p10", "p11", "p12", "p13"]):
            writer.delete(ids)
            writer.commit()
            yield collection.refresh()


def compact(folder: Path, case: Case, disk: Disk) -> Acts:
    yield Collection.open(folder, disk=disk).compact()


def collect(folder: Path, case: Case, disk: Disk) -> Acts:
    """Two commits, with which all that was before the compaction is removed."""
    yield _added(folder, case, disk, range(20, 22), 6)
    yield _added(folder, case, disk, range(22, 24), 7)


OPERATIONS: tuple[Operation, ...] = (
    create, build, append, update, delete, compact, collect,
)  # fmt: skip


def _added(folder: Path, case: Case, disk: Disk, ids: range, seed: int) -> Collection:
    collection = Collection.open(folder, disk=disk)
    with collection.writer() as writer:
        writer.add(*batch(case, ids, seed))
        writer.commit(note={"read": ids.stop})
    return collection.refresh()


def digest(collection: Collection, case: Case) -> str:
    """Of all that users see: the passages, the note, and what searches find with which scores."""
    found = collection.indexes["one"].search(case.encode(np.random.default_rng(9), 3), 5)
    ids = collection.passages.ids(found.numbers[found.numbers >= 0])
    scores = found.scores.astype("<f4").tobytes()
    seen = (list(collection.passages), dict(collection.note), ids, scores)
    return hashlib.sha256(repr(seen).encode()).hexdigest()


@dataclass
class Life:
    """What a collection is like after every acknowledgement.

    digests: beginning with that of no collection.
    """

    case: Case
    digests: list[str] = field(default_factory=lambda: [""])

    @property
    def acknowledged(self) -> int:
        return len(self.digests) - 1

    def live(self, folder: Path, disk: Disk = LOCAL) -> "Life":
        """Live it from birth to the end."""
        for operation in OPERATIONS:
            self.go_through(operation, folder, disk)
        return self

    def go_through(self, operation: Operation, folder: Path, disk: Disk = LOCAL) -> None:
        for collection in operation(folder, self.case, disk):
            self.digests.append(digest(collection, self.case))


def survey(folder: Path, case: Case, disk: Disk = LOCAL) -> str:
    """The digest of what a folder holds, "" for no collection; every older generation opens too."""
    try:
        collection = Collection.open(folder, disk=disk)
    except UsageError:
        return ""
    for manifest in collection.log()[1:]:
        Collection.open(folder, generation=manifest.generation, disk=disk)
    numbers = [manifest.generation for manifest in collection.log()]
    assert numbers == generations(disk, folder)[::-1], "a kept manifest is damaged"
    return digest(collection, case)


def go_on(folder: Path, case: Case, disk: Disk = LOCAL) -> Collection:
    """What the next writer does: create the collection if need be, and add to it."""
    try:
        collection = Collection.open(folder, disk=disk)
    except UsageError:
        collection = Collection.create(folder, {"one": case.family}, disk=disk)
    with collection.writer() as writer:
        writer.add(*batch(case, range(90, 92), 8))
        writer.commit()
    return collection


def check_goes_on(folder: Path, case: Case, disk: Disk = LOCAL) -> None:
    """The next writer can write, and then nothing damaged and nothing useless is there."""
    before = go_on(folder, case, disk)
    after = Collection.open(folder, disk=disk)
    assert list(after.passages)[:-2] == list(before.passages)
    after.indexes["one"].search(case.encode(np.random.default_rng(9), 3), 5)
    report = Store.verify(folder, disk=disk)
    assert report.ok and report.unused == (), report
