"""The options of an index: what they are called, what they take, and what they mean.

All of it is read from what makes an encoder or an index: the signature names the options, their
types and defaults, and the docstring says "name: meaning", or "name, other: meaning" of several.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, getdoc, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ..errors import UsageError
from ..records import JSON

Make = Callable[..., Any]

_SAID = re.compile(r"(?:^|[.;] +)(\w+(?:, \w+)*): ")
_ASIDE = re.compile(r"[;,.](?: and)? (?:`truncated` of|Raises|The other options).*")
"""What concerns those who program, not those who choose."""

_SAME = re.compile(r"as (?:for|in) `?BiEncoder")

_WORDS = {
    str: "text",
    Path: "a path",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option. takes: its type.  default: Parameter.empty where there is none."""

    name: str
    takes: Any
    default: Any
    meaning: str

    @property
    def written(self) -> str:
        """The default as it would be typed."""
        return "" if self.default is Parameter.empty else json.dumps(self.default)

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        return " or ".join(dict.fromkeys(_expected(self.takes)))

    def check(self, value: JSON) -> None:
        """Raise UsageError for a value that it does not take."""
        if not _fits(value, self.takes):
            quoted = "" if isinstance(value, str) else ", text that looks like a number in quotes"
            hint = quoted if "text" in self.expected else ""
            remedy = f"Give {self.expected}{hint}"
            raise UsageError(f"{self.name}={json.dumps(value)} cannot be", remedy=remedy)


def options_of(make: Make) -> Mapping[str, Option]:
    """The options that a class or a function takes, by name; "model" is none."""
    found = signature(make).parameters.values()
    named = [one for one in found if one.kind is not one.VAR_KEYWORD and one.name != "model"]
    said = _meanings(make, {one.name for one in named})
    return {
        one.name: Option(one.name, one.annotation, one.default, said.get(one.name, ""))
        for one in named
    }


def joined(*places: Mapping[str, Option]) -> Mapping[str, Option]:
    """Options of one that may turn out to be any of several: the first meaning, all types."""
    every: dict[str, Option] = {}
    for options in places:
        for name, one in options.items():
            known = every.get(name, one)
            every[name] = replace(known, takes=Union[known.takes, one.takes])  # noqa: UP007
    return every


def explained(options: Mapping[str, Option], usual: Mapping[str, Option]) -> Mapping[str, Option]:
    """The same with the `usual` meaning where none is given, or it is said to be that."""
    return {
        name: replace(one, meaning=usual[name].meaning)
        if name in usual and (not one.meaning or _SAME.match(one.meaning))
        else one
        for name, one in options.items()
    }


def _meanings(make: Make, names: set[str]) -> Mapping[str, str]:
    """What the docstring says of each name; that of a class before those that it is made from."""
    said: dict[str, str] = {}
    for place in getattr(make, "__mro__", (make,)):
        for paragraph in (getdoc(place) or "").split("\n\n") if place is not object else ():
            for name, meaning in _said(" ".join(paragraph.split()), names):
                said.setdefault(name, meaning)
    for name in names - said.keys():
        there = re.compile(rf"\b{name}\b")
        if other := next((one for one, meaning in said.items() if there.search(meaning)), ""):
            said[name] = f"see {other}"
    return said


def _said(text: str, names: set[str]) -> Iterator[tuple[str, str]]:
    found = [one for one in _SAID.finditer(text) if names.issuperset(one[1].split(", "))]
    ends = [one.start() + 1 for one in found[1:]] + [len(text)]
    for one, end in zip(found, ends, strict=False):
        for name in one[1].split(", "):
            yield name, _ASIDE.sub("", text[one.end() : end].strip()).rstrip(".;")


def _fits(value: JSON, takes: Any) -> bool:
    origin = get_origin(takes)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(takes)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(takes))
    if takes is float:
        return type(value) in (int, float)
    if takes is Path:
        return isinstance(value, str)
    return type(value) is takes if takes in _WORDS else True


def _expected(takes: Any) -> Iterator[str]:
    origin = get_origin(takes)
    if origin is Literal:
        yield from map(str, get_args(takes))
    elif origin in (Union, UnionType):
        for one in get_args(takes):
            yield from _expected(one)
    else:
        yield _WORDS.get(takes, "JSON")
