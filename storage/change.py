"""A change: new segments, deletes and drops on top of one generation, committed as the next."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..errors import Conflict, DiskError, RagstoneError, UsageError
from ..records import JSON
from .canonical import plain
from .disk import MISSING, remove_file, remove_tree, writing
from .files import write_file
from .folder import (
    DELETES,
    SEGMENTS,
    generations,
    holds,
    manifest_path,
    publish_manifest,
    stamped,
)
from .garbage import collect, present
from .lock import WriteLock
from .manifest import DeletesRecord, FileRecord, Manifest, SegmentRecord
from .part import look_up
from .segment import SegmentWriter, open_maps, pack

if TYPE_CHECKING:
    from .store import Store


class Change:
    """Collects a change inside `with` and under the write lock; see `Store.begin`.

    store: the generation that the change is based on; after a commit, the new one.
    settings: what the next commit stores as settings.
    What was not committed when the block is left is abandoned and its files removed.
    """

    def __init__(self, store: "Store") -> None:
        self._disk, self._folder = store.disk, store.folder
        self._stack = ExitStack()
        self._usable = False
        self._rebase(store)

    def _rebase(self, store: "Store") -> None:
        self.store, self.settings = store, store.settings
        self._segments = {one.name: one.record for one in store.segments}
        self._deleted: dict[str, NDArray[np.bool_]] = {}
        self._made: list[Path] = []
        self._writing = 0

    def __enter__(self) -> Self:
        """Takes the lock. Raises Locked, Conflict, DiskError."""
        with ExitStack() as stack:
            self._lock = stack.enter_context(WriteLock(self._disk, self._folder))
            self._check_newest()
            self._stack = stack.pop_all()
        self._usable = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._usable = False
        with self._stack:
            self._abandon()

    @contextmanager
    def new_segment(self, rows: int) -> Iterator[SegmentWriter]:
        """A writer for a new segment of `rows` rows; it comes last in order."""
        self._check_usable()
        if rows < 0:
            raise UsageError(f"a segment of {rows} rows")
        name = str(uuid4())
        path = self._folder / SEGMENTS / name
        self._writing += 1
        try:
            with self._overtaken():
                writer = SegmentWriter(self._disk, path, name, rows)
                yield writer
                self._segments[name] = writer.finish()
            self._made.append(path)
        except BaseException:
            remove_tree(self._disk, path)
            raise
        finally:
            self._writing -= 1

    def delete(self, segment_name: str, rows: NDArray[np.int64]) -> None:
        """Marks rows of a segment as deleted, besides those that are already."""
        self._check_usable()
        record = look_up(self._segments, segment_name, "segment")
        if not len(rows):
            return
        if rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= record.rows:
            span = f"{rows.dtype} from {rows.min()} to {rows.max()}"
            raise UsageError(f"rows ({span}) of a segment with {record.rows} rows")
        if segment_name not in self._deleted:
            self._deleted[segment_name] = self._deleted_before(record)
        self._deleted[segment_name][rows] = True

    def drop(self, segment_name: str) -> None:
        """Leaves a segment out of the next generation."""
        self._check_usable()
        look_up(self._segments, segment_name, "segment")
        del self._segments[segment_name]
        self._deleted.pop(segment_name, None)

    def commit(self, *, note: Mapping[str, JSON] | None = None) -> "Store":
        """Makes the change durable as the next generation, which it returns.

        The change then goes on from there and may be committed again. After an error it is spent.
        Raises Conflict, DiskError, UsageError.
        """
        self._check_usable()
        if self._writing:
            raise UsageError("a segment is still being written", remedy="Leave its block first")
        self._usable = False
        with self._overtaken():
            manifest = self._manifest(note or {})
            maps = self.store.maps.copy()
            open_maps(self._disk, self._folder, manifest.segments, "size", maps)
            store = self.store.successor(manifest, maps)
            self._sync_names()
            self._check_newest()
            before = present(self._disk, self._folder)
            self._publish(manifest.generation, manifest.encode())
        if self._lock.held:
            collect(self._disk, self._folder, before, [self.store.manifest, manifest])
        self._rebase(store)
        self._usable = True
        return store

    @contextmanager
    def _overtaken(self) -> Iterator[None]:
        """Turns the loss of our own files into the Conflict that it is: whoever commits removes
        what others were writing, if the lock has not kept them out.
        """
        try:
            yield
        except (DiskError, *MISSING) as error:
            if isinstance(error.__cause__ or error, MISSING):
                self._check_newest()
            raise

    def _manifest(self, note: Mapping[str, JSON]) -> Manifest:
        generation = self.store.generation + 1
        settings, note = plain(self.settings, "settings"), plain(note, "note")
        segments = tuple(self._with_deletes(one, generation) for one in self._segments.values())
        base = stamped(self.store.manifest, generation)
        return replace(base, settings=settings, note=note, segments=segments)

    def _deleted_before(self, record: SegmentRecord) -> NDArray[np.bool_]:
        for segment in self.store.segments:
            if segment.name == record.name and segment.deleted is not None:
                return segment.deleted.copy()
        return np.zeros(record.rows, np.bool_)

    def _with_deletes(self, record: SegmentRecord, generation: int) -> SegmentRecord:
        """The record of a segment with a new tombstone file, if there are new tombstones."""
        deleted = self._deleted.get(record.name)
        if deleted is None:
            return record
        count = int(deleted.sum())
        if record.deletes is not None and record.deletes.count == count:
            return record
        name, file = self._write_tombstones(f"{generation:012d}-{record.name}", pack(deleted))
        return replace(record, deletes=DeletesRecord(name, count, file))

    def _write_tombstones(self, stem: str, data: bytes) -> tuple[str, FileRecord]:
        folder = self._folder / DELETES
        path = folder / f"{stem}.bin"
        try:
            file = write_file(self._disk, path, data)
        except DiskError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            # A killed writer left it, or without locks another one is at it: it may not be ours.
            path = folder / f"{stem}-{uuid4().hex[:8]}.bin"
            file = write_file(self._disk, path, data)
        self._made.append(path)
        return path.name, file

    def _sync_names(self) -> None:
        made_in = {path.parent for path in self._made}
        for folder in [*sorted(made_in), self._folder]:
            with writing(folder):
                self._disk.sync_folder(folder)

    def _publish(self, generation: int, data: bytes) -> None:
        # From here on the manifest may exist, even if an interrupt keeps us from learning it: its
        # files may only be removed when the disk says that it does not.
        made, self._made = self._made, []
        try:
            publish_manifest(self._disk, self._folder, generation, data)
        except RagstoneError:
            if holds(self._disk, manifest_path(self._folder, generation), data) is False:
                self._made = made
            raise

    def _check_newest(self) -> None:
        newest = max(generations(self._disk, self._folder), default=0)
        if newest != self.store.generation:
            raise Conflict(
                f"generation {newest} was committed after generation {self.store.generation}, "
                "which this change is based on",
                where=str(self._folder),
                remedy="Open the folder again and repeat the change",
            )

    def _check_usable(self) -> None:
        if not self._usable:
            raise UsageError(
                "this change is not open, or its commit failed",
                remedy="Use: with store.begin() as change",
            )

    def _abandon(self) -> None:
        for path in self._made:
            if path.parent.name == SEGMENTS:
                remove_tree(self._disk, path)
            else:
                remove_file(self._disk, path)
        self._made = []
