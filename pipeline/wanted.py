"""Which indexes somebody wants: `bm25`, `dense:hnsw`, `small=dense`, with models and options."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..errors import UsageError
from ..indexes.collection import Collection
from ..records import JSON
from .recipes import GROUPS, RECIPES, AnyEncoder, AnyFamily, Recipe, Settings

Models: TypeAlias = str | Mapping[str, str] | None
"""A model for the only index that takes one, or models by the names of indexes."""

_SPEC = re.compile(r"(?:(?P<name>[^=:]+)=)?(?P<kind>[^=:]+)(?::(?P<variant>[^=:]+))?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One index to build: its name in the collection, its kind, and how it departs from it.

    asked: the name under which it was asked for, that of the group where it is one of several.
    """

    name: str
    kind: str
    asked: str
    model: str | None = None
    variant: str | None = None
    options: Settings = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.kind]

    def encoder(self) -> AnyEncoder:
        """What makes the keys. UsageError names the options that there are."""
        options, _ = self.recipe.split(self.options)
        return self.recipe.open_encoder(self.model, options)

    def family(self, encoder: AnyEncoder) -> AnyFamily:
        return self.recipe.open_family(encoder, self.settings())

    def settings(self) -> Settings:
        """Settings of the index that were asked for."""
        variant = self.recipe.variants[self.variant] if self.variant else {}
        return {**variant, **self.recipe.split(self.options)[1]}

    def is_in(self, collection: Collection) -> bool:
        """Whether the collection has this index, of this model and with these settings."""
        if self.name not in collection.families:
            return False
        there = collection.families[self.name].settings
        same = all(there.get(name) == value for name, value in self.settings().items())
        return same and collection.encoders[self.name].digest == self.encoder().fingerprint.digest


def wanted(
    specs: Sequence[str], models: Models = None, options: Mapping[str, Settings] | None = None
) -> tuple[Wanted, ...]:
    """What ``[NAME=]KIND[:VARIANT]`` mean, each with its model and options.

    options: by the name of the index, or by that of a group for all of its indexes.
    Raises UsageError for what no recipe knows, two indexes of one name, and a model or options that
    belong to none.
    """
    if not specs:
        raise UsageError("no index was named", remedy=f"Choose from: {_kinds()}")
    parsed = [one for spec in specs for one in _parsed(spec)]
    names = [one.name for one in parsed]
    for name in names:
        if names.count(name) > 1:
            remedy = f"Name one of them otherwise, such as other={name}"
            raise UsageError(f"two indexes are called '{name}'", remedy=remedy)
    takers = dict.fromkeys(one.asked for one in parsed if one.recipe.takes_model)
    by_name = _models_by_name(models, tuple(takers))
    set_for = options or {}
    known = dict.fromkeys(name for one in parsed for name in (one.asked, one.name))
    for name in set_for:
        if name not in known:
            remedy = f"The indexes are: {', '.join(known)}"
            raise UsageError(f"options are set for '{name}', which is no index", remedy=remedy)
    return tuple(
        replace(
            one,
            model=by_name.get(one.asked),
            options={**set_for.get(one.asked, {}), **set_for.get(one.name, {})},
        )
        for one in parsed
    )


def _kinds() -> str:
    return ", ".join((*RECIPES, *GROUPS))


def _parsed(spec: str) -> list[Wanted]:
    """The index, or those of a group."""
    found = _SPEC.fullmatch(spec)
    if not found:
        raise UsageError(
            f"'{spec}' names no index", remedy="Write KIND, KIND:VARIANT or NAME=KIND:VARIANT"
        )
    kind, variant = found["kind"], found["variant"]
    name = found["name"] or kind
    if kind in GROUPS and variant is None:
        members = GROUPS[kind]
        return [Wanted(name + one.removeprefix(kind), one, name) for one in members]
    if kind not in RECIPES:
        raise UsageError(f"there is no index kind '{kind}'", remedy=f"Choose from: {_kinds()}")
    if variant is not None and variant not in RECIPES[kind].variants:
        known = ", ".join(RECIPES[kind].variants) or "none"
        raise UsageError(f"'{kind}' has no variant '{variant}'", remedy=f"There are: {known}")
    return [Wanted(name, kind, name, variant=variant)]


def _models_by_name(models: Models, takers: Sequence[str]) -> Mapping[str, str]:
    if models is None:
        return {}
    if isinstance(models, str):
        if len(takers) != 1:
            listed = " or ".join(f"{name}={models}" for name in takers)
            raise UsageError(
                f"the model '{models}' fits {len(takers)} of the indexes",
                remedy=f"Say for which: {listed}" if takers else "Name an index that takes a model",
            )
        return {takers[0]: models}
    for name in models:
        if name not in takers:
            raise UsageError(
                f"a model is given for '{name}', which takes none or is not built",
                remedy=f"Indexes that take one: {', '.join(takers) or 'none'}",
            )
    return models


def parse_models(texts: Sequence[str]) -> Models:
    """What ``--model [INDEX=]NAME``, given once or several times, says."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    pairs = [text.partition("=") for text in texts]
    for (name, equals, model), text in zip(pairs, texts, strict=True):
        if not (name and equals and model):
            raise UsageError(
                f"'{text}' does not say for which index the model is",
                remedy="Write INDEX=NAME when there are several models",
            )
    return {name: model for name, _, model in pairs} or None


def parse_options(texts: Sequence[str]) -> Mapping[str, Settings]:
    """What ``--set INDEX.OPTION=VALUE`` says; a value is JSON, or a word."""
    options: dict[str, dict[str, JSON]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        index, dot, option = place.partition(".")
        if not (index and dot and option and equals):
            raise UsageError(
                f"'{text}' sets nothing", remedy="Write INDEX.OPTION=VALUE, such as dense.layers=4"
            )
        options.setdefault(index, {})[option] = _value(value)
    return options


def _value(text: str) -> JSON:
    try:
        value: JSON = json.loads(text)
    except ValueError:
        return text
    return value
