"""What an index family is: settings that make builders, open what they wrote, and merge it.

A family differs from the others only in its keys. The collection knows nothing else of it:

    builder()      collects the keys of one segment in memory and writes them as a part
    open(parts)    an index over the parts of all segments; passage numbers run through them
    merge(parts)   writes the live rows of several parts as one part, in bounded memory
    check(keys)    refuses keys that cannot be stored, before anything is taken
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, Mismatch, UsageError
from ..records import JSON, Bitmap, Neighbours
from ..storage import MemoryPart, Part, PartWriter

Keys = TypeVar("Keys", bound=Sized)
Keys_contra = TypeVar("Keys_contra", contravariant=True)
QueryKeys_contra = TypeVar("QueryKeys_contra", contravariant=True)


class BadKey(InputError):
    """The key in `row` of a batch cannot be stored; whoever knows the ids names the passage."""

    def __init__(self, what: str, row: int, *, remedy: str = "") -> None:
        self.row = row
        super().__init__(what, where=f"row {row}", remedy=remedy)


@dataclass(frozen=True, slots=True, eq=False)
class OpenPart:
    """One segment's part of an index: its rows are the passage numbers `base` to `base + rows`.

    deleted: (rows,) bool, True = deleted; None when nothing is.
    """

    part: Part
    base: int
    rows: int
    deleted: NDArray[np.bool_] | None = None

    @property
    def live(self) -> int:
        """How many rows are not deleted."""
        return self.rows if self.deleted is None else self.rows - int(self.deleted.sum())


class Builder(Protocol[Keys_contra]):
    """One segment of one index, in memory until it is written."""

    @property
    def nbytes(self) -> int:
        """Memory held, so that segments are written at a stated budget."""
        ...

    def add(self, keys: Keys_contra) -> None:
        """Append rows in order; all of them, or none with an InputError."""
        ...

    def write(self, writer: PartWriter) -> None: ...


class StoredIndex(Protocol[Keys_contra, QueryKeys_contra]):
    """An index that is open over the parts of its segments: `stages.Index` plus its size."""

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        ...

    def add(self, numbers: NDArray[np.int64], keys: Keys_contra) -> None: ...

    def search(
        self, keys: QueryKeys_contra, k: int, *, allowed: Bitmap | None = None
    ) -> Neighbours: ...


def check_search(k: int, allowed: Bitmap | None, rows: int) -> None:
    """Raise UsageError unless k passages can be searched for among so many rows."""
    if k < 1:
        raise UsageError(f"k={k} results cannot be found", remedy="Ask for one at least")
    if allowed is not None and (allowed.shape != (rows,) or allowed.dtype != np.bool_):
        raise UsageError(
            f"allowed is {allowed.dtype} {allowed.shape}",
            remedy=f"Give one bool for each of the {rows} passages",
        )


def part_in_memory(
    builder: Builder[Keys], numbers: NDArray[np.int64], keys: Keys, rows: int
) -> OpenPart:
    """The part that `add` of an index makes of keys, after the `rows` that it has.

    Raises UsageError unless numbers are the next ones, and what the builder raises.
    """
    count = len(keys)
    if not np.array_equal(numbers, np.arange(rows, rows + count)):
        raise UsageError(
            f"the passage numbers {numbers!r} are not the next ones",
            remedy=f"Number them from {rows} to {rows + count - 1}",
        )
    part = MemoryPart()
    builder.add(keys)
    builder.write(part)
    return OpenPart(part, rows, count)


class Family(Protocol[Keys_contra, QueryKeys_contra]):
    """The settings of an index: a frozen dataclass that `load_family` gives back equal."""

    kind: ClassVar[str]

    @property
    def settings(self) -> Mapping[str, JSON]: ...

    def check(self, keys: Keys_contra) -> None:
        """Raise BadKey for the first key that `Builder.add` would refuse."""
        ...

    def builder(self) -> Builder[Keys_contra]: ...

    def open(self, parts: Sequence[OpenPart]) -> StoredIndex[Keys_contra, QueryKeys_contra]: ...

    def merge(self, parts: Sequence[OpenPart], writer: PartWriter) -> None: ...


def _lazily(module: str, name: str) -> Callable[..., Family[Any, Any]]:
    """The class of a module of this package, which is imported when it is first called."""

    def make(**settings: Any) -> Family[Any, Any]:
        family: Family[Any, Any] = getattr(import_module(module, __package__), name)(**settings)
        return family

    return make


FAMILIES: dict[str, Callable[..., Family[Any, Any]]] = {
    "inverted": _lazily(".inverted", "Inverted"),
    "multivector": _lazily(".multivector", "MultiVector"),
    "ngram": _lazily(".ngram.family", "Ngram"),
    "vector": _lazily(".vector", "Vector"),
}
"""How each kind is made from its settings; a family from outside registers itself here."""


def load_family(kind: str, settings: Mapping[str, JSON]) -> Family[Any, Any]:
    """The family of this kind and settings; Mismatch when this version does not know them."""
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise Mismatch(
            f"index family '{kind}' is unknown here; known: {', '.join(sorted(FAMILIES))}",
            remedy="Install the version of ragstone that wrote the collection",
        )
    try:
        return FAMILIES[kind](**settings)
    except (TypeError, OverflowError) as error:
        raise Mismatch(
            f"index family '{kind}' does not take these settings ({error})",
            remedy="Install the version of ragstone that wrote the collection",
        ) from error
