"""Merging segments: the live rows of several become one segment, and deleted rows are gone.

Only neighbours are merged and their order stays, so ties between equal scores break as before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np

from ..records import Passage
from ..storage import Change, Store
from .family import Family, OpenPart
from .passage_builder import merge_passages
from .passages import PassageStore
from .segments import PASSAGES, open_parts

MOST_SEGMENTS = 32
"""Above this many segments a commit merges the newest of them."""

_BATCH = 512


def merge_from(change: Change, families: Mapping[str, Family[Any, Any]], first: int) -> None:
    """Replace the segments from `first` on by one segment of their live rows, if there are any."""
    store = change.store
    passages = _rebased(open_parts(store, PASSAGES)[first:])
    rows = sum(part.live for part in passages)
    if rows:
        with change.new_segment(rows) as segment:
            merge_passages(passages, segment.part(PASSAGES))
            for name, family in families.items():
                family.merge(_rebased(open_parts(store, name)[first:]), segment.part(name))
    for old in store.segments[first:]:
        change.drop(old.name)


def _rebased(parts: list[OpenPart]) -> list[OpenPart]:
    """The same parts with numbers that start at 0; parts without a live row left out."""
    parts = [part for part in parts if part.live]
    bases = accumulate((part.rows for part in parts), initial=0)
    return [
        OpenPart(part.part, base, part.rows, part.deleted)
        for part, base in zip(parts, bases, strict=False)
    ]


def merge_small(change: Change, families: Mapping[str, Family[Any, Any]]) -> Store | None:
    """Merge the newest segments when there are too many; None when there is nothing to do.

    The merge starts at the first segment that is no larger than all after it together, so that
    every row is merged a logarithmic number of times (a log-structured merge).
    """
    segments = change.store.segments
    if len(segments) <= MOST_SEGMENTS:
        return None
    rows = np.array([segment.rows for segment in segments])
    after = rows.sum() - np.cumsum(rows)
    merge_from(change, families, int(np.argmax(rows <= after)))
    return change.commit(note=change.store.note)


def rewrite_with(
    change: Change,
    families: Mapping[str, Family[Any, Any]],
    added: Mapping[str, Family[Any, Any]],
    keys_for: Mapping[str, Callable[[Sequence[Passage]], Any]],
) -> None:
    """Write every segment anew, without its deleted rows and with more indexes.

    keys_for: for each of them, what gives the keys of some passages, a few hundred at a time.
    """
    store = change.store
    for i, old in enumerate(store.segments):
        for passages in _rebased(open_parts(store, PASSAGES)[i : i + 1]):
            builders = {name: family.builder() for name, family in added.items()}
            for batch in _batched(PassageStore([passages]), _BATCH):
                for name, builder in builders.items():
                    builder.add(keys_for[name](batch))
            with change.new_segment(passages.live) as segment:
                merge_passages([passages], segment.part(PASSAGES))
                for other, family in families.items():
                    family.merge(_rebased(open_parts(store, other)[i : i + 1]), segment.part(other))
                for name, builder in builders.items():
                    builder.write(segment.part(name))
        change.drop(old.name)


def _batched(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    iterator = iter(passages)
    while batch := list(islice(iterator, size)):
        yield batch
