"""The knowledge source of KILT: one Wikipedia page a line (Petroni et al. 2021, KILT).

{"wikipedia_id", "wikipedia_title", "text": [paragraphs], ...}. Paragraph 0 is the title,
"Section::::A.:B." is the heading B inside A, and "BULLET::::- item" is a list item.
"""

from ..records import JSON, Passage
from .identifiers import identifier, kind
from .jsonl import check_content, string
from .outline import DEEPEST, Heading, outlined
from .problems import Problem
from .strict import Object, parse

_SECTION, _BULLET = "Section::::", "BULLET::::"


def is_page(record: Object) -> bool:
    """Whether a record of JSON lines is a page of a KILT knowledge source."""
    return "wikipedia_id" in record and isinstance(record.get("text"), list)


def document(content: bytes) -> Passage:
    """The page of one line: id = wikipedia_id, one line of text a paragraph from the first on.

    So paragraph n of KILT is line n of the text, from 1. Raises Problem.
    """
    record = parse(content)
    id = identifier(record.get("wikipedia_id"), "wikipedia_id")
    try:
        title = string(record.get("wikipedia_title") or "", "wikipedia_title")
        text, headings = _text(_paragraphs(record))
        check_content(text, title)
    except Problem as problem:
        raise problem.of(id) from None
    return Passage(id, text, title, {"wikipedia_id": id, **outlined(headings)})


def _paragraphs(record: Object) -> list[str]:
    paragraphs: JSON = record.get("text")
    if not isinstance(paragraphs, list):
        raise Problem("type", f"field 'text' is {kind(paragraphs)}, not a list of paragraphs")
    return [string(item, f"text[{number}]") for number, item in enumerate(paragraphs)][1:]


def _text(paragraphs: list[str]) -> tuple[str, list[Heading]]:
    lines: list[str] = []
    headings: list[Heading] = []
    offset = 0
    for paragraph in paragraphs:
        line = " ".join(paragraph.strip().splitlines())
        if line.startswith(_SECTION):
            path = line.removeprefix(_SECTION).rstrip(".").split(".:")
            line = path[-1].strip()
            headings.append(Heading(offset, min(len(path), DEEPEST), line))
        line = line.removeprefix(_BULLET)
        lines.append(line)
        offset += len(line) + 1
    return "\n".join(lines), headings
