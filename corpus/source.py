"""A source of documents: read in constant memory, from any position, with every refusal counted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..records import JSON, Passage
from .problems import OnError, Problem, Reject, Sieve, shown
from .reading import Piece, Position, Reader


@dataclass(frozen=True, slots=True)
class Source:
    """What `open_source` recognised.

    kind: "beir", "kilt", "jsonl", "tsv" or "files".  total_bytes: on disk, what
    `Position.bytes` counts up to.  chunked: whether its documents are long, so that they are cut
    into passages unless the user says otherwise.  notes: sentences for people about what was
    left out or dropped by rule.
    """

    kind: str
    path: Path
    total_bytes: int
    chunked: bool
    notes: tuple[str, ...]
    reader: Reader
    on_error: OnError = "stop"
    max_errors: int | None = None
    rejects: Callable[[Reject], None] | None = None

    def documents(self, start: Position | None = None) -> Iterator[tuple[Passage, Position]]:
        """Each document, with the position after it: from there the rest can be read.

        Refused documents go to `rejects` before the next document comes. Raises InputError where
        one is refused and on_error is "stop", where there are more than `max_errors`, where a
        file is damaged, and at the end if no document was any good; DiskError.
        """
        at = start or Position()
        sieve = Sieve(self.on_error, self.max_errors, self.rejects)
        records, rejected = at.records, at.rejected
        for piece in self.reader.pieces(at):
            records += 1
            try:
                passage = self.reader.document(piece)
            except Problem as problem:
                rejected += 1
                sieve.refuse(problem, _reject(problem, piece))
                continue
            _, _, name, line, _, end, stored = piece
            yield passage, Position(name, end, line, records, rejected, stored)
        if records == rejected:
            raise self._nothing(records)

    def _nothing(self, records: int) -> InputError:
        if not records:
            return InputError("there is no document in it", where=shown(self.path))
        return InputError(
            f"none of its {records:,} documents can be indexed: all are empty or were refused",
            where=shown(self.path),
            remedy="See the rejects for the reasons",
        )

    def signature(self) -> Mapping[str, JSON]:
        """What must be unchanged for a build to be resumed: kind, files, sizes and times."""
        return {"kind": self.kind, **self.reader.signature()}


def _reject(problem: Problem, piece: Piece) -> Reject:
    line = piece.line or problem.line
    return Reject(piece.file, line, piece.start, problem.id, problem.code, problem.reason)
