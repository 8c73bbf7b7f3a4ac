"""The write lock: one writer at a time, freed by the operating system when its process ends."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import DiskError, Locked
from .disk import Disk, read_file, writing

NAME = "write.lock"
_LENGTH = 160  # always that long, so that a longer line of an earlier writer never shows through


class WriteLock:
    """Holds the lock of a folder inside `with`. Raises Locked, naming who has it.

    The file is never removed and its text is only for people: whether the folder is locked is
    known to the kernel alone, so there are no stale locks.

    held: False on file systems without locks; there a commit that comes second gets a Conflict.
    """

    held = False

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._handle: int | None = None

    def __enter__(self) -> Self:
        path = self._folder / NAME
        with writing(path):
            handle = self._disk.open_lock(path)
        try:
            with writing(path):
                self.held = self._lock(handle)
            with suppress(OSError):  # a full disk must not stop the writer who would free space
                self._disk.write(handle, _signature(), 0)
        except BaseException:
            with suppress(OSError):
                self._disk.close(handle)
            raise
        self._handle = handle
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.held, handle, self._handle = False, self._handle, None
        if handle is not None:
            with suppress(OSError):
                self._disk.close(handle)

    def _lock(self, handle: int) -> bool:
        try:
            return self._disk.lock(handle)
        except BlockingIOError:
            raise Locked(
                f"{self._holder()} is writing",
                where=str(self._folder),
                remedy="Wait for it or stop it: the lock is free as soon as that process ends",
            ) from None

    def _holder(self) -> str:
        with suppress(OSError, DiskError):
            text = read_file(self._disk, self._folder / NAME).decode("utf-8", "replace").strip()
            if text:
                return text
        return "another process"


def _signature() -> bytes:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = f"process {os.getpid()} on {os.uname().nodename[:80]} (since {since})"
    return text.encode().ljust(_LENGTH - 1) + b"\n"
