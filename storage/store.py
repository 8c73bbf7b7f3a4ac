"""A store: one generation of a durable folder, open for reading, and the ways to the next one."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from ..errors import Damaged, UsageError
from ..records import JSON
from . import folder as layout
from . import verify as verification
from .canonical import plain
from .change import Change
from .disk import LOCAL, MISSING, Disk, reading, writing
from .files import Check, check_level
from .folder import generations, publish_manifest, read_manifest, stamped
from .lock import WriteLock
from .manifest import Manifest
from .segment import Maps, Segment, open_maps, open_segment
from .verify import Report


class Store:
    """One generation, which never changes while it is open, whatever is committed meanwhile.

    segments: in order; the numbers of their rows run through them.
    settings: free JSON, kept from commit to commit.  note: free JSON of the commit.
    """

    def __init__(self, folder: Path, manifest: Manifest, maps: Maps, disk: Disk) -> None:
        self.folder, self.manifest, self.disk = folder, manifest, disk
        self.maps: Maps = {entry: maps[entry] for entry in manifest.paths()}
        self.segments: tuple[Segment, ...] = tuple(
            open_segment(folder, record, self.maps) for record in manifest.segments
        )

    @property
    def generation(self) -> int:
        return self.manifest.generation

    @property
    def settings(self) -> Mapping[str, JSON]:
        return self.manifest.settings

    @property
    def note(self) -> Mapping[str, JSON]:
        return self.manifest.note

    @classmethod
    def create(cls, folder: Path, *, settings: Mapping[str, JSON], disk: Disk = LOCAL) -> Self:
        """Generation 1, without segments, in a folder that is new or empty.

        Raises UsageError for a folder that holds anything else than an interrupted creation.
        """
        first = stamped(Manifest(0, 0, "", "", settings=plain(settings, "settings")), 1)
        _refuse_taken(disk, folder)
        _make_folders(disk, folder)
        with WriteLock(disk, folder):
            _refuse_taken(disk, folder)
            _lay_out(disk, folder)
            publish_manifest(disk, folder, 1, first.encode())
        return cls(folder, first, {}, disk)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        generation: int | None = None,
        check: Check = "crc",
        disk: Disk = LOCAL,
    ) -> Self:
        """The newest generation, or an older one that is still kept. Writes nothing.

        check: "none" and "size" compare lengths, "size" the headers of arrays too, "crc" every
        byte (about 0.3 s per GB), "sha256" every byte against forgery by chance as well.
        Raises UsageError, Damaged (naming the file and the last good generation), Mismatch.
        """
        check_level(check)
        return cls._open(folder, generation, check, disk, {})

    def refresh(self, *, check: Check = "crc") -> Self:
        """The newest generation, this very store if it is; only new files are opened."""
        if generations(self.disk, self.folder)[-1:] == [self.generation]:
            return self
        check_level(check)
        return self._open(self.folder, None, check, self.disk, self.maps.copy())

    def successor(self, manifest: Manifest, maps: Maps) -> Self:
        """The store of a later generation of the same folder."""
        return type(self)(self.folder, manifest, maps, self.disk)

    def begin(self) -> Change:
        """A change on top of this generation, to be used in `with`, where it holds the write lock.

        Entering raises Locked if another process writes, and Conflict if a later generation than
        this one exists: `refresh` and begin again.
        """
        return Change(self)

    def log(self) -> list[Manifest]:
        """The manifests of the kept generations, newest first; damaged ones are left out."""
        kept: list[Manifest] = []
        for number in reversed(generations(self.disk, self.folder)):
            with suppress(Damaged, *MISSING):
                kept.append(read_manifest(self.disk, self.folder, number))
        return kept

    @classmethod
    def restore(cls, folder: Path, *, to: int, disk: Disk = LOCAL) -> Self:
        """A new generation with the content of generation `to`, which is checked first.

        Raises UsageError with the kept generations when `to` is none of them, Damaged, Locked.
        """
        layout.check_format(disk, folder)
        with WriteLock(disk, folder):
            store = cls._open(folder, to, "crc", disk, {})
            manifest = stamped(store.manifest, generations(disk, folder)[-1] + 1)
            publish_manifest(disk, folder, manifest.generation, manifest.encode())
        return store.successor(manifest, store.maps)

    @staticmethod
    def verify(folder: Path, *, deep: bool = False, disk: Disk = LOCAL) -> Report:
        """Checks all files of all kept generations; damage is reported and not raised.

        deep: compare sha256 rather than crc32.
        """
        return verification.verify(disk, folder, deep=deep)

    @classmethod
    def _open(
        cls, folder: Path, generation: int | None, check: Check, disk: Disk, maps: Maps
    ) -> Self:
        layout.check_format(disk, folder)
        while True:
            number = _choose(disk, folder, generation)
            try:
                manifest = read_manifest(disk, folder, number)
                open_maps(disk, folder, manifest.segments, check, maps)
                return cls(folder, manifest, maps, disk)
            except Damaged as error:
                raise verification.explained(disk, folder, error, number, check) from error
            except MISSING as error:
                # Manifests are removed before their files, so one that is still there should
                # have them; otherwise a commit came in between: look again.
                if number in generations(disk, folder):
                    damage = Damaged("missing", where=str(error.filename or folder))
                    raise verification.explained(disk, folder, damage, number, check) from error


def _choose(disk: Disk, folder: Path, generation: int | None) -> int:
    numbers = generations(disk, folder)
    if not numbers:
        raise layout.no_generation(disk, folder)
    if generation is None:
        return numbers[-1]
    if generation not in numbers:
        raise layout.missing(folder, generation, numbers)
    return generation


def _refuse_taken(disk: Disk, folder: Path) -> None:
    try:
        with reading(folder):
            name = layout.foreign(disk, folder)
    except MISSING:
        return
    if name is not None:
        raise UsageError(
            f"the folder is not empty: it has {name!r}",
            where=str(folder),
            remedy="Open what is there, or choose another folder",
        )


def _make_folders(disk: Disk, folder: Path) -> None:
    """The folder, and those above it as far as they are missing, durably."""
    try:
        with reading(folder), suppress(FileExistsError):
            disk.make_folder(folder)
    except FileNotFoundError:
        _make_folders(disk, folder.parent)
        with writing(folder):
            disk.make_folder(folder)
    with writing(folder.parent), suppress(PermissionError):  # what is above may not be ours
        disk.sync_folder(folder.parent)


def _lay_out(disk: Disk, folder: Path) -> None:
    """FORMAT and the two folders, as far as an interrupted creation has not made them.

    They last before there is a manifest: a manifest without them would look like damage.
    """
    with writing(folder):
        names = disk.names(folder)
        for name in (layout.SEGMENTS, layout.DELETES):
            if name not in names:
                disk.make_folder(folder / name)
    if layout.FORMAT in names:
        layout.check_format(disk, folder)
    else:
        layout.publish(disk, folder, layout.FORMAT, layout.FORMAT_LINE)
    with writing(folder):
        disk.sync_folder(folder)
