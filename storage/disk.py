"""Every call to the disk that ragstone makes for its folders, and what their failures mean.

Nothing else in the package writes to an index. The methods are few and plain, so that another
object with the same methods can stand in: one that fails at the n-th call, or a model of a disk
in memory that forgets whatever was not synced.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DiskError

if sys.platform != "win32":
    import fcntl

Bytes = bytes | bytearray | memoryview
MISSING = (FileNotFoundError, NotADirectoryError)

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700  # texts and vectors are nobody else's business
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class Disk:
    """The local disk. Methods raise OSError; a handle is an int that `close` gives back."""

    def names(self, folder: Path) -> list[str]:
        """The names in a folder, in no order."""
        return os.listdir(folder)

    def open(self, path: Path) -> int:
        """A handle for reading a file."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def size(self, handle: int) -> int:
        """The length of an open file in bytes."""
        return os.fstat(handle).st_size

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset` on; b"" only at the end of the file."""
        return os.pread(handle, size, offset)

    def map(self, handle: int, size: int) -> NDArray[np.uint8]:
        """The first `size` bytes of a file as read-only memory that outlives the handle."""
        return np.asarray(_Mapped(handle, size)) if size else np.empty(0, np.uint8)

    def close(self, handle: int) -> None:
        """Gives a handle back, and with it the lock that it may hold."""
        os.close(handle)

    def create(self, path: Path) -> int:
        """A handle for a new file; FileExistsError if the name is taken."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, _PRIVATE_FILE)

    def write(self, handle: int, data: Bytes, offset: int) -> None:
        """Puts all of `data` at `offset`."""
        rest = memoryview(data)
        while len(rest):
            written = os.pwrite(handle, rest, offset)
            rest, offset = rest[written:], offset + written

    def sync(self, handle: int) -> None:
        """Returns when the content of a file is on the medium."""
        if sys.platform == "darwin":  # fsync there stops at the drive's own cache
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)

    def sync_folder(self, folder: Path) -> None:
        """Returns when the names in a folder are on the medium."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def make_folder(self, folder: Path) -> None:
        """A new folder; FileExistsError if the name is taken."""
        os.mkdir(folder, _PRIVATE_FOLDER)

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file; FileExistsError if that name is taken."""
        os.link(source, target)

    def remove(self, path: Path) -> None:
        """Takes the name of a file away."""
        os.unlink(path)

    def remove_folder(self, folder: Path) -> None:
        """Takes an empty folder away."""
        os.rmdir(folder)

    def open_lock(self, path: Path) -> int:
        """A handle on a lock file, which is made if missing and never removed."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)

    def lock(self, handle: int) -> bool:
        """Takes the lock; BlockingIOError if another holds it, False where locks do not exist."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        return True


LOCAL = Disk()


class _Mapped:
    """Mapped pages that numpy can look at; they are unmapped with the last array over them.

    Python's own mmap keeps a file descriptor for each map, and a collection of a few hundred
    segments would run out of them.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._size, self._address = size, None
        address = _libc().mmap(None, size, 1, 1, handle, 0)  # PROT_READ, MAP_SHARED
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._address, self._unmap = address, _libc().munmap
        self.__array_interface__ = {
            "data": (address, True),  # True: read-only
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        if self._address is not None:
            self._unmap(self._address, self._size)


_LIBC: list[Any] = []


def _libc() -> Any:
    if not _LIBC:
        libc = ctypes.CDLL(None, use_errno=True)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_int64)
        libc.mmap.restype = pointer
        libc.munmap.argtypes = (pointer, size)
        _LIBC.append(libc)
    return _LIBC[0]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns any OSError into a DiskError that names `path`, the cause and the remedy."""
    try:
        yield
    except OSError as error:
        raise _explained(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """The same, but errors of MISSING pass: the file may have belonged to an old generation."""
    try:
        yield
    except MISSING:
        raise
    except OSError as error:
        raise _explained(path, error) from error


def read_file(disk: Disk, path: Path) -> bytes:
    """A whole small file. Raises FileNotFoundError, DiskError."""
    with reading(path):
        handle = disk.open(path)
        try:
            return disk.read(handle, disk.size(handle), 0)
        finally:
            disk.close(handle)


def remove_file(disk: Disk, path: Path) -> None:
    """Removes a file if that is possible; what stays behind is harmless and collected later."""
    with suppress(OSError):
        disk.remove(path)


def remove_tree(disk: Disk, folder: Path) -> None:
    """Removes a folder of files if that is possible."""
    with suppress(OSError):
        for name in disk.names(folder):
            disk.remove(folder / name)
        disk.remove_folder(folder)


def _explained(path: Path, error: OSError) -> DiskError:
    number = error.errno or errno.EIO
    cause = os.strerror(number)
    if number in (errno.ENOSPC, errno.EDQUOT):
        cause += _free_space(path)
    return DiskError(cause, where=str(path), remedy=_REMEDIES.get(number, _ANY_REMEDY))


def _free_space(path: Path) -> str:
    with suppress(OSError):
        state = os.statvfs(path.parent)
        return f" ({state.f_bavail * state.f_frsize / 1e6:.0f} MB free)"
    return ""


_INTACT = "what was committed before is intact"
_ANY_REMEDY = f"Remove the cause and run the command again; {_INTACT}"
_WRITABLE = f"Check owner, permissions and mount options of the folder; {_INTACT}"
_REMEDIES = {
    errno.ENOSPC: f"Free space on this disk and run the command again; {_INTACT}",
    errno.EDQUOT: f"Free space in your quota and run the command again; {_INTACT}",
    errno.EROFS: f"The disk is read-only: mount it writable or copy the folder; {_INTACT}",
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EIO: f"The disk failed: check it, then run `ragstone verify` on the folder; {_INTACT}",
    errno.EFBIG: f"Raise the file size limit (ulimit -f); {_INTACT}",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "Too many memory maps: raise vm.max_map_count or run `ragstone compact`",
}
