"""A folder of documents, one a file, in the order of their paths; links are never followed."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..records import JSON, Passage
from . import markdown, pdf, plain, webpage
from .identifiers import identifier
from .jsonl import check_content
from .lines import unreadable
from .outline import Content
from .problems import Problem, shown
from .reading import Piece, Position
from .strict import BOM, UTF16, decode

_TEXTS: Mapping[str, Callable[[str], Content]] = {
    ".txt": plain.read_text,
    ".md": markdown.read,
    ".markdown": markdown.read,
    ".rst": plain.read_restructured,
    ".html": webpage.read,
    ".htm": webpage.read,
    ".py": plain.read_python,
}
SUFFIXES = (*_TEXTS, ".pdf")
_PDF_FACTOR = 16  # a PDF is mostly images and fonts: its file may be so much longer than a text


@dataclass(slots=True)
class Survey:
    """What is in a folder. `skipped`: how many entries were left out, by the reason."""

    files: int = 0
    bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    listing: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1


@dataclass(frozen=True, slots=True)
class Folder:
    """`only`: the one file to read, or None for all of the known types, below `root`."""

    root: Path
    only: str | None
    limit: int

    def survey(self) -> Survey:
        """Walks the folder once. Raises DiskError."""
        survey = Survey()
        for parts, size, mtime in self._walk(survey):
            survey.files += 1
            survey.bytes += size
            line = f"{'/'.join(parts)}\0{size}\0{mtime}\n"
            survey.listing.update(line.encode("utf-8", "surrogateescape"))
        return survey

    def pieces(self, start: Position) -> Iterator[Piece]:
        """The files that come after `start`."""
        after = tuple(start.file.split("/")) if start.file else ()
        stored = start.bytes
        for parts, size, _ in self._walk(Survey()):
            if parts > after:
                stored += size
                path = self.root.joinpath(*parts)
                yield Piece(path, shown(path), "/".join(parts), 0, 0, size, stored)

    def document(self, piece: Piece) -> Passage:
        """The file as a document: id = its path below the root. Raises Problem."""
        assert isinstance(piece.payload, Path)
        id = identifier(unicodedata.normalize("NFC", piece.name), "path")
        try:
            content = _content(piece.payload, self.limit)
            check_content(content.text, content.title)
        except Problem as problem:
            raise problem.of(id) from None
        metadata = {"source": piece.payload.as_posix(), **content.metadata}
        return Passage(id, content.text, content.title, metadata)

    def signature(self) -> Mapping[str, JSON]:
        """Number and bytes of the files, and a digest over all paths, sizes and times."""
        survey = self.survey()
        digest = survey.listing.hexdigest()
        return {"files": survey.files, "bytes": survey.bytes, "listing": digest}

    def _walk(self, survey: Survey) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """(path below the root, size, mtime) of each file to read; holds one listing a level."""
        top: tuple[str, ...] = ()
        stack = [(top, iter(_entries(self.root, self.only)))]
        while stack:
            parents, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
            elif why := _left_out(entry, named=self.only is not None):
                survey.skip(why)
            elif entry.is_dir(follow_symlinks=False):
                below = self.root.joinpath(*parents, entry.name)
                stack.append(((*parents, entry.name), iter(_entries(below, None))))
            else:
                about = entry.stat(follow_symlinks=False)
                yield (*parents, entry.name), about.st_size, about.st_mtime_ns


def _entries(folder: Path, only: str | None) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if only in (None, entry.name)]
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(entries, key=lambda entry: entry.name)


def _left_out(entry: "os.DirEntry[str]", *, named: bool) -> str:
    """Why an entry is not read, or ""; a file that the user named may be hidden or a link."""
    if named:
        return ""
    if entry.is_symlink():
        return "symbolic links"
    if entry.name.startswith("."):
        return "hidden files and folders"
    if entry.is_dir(follow_symlinks=False):
        return ""
    if not entry.is_file(follow_symlinks=False):
        return "devices, pipes and sockets"
    return "" if Path(entry.name).suffix.lower() in SUFFIXES else "files of other types"


def _content(path: Path, limit: int) -> Content:
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        return pdf.read(_bytes(path, limit * _PDF_FACTOR))
    return _TEXTS[suffix](_text(_bytes(path, limit)))


def _bytes(path: Path, limit: int) -> bytes:
    try:
        # Without blocking: a pipe that takes the place of a file must not hang the build.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Problem("unreadable", "this is no regular file")
            content = file.read(limit + 1)
    except OSError as error:
        raise Problem("unreadable", f"the file cannot be read: {error.strerror}") from None
    if len(content) > limit:
        remedy = "Split it into shorter documents"
        raise Problem("too-large", f"the file is longer than {limit:,} bytes", remedy=remedy)
    return content


def _text(content: bytes) -> str:
    if content.startswith(UTF16):
        raise Problem("utf-16", "the file is UTF-16", remedy="iconv -f UTF-16 -t UTF-8 FILE > NEW")
    text = decode(content.removeprefix(BOM))
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Problem("nul", "the file holds a NUL; is it UTF-16, or binary?", line=line)
    return text.replace("\r\n", "\n").replace("\r", "\n")
