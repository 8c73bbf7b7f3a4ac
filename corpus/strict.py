"""Strict UTF-8 and strict JSON: what other readers let through silently is refused by name."""

import json
import math
from collections.abc import Iterator
from typing import TypeAlias

from ..records import JSON
from .identifiers import kind
from .problems import Problem, shown

DEEPEST = 64
"""Levels of lists and objects in one record."""

UTF16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"

Object: TypeAlias = dict[str, JSON]


def decode(content: bytes) -> str:
    """The text of UTF-8 bytes. Raises Problem ("utf-8", with the byte, from 0)."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise Problem(
            "utf-8",
            f"byte {error.start} (0x{byte:02x}) is not valid UTF-8",
            line=content.count(b"\n", 0, error.start) + 1,
            remedy="Convert the file: iconv -f ENCODING -t UTF-8 FILE > NEW",
        ) from None


def parse(content: bytes) -> Object:
    """One JSON object from one line.

    Raises Problem: not UTF-8, not JSON, not an object, NaN or a number too large for a float, a
    key twice in one object, nested deeper than 64, or a NUL or a lone surrogate in a string.
    """
    text = decode(content)
    record = _parse(text, content)
    if content.count(b"{") + content.count(b"[") > DEEPEST:
        _check_depth(record)
    if "\\u" in text and ("\\u0000" in text or "\\ud" in text or "\\uD" in text):
        for path, value in leaves(record):
            check_text(value, path)
    return record


def _parse(text: str, content: bytes) -> Object:
    try:
        record = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(error, content) from None
    except RecursionError:
        raise _too_deep("the line") from None
    except _NotFinite as error:
        raise _not_finite(text, str(error)) from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise Problem("number", f"a number is refused: {error}") from None
    if not isinstance(record, dict):
        raise Problem("type", f"the line is {kind(record)}, not an object")
    return record


def _not_json(error: json.JSONDecodeError, content: bytes) -> Problem:
    if b"\x00" in content:
        at = content.index(b"\x00")
        return Problem("nul", f"byte {at} is NUL; is the file UTF-16, or binary?")
    return Problem("json", f"not valid JSON at character {error.pos + 1}: {error.msg}")


class _NotFinite(Exception):
    """Raised inside the decoder, which does not know in which field it is."""


def _refuse_constant(name: str) -> float:
    raise _NotFinite(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotFinite(digits[:40])
    return value


def _unique(pairs: list[tuple[str, JSON]]) -> Object:
    record = dict(pairs)
    if len(record) != len(pairs):
        last = {name: number for number, (name, _) in enumerate(pairs)}
        twice = next(name for number, (name, _) in enumerate(pairs) if last[name] != number)
        raise Problem("duplicate-key", f"field '{shown(twice)}' stands twice in one object")
    return record


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant
)


def _not_finite(text: str, digits: str) -> Problem:
    # A second, lenient reading finds the field; it costs only on the way to an error.
    try:
        found = [path for path, value in leaves(json.loads(text)) if _is_not_finite(value)]
    except (ValueError, RecursionError):  # and the rest of the line is no better
        found = []
    where = f"field '{shown(found[0])}' is" if found else "the line holds"
    return Problem("number", f"{where} {digits}, which is no number in JSON")


def _is_not_finite(value: JSON) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _check_depth(record: Object) -> None:
    for field, value in record.items():
        if _depth(value) >= DEEPEST:  # the record itself is the first level
            raise _too_deep(f"field '{shown(field)}'")


def _depth(value: JSON) -> int:
    depth, level = 0, _inside(value)
    while level is not None:
        depth += 1
        inner = [found for item in level if (found := _inside(item)) is not None]
        level = [item for found in inner for item in found] if inner else None
    return depth


def _inside(value: JSON) -> list[JSON] | None:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def _too_deep(what: str) -> Problem:
    return Problem("depth", f"{what} is nested more than {DEEPEST} levels deep")


def leaves(value: JSON) -> Iterator[tuple[str, JSON]]:
    """Every key and every value that is no container, with the path of its field ("a.b[2]").

    Iterative, and paths are cut short, so that no record makes it slow.
    """
    stack: list[tuple[str, JSON]] = [("", value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                inner = f"{path}.{key[:40]}" if path else key[:40]
                yield inner, key
                stack.append((inner, item))
        elif isinstance(value, list):
            stack += [(f"{path}[{number}]", item) for number, item in enumerate(value)]
        else:
            yield path, value


def check_text(value: JSON, field: str) -> None:
    """Raises Problem where a string holds a NUL or half of a surrogate pair."""
    if not isinstance(value, str) or value.isascii() and "\0" not in value:
        return
    if "\0" in value:
        raise Problem(
            "nul", f"field '{shown(field)}' holds a NUL at character {value.index(chr(0))}"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        point = f"U+{ord(value[error.start]):04X}"
        raise Problem(
            "surrogate",
            f"field '{shown(field)}' holds the lone surrogate {point} at character {error.start}",
        ) from None
