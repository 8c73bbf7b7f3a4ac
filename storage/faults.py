"""A stand-in for the disk that fails or dies at a chosen call, for tests of what survives."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .disk import Disk

READS = frozenset(["names", "open", "size", "read", "map", "close"])
WRITES = frozenset(
    ["create", "write", "sync", "sync_folder", "make_folder", "link", "remove", "remove_folder"]
    + ["open_lock", "lock"]
)  # fmt: skip


class Killed(BaseException):
    """The process is gone: nothing that it would still do has any effect."""


class FaultyDisk(Disk):
    """The local disk, up to call number `at` (from 1), which fails.

    error: the errno of the failure; None kills the process: the call and all later ones raise
    Killed, and open handles are closed, as the operating system does.
    late: the failing call takes effect all the same. A failing write always writes one half, and
    a failing close always closes.
    lasting: after the failure no call that writes succeeds, as on a full disk.
    Syncs are counted but not made: it is the process that dies here, not the machine.
    """

    def __init__(
        self,
        at: int = 0,
        error: int | None = None,
        *,
        late: bool = False,
        lasting: bool = False,
    ) -> None:
        self.calls: list[str] = []
        self._at, self._error, self._late, self._lasting = at, error, late, lasting
        self._handles: set[int] = set()
        self._dead = self._broken = False

    def sync(self, handle: int) -> None:
        """Counts as a call."""

    def sync_folder(self, folder: Path) -> None:
        """Counts as a call, and finds a folder or not."""
        os.stat(folder)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in READS | WRITES:
            return found
        return lambda *arguments: self._call(name, found, *arguments)

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._dead:
            raise Killed
        self.calls.append(name)
        if len(self.calls) == self._at:
            self._fail(name, method, *arguments)
        if self._broken and name in WRITES:
            self._raise(arguments)
        result = method(*arguments)
        if name in ("open", "create", "open_lock"):
            self._handles.add(result)
        if name == "close":
            self._handles.discard(arguments[0])
        return result

    def _fail(self, name: str, method: Callable[..., Any], *arguments: Any) -> None:
        if name == "write":
            handle, data, offset = arguments
            method(handle, memoryview(data)[: len(data) // 2], offset)
        elif self._late or name == "close":
            with suppress(OSError):
                result = method(*arguments)
                if name in ("open", "create", "open_lock"):
                    os.close(result)
        self._broken = self._lasting
        self._raise(arguments)

    def _raise(self, arguments: tuple[Any, ...]) -> None:
        if self._error is not None:
            raise OSError(self._error, os.strerror(self._error), str(arguments[0]))
        self._dead = True
        for handle in self._handles:
            with suppress(OSError):
                os.close(handle)
        raise Killed
