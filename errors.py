"""Everything that can go wrong, as a tree; each message is one line and ends with the remedy.

RagstoneError
├── UsageError          a call or an option that makes no sense                     exit 2
│   └── MissingExtra    an optional package is not installed                        exit 2
├── InputError          a document, query, vector or judgement that is refused      exit 3
│   └── DuplicateId     an id that was seen before                                  exit 3
├── Damaged             a stored file is not what was written                       exit 4
├── Locked              another process is writing                                  exit 5
├── Conflict            another process committed first                             exit 5
├── DiskError           no space, no permission, read-only, any other I/O failure   exit 6
└── Mismatch            another format version, or another model than was indexed   exit 7
"""

from typing import ClassVar


class RagstoneError(Exception):
    """An error for people: `what` happened, `where` (a file, line or id), and the `remedy`."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        place = f"{where}: " if where else ""
        cure = f". {remedy}" if remedy else ""
        super().__init__(f"{place}{what}{cure}".replace("\n", " "))


class UsageError(RagstoneError):
    """A call or an option that makes no sense."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional package is not installed; the message says which extra brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package '{package}', which is not installed",
            remedy=f"Run: pip install 'ragstone[{extra}]'",
        )


class InputError(RagstoneError):
    """A document, query, vector or judgement that is refused."""

    exit_code = 3


class DuplicateId(InputError):
    """An id that was seen before."""


class Damaged(RagstoneError):
    """A stored file is not what was written."""

    exit_code = 4


class Locked(RagstoneError):
    """Another process is writing."""

    exit_code = 5


class Conflict(RagstoneError):
    """Another process committed first; nothing of this commit was kept."""

    exit_code = 5


class DiskError(RagstoneError):
    """No space, no permission, a read-only disk or any other I/O failure."""

    exit_code = 6


class Mismatch(RagstoneError):
    """Another format version, or another model than the one that was indexed with."""

    exit_code = 7
