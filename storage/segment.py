"""Segments: some rows of every index, written once as a folder of files and mapped for reading."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import Damaged, UsageError
from ..records import JSON
from . import npy
from .canonical import plain
from .disk import Bytes, Disk, writing
from .files import Check, NewFile, in_threads, open_file
from .manifest import FileRecord, PartRecord, SegmentRecord
from .part import Part, StoredPart, Stream, check_name, look_up, pieces

Maps = dict[tuple[str, FileRecord], NDArray[np.uint8]]
"""The content of files by path and record: what one generation has open, the next can share."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A segment of one generation, open for reading.

    deleted: (rows,) bool, True where a row is deleted; None when none is.
    """

    name: str
    rows: int
    deleted: NDArray[np.bool_] | None
    parts: Mapping[str, Part]
    record: SegmentRecord

    def part(self, name: str) -> Part:
        """Raises UsageError with the names that exist."""
        return look_up(self.parts, name, "part")


def open_maps(
    disk: Disk, folder: Path, segments: Iterable[SegmentRecord], check: Check, maps: Maps
) -> None:
    """Adds the files of these segments to `maps`, checked; files that are there stay.

    Raises Damaged, FileNotFoundError, DiskError; what was opened before stays in `maps`.
    """
    needed = {entry: None for segment in segments for entry in segment.paths()}
    new = [entry for entry in needed if entry not in maps]

    def open_one(entry: tuple[str, FileRecord]) -> None:
        maps[entry] = open_file(disk, folder / entry[0], entry[1], check)

    in_threads(open_one, new)


def open_segment(folder: Path, record: SegmentRecord, maps: Maps) -> Segment:
    """A segment over files that are open. Raises Damaged for tombstones that do not add up."""
    files = iter(record.paths())
    parts = {}
    for part_name, part in record.parts.items():
        opened = {name: maps[next(files)] for name in part.files}
        parts[part_name] = _open_part(part, opened)
    deleted = None
    if record.deletes is not None:
        path, file = next(files)
        deleted = _tombstones(record, maps[path, file], folder / path)
    return Segment(record.name, record.rows, deleted, parts, record)


def _open_part(part: PartRecord, data: Mapping[str, NDArray[np.uint8]]) -> StoredPart:
    arrays = {
        name: npy.view(data[name], file.dtype, file.shape)
        for name, file in part.files.items()
        if file.dtype is not None and file.shape is not None
    }
    return StoredPart(part.facts, arrays, {k: v for k, v in data.items() if k not in arrays})


def _tombstones(record: SegmentRecord, data: NDArray[np.uint8], path: Path) -> NDArray[np.bool_]:
    bits = np.unpackbits(data, bitorder="little").view(np.bool_)
    stated = record.deletes.count if record.deletes else 0
    if bits.sum() != stated or bits[record.rows :].any():
        raise Damaged(f"not the {stated} tombstones of the manifest", where=str(path))
    deleted = bits[: record.rows]
    deleted.flags.writeable = False
    return deleted


def pack(deleted: NDArray[np.bool_]) -> bytes:
    """The content of a tombstone file: one bit a row, the lowest bit of a byte first."""
    return np.packbits(deleted, bitorder="little").tobytes()


class SegmentWriter:
    """Writes the parts of a new segment of `rows` rows; `name` is the segment's from now on."""

    def __init__(self, disk: Disk, folder: Path, name: str, rows: int) -> None:
        self.name, self.rows = name, rows
        self._disk, self._folder = disk, folder
        self._parts: dict[str, StoredPartWriter] = {}
        with writing(folder):
            disk.make_folder(folder)

    def part(self, name: str) -> "StoredPartWriter":
        """The writer of a part, the same for the same name."""
        if name not in self._parts:
            writer = StoredPartWriter(self._disk, self._folder, check_name(name))
            self._parts[name] = writer
        return self._parts[name]

    def finish(self) -> SegmentRecord:
        """Makes the names of the files durable, as their content is already."""
        parts = {name: part.finish() for name, part in self._parts.items()}
        with writing(self._folder):
            self._disk.sync_folder(self._folder)
        return SegmentRecord(self.name, self.rows, parts)


class StoredPartWriter:
    """Writes one part of a new segment; every file is durable when its call returns."""

    def __init__(self, disk: Disk, folder: Path, name: str) -> None:
        self._disk, self._folder, self._name = disk, folder, name
        self._facts: dict[str, JSON] = {}
        self._files: dict[str, FileRecord | None] = {}  # None: being written

    def facts(self, facts: Mapping[str, JSON]) -> None:
        self._facts.update(plain(facts, self._name))

    def array(self, name: str, array: NDArray[Any]) -> None:
        array = npy.storable(array)
        dtype, shape = array.dtype.str, array.shape
        with self._new_file(name, ".npy") as file:
            file.write(npy.header(dtype, shape))
            file.write(_bytes(array))
            self._files[name] = replace(file.finish(), dtype=dtype, shape=shape)

    @contextmanager
    def stream(
        self, name: str, dtype: DTypeLike, columns: int | None = None, rows: int | None = None
    ) -> Iterator[Stream]:
        counted = npy.Rows(dtype, columns, rows)
        known = counted.announced
        with self._new_file(name, ".npy", reserve=0 if known else npy.HEADER) as file:
            if known:
                file.write(npy.header(counted.dtype, known))
            yield _FileStream(file, counted)
            counted.finish()
            front = b"" if known else npy.header(counted.dtype, counted.shape)
            record = file.finish(front)
            self._files[name] = replace(record, dtype=counted.dtype, shape=counted.shape)

    def blob(self, name: str, chunks: Bytes | Iterable[Bytes]) -> None:
        with self._new_file(name, ".bin") as file:
            for chunk in pieces(chunks):
                file.write(chunk)
            self._files[name] = file.finish()

    def finish(self) -> PartRecord:
        """The record of the part. Raises UsageError while a stream is open."""
        files = {name: file for name, file in self._files.items() if file is not None}
        if len(files) < len(self._files):
            raise UsageError(f"a stream of part {self._name!r} is still open")
        return PartRecord(self._facts, files)

    @contextmanager
    def _new_file(self, name: str, suffix: str, reserve: int = 0) -> Iterator[NewFile]:
        check_name(name, self._files)
        path = self._folder / f"{self._name}.{name}{suffix}"
        file = NewFile(self._disk, path, reserve)
        self._files[name] = None
        try:
            yield file
        except BaseException:
            del self._files[name]
            file.abandon()
            raise


class _FileStream:
    def __init__(self, file: NewFile, rows: npy.Rows) -> None:
        self._file, self._rows = file, rows

    def append(self, chunk: NDArray[Any]) -> None:
        self._file.write(_bytes(self._rows.accept(chunk)))


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
