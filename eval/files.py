"""Plain files of an evaluation: read whether gzipped or not, written whole or not at all."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import DiskError, InputError

GZIP_MAGIC = b"\x1f\x8b"


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, unpacked if its first bytes say gzip, whatever its name.

    Raises InputError when there is no such file or its gzip data is damaged, DiskError when it
    cannot be read.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP_MAGIC
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"the gzip data is damaged ({error})", where=str(path), remedy="Fetch the file again"
        ) from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError("no such file", where=str(path), remedy="Check the path") from error
    except OSError as error:
        raise _disk_error(error, path) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when it is whole, and leaves no trace otherwise.

    It is gzipped if `path` ends in .gz. Raises DiskError when it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(unfinished, "wb") as raw:
            if path.suffix == ".gz":
                # No name and no time inside: the same content gives the same bytes.
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield raw
        os.replace(unfinished, path)
    except OSError as error:
        raise _disk_error(error, path) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _disk_error(error: OSError, path: Path) -> DiskError:
    remedy = "Check that there is space and permission"
    return DiskError(error.strerror or str(error), where=str(path), remedy=remedy)
