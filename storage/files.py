"""Single files: written once with checksums running along, and opened against their record."""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, DiskError, UsageError
from . import npy
from .disk import Bytes, Disk, reading, remove_file, writing
from .manifest import FileRecord

T = TypeVar("T")
Check = Literal["none", "size", "crc", "sha256"]
"""How much opening looks at: lengths; and array headers; and crc32; sha256 instead of crc32."""

_WRITE = 1 << 20  # bytes collected before they go to the disk
_THREADS, _WORTH_THREADS = 2, 1 << 26  # the checksum of one file takes one thread
_READ = 1 << 18  # bytes checked at a time; reading is faster than a map and counts as no memory


def check_level(check: str) -> None:
    """Raises UsageError for an unknown level of checking."""
    if check not in get_args(Check):
        known = ", ".join(get_args(Check))
        raise UsageError(f"check={check!r} is unknown", remedy=f"Known: {known}")


def in_threads(
    action: Callable[[tuple[str, FileRecord]], T], entries: Sequence[tuple[str, FileRecord]]
) -> list[T]:
    """The results of `action` for each file, at the same time when there is much to read."""
    if sum(file.bytes for _, file in entries) < _WORTH_THREADS:
        return [action(entry) for entry in entries]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(action, entries))


class NewFile:
    """A file that is written front to back; `finish` makes it durable and gives its record.

    reserve: bytes left free at the front, which `finish` fills in. Raises DiskError; the file is
    then removed as far as possible, and never synced a second time.
    """

    def __init__(self, disk: Disk, path: Path, reserve: int = 0) -> None:
        self._disk, self._path = disk, path
        self._offset, self._buffer = reserve, bytearray()
        self._crc32, self._sha256 = 0, hashlib.sha256()
        with writing(path):
            self._handle: int | None = disk.create(path)

    def write(self, data: Bytes) -> None:
        """Appends bytes; a small piece waits until there are enough."""
        piece = memoryview(data)
        if not piece.nbytes:
            return  # which cast would refuse
        piece = piece.cast("B")
        if len(self._buffer) + len(piece) < _WRITE:
            self._buffer += piece
            return
        self._flush()
        for start in range(0, len(piece), _WRITE):
            self._put(piece[start : start + _WRITE])

    def finish(self, front: bytes = b"") -> FileRecord:
        """Writes the `front` that was reserved, syncs and closes."""
        handle = self._open_handle()
        self._flush()
        with writing(self._path):
            if front:
                self._disk.write(handle, front, 0)
            self._disk.sync(handle)
            if front:  # sha256 has to begin with the bytes that came last
                self._rehash(handle)
        self._close()
        return FileRecord(self._offset, f"{self._crc32:08x}", self._sha256.hexdigest())

    def abandon(self) -> None:
        """Closes and removes the file as far as possible."""
        if self._handle is not None:
            with suppress(DiskError):
                self._close()
        remove_file(self._disk, self._path)

    def _open_handle(self) -> int:
        if self._handle is None:
            raise UsageError("this file is finished", where=str(self._path))
        return self._handle

    def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        if data:
            self._put(memoryview(data))

    def _put(self, data: memoryview) -> None:
        self._crc32 = zlib.crc32(data, self._crc32)
        self._sha256.update(data)
        with writing(self._path):
            self._disk.write(self._open_handle(), data, self._offset)
        self._offset += len(data)

    def _rehash(self, handle: int) -> None:
        self._crc32, self._sha256 = 0, hashlib.sha256()
        offset = 0
        while block := self._disk.read(handle, _READ, offset):
            self._crc32 = zlib.crc32(block, self._crc32)
            self._sha256.update(block)
            offset += len(block)

    def _close(self) -> None:
        handle, self._handle = self._open_handle(), None
        with writing(self._path):
            self._disk.close(handle)


def write_file(disk: Disk, path: Path, data: Bytes) -> FileRecord:
    """A whole new file, durable except for its name. Raises DiskError and leaves nothing then."""
    file = NewFile(disk, path)
    try:
        file.write(data)
        return file.finish()
    except BaseException:
        file.abandon()
        raise


def open_file(disk: Disk, path: Path, record: FileRecord, check: Check) -> NDArray[np.uint8]:
    """(bytes,) the content of a file as a read-only map, after it was checked.

    Raises Damaged when it is not what the record says, FileNotFoundError, DiskError.
    """
    with reading(path):
        handle = disk.open(path)
        try:
            _check(disk, handle, path, record, check)
            data = disk.map(handle, record.bytes)
        finally:
            disk.close(handle)
    if record.dtype is not None and check != "none":
        expected = npy.header(record.dtype, record.shape or ())
        if data[: npy.HEADER].tobytes() != expected:
            raise Damaged("the header is not that of the array in the manifest", where=str(path))
    return data


def check_file(disk: Disk, path: Path, record: FileRecord, check: Check) -> None:
    """Only checks. Raises Damaged, FileNotFoundError, DiskError."""
    with reading(path):
        handle = disk.open(path)
        try:
            _check(disk, handle, path, record, check)
        finally:
            disk.close(handle)


def _check(disk: Disk, handle: int, path: Path, record: FileRecord, check: Check) -> None:
    size = disk.size(handle)
    if size != record.bytes:
        raise Damaged(f"{size} bytes where {record.bytes} were written", where=str(path))
    if check == "crc" and _crc32(disk, handle) != record.crc32:
        raise Damaged("crc32 mismatch", where=str(path))
    if check == "sha256" and _sha256(disk, handle) != record.sha256:
        raise Damaged("sha256 mismatch", where=str(path))


def _crc32(disk: Disk, handle: int) -> str:
    digest = offset = 0
    while block := disk.read(handle, _READ, offset):
        digest = zlib.crc32(block, digest)
        offset += len(block)
    return f"{digest:08x}"


def _sha256(disk: Disk, handle: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while block := disk.read(handle, _READ, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()
