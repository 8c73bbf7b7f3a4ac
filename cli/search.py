"""`ragstone search` and `ragstone ask`."""

import argparse
import json
from typing import Any

from ..errors import UsageError
from ..pipeline import Found, Library
from ..records import Answer, Filter, Passage
from .notices import announce_compilation
from .output import indented, json_line, out

SHOWN_CHARACTERS = 280


def search(arguments: argparse.Namespace) -> None:
    """Print the best passages for a query."""
    announce_compilation()
    library = Library.open(arguments.collection)
    found = library.search(
        arguments.query, arguments.k, using=arguments.using, filter=_filter(arguments.filter)
    )
    for rank, one in enumerate(found, 1):
        if arguments.json:
            json_line(_record(rank, one))
        else:
            show_found(rank, one)
    if not found and not arguments.json:
        out().print("nothing found")


def ask(arguments: argparse.Namespace) -> None:
    """Print an answer and what it rests on."""
    announce_compilation()
    library = Library.open(arguments.collection)
    answer = library.ask(
        arguments.question,
        depth=arguments.k,
        using=arguments.using,
        filter=_filter(arguments.filter),
    )
    if arguments.json:
        json_line(_answer_record(library, answer))
    else:
        show_answer(library, answer)


def show_answer(library: Library, answer: Answer) -> None:
    """The answer, then one line a citation: where it stands."""
    screen = out()
    screen.print(answer.text, markup=False)
    if answer.citations:
        screen.print()
    passages = library.passages([citation.passage_id for citation in answer.citations])
    for number, (citation, passage) in enumerate(zip(answer.citations, passages, strict=True), 1):
        place = f"[{number}] {passage.id}, characters {citation.start}-{citation.end}"
        heading = _heading(passage.title, passage.metadata)
        screen.print(f"{place}{f' ({heading})' if heading else ''}", markup=False, style="dim")
    if "note" in answer.trace:
        screen.print(f"({answer.trace['note']}: the answer quotes)", markup=False, style="dim")


def show_found(rank: int, found: Found) -> None:
    """One hit: rank, score, id, where it stands and how it begins."""
    screen, passage = out(), found.passage
    heading = _heading(passage.title, passage.metadata)
    screen.print(f"{rank:>2}  {found.score:.4f}  {passage.id}", style="bold", markup=False)
    if heading:
        indented(heading)
    indented(_shortened(_body(passage)))


def _heading(title: str, metadata: Any) -> str:
    path = [str(part) for part in metadata.get("headings", ())]
    if title and (not path or path[0] != title):
        path.insert(0, title)
    return " > ".join(path)


def _body(passage: Passage) -> str:
    """The text without the heading that it begins with, which is shown above it."""
    headings = passage.metadata.get("headings")
    first = str(headings[-1]) if isinstance(headings, list) and headings else ""
    return passage.text.removeprefix(first) if first else passage.text


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return (
        line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS].rsplit(' ', 1)[0]} …"
    )


def _record(rank: int, found: Found) -> dict[str, Any]:
    passage = found.passage
    return {
        "rank": rank,
        "id": passage.id,
        "score": found.score,
        "text": passage.text,
        "title": passage.title,
        "metadata": dict(passage.metadata),
    }


def _answer_record(library: Library, answer: Answer) -> dict[str, Any]:
    passages = library.passages([citation.passage_id for citation in answer.citations])
    cited = [
        {"id": c.passage_id, "start": c.start, "end": c.end, "quote": p.text[c.start : c.end]}
        for c, p in zip(answer.citations, passages, strict=True)
    ]
    return {"answer": answer.text, "citations": cited, "trace": dict(answer.trace)}


def _filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    try:
        condition = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--filter is not JSON: {error}", where=text) from None
    if not isinstance(condition, dict):
        remedy = """Write an object, such as '{"year": {"$gte": 2020}}'"""
        raise UsageError("--filter is not an object", where=text, remedy=remedy)
    return condition
