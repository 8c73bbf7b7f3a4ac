"""Writing a collection: passages and their keys are collected in memory and committed as segments.

A row never moves and is never changed. What is deleted, replaced or skipped is a tombstone, in
committed segments and in the one that is being collected alike, so every index learns of it in
the same way; compaction removes such rows for good.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import Conflict, DiskError, DuplicateId, InputError, UsageError
from ..records import JSON, Bitmap, Passage
from ..storage import Store
from .compaction import merge_small
from .family import BadKey, Family
from .passage_builder import PassageBuilder, check_passage
from .passages import PassageStore
from .segments import PASSAGES, changing, open_parts

Duplicates: TypeAlias = Literal["error", "replace", "keep"]
"""What becomes of a passage whose id is there already: refuse it, let it replace, or skip it."""

_ID_COST = 160
"""Bytes of Python objects for one id of the open segment, beside its characters."""


class _OpenSegment:
    """The segment that is being collected: builders in step, and which of its rows are dead."""

    def __init__(self, families: Mapping[str, Family[Any, Any]]) -> None:
        self.passages = PassageBuilder()
        self.builders = {name: family.builder() for name, family in families.items()}
        self.row_of: dict[str, int] = {}
        self.dead: list[int] = []

    @property
    def nbytes(self) -> int:
        ids = _ID_COST * len(self.row_of) + 36 * len(self.dead)
        builders = sum(builder.nbytes for builder in self.builders.values())
        return self.passages.nbytes + builders + ids


class Writer:
    """Adds and deletes passages; made by `Collection.writer`, used in a `with` block.

    It holds the lock of the collection. What was not committed when the block is left, by its end
    or by an exception, is abandoned.
    """

    def __init__(
        self, store: Store, families: Mapping[str, Family[Any, Any]], duplicates: Duplicates
    ) -> None:
        if duplicates not in ("error", "replace", "keep"):
            raise UsageError(
                f"duplicates={duplicates!r} is unknown", remedy="Known: error replace keep"
            )
        self._store, self._families, self._duplicates = store, families, duplicates
        self._stack = ExitStack()
        self._inside = False
        self._failed: Conflict | DiskError | None = None

    def __enter__(self) -> Self:
        self._change = self._stack.enter_context(changing(self._store))
        self._start(self._change.store)
        self._inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        self._stack.__exit__(kind, error, traceback)

    def _start(self, store: Store) -> None:
        """Start an empty segment over this generation."""
        self._store = store
        self._passages = PassageStore(open_parts(store, PASSAGES))
        self._open = _OpenSegment(self._families)
        self._gone: Bitmap | None = None  # committed rows that this commit will delete
        self._whole = True

    @property
    def nbytes(self) -> int:
        """Memory held for what is not committed yet; commit when it reaches your budget."""
        return self._open.nbytes

    def known(self, ids: Sequence[str]) -> Bitmap:
        """(n,) bool: which ids are taken, committed or not. Ask before encoding what is kept."""
        taken = self._committed(ids) >= 0
        taken |= np.array([id in self._open.row_of for id in ids], dtype=np.bool_)
        return taken

    def add(self, passages: Sequence[Passage], keys: Mapping[str, Any]) -> int:
        """Add a batch with its keys, one entry per index: all of it, or an InputError and nothing.

        Returns how many passages were skipped, which only happens with duplicates="keep".
        """
        self._check_usable()
        if not passages:
            return 0
        rows = [check_passage(passage) for passage in passages]
        self._check_keys(passages, keys)
        ids = [passage.id for passage in passages]
        committed = self._committed(ids)
        if self._duplicates == "error":
            self._refuse_duplicates(ids, committed)
        skipped = self._skipped(ids, committed)
        if len(skipped) == len(ids):
            return len(ids)
        start = self._open.passages.rows
        self._whole = False
        for name, builder in self._open.builders.items():
            builder.add(keys[name])
        self._open.passages.add(rows)
        self._note(ids, start, skipped)
        if self._duplicates == "replace":
            self._bury(committed)
        self._whole = True
        return len(skipped)

    def _check_usable(self) -> None:
        if not self._inside:
            raise UsageError(
                "the writer is closed", remedy="Use: with collection.writer() as writer"
            )
        if self._failed is not None:
            raise self._failed
        if not self._whole:
            raise UsageError(
                "an interrupted call left the open segment incomplete",
                remedy="Leave the writer; everything committed is safe",
            )

    def _check_keys(self, passages: Sequence[Passage], keys: Mapping[str, Any]) -> None:
        """One batch of keys per index, one key per passage, each one that can be stored."""
        if set(keys) != set(self._families):
            raise UsageError(
                f"keys were given for {sorted(keys)}, the indexes are {sorted(self._families)}",
                remedy="Give the keys of every index",
            )
        for name, family in self._families.items():
            if len(keys[name]) != len(passages):
                raise UsageError(
                    f"{len(passages)} passages came with {len(keys[name])} keys for '{name}'",
                    remedy="Give one key per passage",
                )
            try:
                family.check(keys[name])
            except BadKey as error:
                raise InputError(
                    error.what,
                    where=f"passage '{passages[error.row].id}', index '{name}'",
                    remedy=error.remedy,
                ) from None

    def _committed(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """(n,) the passage number of every id in the last commit, less what was deleted since."""
        numbers = self._passages.numbers(ids)
        if self._gone is not None and len(self._gone):
            numbers[(numbers >= 0) & self._gone[numbers]] = -1
        return numbers

    def _refuse_duplicates(self, ids: Sequence[str], committed: NDArray[np.int64]) -> None:
        seen: dict[str, int] = {}
        for i, id in enumerate(ids):
            if id in seen:
                place = f"twice in this batch, as passages {seen[id]} and {i}"
            elif id in self._open.row_of:
                place = f"already added as passage {self._open.row_of[id]} of this commit"
            elif committed[i] >= 0:
                generation = self._store.generation
                place = f"passage number {committed[i]} of generation {generation} already"
            else:
                seen[id] = i
                continue
            raise DuplicateId(
                f"the id '{id}' is {place}",
                remedy="Remove one, or write with duplicates 'replace' or 'keep'",
            )

    def _skipped(self, ids: Sequence[str], committed: NDArray[np.int64]) -> set[int]:
        """Which passages of a batch do not enter, because the first with their id stays."""
        if self._duplicates != "keep":
            return set()
        seen: set[str] = set()
        skipped: set[int] = set()
        for i, id in enumerate(ids):
            if committed[i] >= 0 or id in self._open.row_of or id in seen:
                skipped.add(i)
            seen.add(id)
        return skipped

    def _note(self, ids: Sequence[str], start: int, skipped: set[int]) -> None:
        """Enter the new rows; those that were skipped or are replaced by them are dead."""
        for i, id in enumerate(ids):
            if i in skipped:
                self._open.dead.append(start + i)
                continue
            if id in self._open.row_of:
                self._open.dead.append(self._open.row_of[id])
            self._open.row_of[id] = start + i

    def _bury(self, numbers: NDArray[np.int64]) -> int:
        """Mark committed rows for deletion; returns how many."""
        numbers = np.unique(numbers[numbers >= 0])
        if not len(numbers):
            return 0
        if self._gone is None:
            self._gone = np.zeros(self._passages.rows, dtype=np.bool_)
        self._gone[numbers] = True
        return len(numbers)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by id, committed or not; returns how many there were. Unknown ids are no error."""
        self._check_usable()
        deleted = self._bury(self._committed(ids))
        for id in ids:
            row = self._open.row_of.pop(id, None)
            if row is not None:
                self._open.dead.append(row)
                deleted += 1
        return deleted

    def commit(self, note: Mapping[str, JSON] | None = None) -> int:
        """Make everything since the last commit durable, as one generation; returns its number.

        The note is kept with the generation. With nothing to write and no note, nothing happens.
        """
        self._check_usable()
        if not self._open.row_of and self._gone is None and note is None:
            return self._store.generation
        self._whole = False
        self._write_segment()
        self._write_deletes()
        self._start(self._change.commit(note=note))
        self._merge()
        return self._store.generation

    def _merge(self) -> None:
        """Merge small segments, if there are many. Nothing that was committed depends on it, so
        when it fails the commit has not: the next call says so, and the next writer tries again.
        """
        try:
            merged = merge_small(self._change, self._families)
        except (Conflict, DiskError) as error:
            self._failed = error
        else:
            self._start(merged or self._store)

    def _write_segment(self) -> None:
        if not self._open.row_of:
            return
        with self._change.new_segment(self._open.passages.rows) as segment:
            self._open.passages.write(segment.part(PASSAGES))
            for name, builder in self._open.builders.items():
                builder.write(segment.part(name))
        if self._open.dead:
            dead = np.array(sorted(self._open.dead), dtype=np.int64)
            self._change.delete(segment.name, dead)

    def _write_deletes(self) -> None:
        """Tombstones for committed rows; a segment with no live row left is dropped."""
        if self._gone is None:
            return
        live = ~self._gone if self._passages.live is None else self._passages.live & ~self._gone
        for part, segment in zip(
            open_parts(self._store, PASSAGES), self._store.segments, strict=True
        ):
            rows = slice(part.base, part.base + part.rows)
            if not live[rows].any():
                self._change.drop(segment.name)
            elif self._gone[rows].any():
                self._change.delete(segment.name, np.flatnonzero(self._gone[rows]))
