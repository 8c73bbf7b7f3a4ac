"""Disks on which a writer breaks one rule of the commit: the power-loss test has to find each.

They are the mistakes that a change of the storage module could make, one a disk.
"""

from collections.abc import Callable
from pathlib import Path

from ragstone.storage.power import MemoryDisk, Watch

from .lives import FOLDER

Rule = Callable[["Breaking", Path], bool]


class Breaking(MemoryDisk):
    """Skips some syncs of files and of folders, or makes them after the next link instead."""

    def __init__(
        self, watch: Watch | None, *, files: Rule | None, folders: Rule | None, late: bool = False
    ) -> None:
        super().__init__(watch=watch)
        self._files, self._folders, self._late = files, folders, late
        self._due: list[Callable[[], None]] = []
        self.last = "", Path()

    def _called(self, name: str, path: Path) -> None:
        self.last = name, path
        super()._called(name, path)

    def sync(self, handle: int) -> None:
        number, path = self._handles[handle]
        if self._files is None or not self._files(self, path):
            super().sync(handle)
        elif self._late:
            self._due.append(lambda: self.safe.files.update({number: self.now.files[number]}))

    def sync_folder(self, folder: Path) -> None:
        if self._folders is None or not self._folders(self, folder):
            super().sync_folder(folder)
        elif self._late:
            self._due.append(lambda: MemoryDisk.sync_folder(self, folder))

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        while self._due:
            self._called("late", target)
            self._due.pop(0)()


class InPlace(MemoryDisk):
    """The manifest is written under its own name rather than linked."""

    def link(self, source: Path, target: Path) -> None:
        data = self.now.files[self.now.file(source)]
        handle = self.create(target)
        self.write(handle, data, 0)
        self.sync(handle)
        self.close(handle)


class OneTombstoneFile(MemoryDisk):
    """All tombstones of a segment are written over the earlier ones."""

    def create(self, path: Path) -> int:
        if path.parent.name != "deletes":
            return super().create(path)
        self._called("create", path)
        names = self.now.names(path.parent)
        same = [number for name, number in names.items() if name[13:] == path.name[13:]]
        if not same:
            return super().create(path)
        names[path.name] = same[0]
        self.now.files[same[0]] = b""
        return self._handle(same[0], path)


class CollectsFirst(MemoryDisk):
    """The generation before is removed just before the new one comes."""

    def link(self, source: Path, target: Path) -> None:
        for name in self.names(target.parent):
            if is_manifest(target) and is_manifest(Path(name)):
                self.remove(target.parent / name)
        super().link(source, target)


class ManifestsLast(MemoryDisk):
    """Old manifests are removed after the files that they name."""

    def __init__(self, watch: Watch | None) -> None:
        super().__init__(watch=watch)
        self._due: set[Path] = set()

    def remove(self, path: Path) -> None:
        if is_manifest(path):
            self._due.add(path)
        else:
            super().remove(path)

    def create(self, path: Path) -> int:
        while self._due:
            super().remove(self._due.pop())
        return super().create(path)


def is_manifest(path: Path) -> bool:
    return path.name.startswith("manifest-")


def _temporary(content: str) -> Rule:
    def rule(disk: Breaking, path: Path) -> bool:
        data = disk.now.files[disk.now.file(path)]
        return path.name.startswith(".tmp-") and data.startswith(b"ragstone ") == (
            content == "FORMAT"
        )

    return rule


def _under(name: str) -> Rule:
    return lambda _, path: path.parent.name == name or path.parent.parent.name == name


def _called(name: str) -> Rule:
    return lambda _, path: path.name == name


def _breaking(
    files: Rule | None = None, folders: Rule | None = None, late: bool = False
) -> Callable[[Watch], MemoryDisk]:
    return lambda watch: Breaking(watch, files=files, folders=folders, late=late)


FAULTS: dict[str, Callable[[Watch], MemoryDisk]] = {
    "no sync of segment files": _breaking(files=_under("segments")),
    "no sync of tombstone files": _breaking(files=_under("deletes")),
    "no sync of manifests": _breaking(files=_temporary("manifest")),
    "no sync of FORMAT": _breaking(files=_temporary("FORMAT")),
    "no sync of a segment's folder": _breaking(folders=_under("segments")),
    "no sync of segments/": _breaking(folders=_called("segments")),
    "no sync of deletes/": _breaking(folders=_called("deletes")),
    "no sync of the folder": _breaking(folders=lambda _, path: path == FOLDER),
    "no sync of the folder above": _breaking(folders=lambda _, path: path == Path("/")),
    "manifest linked before its sync": _breaking(files=_temporary("manifest"), late=True),
    "manifest before the segment": _breaking(_under("segments"), _under("segments"), late=True),
    "manifest before the tombstones": _breaking(_under("deletes"), _called("deletes"), late=True),
    "manifest written in place": lambda watch: InPlace(watch=watch),
    "tombstones written in place": lambda watch: OneTombstoneFile(watch=watch),
    "collection before the commit": lambda watch: CollectsFirst(watch=watch),
    "segments removed before manifests": ManifestsLast,
    "removal of manifests not synced": _breaking(
        folders=lambda disk, path: disk.last[0] == "remove" and is_manifest(disk.last[1])
    ),
}
