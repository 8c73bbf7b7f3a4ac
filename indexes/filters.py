"""Filters: conditions on metadata in the manner of MongoDB, evaluated to bitmaps.

A filter names paths and what must hold there; all of its entries must hold:

    {"lang": "en", "year": {"$gte": 2020, "$lt": 2030}, "author.name": {"$in": ["Ada", "Alan"]}}

What a path holds is a list of values: the value itself and, where it is a list, each element. A
condition holds when one of them fits. Numbers, strings, booleans and null never compare with each
other; `$ne`, `$nin` and `$not` are exact opposites, so they hold where the path is missing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

import numpy as np

from ..errors import UsageError
from ..records import JSON, Bitmap, Filter

Key: TypeAlias = tuple[Any, ...]
"""A value as ``(kind, value)``, so that values order by kind first and kinds never mix."""

NUMBER, STRING, LIST, OBJECT = 2, 3, 4, 5
DEPTH = 32
"""How deep a filter may nest."""

_ORDER: dict[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
_OPPOSITE = {"$ne": "$eq", "$nin": "$in"}
OPERATORS = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$exists", "$not", "$and", "$or")


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of what stands at a path: `$eq`, `$in`, `$exists` or a comparison."""

    path: str
    operator: str
    operand: Any

    def holds(self, keys: list[Key]) -> bool:
        """Whether it holds for these values of a passage; none = the path is missing."""
        if self.operator == "$exists":
            return bool(keys) is self.operand
        wanted = [key_of(value) for value in self.wanted]
        if self.operator in _ORDER:
            compare, (kind, operand) = _ORDER[self.operator], wanted[0]
            return any(key[0] == kind and compare(key[1], operand) for key in keys)
        return any(key in wanted for key in keys) or (not keys and key_of(None) in wanted)

    @property
    def wanted(self) -> list[Any]:
        """The values asked for: those of a `$in`, else the operand."""
        return list(self.operand) if self.operator == "$in" else [self.operand]


def key_of(value: Any) -> Key:
    """The kind and value of a JSON value; equal keys are equal values (1 and 1.0 are)."""
    match value:
        case None:
            return (0, 0)
        case bool():
            return (1, value)
        case int() | float():
            return (NUMBER, value)
        case str():
            return (STRING, value)
        case list() | tuple():
            return (LIST, tuple(key_of(element) for element in value))
        case _:
            return (OBJECT, tuple(sorted((name, key_of(inner)) for name, inner in value.items())))


def flatten(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted path of nested metadata with each value that stands there.

    A list stands there itself and with each of its elements; objects in a list are entered.
    """
    for name, value in metadata.items():
        path = prefix + name
        for inner in (value, *value) if isinstance(value, (list, tuple)) else (value,):
            yield path, inner
            if isinstance(inner, dict):
                yield from flatten(inner, path + ".")


def select(filter: Filter, rows: int, match: Callable[[Condition], Bitmap]) -> Bitmap:
    """(rows,) bool: where the filter holds, `match` answering for single conditions."""
    return _every(filter, rows, match, DEPTH)


def canonical(filter: Filter) -> str:
    """The filter as text, equal for equal filters; UsageError when it is not JSON."""
    try:
        return json.dumps(filter, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the filter is not JSON ({error})",
            remedy="Use numbers, strings, booleans, None, lists and dictionaries with string keys",
        ) from None


def _every(filter: Any, rows: int, match: Callable[[Condition], Bitmap], depth: int) -> Bitmap:
    if not isinstance(filter, Mapping):
        raise UsageError(f"a filter is a dictionary, not {filter!r}", remedy='Say {"lang": "en"}')
    if depth == 0:
        raise UsageError(f"the filter nests deeper than {DEPTH}", remedy="Flatten it")
    held = np.ones(rows, dtype=np.bool_)
    for name, value in filter.items():
        held &= _clause(name, value, rows, match, depth)
    return held


def _clause(
    name: str, value: Any, rows: int, match: Callable[[Condition], Bitmap], depth: int
) -> Bitmap:
    """One entry of a filter: a combination of filters, or a path and what must hold there."""
    if name in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise UsageError(f"{name} takes a list of filters, not {value!r}")
        parts = [_every(part, rows, match, depth - 1) for part in value]
        held: Bitmap = (np.logical_and if name == "$and" else np.logical_or).reduce(parts)
        return held
    if name == "$not":
        return ~_every(value, rows, match, depth - 1)
    if name.startswith("$"):
        raise _unknown(name)
    return _field(name, value, rows, match, depth)


def _field(
    path: str, value: Any, rows: int, match: Callable[[Condition], Bitmap], depth: int
) -> Bitmap:
    """What must hold at a path: a value that equals, or a dictionary of operators."""
    if not isinstance(value, Mapping) or not any(name.startswith("$") for name in value):
        return match(Condition(path, "$eq", value))
    if depth == 0:
        raise UsageError(f"the filter nests deeper than {DEPTH}", remedy="Flatten it")
    held = np.ones(rows, dtype=np.bool_)
    for operator, operand in value.items():
        if operator == "$not":
            held &= ~_field(path, _operators(operand), rows, match, depth - 1)
        elif operator in _OPPOSITE:
            held &= ~match(_condition(path, _OPPOSITE[operator], operand))
        else:
            held &= match(_condition(path, operator, operand))
    return held


def _operators(value: Any) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"$not takes operators, not {value!r}", remedy='Say {"$not": {"$gt": 5}}')
    return value


def _condition(path: str, operator: str, operand: Any) -> Condition:
    """A checked condition; UsageError for an operator or an operand that makes no sense."""
    if operator not in ("$eq", "$in", "$exists", *_ORDER):
        raise _unknown(operator)
    if operator == "$in" and not isinstance(operand, (list, tuple)):
        raise UsageError(f"$in and $nin take a list, not {operand!r}")
    if operator == "$exists" and not isinstance(operand, bool):
        raise UsageError(f"$exists takes true or false, not {operand!r}")
    if operator in _ORDER and key_of(operand)[0] not in (NUMBER, STRING):
        raise UsageError(f"{operator} takes a number or a string, not {operand!r}")
    return Condition(path, operator, operand)


def _unknown(operator: str) -> UsageError:
    return UsageError(
        f"the filter operator {operator!r} is unknown", remedy=f"Known: {' '.join(OPERATORS)}"
    )
