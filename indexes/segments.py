"""The segments of a store as the indexes see them: parts with their first passage number."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate

from ..errors import Conflict
from ..storage import Change, Store
from .family import OpenPart

PASSAGES = "passages"
"""The part of every segment that holds the passages themselves."""


def open_parts(store: Store, name: str) -> list[OpenPart]:
    """The part of this name of every segment, in order."""
    bases = accumulate((segment.rows for segment in store.segments), initial=0)
    return [
        OpenPart(segment.part(name), base, segment.rows, segment.deleted)
        for segment, base in zip(store.segments, bases, strict=False)
    ]


@contextmanager
def changing(store: Store) -> Iterator[Change]:
    """The lock, and a change on top of the newest generation; Locked, or Conflict when that one
    has other indexes than this store.
    """
    with ExitStack() as stack:
        change = _begun(store, stack)
        if change.store.settings != store.settings:
            raise Conflict(
                "the indexes of the collection were changed meanwhile",
                where=str(store.folder),
                remedy="Open it again and repeat",
            )
        yield change


def _begun(store: Store, stack: ExitStack, tries: int = 8) -> Change:
    """Begin again when somebody commits between our look at the newest generation and the lock."""
    try:
        return stack.enter_context(store.refresh().begin())
    except Conflict:
        if tries == 0:
            raise
        return _begun(store, stack, tries - 1)
