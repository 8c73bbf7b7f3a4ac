"""What became of each document: counts that add up, and the file of the refused ones."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from ..errors import DiskError
from ..records import JSON
from .problems import Reject, shown


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents read = indexed + rejected + duplicate."""

    indexed: int = 0
    rejected: int = 0
    duplicate: int = 0

    @property
    def read(self) -> int:
        return self.indexed + self.rejected + self.duplicate

    def as_json(self) -> dict[str, JSON]:
        """For the note of a commit; `read` is written out, so that a reader can add up too."""
        return {"read": self.read, **asdict(self)}

    @classmethod
    def from_json(cls, note: Mapping[str, JSON]) -> "Counts":
        """The inverse of `as_json`."""
        return cls(*(_whole(note.get(name)) for name in ("indexed", "rejected", "duplicate")))


def _whole(value: JSON) -> int:
    return value if isinstance(value, int) else 0


@dataclass(slots=True)
class Tally:
    """Settles each document once: a document counts as read when it is settled.

    So the sum holds at every moment. Commit when every document that was taken from the source
    is settled, and `counts` belongs to the position of the last of them. `reject` is what a
    source takes as its `rejects`; it passes on to `file`, if there is one.
    """

    counts: Counts = Counts()
    file: "RejectsFile | None" = None

    def index(self, documents: int) -> None:
        """So many more documents went into the index."""
        self._add(indexed=documents)

    def duplicate(self, documents: int) -> None:
        """So many more were left out because their id was there already."""
        self._add(duplicate=documents)

    def reject(self, reject: Reject) -> None:
        """One more was refused."""
        self._add(rejected=1)
        if self.file is not None:
            self.file(reject)

    def _add(self, indexed: int = 0, rejected: int = 0, duplicate: int = 0) -> None:
        now = self.counts
        self.counts = Counts(
            now.indexed + indexed, now.rejected + rejected, now.duplicate + duplicate
        )


class RejectsFile:
    """Writes refused documents as JSON lines: {"file", "line", "offset", "id", "code", "reason"}.

    It tells of one run: an earlier file of that name is overwritten, except for its first `keep`
    lines, which is how a resumed run goes on (`Position.rejected`). A file that stays without a
    line is removed when it is closed.
    """

    def __init__(self, path: Path, *, keep: int = 0) -> None:
        self.path, self.lines = path, 0
        try:
            self._file = path.open("r+b" if keep and path.exists() else "wb")
            self._keep(keep)
        except OSError as error:
            raise _failed(path, error) from error

    def _keep(self, keep: int) -> None:
        while self.lines < keep and self._file.readline():
            self.lines += 1
        self._file.seek(self._file.tell())  # from reading to writing
        self._file.truncate()

    def __call__(self, reject: Reject) -> None:
        """Appends one line; an id with a lone surrogate is escaped, so that any line is UTF-8."""
        try:
            self._file.write(json.dumps(asdict(reject)).encode("ascii") + b"\n")
        except OSError as error:
            raise _failed(self.path, error) from error
        self.lines += 1

    def flush(self) -> None:
        """Hands what was written to the system: called before a commit that counts it."""
        try:
            self._file.flush()
        except OSError as error:
            raise _failed(self.path, error) from error

    def close(self) -> None:
        """Closes the file, and removes it if it has no line."""
        try:
            self._file.close()
            if not self.lines:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self.path, error) from error

    def __enter__(self) -> "RejectsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _failed(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"the rejects cannot be written: {error.strerror or error}",
        where=shown(path),
        remedy="Make room there, or give another path",
    )
