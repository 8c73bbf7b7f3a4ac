"""Sources of one document a line: one or several files, each plain or compressed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..records import JSON, Passage
from .lines import read_lines
from .problems import Problem, shown
from .reading import Piece, Position


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file of a source. header: the number of the line that is no document, 0 for none."""

    path: Path
    size: int
    mtime_ns: int
    header: int = 0


@dataclass(frozen=True, slots=True)
class LineFiles:
    """Files of one folder, in order; `parse` understands one line and raises Problem."""

    files: tuple[LineFile, ...]
    parse: Callable[[bytes], Passage]
    limit: int

    def pieces(self, start: Position) -> Iterator[Piece]:
        """The lines after `start`. Raises InputError where its file is gone, and DiskError."""
        names = [file.path.name for file in self.files]
        if start.file and start.file not in names:
            raise InputError(
                f"the build stopped in '{start.file}', which is not there any more",
                remedy="Build without --resume",
            )
        first = names.index(start.file) if start.file else 0
        before = sum(file.size for file in self.files[:first])
        yield from self._of_file(self.files[first], start.offset, start.line, before)
        for file in self.files[first + 1 :]:
            before += self.files[first].size
            first += 1
            yield from self._of_file(file, 0, 0, before)

    def _of_file(self, file: LineFile, offset: int, line: int, before: int) -> Iterator[Piece]:
        people, name, header = shown(file.path), file.path.name, file.header
        lines = read_lines(file.path, limit=self.limit, start=offset, number=line)
        for content, number, start, end, stored in lines:
            if number != header:
                yield Piece(content, people, name, number, start, end, before + stored)

    def document(self, piece: Piece) -> Passage:
        """Raises Problem."""
        if not isinstance(piece.payload, bytes):
            raise Problem(
                "too-large",
                f"the line is longer than {self.limit:,} bytes",
                remedy="Split it into shorter documents",
            )
        return self.parse(piece.payload)

    def signature(self) -> Mapping[str, JSON]:
        """Names, sizes and times of the files."""
        return {
            "files": [
                {"name": file.path.name, "size": file.size, "mtime_ns": file.mtime_ns}
                for file in self.files
            ]
        }
