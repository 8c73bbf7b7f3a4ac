"""A part: the named arrays, raw bytes and small facts that one index keeps in one segment."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import UsageError
from ..records import JSON
from .canonical import plain
from .disk import Bytes
from .npy import Rows, storable

_NAME = re.compile(r"[a-z0-9_-]+")
_Value = TypeVar("_Value")


class Stream(Protocol):
    """Takes an array larger than memory, some rows at a time."""

    def append(self, chunk: NDArray[Any]) -> None:
        """(n,) or (n, columns) values of the announced dtype."""
        ...


class PartWriter(Protocol):
    """Takes the content of a part; each name once, of lower-case letters, digits, - and _."""

    @property
    def facts(self) -> Callable[[Mapping[str, JSON]], None]:
        """Called with small facts: they stand in the manifest. A second call adds to them."""
        ...

    def array(self, name: str, array: NDArray[Any]) -> None:
        """Stores a whole 1-d or 2-d array of numbers."""
        ...

    def stream(
        self, name: str, dtype: DTypeLike, columns: int | None = None, rows: int | None = None
    ) -> AbstractContextManager[Stream]:
        """Stores an array in chunks; stating `rows` saves reading the file back once."""
        ...

    def blob(self, name: str, chunks: Bytes | Iterable[Bytes]) -> None:
        """Stores raw bytes, at once or piece by piece."""
        ...


class Part(Protocol):
    """Gives the content of a part back. Unknown names raise UsageError."""

    @property
    def facts(self) -> Mapping[str, JSON]: ...

    def array(self, name: str) -> NDArray[Any]:
        """Read-only, 1-d or 2-d, little-endian, in C order."""
        ...

    def blob(self, name: str) -> NDArray[np.uint8]:
        """(bytes,) uint8, read-only."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and blobs."""
        ...

    def __contains__(self, name: object) -> bool: ...


def check_name(name: str, taken: Iterable[str] = ()) -> str:
    """The name itself. Raises UsageError unless it can stand in a file name and is free."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a name", remedy="Use a-z, 0-9, - and _")
    if name in taken:
        raise UsageError(f"{name!r} is stored already", remedy="Use another name")
    return name


def look_up(stored: Mapping[str, _Value], name: str, kind: str) -> _Value:
    """`stored[name]`. Raises UsageError with the names that exist."""
    if name not in stored:
        raise UsageError(f"no {kind} {name!r}", remedy=f"There are: {', '.join(stored) or 'none'}")
    return stored[name]


def pieces(chunks: Bytes | Iterable[Bytes]) -> Iterable[Bytes]:
    """One piece of bytes, or many, as many."""
    return (chunks,) if isinstance(chunks, bytes | bytearray | memoryview) else chunks


def _bytes_of(*stored: Mapping[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for named in stored for array in named.values())


class StoredPart:
    """A part of a segment on disk: read-only memory maps."""

    def __init__(
        self,
        facts: Mapping[str, JSON],
        arrays: Mapping[str, NDArray[Any]],
        blobs: Mapping[str, NDArray[np.uint8]],
    ) -> None:
        self.facts, self._arrays, self._blobs = facts, arrays, blobs

    def __contains__(self, name: object) -> bool:
        return name in self._arrays or name in self._blobs

    @property
    def nbytes(self) -> int:
        return _bytes_of(self._arrays, self._blobs)

    def array(self, name: str) -> NDArray[Any]:
        return look_up(self._arrays, name, "array")

    def blob(self, name: str) -> NDArray[np.uint8]:
        return look_up(self._blobs, name, "blob")


class _Facts(dict[str, JSON]):
    """Facts that are read like a mapping and added to by calling."""

    def __call__(self, facts: Mapping[str, JSON]) -> None:
        self.update(plain(facts, "facts"))


class _MemoryStream:
    def __init__(self, rows: Rows) -> None:
        self._rows, self.chunks = rows, [np.empty((0, *rows.shape[1:]), rows.dtype)]

    def append(self, chunk: NDArray[Any]) -> None:
        self.chunks.append(np.array(self._rows.accept(chunk)))


class MemoryPart:
    """A part that is written and read in memory: for an index without a folder, and for tests."""

    def __init__(self) -> None:
        self.facts = _Facts()
        self._arrays: dict[str, NDArray[Any]] = {}
        self._blobs: dict[str, NDArray[np.uint8]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._arrays or name in self._blobs

    @property
    def nbytes(self) -> int:
        return _bytes_of(self._arrays, self._blobs)

    @overload
    def array(self, name: str) -> NDArray[Any]: ...
    @overload
    def array(self, name: str, array: NDArray[Any]) -> None: ...
    def array(self, name: str, array: NDArray[Any] | None = None) -> NDArray[Any] | None:
        """With an array: keeps a copy under `name`. Without: gives the kept array back."""
        if array is None:
            return look_up(self._arrays, name, "array")
        self._keep(self._arrays, name, np.array(storable(array)))
        return None

    @contextmanager
    def stream(
        self, name: str, dtype: DTypeLike, columns: int | None = None, rows: int | None = None
    ) -> Iterator[Stream]:
        """Keeps the appended chunks under `name` as one array."""
        counted = Rows(dtype, columns, rows)
        stream = _MemoryStream(counted)
        yield stream
        counted.finish()
        self._keep(self._arrays, name, np.concatenate(stream.chunks))

    @overload
    def blob(self, name: str) -> NDArray[np.uint8]: ...
    @overload
    def blob(self, name: str, chunks: Bytes | Iterable[Bytes]) -> None: ...
    def blob(
        self, name: str, chunks: Bytes | Iterable[Bytes] | None = None
    ) -> NDArray[np.uint8] | None:
        """With bytes: keeps them under `name`. Without: gives the kept bytes back."""
        if chunks is None:
            return look_up(self._blobs, name, "blob")
        joined = b"".join(pieces(chunks))
        self._keep(self._blobs, name, np.frombuffer(joined, np.uint8).copy())
        return None

    def _keep(self, stored: dict[str, NDArray[Any]], name: str, array: NDArray[Any]) -> None:
        check_name(name, [*self._arrays, *self._blobs])
        array.flags.writeable = False
        stored[name] = array
