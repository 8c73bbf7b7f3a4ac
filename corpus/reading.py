"""What the readers of sources have in common: places in a source, and raw pieces of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import InputError
from ..records import JSON, Passage


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source was read: where an interrupted build goes on.

    file: the last file read, as the source names it ("" = at the beginning).  offset: bytes of
    that file, uncompressed.  line: lines of it.  records: documents read in all, of which
    `rejected` were refused.  bytes: of all files as they lie on disk, for progress.
    """

    file: str = ""
    offset: int = 0
    line: int = 0
    records: int = 0
    rejected: int = 0
    bytes: int = 0

    def as_json(self) -> dict[str, JSON]:
        """For the note of a commit."""
        return asdict(self)

    @classmethod
    def from_json(cls, note: Mapping[str, JSON]) -> "Position":
        """The inverse of `as_json`. Raises InputError where it is none of ours."""
        file = note.get("file")
        numbers = [note.get(name) for name in ("offset", "line", "records", "rejected", "bytes")]
        if not isinstance(file, str) or not all(type(number) is int for number in numbers):
            raise InputError(
                f"this is no position in a source: {dict(note)}", remedy="Build without --resume"
            )
        return cls(file, *(number for number in numbers if isinstance(number, int)))


class Piece(NamedTuple):
    """One document before it is understood, and where it stands.

    payload: a line or the path of a file; None where it is longer than the limit.
    file: for people.  name: for `Position.file`, the same wherever the source lies.
    line, start: of its beginning.  end: the offset after it.  stored: bytes on disk up to there.
    """

    payload: bytes | Path | None
    file: str
    name: str
    line: int
    start: int
    end: int
    stored: int


class Reader(Protocol):
    """One kind of source: pieces in a fixed order, and how to understand one."""

    def pieces(self, start: Position) -> Iterator[Piece]: ...

    def document(self, piece: Piece) -> Passage: ...

    def signature(self) -> Mapping[str, JSON]: ...
