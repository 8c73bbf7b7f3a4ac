"""Canonical JSON: one way to write a value, so that equal contents are equal bytes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..records import JSON


def encode(value: JSON) -> bytes:
    """ASCII, keys sorted, no spaces. `value` is plain JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def decode(data: bytes) -> Any:
    """The value whose canonical form `data` is. Raises ValueError for any other bytes."""
    try:
        value = json.loads(data)
        same = encode(value) == data
    except (RecursionError, UnicodeError) as error:
        raise ValueError("not JSON") from error
    if not same:
        raise ValueError("not canonical JSON")
    return value


def plain(value: JSON, where: str) -> Any:
    """A copy of dicts, lists, strings and numbers; `where` names the place in errors.

    Raises UsageError for what JSON would not give back as it was: NaN, keys that are no strings,
    NumPy scalars, objects.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise UsageError(
        f"{value!r} ({type(value).__name__}) cannot be stored as JSON",
        where=where,
        remedy="Use None, bool, int, finite float, str, and lists and mappings of these",
    )


def _key(key: object, where: str) -> str:
    if type(key) is str:
        return key
    raise UsageError(f"the key {key!r} is no string", where=where, remedy="Use string keys")
