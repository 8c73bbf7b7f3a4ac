"""A POSIX file system in memory that can lose power, for tests of what survives.

Everything is kept twice: as programs see it, and as it is on the medium. A sync of a file carries
its content over to the medium, a sync of a folder its names, and nothing else ever does. When the
power fails, what was not carried over may have arrived or not, name by name and file by file, and
of a file only a part (Pillai et al., All File Systems Are Not Created Equal, OSDI 2014).
"""

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .disk import Bytes, Disk

Watch = Callable[[str, Path], None]
"""Called before each call that writes, with its name and path; what it raises, the call raises."""

_ROOT = 0
_MISSING = -1


@dataclass(slots=True)
class View:
    """Files and folders by number: what each file holds, and which numbers a folder names."""

    files: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})

    def copy(self) -> "View":
        """Another view that shares nothing but the bytes."""
        names = {number: dict(names) for number, names in self.folders.items()}
        return View(dict(self.files), names)

    def find(self, path: Path) -> int:
        """The number of a file or folder. Raises FileNotFoundError, NotADirectoryError."""
        number = _ROOT
        for name in path.parts[1:]:
            if number not in self.folders:
                fail(errno.ENOTDIR, path)
            number = self.folders[number].get(name, _MISSING)
            if number == _MISSING:
                fail(errno.ENOENT, path)
        return number

    def names(self, folder: Path) -> dict[str, int]:
        """What a folder names. Raises FileNotFoundError, NotADirectoryError."""
        number = self.find(folder)
        if number not in self.folders:
            fail(errno.ENOTDIR, folder)
        return self.folders[number]

    def file(self, path: Path) -> int:
        """The number of a file. Raises FileNotFoundError, IsADirectoryError."""
        number = self.find(path)
        if number in self.folders:
            fail(errno.EISDIR, path)
        return number


class MemoryDisk(Disk):
    """A disk in memory. `watch` sees, and can make fail, every call that writes.

    A write takes effect in two halves and `watch` is called before each. Locks exclude each other
    as those of the operating system do, and are gone with the disk that `copy` leaves behind.
    """

    def __init__(self, view: View | None = None, watch: Watch | None = None) -> None:
        self.now = view or View()
        self.safe = self.now.copy()
        self.watch = watch
        self._next = 1 + max(*self.now.files, *self.now.folders, _ROOT, _ROOT)
        self._handles: dict[int, tuple[int, Path]] = {}
        self._locked: dict[int, int] = {}

    def copy(self, watch: Watch | None = None) -> "MemoryDisk":
        """The same disk as the next process finds it, after this one was killed."""
        other = type(self)(self.now.copy(), watch)
        other.safe = self.safe.copy()
        return other

    def names(self, folder: Path) -> list[str]:
        return list(self.now.names(folder))

    def open(self, path: Path) -> int:
        return self._handle(self.now.file(path), path)

    def size(self, handle: int) -> int:
        return len(self.now.files[self._handles[handle][0]])

    def read(self, handle: int, size: int, offset: int) -> bytes:
        content = self.now.files[self._handles[handle][0]]
        return content if size >= len(content) and not offset else content[offset : offset + size]

    def map(self, handle: int, size: int) -> NDArray[np.uint8]:
        return np.frombuffer(self.read(handle, size, 0), np.uint8)

    def close(self, handle: int) -> None:
        number, _ = self._handles.pop(handle)
        if self._locked.get(number) == handle:
            del self._locked[number]

    def create(self, path: Path) -> int:
        self._called("create", path)
        names = self._free(path)
        number = names[path.name] = self._new()
        self.now.files[number], self.safe.files[number] = b"", b""
        return self._handle(number, path)

    def write(self, handle: int, data: Bytes, offset: int) -> None:
        half = len(data) // 2
        for start, piece in ((0, data[:half]), (half, data[half:])):
            number, path = self._handles[handle]
            self._called("write", path)
            old = self.now.files[number].ljust(offset + start, b"\0")
            rest = old[offset + start + len(piece) :]
            self.now.files[number] = b"".join((old[: offset + start], piece, rest))

    def sync(self, handle: int) -> None:
        number, path = self._handles[handle]
        self._called("sync", path)
        self.safe.files[number] = self.now.files[number]

    def sync_folder(self, folder: Path) -> None:
        self._called("sync_folder", folder)
        self.safe.folders[self.now.find(folder)] = dict(self.now.names(folder))

    def make_folder(self, folder: Path) -> None:
        self._called("make_folder", folder)
        names = self._free(folder)
        number = names[folder.name] = self._new()
        self.now.folders[number], self.safe.folders[number] = {}, {}

    def link(self, source: Path, target: Path) -> None:
        self._called("link", target)
        number = self.now.file(source)
        self._free(target)[target.name] = number

    def remove(self, path: Path) -> None:
        self._called("remove", path)
        self.now.file(path)
        del self.now.names(path.parent)[path.name]

    def remove_folder(self, folder: Path) -> None:
        self._called("remove_folder", folder)
        if self.now.names(folder):
            fail(errno.ENOTEMPTY, folder)
        del self.now.names(folder.parent)[folder.name]

    def open_lock(self, path: Path) -> int:
        self._called("open_lock", path)
        if path.name not in self.now.names(path.parent):
            number = self.now.names(path.parent)[path.name] = self._new()
            self.now.files[number], self.safe.files[number] = b"", b""
        return self.open(path)

    def lock(self, handle: int) -> bool:
        number, path = self._handles[handle]
        self._called("lock", path)
        if self._locked.setdefault(number, handle) != handle:
            fail(errno.EWOULDBLOCK, path)
        return True

    def _called(self, name: str, path: Path) -> None:
        if self.watch is not None:
            self.watch(name, path)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _handle(self, number: int, path: Path) -> int:
        handle = self._new()
        self._handles[handle] = number, path
        return handle

    def _free(self, path: Path) -> dict[str, int]:
        """The names of the folder in which `path` is about to be made."""
        names = self.now.names(path.parent)
        if path.name in names:
            fail(errno.EEXIST, path)
        return names


class Outage:
    """The moment of a power failure: all that may be on the medium when the power is back."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._safe, self._now = disk.safe.copy(), disk.now.copy()
        self._names = sorted(
            (folder, name)
            for folder, names in self._now.folders.items()
            for name in names.keys() | self._safe.folders[folder].keys()
            if names.get(name) != self._safe.folders[folder].get(name)
        )
        self._contents = {
            number: _remains(self._safe.files[number], content)
            for number, content in self._now.files.items()
            if content is not self._safe.files[number] and content != self._safe.files[number]
        }

    @property
    def count(self) -> int:
        """In how many ways it may end; some of them look the same."""
        return prod(map(len, self._contents.values())) << len(self._names)

    def views(self, most: int, draw: random.Random) -> Iterator[View]:
        """Every way in which it may end; if there are more than `most`, about so many drawn ones.

        The first two are always those in which nothing and in which all has arrived.
        """
        options: list[Sequence[Any]] = [(False, True)] * len(self._names)
        options += self._contents.values()
        if self.count <= most:
            yield from map(self._view, product(*options))
            return
        counts = [len(option) for option in options]
        chosen = {tuple(map(draw.randrange, counts)) for _ in range(most - 2)}
        for places in [[0] * len(counts), [-1] * len(counts), *sorted(chosen)]:
            yield self._view([option[i] for option, i in zip(options, places, strict=True)])

    def _view(self, chosen: Sequence[Any]) -> View:
        view = self._safe.copy()
        kept = iter(chosen)
        for folder, name in self._names:
            if next(kept):
                _carry(name, self._now.folders[folder], view.folders[folder])
        for number, content in zip(self._contents, kept, strict=True):
            view.files[number] = content
        return view


def _remains(safe: bytes, now: bytes) -> list[bytes]:
    """What may be left of a file: as last synced, cut, zeroed, half zeroed, and all of it."""
    half = len(now) // 2
    zeroed = [now[:half], bytes(len(now)), now[:half] + bytes(len(now) - half)]
    return list(dict.fromkeys([safe, *zeroed, now]))


def _carry(name: str, source: dict[str, int], target: dict[str, int]) -> None:
    if name in source:
        target[name] = source[name]
    else:
        del target[name]


def fail(number: int, path: Path) -> NoReturn:
    """Raise what the operating system would."""
    raise OSError(number, os.strerror(number), str(path))
