"""`ragstone kinds`: which kinds of indexes there are, and what may be set of each."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import UsageError
from ..pipeline.beside import LUCENE
from ..pipeline.options import Option
from ..pipeline.recipes import GROUPS, RECIPES, Recipe
from .output import json_line, out

COLUMN = 20
"""Where what is said of a kind begins."""

HOW = """\
`ragstone kinds KIND` says what the options of a kind mean. To build: ragstone index SOURCE --to
COLLECTION --with [NAME=]KIND[:VARIANT],... --model [NAME=]MODEL --set NAME.OPTION=VALUE, where NAME
is that of the kind unless another is given."""


def kinds(arguments: argparse.Namespace) -> None:
    """All kinds in short, or one at length."""
    name = arguments.kind
    if name is not None and name not in {*RECIPES, *GROUPS}:
        known = ", ".join((*RECIPES, *GROUPS))
        raise UsageError(f"there is no index kind '{name}'", remedy=f"Choose from: {known}")
    chosen = GROUPS.get(name, (name,)) if name else tuple(RECIPES)
    if arguments.json:
        for one in chosen:
            json_line(_record(one, RECIPES[one]))
    elif name in RECIPES:
        _say(_at_length(name, RECIPES[name]))
    else:
        _say(_list(chosen, () if name else GROUPS))


def _say(lines: Iterator[str]) -> None:
    for line in lines:
        out().print(line, markup=False)


def _list(names: tuple[str, ...], groups: Any) -> Iterator[str]:
    for name in names:
        yield from _in_short(name, RECIPES[name])
    for name in groups:
        yield from _beside(name, f"{', '.join(GROUPS[name])} from one pass of one model")
        yield ""
    if groups:
        yield from _beside(LUCENE, "words, by Lucene beside the collection (extra 'lucene')")
        yield ""
    yield from _wrapped(HOW, 0, 0)


def _in_short(name: str, recipe: Recipe) -> Iterator[str]:
    yield from _beside(name, recipe.summary)
    if recipe.takes_model:
        yield from _beside("", f"model: {_model(recipe)}")
    if recipe.variants:
        yield from _beside("", f"variants: {' '.join(recipe.variants)}")
    yield from _beside("", f"options: {' '.join(_names(recipe))}")
    yield ""


def _at_length(name: str, recipe: Recipe) -> Iterator[str]:
    yield f"{name}: {recipe.summary}"
    if recipe.takes_model:
        yield f"model: {_model(recipe)}"
    if recipe.variants:
        yield from _wrapped(f"variants: {' '.join(f'{name}:{v}' for v in recipe.variants)}", 0, 2)
    for what, options in _kinds_of_options(recipe):
        yield from ("", f"{what}, set with --set {name}.OPTION=VALUE")
        for written, option in options.items():
            default = f" = {option.written}" if option.written else ", has to be given"
            yield from _wrapped(f"{written}{default} ({option.expected})", 2, 4)
            yield from _wrapped(option.meaning, 6, 6)


def _model(recipe: Recipe) -> str:
    return "all-MiniLM-L6-v2 unless given" if recipe.default else "has to be given"


def _kinds_of_options(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Option]]]:
    """Those of the encoder and those of the index, as they are written."""
    encoder, index = recipe.encoder_options(), recipe.index_options()
    if encoder:
        yield "options of the encoder", encoder
    yield "options of the index", {f"index.{n}" if n in encoder else n: index[n] for n in index}


def _names(recipe: Recipe) -> list[str]:
    return sorted(name for _, options in _kinds_of_options(recipe) for name in options)


def _beside(name: str, text: str) -> Iterator[str]:
    """The name of a kind, and beside it what is said of it."""
    first, *more = _wrapped(text, COLUMN, COLUMN + 2)
    yield f"{name:<{COLUMN}}{first[COLUMN:]}"
    yield from more


def _wrapped(text: str, first: int, further: int) -> list[str]:
    """Lines as wide as the terminal, within reason, that begin at these columns."""
    width = min(max(shutil.get_terminal_size((96, 0)).columns, 60), 96)
    begin, indent = " " * first, " " * further
    return textwrap.wrap(
        text, width, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False
    )


def _record(name: str, recipe: Recipe) -> dict[str, Any]:
    options = [
        {
            "name": written,
            "default": option.written or None,
            "takes": option.expected,
            "meaning": option.meaning,
        }
        for _, options in _kinds_of_options(recipe)
        for written, option in options.items()
    ]
    variants = {variant: dict(settings) for variant, settings in recipe.variants.items()}
    facts = {"kind": name, "summary": recipe.summary, "model": recipe.takes_model}
    return {**facts, "variants": variants, "options": options}
