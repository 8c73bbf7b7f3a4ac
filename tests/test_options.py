"""The options of kinds: what they take and mean, and how `ragstone kinds` tells it."""

import json
from typing import Any, Literal

import pytest

from ragstone.errors import UsageError
from ragstone.pipeline.options import options_of
from ragstone.pipeline.recipes import GROUPS, RECIPES

from .test_cli import failing, run


@pytest.mark.parametrize("kind", RECIPES)
def test_options_say_what_they_take_and_mean(kind: str) -> None:
    recipe = RECIPES[kind]
    options = [*recipe.encoder_options().values(), *recipe.index_options().values()]
    for option in options:
        assert option.meaning and "`truncated`" not in option.meaning
        if option.written:
            recipe.split({option.name: option.default})
        with pytest.raises(UsageError, match=f"^{option.name}=.* cannot be. Give "):
            recipe.split({option.name: {}})
    assert {"k1", "b"}.isdisjoint(recipe.index_options()) == (kind != "bm25")


def test_what_an_option_takes() -> None:
    def make(
        a: int | None = None, b: float = 0.5, c: Literal["x", "y"] = "x", d: bool = True
    ) -> None:
        """Nothing.

        a: how many; less is more. b, c: the rest. Raises UsageError for others.  d: a switch, as
        for others: none.
        """

    options = options_of(make)
    assert [(one.name, one.written, one.meaning) for one in options.values()] == [
        ("a", "null", "how many; less is more"),
        ("b", "0.5", "the rest"),
        ("c", '"x"', "the rest"),
        ("d", "true", "a switch, as for others: none"),
    ]
    assert [one.expected for one in options.values()] == [
        "a whole number or null", "a number", "x or y", "true or false"
    ]  # fmt: skip
    good: dict[str, list[Any]] = {"a": [1, None], "b": [1, 0.5], "c": ["y"], "d": [False]}
    for name, option in options.items():
        for value in (1, 0.5, None, "y", "z", True, False, [], {}):
            if any(
                value is one or (value == one and type(value) is type(one)) for one in good[name]
            ):
                option.check(value)
            elif not (name == "d" and value is True):
                with pytest.raises(UsageError, match=f"{name}="):
                    option.check(value)


@pytest.mark.parametrize("kind", [None, *RECIPES, *GROUPS])
def test_kinds_are_told_to_newcomers(
    kind: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ["kinds", kind] if kind else ["kinds"]
    assert run(*words) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    names = GROUPS.get(kind, (kind,)) if kind else (*RECIPES, *GROUPS, "lucene")
    assert all(any(line.startswith(name) for line in shown.splitlines()) for name in names)
    assert run(*words, "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["kind"] for one in records] == [one for one in names if one in RECIPES]
    assert all(option["meaning"] for one in records for option in one["options"])


def test_a_kind_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Choose from: bm25, dense" in failing(capsys, 2, "kinds", "lexical")
