"""Queries with operators: how they are read, and that the ranking is that of all passages."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import InputError, UsageError
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.vector import Vector
from ragstone.models.analyzer import Analyzer
from ragstone.records import Query
from ragstone.retrieval.query_algebra import QueryAlgebra
from ragstone.retrieval.query_expression import Rules, parse_query

SYMBOLS = Rules(
    all=lambda parts: "(" + " & ".join(parts) + ")",
    any=lambda parts: "(" + " | ".join(parts) + ")",
    without=lambda kept, removed: f"({kept} - {removed})",
)


def read(text: str) -> str:
    expression = parse_query(text)
    return expression.combine(expression.operands, SYMBOLS)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("soft rags (of linen)", "soft rags (of linen)"),
        ('a 5" pipe and not or', 'a 5" pipe and not or'),
        ("soft rags AND stones", "(soft rags & stones)"),
        ('"a AND b" OR c', "(a AND b | c)"),
        ("a AND b OR c AND d", "((a & b) | (c & d))"),
        ("a AND (b OR c) AND d", "(a & (b | c) & d)"),
        ("a NOT b", "(a - b)"),
        ("a AND NOT b", "(a - b)"),
        ("NOT b AND a", "(a - b)"),
        ("a NOT b NOT c AND d", "((a & d) - (b | c))"),
        ("a NOT (b NOT c)", "(a - (b - c))"),
        ('a "b c" d OR "e"', "(a b c d | e)"),
        ('(a OR b) NOT ""c', "((a | b) - c)"),
    ],
)
def test_reading(text: str, meaning: str) -> None:
    assert read(text) == meaning


def test_what_is_wanted() -> None:
    assert parse_query("a NOT (b NOT c)").wanted == (True, False, True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("NOT a", "NOT alone finds nothing"),
        ("a OR NOT b", "NOT alone finds nothing"),
        ("a AND", "the end stands where words should"),
        ("a AND OR b", "'OR' stands where words should"),
        ("(a AND b", "a parenthesis is not closed"),
        ("a AND b)", r"'\)' is too many"),
        ("a AND (b) c", "'c' is too many"),
        ("AND", "'AND' stands where|the end stands where"),
        ("(" * 60 + "a AND b", "more than 50 parentheses"),
    ],
)
def test_what_cannot_be_read(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_query(text)


class Known:
    """Texts with vectors that are given."""

    def __init__(self, vectors: Mapping[str, np.ndarray]) -> None:
        self.vectors = vectors

    def encode_queries(self, texts: Any) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


class Numbered:
    """Passages called by their numbers; a filter names the remainder of the number by 3."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def ids(self, numbers: np.ndarray) -> list[str]:
        return [f"{number:05d}" for number in numbers]

    def select(self, filter: Mapping[str, Any]) -> np.ndarray:
        return np.arange(self.rows) % 3 == filter["m"] if filter else np.ones(self.rows, bool)


FORMS = [
    "a", "a AND b", "a OR b", "a NOT b", "a AND b AND c", "(a OR b) AND c", "a AND b NOT c",
    "(a NOT b) OR (c NOT a)", "a NOT (b NOT c)", "a NOT (b AND c)",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 1000),
    k=st.integers(1, 80),
    depth=st.sampled_from([1, 5, 100]),
    conjunction=st.sampled_from(["min", "mean"]),
    floor=st.sampled_from([-1.0, 0.0, 0.3]),
    filter=st.sampled_from([None, {"m": 1}]),
)
def test_the_ranking_is_that_of_all_passages(
    form: str, seed: int, k: int, depth: int, conjunction: Any, floor: float, filter: Any
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(70, 4)).astype(np.float32)
    rows[40:50] = rows[:10]  # ties
    vectors = {name: random.normal(size=4).astype(np.float32) for name in "abc"}
    index = Vector(4).open([])
    index.add(np.arange(70), rows)
    algebra = QueryAlgebra(Known(vectors), index, Numbered(70), conjunction, 0.7, floor, depth)
    ranking = algebra.retrieve([Query("q", form)], k, filter=filter)[0]

    def similarity(name: str, row: np.ndarray) -> float:
        v = vectors[name].astype(float)
        return float(v @ row / np.linalg.norm(v) / np.linalg.norm(row))

    join = min if conjunction == "min" else lambda *parts: sum(parts) / len(parts)
    value = {
        "a": lambda a, b, c: a,
        "a AND b": lambda a, b, c: join(a, b),
        "a OR b": lambda a, b, c: max(a, b),
        "a NOT b": lambda a, b, c: less(a, b),
        "a AND b AND c": lambda a, b, c: join(a, b, c),
        "(a OR b) AND c": lambda a, b, c: join(max(a, b), c),
        "a AND b NOT c": lambda a, b, c: less(join(a, b), c),
        "(a NOT b) OR (c NOT a)": lambda a, b, c: max(less(a, b), less(c, a)),
        "a NOT (b NOT c)": lambda a, b, c: less(a, less(b, c)),
        "a NOT (b AND c)": lambda a, b, c: less(a, join(b, c)),
    }[form]

    def less(kept: float, removed: float) -> float:
        return kept - 0.7 * max(removed - floor, 0)

    allowed = [n for n in range(70) if filter is None or n % 3 == 1]
    scores = {n: value(*(similarity(name, rows[n].astype(float)) for name in "abc"))
              for n in allowed}  # fmt: skip
    best = sorted(scores.values(), reverse=True)[:k]
    assert len(ranking) == len(best) == len(set(ranking.ids))
    np.testing.assert_allclose(ranking.scores, best, atol=2e-6)
    for hit in ranking:
        assert abs(scores[int(hit.id)] - hit.score) < 2e-6


def test_over_words_and_demands_all_and_not_pushes_down() -> None:
    texts = [" ".join(words) for n in (1, 2, 3) for words in
             itertools.combinations(["rag", "stone", "moss"], n)]  # fmt: skip
    index = Inverted().open([])
    index.add(np.arange(len(texts)), Analyzer().encode_passages(texts))
    algebra = QueryAlgebra(Analyzer(), index, Numbered(len(texts)))

    def found(text: str) -> list[str]:
        return [texts[int(id)] for id in algebra.retrieve([Query("q", text)], 9)[0].ids]

    assert set(found("rag AND stone")) == {"rag stone", "rag stone moss"}
    assert set(found("rag OR stone")) == set(texts) - {"moss"}
    assert found("rag NOT stone")[0] == "rag"
    assert set(found("rag NOT stone")[-2:]) == {"rag stone", "rag stone moss"}
    assert found("granite AND rag") == []


@pytest.mark.parametrize(
    "wrong", [{"conjunction": "max"}, {"weight": -1.0}, {"floor": np.nan}, {"depth": 0}]
)
def test_settings_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(UsageError):
        QueryAlgebra(Known({}), Vector(4).open([]), Numbered(0), **wrong)
