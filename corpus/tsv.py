"""Documents as tab-separated columns: MS MARCO's collection.tsv, DPR's psgs_w100.tsv.

Without a header: id, text, or id, text, title. With one, columns are found by name and further
columns join the metadata.
"""

from dataclasses import dataclass

from ..errors import InputError
from ..records import Passage
from .identifiers import identifier
from .jsonl import check_content
from .problems import Problem
from .strict import check_text, decode

_ID = ("_id", "id", "docid", "doc_id", "pid")
_TEXT = ("text", "contents", "passage", "body")


@dataclass(frozen=True, slots=True)
class Columns:
    """names: of all columns, in order.  header: whether the first line says so.

    With a header, fields may be quoted as DPR writes them ("" inside quotes is one quote);
    without one, quotes are text, as in MS MARCO.
    """

    names: tuple[str, ...]
    id: int
    text: int
    title: int | None
    header: bool


def columns(first: str, where: str) -> Columns:
    """Reads off the first line what the columns are. Raises InputError."""
    names = tuple(name.strip().strip('"').lower() for name in first.split("\t"))
    text = next((at for at, name in enumerate(names) if name in _TEXT), None)
    if names[0] in _ID and text is not None and len(set(names)) == len(names):
        title = names.index("title") if "title" in names else None
        return Columns(names, 0, text, title, header=True)
    if len(names) not in (2, 3):
        raise InputError(
            f"the first line has {len(names)} columns and is no header",
            where=where,
            remedy="Wanted: id TAB text, or id TAB text TAB title, or a header such as "
            "'id TAB text TAB title' whose further columns become metadata",
        )
    plain = ("id", "text", "title")[: len(names)]
    return Columns(plain, 0, 1, 2 if len(names) == 3 else None, header=False)


def document(content: bytes, columns: Columns) -> Passage:
    """The document of one line. Raises Problem."""
    fields = decode(content).split("\t")
    if len(fields) != len(columns.names):
        raise Problem("columns", f"{len(fields)} columns, where {len(columns.names)} were expected")
    if columns.header:
        fields = [_unquoted(value) for value in fields]
    id = identifier(fields[columns.id], columns.names[columns.id])
    try:
        return _passage(id, fields, columns)
    except Problem as problem:
        raise problem.of(id) from None


def _passage(id: str, fields: list[str], columns: Columns) -> Passage:
    for name, value in zip(columns.names, fields, strict=True):
        check_text(value, name)
    text = fields[columns.text]
    title = "" if columns.title is None else fields[columns.title]
    check_content(text, title)
    own = {columns.id, columns.text, columns.title}
    others = {name: fields[at] for at, name in enumerate(columns.names) if at not in own}
    return Passage(id, text, title, dict(others))


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('""', '"')
    return value
