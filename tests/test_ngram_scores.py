"""Scores of weighted n-grams: worked examples, and the score as it is said."""

from typing import Any

import numpy as np
import pytest

from ragstone.indexes.ngram.scoring import Scoring, corpus_weights
from ragstone.indexes.ngram.texts import TokenText

from .ngrams import (
    LAYOUTS,
    ask,
    few_tokens,
    index_of,
    intersective,
    ngram_scores,
    places,
    rows_of,
    text_with_edges,
)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_weights_are_those_of_the_paper() -> None:
    cases = [(-2, 10, 9.252864), (-9, 10, 2.107574), (-0.05, 1, 14.994378), (-12, 1, 0.023756)]
    for logprob, hits, wanted in [*cases, (-3, 50_000, 0), (-2, 0, 0)]:
        found = corpus_weights(np.array([float(logprob)]), np.array([hits]), 10**6)
        assert found.dtype == np.float32 and found == pytest.approx([wanted], abs=2e-6)
    assert np.isfinite(corpus_weights(np.array([0.0, -800.0]), np.array([1, 1]), 1)).all()


A, B, C, D, E, X = range(1, 7)


def test_the_worked_example(layout) -> None:
    """abc covers the b and c of bcd, which is dropped; the a of ae counts a fifth."""
    index = index_of([[A, B, C, D, X, A, E], [A, B, C, A, B, C], [X, X]], layout, alpha=1.0)
    keys = ask({(A, B, C): 16.0, (B, C, D): 9.0, (A, E): 4.0})
    found = index.search(keys, 3)
    assert found.numbers.tolist() == [[0, 1, -1]]
    assert found.scores[0, :2].tolist() == pytest.approx([18.4, 16.0])
    [told] = index.explain(keys, 0)
    assert [(one.ngram, one.places, one.count) for one in told] == [
        ((A, B, C), (0,), 3), ((A, E), (5,), 1)
    ]  # fmt: skip
    assert [one.cover for one in told] == pytest.approx([1.0, 0.6])
    assert index.explain(keys, 2) == [[]]


def test_scoring_settings_change_what_they_say(layout) -> None:
    index = index_of([[A, B, C, D]], layout)
    keys = ask({(A, B): 3.0, (B, C): 2.0}, {D: 0.5, A: 9.0, X: 7.0})

    def score(**settings: Any) -> float:
        return float(index.search(keys, 1, scoring=Scoring(**settings)).scores[0, 0])

    assert score() == pytest.approx(9 + 0.5)
    assert score(alpha=1) == pytest.approx(3 + 0.5)
    assert score(unigram_alpha=2) == pytest.approx(9 + 0.25)
    assert score(single=1) == pytest.approx(9)
    assert score(single=0.5) == pytest.approx(0.5 * 9.5 + 0.5 * 9)
    assert score(overlaps=True) == pytest.approx(9 + 4 * (0.2 + 0.8 / 2) + 0.5)
    assert score(overlaps=True, beta=0) == pytest.approx(9 + 4 + 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_naive_ones_and_what_is_explained(layout, seed) -> None:
    rng = np.random.default_rng(seed)
    how = [
        {}, {"beta": 0.0, "alpha": 1.0}, {"single": 0.4}, {"overlaps": True},
        {"unigram_alpha": 2.0, "beta": 1.0}, {"single": 1.0, "alpha": 3.0},
    ][seed]  # fmt: skip
    keys, queries = few_tokens(rng, 700), few_tokens(rng, 12)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout, 2, **how)
    truth = ngram_scores(keys, queries, **how)
    for k in (1, 5, 700):
        found = index.search(queries, k)
        for query, (numbers, scores) in enumerate(zip(found.numbers, found.scores, strict=True)):
            exact = truth[query].astype(np.float32)
            order = np.lexsort((np.arange(700), -exact))[:k]
            order = order[~np.isneginf(exact[order])]
            np.testing.assert_allclose(scores[: len(order)], exact[order], rtol=1e-5)
            assert (scores[len(order) :] == -np.inf).all() and (numbers[len(order) :] == -1).all()
    for number in (0, 350, 699):
        for query, told in enumerate(index.explain(queries, number)):
            total = sum(one.worth * one.cover for one in told)
            best = max((one.worth for one in told if len(one.ngram) > 1), default=0.0)
            if not how.get("single") and told:
                assert total == pytest.approx(truth[query, number])
            assert bool(told) == (truth[query, number] > -np.inf) and best >= 0
            text = text_with_edges(index.tokens(number).tolist())
            for one in told:
                assert [place + 1 for place in one.places] == places(text, one.ngram)


def test_limits_leave_out_passages_and_no_scores(layout) -> None:
    rng = np.random.default_rng(1)
    keys, queries = few_tokens(rng, 600), few_tokens(rng, 8)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout)
    truth = ngram_scores(keys, queries)
    for limit in ({"most_hits": 40}, {"depth": 30}):
        found = index.search(queries, 50, scoring=Scoring(**limit))
        for row, numbers in enumerate(found.numbers):
            hits = numbers >= 0
            exact = truth[row][numbers[hits]]
            np.testing.assert_allclose(found.scores[row][hits], exact, rtol=1e-5)
        if "depth" in limit:
            assert ((found.numbers >= 0).sum(axis=1) <= 30).all()


def test_many_hits_end_the_search_early_with_the_same_result(layout, monkeypatch) -> None:
    from ragstone.indexes.ngram import search

    rng = np.random.default_rng(2)
    keys, queries = few_tokens(rng, 600), few_tokens(rng, 20)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout)
    truth = index.search(queries, 10)
    for name, value in (("FEW_HITS", 1), ("FEW_HITS", 10**9), ("FEW_ROWS", 1), ("FEW_ROWS", 600)):
        monkeypatch.setattr(search, name, value)
        again = index.search(queries, 10)
        assert (again.numbers == truth.numbers).all() and (again.scores == truth.scores).all()


def test_a_text_score_by_hand() -> None:
    """The naive score itself."""
    edged = text_with_edges([A, B, C, D, X, A, E])
    weighted = [((A, B, C), 16.0), ((B, C, D), 9.0), ((A, E), 4.0)]
    assert intersective(edged, weighted, {}, alpha=1.0) == pytest.approx(18.4)
