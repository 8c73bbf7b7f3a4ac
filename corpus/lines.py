"""Lines of a plain or gzip-compressed file, in constant memory and from any offset."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ..errors import DiskError, InputError
from .problems import shown
from .strict import BOM

LIMIT = 16 * 2**20
"""Bytes of a line."""

RATIO = 200
"""How much larger than itself a compressed file may become; text stays far below."""

_BLOCK = 2**20


class Line(NamedTuple):
    """content: without its line end; None where it is longer than the limit.

    number: from 1.  start, end: bytes of the uncompressed file before and after it.
    stored: bytes of the file as it lies on disk up to here (of a compressed one: about).
    """

    content: bytes | None
    number: int
    start: int
    end: int
    stored: int


def read_lines(
    path: Path, *, limit: int = LIMIT, start: int = 0, number: int = 0
) -> Iterator[Line]:
    """The lines from byte `start` on, of which `number` lines lie before; blank ones are left out.

    Never holds more than `limit` bytes of a line. A byte order mark is dropped.
    Raises InputError (damaged or explosive gzip) and DiskError.
    """
    with opened(path) as (stream, measure):
        _skip(stream, measure, start)
        yield from _lines(stream, measure, limit, start, number)


def _lines(
    stream: BinaryIO, measure: Callable[[int], int], limit: int, end: int, number: int
) -> Iterator[Line]:
    most = limit + 5  # a line end and a byte order mark do not count
    while line := stream.readline(most):
        start, end, number = end, end + len(line), number + 1
        content = line.rstrip(b"\r\n")
        if start == 0:
            content = content.removeprefix(BOM)
        if len(content) > limit or (len(line) == most and not line.endswith(b"\n")):
            end = _rest(stream, measure, line, end)
            yield Line(None, number, start, end, measure(end))
        elif content and not content.isspace():
            yield Line(content, number, start, end, measure(end))


def _rest(stream: BinaryIO, measure: Callable[[int], int], line: bytes, end: int) -> int:
    while line and not line.endswith(b"\n"):
        line = stream.readline(_BLOCK)
        end += len(line)
        measure(end)
    return end


def _skip(stream: BinaryIO, measure: Callable[[int], int], start: int) -> None:
    if not stream.seekable() or isinstance(stream, gzip.GzipFile):
        at = 0
        while at < start and (block := stream.read(min(_BLOCK, start - at))):
            at += len(block)
            measure(at)
    else:
        stream.seek(start)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[int], int]]]:
    """The uncompressed bytes, and a function from the bytes read to the bytes of the file on disk.

    Raises InputError and DiskError, also from what the caller does inside the `with`.
    """
    try:
        with path.open("rb", buffering=_BLOCK) as file:
            if path.suffix != ".gz":
                yield file, _same
                return
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield cast(BinaryIO, unpacked), _Ratio(path, file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"is not a whole gzip file: {error}", where=shown(path), remedy="Get it again"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DiskError:
    """The error for people."""
    return DiskError(
        f"cannot be read: {error.strerror or error}",
        where=shown(path),
        remedy="Check its permissions and the disk",
    )


def _same(read: int) -> int:
    return read


class _Ratio:
    """Stops a small file that unpacks into a huge one."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def __call__(self, read: int) -> int:
        stored = self._file.tell()
        if read > RATIO * max(stored, _BLOCK // 4):
            raise InputError(
                f"unpacks to more than {RATIO} times its size",
                where=shown(self._path),
                remedy="If that is as it should be, unpack it yourself and read the plain file",
            )
        return stored
