"""The loop of a build: documents become passages, passages get keys, batches become segments."""

import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, TypeAlias

from ..corpus import Chunker, Position, Source, Tally
from ..errors import DuplicateId
from ..indexes.collection import Collection
from ..indexes.writer import Duplicates, Writer
from ..models.keys import joined
from ..models.passage_text import passage_keys, slices
from ..records import JSON, Passage
from .interrupts import held_back
from .recipes import AnyEncoder

BATCH = 512
"""Passages taken at once: they are stored together or not at all."""

SLICE = 128
"""Passages that a slow encoder is given at once: enough to sort by length, a few seconds' work."""

COMMIT_SECONDS = 300.0
"""Work of a slow encoder is made durable at least this often."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a build has come: bytes of the source, passages of this run, passages a second."""

    stage: str
    bytes_done: int
    bytes_total: int
    passages: int
    rate: float


Progress: TypeAlias = Callable[[Step], None]


def ignore(step: Step) -> None:
    """The progress of a build that nobody watches."""


@dataclass(slots=True)
class Intake:
    """Feeds one source into a collection; `seconds` says afterwards where the time went."""

    source: Source
    chunker: Chunker | None
    encoders: Mapping[str, AnyEncoder]
    slow: Container[str]
    duplicates: Duplicates
    updating: bool
    plan: Mapping[str, JSON]
    tally: Tally
    memory: int
    progress: Progress
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    passages: int = 0
    position: Position = field(default_factory=Position)
    begun: float = field(default_factory=time.perf_counter)
    committed: float = field(default_factory=time.perf_counter)

    def run(self, collection: Collection, start: Position) -> None:
        """Read from `start` to the end, committing a segment whenever the memory is full.

        An interrupt commits what was added so far and goes on as KeyboardInterrupt.
        """
        self.position = start
        with collection.writer("error") as writer:
            try:
                for documents in self._batches(start):
                    self._take(writer, documents)
                    if self._due(writer):
                        self._commit(writer, complete=False)
            except KeyboardInterrupt:
                self._commit(writer, complete=False)
                raise
            self._commit(writer, complete=True)

    def _batches(self, start: Position) -> Iterator[list[tuple[Passage, Position]]]:
        """Documents that make about BATCH passages."""
        batch: list[tuple[Passage, Position]] = []
        words = 0
        documents = self.source.documents(start)
        while True:
            with self._timed("read"):
                item = next(documents, None)
            if item is None:
                break
            batch.append(item)
            words += len(item[0].text) // 6
            if len(batch) >= BATCH or words >= BATCH * (self.chunker or Chunker()).words:
                yield batch
                batch, words = [], 0
        if batch:
            yield batch

    def _take(self, writer: Writer, documents: Sequence[tuple[Passage, Position]]) -> None:
        kept, replaced, again = self._admitted(writer, documents)
        with self._timed("read"):
            passages = [one for document in kept for one in self._cut(document)]
        end = documents[-1][1].bytes
        keys = {name: self._encoded(name, passages, end) for name in self.encoders}
        self._show("storing", len(passages), end)
        with held_back(), self._timed("store"):
            writer.delete(replaced)
            if passages:
                writer.add(passages, keys)
            self.tally.index(len(kept) - again)
            self.tally.duplicate(len(documents) - len(kept) + again)
            self.position = documents[-1][1]
            self.passages += len(passages)
        self._show("reading")

    def _encoded(self, name: str, passages: Sequence[Passage], end: int) -> Any:
        """The keys of all passages; a slow encoder shows how far it is, towards byte `end`."""
        encoder = self.encoders[name]
        if name not in self.slow or not passages:
            with self._timed(f"encode {name}"):
                return passage_keys(encoder, passages)
        parts: list[Any] = []
        done = 0
        for some in slices(encoder, passages, SLICE):
            share = self.position.bytes + (end - self.position.bytes) * done // len(passages)
            self._show(f"encoding {name}", done, share)
            with self._timed(f"encode {name}"):
                parts.append(passage_keys(encoder, some))
            done += len(some)
        return joined(parts[0], parts[1:])

    def _cut(self, document: Passage) -> list[Passage]:
        return self.chunker.chunks(document) if self.chunker else [document]

    def _admitted(
        self, writer: Writer, documents: Sequence[tuple[Passage, Position]]
    ) -> tuple[list[Passage], list[str], int]:
        """The documents that enter, the ids of the passages that they replace, and how many of
        them replace a document of the same source, so that only one of the two counts as indexed.
        """
        known = self._known(writer, [document.id for document, _ in documents])
        kept: dict[str, Passage] = {}
        replaced: list[str] = []
        again = 0
        for (document, position), is_known in zip(documents, known, strict=True):
            if self.duplicates == "error" and (is_known or document.id in kept):
                raise DuplicateId(
                    f"the id '{document.id}' was seen before",
                    where=f"{position.file}:{position.line}" if position.line else position.file,
                    remedy="Remove one, or choose with --duplicates replace or keep",
                )
            if self.duplicates == "keep" and (is_known or document.id in kept):
                continue
            if is_known and document.id not in kept:
                replaced += passages_of(writer, document.id)
                again += not self.updating
            kept[document.id] = document
        return list(kept.values()), replaced, again

    def _known(self, writer: Writer, ids: list[str]) -> list[bool]:
        """Which documents are there, whole or as chunks."""
        known = writer.known(ids)
        if self.chunker:
            known |= writer.known([f"{id}#0" for id in ids])
        return list(map(bool, known))

    def _due(self, writer: Writer) -> bool:
        late = time.perf_counter() - self.committed > COMMIT_SECONDS
        return writer.nbytes >= self.memory or late

    def _commit(self, writer: Writer, *, complete: bool) -> None:
        self._show("writing")
        if self.tally.file is not None:
            self.tally.file.flush()
        with held_back(), self._timed("commit"):
            writer.commit(
                {
                    **self.plan,
                    "position": self.position.as_json(),
                    "counts": self.tally.counts.as_json(),
                    "seconds": dict(self.seconds),
                    "complete": complete,
                }
            )
        self.committed = time.perf_counter()

    def _show(self, stage: str, ahead: int = 0, bytes_done: int | None = None) -> None:
        """Report progress; `ahead` passages of the batch in work are encoded already."""
        taken = max(time.perf_counter() - self.begun, 1e-9)
        done = self.position.bytes if bytes_done is None else bytes_done
        passages = self.passages + ahead
        self.progress(Step(stage, done, self.source.total_bytes, passages, passages / taken))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begin


def passages_of(writer: Writer, document: str) -> list[str]:
    """The ids under which a document was stored: its own, or those of its chunks."""
    width = 16
    chunks = [f"{document}#{number}" for number in range(width)]
    while writer.known(chunks[-1:])[0]:
        width *= 2
        chunks = [f"{document}#{number}" for number in range(width)]
    known = writer.known(chunks)
    there = [id for id, _ in takewhile(lambda pair: pair[1], zip(chunks, known, strict=True))]
    return [document, *there]
