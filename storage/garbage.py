"""Garbage collection: keeps what the last two generations need and removes the rest.

What nobody refers to may be a segment that another process is about to commit, if the lock does
not keep it out (some network disks give it to everybody). So only a commit collects, and only what
was there before it: whoever made that can no longer commit it, for the number of the generation
that it was made for is taken.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import Damaged, DiskError
from .disk import Disk, remove_file, remove_tree
from .folder import DELETES, SEGMENTS, TEMPORARY, generations, manifest_path, read_manifest
from .manifest import TOMBSTONES, UUID, Manifest

KEPT = 2
"""How many generations stay: one for readers who opened before the last commit."""


def present(disk: Disk, folder: Path) -> frozenset[Path]:
    """All that may be found to be garbage after the commit that comes now; empty on an error."""
    with suppress(OSError):
        return frozenset(leftovers(disk, folder, ()))
    return frozenset()


def collect(
    disk: Disk, folder: Path, among: frozenset[Path], known: Iterable[Manifest] = ()
) -> None:
    """Removes older generations and what interrupted writers left; `known` saves reading.

    among: what was `present` before the last commit of the caller.
    What cannot be removed now stays until the next time: that never fails a commit.
    """
    with suppress(OSError, DiskError):
        kept = _kept(disk, folder, {one.generation: one for one in known})
        if kept:
            _remove_manifests(disk, folder, kept)
            _remove_files(disk, among.intersection(leftovers(disk, folder, kept)))


def leftovers(disk: Disk, folder: Path, kept: Iterable[Manifest]) -> Iterator[Path]:
    """Files and segment folders that are ours and that no kept generation needs."""
    kept = tuple(kept)
    segments = {segment.name for one in kept for segment in one.segments}
    deletes = {s.deletes.name for one in kept for s in one.segments if s.deletes}
    for name in disk.names(folder):
        if name.startswith(TEMPORARY):
            yield folder / name
    for name in disk.names(folder / DELETES):
        if TOMBSTONES.fullmatch(name) and name not in deletes:
            yield folder / DELETES / name
    for name in disk.names(folder / SEGMENTS):
        if UUID.fullmatch(name) and name not in segments:
            yield folder / SEGMENTS / name


def _kept(disk: Disk, folder: Path, known: dict[int, Manifest]) -> list[Manifest]:
    """The newest generations that can be read; a damaged one under a later one is given up."""
    kept: list[Manifest] = []
    for number in reversed(generations(disk, folder)):
        if len(kept) < KEPT:
            with suppress(Damaged):
                kept.append(known.get(number) or read_manifest(disk, folder, number))
    return kept


def _remove_manifests(disk: Disk, folder: Path, kept: list[Manifest]) -> None:
    """First the manifests, for good: a manifest that is there must never miss a file."""
    numbers = {one.generation for one in kept}
    found = generations(disk, folder)
    old = [number for number in found if number not in numbers and number < max(numbers)]
    for number in old:
        disk.remove(manifest_path(folder, number))
    if old:
        disk.sync_folder(folder)


def _remove_files(disk: Disk, paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        if path.parent.name == SEGMENTS:
            remove_tree(disk, path)
        else:
            remove_file(disk, path)
