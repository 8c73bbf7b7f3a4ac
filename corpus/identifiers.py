"""Which ids are accepted: visible, composed (NFC) and not endless."""

import re
import unicodedata

from ..records import JSON
from .problems import Problem, shown

LONGEST = 1024
"""Characters of an id."""

# Control characters, line and paragraph separators, lone surrogates, and what reorders or hides
# text: bidirectional controls and tag characters.
_REFUSED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def identifier(value: JSON, field: str) -> str:
    """The id as a string: an integer becomes its digits; anything else but a string is refused.

    Raises Problem: missing (None), of another type, empty, too long, with control characters, or
    not in Unicode's composed form (two ids that look the same must be the same).
    """
    id = str(value) if type(value) is int else value
    if not isinstance(id, str):
        raise _untyped(value, field)
    if not id or id.isspace():
        raise Problem("id", f"field '{field}' is empty")
    if len(id) > LONGEST:
        raise Problem("id", f"field '{field}' has {len(id):,} characters; {LONGEST:,} are the most")
    if not (id.isascii() and id.isprintable()):
        _check(id, field)
    return id


def _untyped(value: JSON, field: str) -> Problem:
    if value is None:
        return Problem("missing-id", f"field '{field}' is missing or null")
    return Problem("type", f"field '{field}' is {kind(value)}, not a string or an integer")


def _check(id: str, field: str) -> None:
    if found := _REFUSED.search(id):
        point = f"U+{ord(found.group()):04X}"
        raise Problem("id", f"field '{field}' has the control character {point}")
    if not unicodedata.is_normalized("NFC", id):
        composed = shown(unicodedata.normalize("NFC", id))
        raise Problem(
            "id",
            f"field '{field}' ('{shown(id)}') is not in Unicode's composed form NFC",
            remedy=f"Write it as '{composed}' in NFC, in the judgements too",
        )


def kind(value: JSON) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "a list")
