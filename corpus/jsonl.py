"""Documents as JSON lines: the layout of BEIR and of Anserini.

{"_id" or "id", "text" or "contents", "title"?, "metadata"?}; further fields join the metadata.
"""

from ..records import JSON, Passage
from .identifiers import identifier, kind
from .problems import Problem, shown
from .strict import Object, parse

_OWN = frozenset({"_id", "id", "text", "contents", "title", "metadata"})


def document(content: bytes) -> Passage:
    """The document of one line. Raises Problem, with the id from where on it is known."""
    record = parse(content)
    field = "_id" if "_id" in record else "id"
    id = identifier(record.get(field), field)
    try:
        return Passage(id, *_body(record), _metadata(record))
    except Problem as problem:
        raise problem.of(id) from None


def _body(record: Object) -> tuple[str, str]:
    field = "text" if "text" in record else "contents"
    if field not in record:
        raise Problem("missing-text", "field 'text' (or 'contents') is missing")
    text, title = string(record[field], field), string(record.get("title") or "", "title")
    check_content(text, title)
    return text, title


def check_content(text: str, title: str) -> None:
    """Raises Problem "empty" where neither text nor title says anything."""
    if not text.strip() and not title.strip():
        raise Problem("empty", "the text is empty, and there is no title")


def string(value: JSON, field: str) -> str:
    """The value, which must be a string. Raises Problem."""
    if not isinstance(value, str):
        raise Problem("type", f"field '{field}' is {kind(value)}, not a string")
    return value


def _metadata(record: Object) -> Object:
    given = record.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise Problem("type", f"field 'metadata' is {kind(given)}, not an object")
    metadata: Object = given or {}
    # "id" beside "_id" and "contents" beside "text" are left alone: the same thing twice.
    for field in record.keys() - _OWN:
        if metadata.setdefault(field, record[field]) != record[field]:
            reason = f"field '{shown(field)}' stands beside and inside 'metadata', and differs"
            raise Problem("type", reason)
    return metadata
