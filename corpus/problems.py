"""What is wrong with one document, and what a build does about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import InputError

OnError: TypeAlias = Literal["stop", "skip"]
SKIP = "Correct it, or leave such documents out with --on-error skip"


@dataclass(frozen=True, slots=True)
class Reject:
    """A document that was refused.

    file: as the source names it.  line: from 1, or 0 where lines mean nothing.  offset: of the
    first byte (of the uncompressed file).  id: "" where it is not known.  code: one word for
    programs.  reason: a sentence for people.
    """

    file: str
    line: int
    offset: int
    id: str
    code: str
    reason: str


class Problem(Exception):
    """One document is refused; never leaves this folder: it ends as a Reject or an InputError."""

    def __init__(self, code: str, reason: str, *, line: int = 0, remedy: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason, self.line, self.remedy = code, reason, line, remedy
        self.id = ""

    def of(self, id: str) -> "Problem":
        """The same, now that the id of the document is known."""
        self.id = id
        return self


@dataclass(slots=True)
class Sieve:
    """Decides whether a refused document stops the run.

    An empty document never does: it is counted, but nothing in it could be found, and real
    collections contain some. `max_errors` bounds the others, within one run.
    """

    on_error: OnError
    max_errors: int | None
    sink: Callable[[Reject], None] | None
    errors: int = 0

    def refuse(self, problem: Problem, reject: Reject) -> None:
        """Hands the reject on; raises InputError where the run must stop."""
        if problem.code != "empty":
            self.errors += 1
            self._stop(problem, reject)
        if self.sink is not None:
            self.sink(reject)

    def _stop(self, problem: Problem, reject: Reject) -> None:
        if self.on_error == "stop":
            cure = f"{problem.remedy}. {SKIP}" if problem.remedy else SKIP
            raise InputError(named(reject), where=place(reject), remedy=cure)
        if self.max_errors is not None and self.errors > self.max_errors:
            raise InputError(
                f"more than {self.max_errors} documents were refused; the last: {named(reject)}",
                where=place(reject),
                remedy="Correct them, or raise --max-errors",
            )


def place(reject: Reject) -> str:
    """Where it stands, for people: FILE:LINE, or FILE alone."""
    return f"{reject.file}:{reject.line}" if reject.line else reject.file


def named(reject: Reject) -> str:
    """The reason, with the id of the document where it is known."""
    return f"document '{shown(reject.id)}': {reject.reason}" if reject.id else reject.reason


def shown(name: str | Path) -> str:
    """A name as it may stand on a terminal: no control characters, and a long id cut short."""
    text, most = str(name), 120 if isinstance(name, str) else 4096
    printable = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= most else printable[: most - 3] + "..."
