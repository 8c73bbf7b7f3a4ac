"""What stands where in a folder, and the one way in which a generation comes into being."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from .. import __version__
from ..errors import Conflict, Damaged, DiskError, RagstoneError, UsageError
from . import lock, manifest
from .disk import MISSING, Disk, read_file, reading, remove_file, writing
from .files import write_file
from .manifest import Manifest

FORMAT, SEGMENTS, DELETES, TEMPORARY = "FORMAT", "segments", "deletes", ".tmp-"
FORMAT_LINE = f"ragstone {manifest.FORMAT}\n".encode()

_MANIFEST = re.compile(r"manifest-(\d{12})\.json")
_LINE = re.compile(rb"ragstone ([1-9]\d{0,5})\n")


def manifest_path(folder: Path, generation: int) -> Path:
    """Where the manifest of a generation stands."""
    return folder / f"manifest-{generation:012d}.json"


def generations(disk: Disk, folder: Path) -> list[int]:
    """The numbers of all manifests, ascending."""
    with reading(folder):
        matches = [_MANIFEST.fullmatch(name) for name in disk.names(folder)]
    return sorted(int(match[1]) for match in matches if match)


def read_manifest(disk: Disk, folder: Path, generation: int) -> Manifest:
    """Raises Damaged, Mismatch, FileNotFoundError, DiskError."""
    path = manifest_path(folder, generation)
    return manifest.decode(read_file(disk, path), generation, str(path))


def check_format(disk: Disk, folder: Path) -> None:
    """Raises UsageError if this is no ragstone folder, Damaged or Mismatch if it cannot be read."""
    path = folder / FORMAT
    try:
        line = read_file(disk, path)
    except MISSING as error:
        raise _no_format(disk, folder) from error
    if line == FORMAT_LINE:
        return
    version = _LINE.fullmatch(line)
    if version and int(version[1]) > manifest.FORMAT:
        raise manifest.newer(int(version[1]), str(path))
    raise Damaged(
        f"this should be the line {FORMAT_LINE.decode().strip()!r}",
        where=str(path),
        remedy="Restore this file from a copy, or write that line into it",
    )


def missing(folder: Path, generation: int, existing: Iterable[int]) -> UsageError:
    """The error for a generation that is asked for and not kept."""
    kept = ", ".join(map(str, existing)) or "none"
    return UsageError(
        f"there is no generation {generation}",
        where=str(folder),
        remedy=f"Kept generations: {kept}",
    )


def stamped(base: Manifest, generation: int) -> Manifest:
    """The content of `base` as a generation that is made from it now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return replace(
        base,
        generation=generation,
        parent=base.generation,
        created=now,
        created_by=f"ragstone {__version__}",
    )


def publish(disk: Disk, folder: Path, name: str, data: bytes) -> None:
    """Gives `data` a name in one step; a half-written file never has that name.

    Raises Conflict when the name is taken, DiskError. The name lasts once the folder is synced.
    """
    temporary = folder / f"{TEMPORARY}{uuid4()}"
    write_file(disk, temporary, data)
    try:
        with writing(folder / name):
            disk.link(temporary, folder / name)
    except DiskError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise _conflict(folder, name) from error
        raise
    finally:
        remove_file(disk, temporary)


def publish_manifest(disk: Disk, folder: Path, generation: int, data: bytes) -> None:
    """Makes a generation the newest one; durable when it returns.

    Raises Conflict or DiskError; the generation may then be there or not, see `holds`.
    """
    path = manifest_path(folder, generation)
    try:
        publish(disk, folder, path.name, data)
    except RagstoneError:  # some network disks report a failure after the fact
        if holds(disk, path, data) is not True:
            raise
    try:
        with writing(folder):
            disk.sync_folder(folder)
    except DiskError as error:
        raise DiskError(
            f"generation {generation} is written, but the disk does not confirm it ({error.what})",
            where=str(folder),
            remedy="Check the disk and open the folder: it has this generation or the one before",
        ) from error


def holds(disk: Disk, path: Path, data: bytes) -> bool | None:
    """Whether a file is there with this content; None when the disk does not say."""
    try:
        return read_file(disk, path) == data
    except MISSING:
        return False
    except RagstoneError:
        return None


def _conflict(folder: Path, name: str) -> Conflict:
    return Conflict(
        f"another process committed {name} first; nothing of this commit was kept",
        where=str(folder),
        remedy="Open the folder again and repeat the change",
    )


def _no_format(disk: Disk, folder: Path) -> RagstoneError:
    with suppress(*MISSING):
        if generations(disk, folder):
            remedy = f"Write the line {FORMAT_LINE.decode().strip()!r} into it"
            return Damaged("missing", where=str(folder / FORMAT), remedy=remedy)
    return UsageError(
        "this is no ragstone folder",
        where=str(folder),
        remedy=f"Check the path, or make one: ragstone index SOURCE --to {folder}",
    )


def no_generation(disk: Disk, folder: Path) -> RagstoneError:
    """The error for a folder without any manifest."""
    if foreign(disk, folder) is None:
        return UsageError(
            "the creation of this folder was interrupted, nothing is in it",
            where=str(folder),
            remedy="Create it again: that continues where it stopped",
        )
    return Damaged(
        "no manifest is left",
        where=str(folder),
        remedy="Bring one back from a copy, or index again",
    )


def foreign(disk: Disk, folder: Path) -> str | None:
    """The first name in a folder that an interrupted creation cannot have left; None if none."""
    for name in sorted(disk.names(folder)):
        if name in (SEGMENTS, DELETES):
            if disk.names(folder / name):
                return name
        elif name not in (FORMAT, lock.NAME) and not name.startswith(TEMPORARY):
            return name
    return None
