"""From a source of documents to a collection, which an interrupted build can go on with."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from ..corpus import Chunker, Counts, Position, RejectsFile, Source, Tally, open_source
from ..corpus.problems import OnError
from ..errors import InputError, UsageError
from ..indexes.collection import Collection
from ..indexes.writer import Duplicates
from ..models.fingerprint import canary
from ..records import JSON
from .beside import LUCENE, open_lucene
from .encoders import encoder_of
from .intake import Intake, Progress, ignore
from .recipes import AnyEncoder, Settings, default_names
from .wanted import Models, Wanted
from .wanted import wanted as read_wanted

Mode: TypeAlias = Literal["create", "resume", "update"]

MEGABYTE = 1 << 20
_GO_ON = "Add --resume to continue an interrupted build, or --update to add and replace documents"


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    counts: documents of the source, those of the interrupted run included.  passages: live in the
    collection now.  seconds: where the time went (read, encode NAME, store, commit).
    rejects: the file of refused documents, if there are any.  notes: sentences for people.
    """

    collection: Path
    generation: int
    indexes: tuple[str, ...]
    counts: Counts
    passages: int
    seconds: Mapping[str, float]
    rejects: Path | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a resumed build has to share with the interrupted one; in the note of each commit."""

    source: Mapping[str, JSON]
    chunk: int
    duplicates: Duplicates
    updating: bool

    def as_json(self) -> dict[str, JSON]:
        return {
            "source": self.source,
            "chunk": self.chunk,
            "duplicates": self.duplicates,
            "updating": self.updating,
        }


def build(
    source: Path | str,
    to: Path | str,
    *,
    using: Sequence[str] | None = None,
    model: Models = None,
    options: Mapping[str, Settings] | None = None,
    chunk: int | None = None,
    mode: Mode = "create",
    duplicates: Duplicates | None = None,
    on_error: OnError = "stop",
    max_errors: int | None = None,
    memory: int = 256 * MEGABYTE,
    progress: Progress = ignore,
) -> BuildReport:
    """Read the documents of `source` into the collection `to`.

    using: indexes to build, each ``[NAME=]KIND[:VARIANT]``, and "lucene" for one beside the
    collection (default: BM25, and dense vectors where their extra is installed).  model: of the
    only index that takes one, or models by index name.  options: of encoders and indexes, by index
    name.  chunk: words a passage, 0 for whole documents (default: 150 for files of text, 0 for
    what is passages already).  mode: "create" a new collection, "resume" an interrupted build, or
    "update" an existing one, replacing documents by id.
    duplicates: what a second document with the same id does (default: "error"; "replace" when
    updating).  memory: bytes held before a segment is written.  Refused documents are listed in
    ``TO.rejects.jsonl``.

    An interrupt keeps what was indexed so far; a kill loses at most the segment in work.
    Raises UsageError, InputError, DuplicateId, Locked, Mismatch, Damaged and DiskError.
    """
    to = Path(to)
    lucene = LUCENE in (using or ())
    using = [spec for spec in using if spec != LUCENE] if using is not None else None
    read = open_source(Path(source), on_error=on_error, max_errors=max_errors)
    collection = _target(to, mode, using, model, options)
    plan, position, counts = _begin(collection, read, mode, chunk, duplicates)
    path = to.with_name(f"{to.name}.rejects.jsonl")
    with RejectsFile(path, keep=position.rejected) as rejects:
        tally = Tally(counts, rejects)
        encoders = {name: encoder_of(collection, name) for name in collection.families}
        before = {name: _cut(encoder) for name, encoder in encoders.items()}  # by what was checked
        intake = Intake(
            replace(read, rejects=tally.reject),
            Chunker(plan.chunk, plan.chunk // 5) if plan.chunk else None,
            encoders,
            frozenset(collection.canaries),
            plan.duplicates,
            plan.updating,
            plan.as_json(),
            tally,
            memory,
            progress,
        )
        intake.seconds.update(_seconds_before(collection, mode))
        with _nothing_left_behind(collection, mode):
            intake.run(collection, position)
    collection = collection.refresh()
    if lucene:
        open_lucene(collection).close()
    return BuildReport(
        to,
        collection.generation,
        tuple(collection.families),
        tally.counts,
        len(collection),
        intake.seconds,
        path if path.exists() else None,
        (*read.notes, *_truncated(encoders, before)),
    )


@contextmanager
def _nothing_left_behind(collection: Collection, mode: Mode) -> Iterator[None]:
    """A new collection that fails before its first commit goes, so that the command can be run
    again as it was once its input is mended.
    """
    try:
        yield
    except Exception:
        if mode == "create" and collection.refresh().generation == collection.generation:
            shutil.rmtree(collection.folder)
        raise


def _cut(encoder: AnyEncoder) -> tuple[int, int]:
    """How many texts an encoder has cut, of how many."""
    return getattr(encoder, "truncated", 0), getattr(encoder, "encoded", 0)


def _truncated(
    encoders: Mapping[str, AnyEncoder], before: Mapping[str, tuple[int, int]]
) -> list[str]:
    """A sentence for each encoder that did not read its passages to the end."""
    notes = []
    for name, encoder in encoders.items():
        cut, all_ = (now - then for now, then in zip(_cut(encoder), before[name], strict=True))
        if cut:
            limit = getattr(encoder, "max_length", None)
            notes.append(
                f"{cut:,} of {all_:,} passages are longer than the {limit} tokens that the "
                f"encoder of '{name}' reads; their ends are not in its vectors"
            )
    return notes


def _target(
    to: Path,
    mode: Mode,
    using: Sequence[str] | None,
    model: Models,
    options: Mapping[str, Settings] | None,
) -> Collection:
    """The collection to write to: a new one, or an existing one with the indexes it has."""
    if mode == "create":
        return _created(
            to, read_wanted(default_names() if using is None else using, model, options)
        )
    if not to.exists():
        remedy = "Leave out --resume and --update to build a new one"
        raise UsageError("there is no collection", where=str(to), remedy=remedy)
    collection = Collection.open(to)
    if using is not None:
        _check_same(collection, read_wanted(using, model, options), to)
    return collection


def _check_same(collection: Collection, asked: Sequence[Wanted], to: Path) -> None:
    """Raise UsageError unless the collection has just these indexes."""
    names = [one.name for one in asked]
    if set(names) != set(collection.families):
        raise UsageError(
            f"the collection has the indexes {','.join(collection.families)}, not "
            f"{','.join(names)}",
            where=str(to),
            remedy="Leave out --with, or build another collection",
        )


def _created(to: Path, asked: Sequence[Wanted]) -> Collection:
    if to.exists() and any(to.iterdir() if to.is_dir() else (to,)):
        raise UsageError("the target exists already", where=str(to), remedy=_GO_ON)
    encoders = {one.name: one.encoder() for one in asked}
    return Collection.create(
        to,
        {one.name: one.family(encoders[one.name]) for one in asked},
        encoders={name: encoder.fingerprint for name, encoder in encoders.items()},
        canaries={one.name: canary(encoders[one.name]) for one in asked if one.recipe.takes_model},
    )


def _begin(
    collection: Collection,
    read: Source,
    mode: Mode,
    chunk: int | None,
    duplicates: Duplicates | None,
) -> tuple[Plan, Position, Counts]:
    """Where to begin: at the start of the source, or where the interrupted build stopped."""
    note = collection.note
    if mode == "resume" and "position" in note:
        return _interrupted(note, read, str(collection.folder))
    words = (Chunker().words if read.chunked else 0) if chunk is None else chunk
    updating = mode == "update"
    usual: Duplicates = "replace" if updating else "error"
    plan = Plan(read.signature(), words, duplicates or usual, updating)
    return plan, Position(), Counts()


def _seconds_before(collection: Collection, mode: Mode) -> Mapping[str, float]:
    """What the interrupted build had spent already."""
    spent = collection.note.get("seconds") if mode == "resume" else None
    return cast(Mapping[str, float], spent) if isinstance(spent, Mapping) else {}


def _interrupted(
    note: Mapping[str, Any], read: Source, where: str
) -> tuple[Plan, Position, Counts]:
    if note.get("complete"):
        remedy = "Use --update to add documents or replace them"
        raise UsageError("the build is complete, nothing is left to do", where=where, remedy=remedy)
    if note["source"] != read.signature():
        raise InputError(
            "the source is not what the interrupted build was reading",
            where=str(read.path),
            remedy="Name the same source, unchanged, or use --update to index all of it",
        )
    duplicates, updating = cast(Duplicates, note["duplicates"]), bool(note["updating"])
    plan = Plan(note["source"], note["chunk"], duplicates, updating)
    return plan, Position.from_json(note["position"]), Counts.from_json(note["counts"])
