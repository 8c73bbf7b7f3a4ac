"""The cosine adapter: learns limits that depend on the query, keeps order, is refused elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, InputError, Mismatch, UsageError
from ragstone.models.cosine_adapter import ScoreMap, best_threshold, train_score_map
from ragstone.models.hashing import HashingEncoder
from ragstone.models.learned_folder import Learned, save_learned
from ragstone.records import Query, Ranking
from ragstone.retrieval.cut_off import CutOff

ENCODER = HashingEncoder(16)
OURS = ENCODER.fingerprint


def judged(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two kinds of queries, told by the sign of one dimension: relevant from .4 or from .7 on."""
    random = np.random.default_rng(seed)
    queries = random.normal(size=(n, 16)).astype(np.float32)
    queries[:, 0] = np.where(np.arange(n) % 2, 2, -2)
    scores = -np.sort(-random.uniform(0.1, 0.95, (n, 20)), axis=1).astype(np.float32)
    limits = np.where(np.arange(n) % 2, 0.4, 0.7)
    return queries, scores, scores > limits[:, None] + random.normal(0, 0.03, scores.shape)


def f1(kept: np.ndarray, relevant: np.ndarray) -> float:
    return float(2 * (kept & relevant).sum() / (kept.sum() + relevant.sum()))


def test_it_learns_a_limit_for_each_kind_of_query() -> None:
    found = train_score_map(*judged(), OURS)
    queries, scores, relevant = judged(seed=1)
    limits = found.limits(queries, 0.5)
    np.testing.assert_allclose(np.median(limits[1::2]), 0.4, atol=0.04)
    np.testing.assert_allclose(np.median(limits[::2]), 0.7, atol=0.04)
    by_map = f1(found.probabilities(queries, scores) >= found.threshold, relevant)
    everywhere = max(f1(scores >= limit, relevant) for limit in np.linspace(0, 1, 101))
    assert by_map > everywhere + 0.08
    before, after = found.facts["loss"]
    assert after < before


def test_probabilities_rise_with_the_score_and_agree_with_the_limits() -> None:
    queries, scores, _ = judged(40)
    found = train_score_map(*judged(), OURS, epochs=3)
    values = found.probabilities(queries, scores)
    assert (np.diff(values, axis=1) <= 0).all()
    kept = scores >= found.limits(queries, 0.3)[:, None]
    sure = np.abs(values - 0.3) > 1e-5
    assert np.array_equal(kept[sure], (values >= 0.3)[sure])
    padded = found.probabilities(queries[:1], np.array([[-np.inf]], np.float32))
    assert padded == 0


def test_where_queries_are_alike_the_constant_map_stays() -> None:
    """Nothing to learn from the query: what is kept is no worse than one limit for all."""
    queries, scores, relevant = judged()
    one_kind = scores > 0.5
    found = train_score_map(queries, scores, one_kind, OURS)
    before, after = found.facts["loss"]
    assert after <= before
    np.testing.assert_allclose(found.limits(queries, 0.5), 0.5, atol=0.05)


def test_equal_seeds_give_equal_maps() -> None:
    one, two = (train_score_map(*judged(60), OURS, epochs=2, seed=3) for _ in range(2))
    assert np.array_equal(one.inward, two.inward) and one.threshold == two.threshold


def test_a_saved_map_does_the_same(tmp_path: Path) -> None:
    queries, scores, _ = judged(40)
    found = train_score_map(*judged(), OURS, hidden=5, epochs=3)
    found.save(tmp_path)
    again = ScoreMap.load(tmp_path)
    assert (again.threshold, again.facts, again.encoder) == (found.threshold, found.facts, OURS)
    assert np.array_equal(
        again.probabilities(queries, scores), found.probabilities(queries, scores)
    )


def test_a_forged_map_is_damaged(tmp_path: Path) -> None:
    found = train_score_map(*judged(60), OURS, epochs=1)
    names = ("inward", "bias", "outward", "constant", "scale")
    arrays = {name: getattr(found, name) for name in names}
    facts: dict[str, Any] = {"threshold": 0.5, "training": {}}
    for number, (change, stated) in enumerate(
        [
            ({"outward": arrays["outward"][:1]}, facts),
            ({"constant": arrays["constant"][:1], "outward": arrays["outward"][:1],
              "scale": arrays["scale"][:1]}, facts),
            ({"scale": arrays["scale"] * np.float32(0)}, facts),
            ({}, {"threshold": "0.5", "training": {}}),
            ({}, {"threshold": 0.5}),
        ]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        save_learned(folder, Learned("cosine adapter", OURS, stated, arrays | change))
        with pytest.raises(Damaged):
            ScoreMap.load(folder)


def test_the_best_threshold_by_hand() -> None:
    values = np.array([[0.9, 0.5], [0.6, 0.5]], np.float32)
    assert best_threshold(values, np.array([[True, False], [True, False]])) == np.float32(0.6)
    assert best_threshold(values, np.array([[True, False], [False, False]])) == np.float32(0.9)
    assert best_threshold(values, np.array([[True, True], [True, True]])) == np.float32(0.5)


class Fixed:
    """The same hits for every query."""

    def retrieve(self, queries: Any, k: int, *, filter: Any = None) -> list[Ranking]:
        scores = np.array([0.8, 0.5, 0.2], np.float32)[:k]
        return [Ranking(query, ("a", "b", "c")[:k], scores) for query in queries]


def test_cut_rankings_keep_scores_and_order_and_may_be_empty() -> None:
    zeros = {"inward": np.zeros((1, 16)), "bias": np.zeros(1), "outward": np.zeros((2, 1))}
    arrays = {name: array.astype(np.float32) for name, array in zeros.items()}
    constant, scale = np.array([0, 0], np.float32), np.array([0.5, 1], np.float32)
    found = ScoreMap(OURS, **arrays, constant=constant, scale=scale, threshold=0.5, facts={})
    asked = [Query("1", "x"), Query("2", "y")]

    def kept(threshold: float | None, k: int = 3) -> list[tuple[str, ...]]:
        cut_off = CutOff(Fixed(), ENCODER, found, threshold)
        return [ranking.ids for ranking in cut_off.retrieve(asked, k)]

    assert kept(None) == [("a", "b")] * 2
    assert kept(0.4) == [("a", "b", "c")] * 2 and kept(0.4, 1) == [("a",)] * 2
    assert kept(0.9) == [()] * 2
    assert CutOff(Fixed(), ENCODER, found).retrieve([], 3) == []
    with pytest.raises(UsageError):
        CutOff(Fixed(), ENCODER, found, 1.0)
    other = HashingEncoder(16, seed=1)
    with pytest.raises(Mismatch, match="cosine adapter learned for hashing-16@.*hashing-16@"):
        CutOff(Fixed(), other, found)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda q, s, r: (q[:3], s, r), "queries"),
        (lambda q, s, r: (q, s, r[:, 1:]), "relevance"),
        (lambda q, s, r: (q, s * np.nan, r), "not a number"),
        (lambda q, s, r: (q, s, r & False), "0 queries that found"),
    ],
)
def test_what_makes_no_sense(change: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        train_score_map(*change(*judged(40)), OURS)
