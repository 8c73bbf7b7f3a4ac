"""Routing by pilots: synthetic experts that each know one part of the world."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, InputError, Mismatch, UsageError
from ragstone.models.hashing import HashingEncoder
from ragstone.models.learned_folder import Learned, save_learned
from ragstone.records import Query, Ranking
from ragstone.retrieval.routing import Pilots, Routed, pilots_from

ENCODER = HashingEncoder(64)
OURS = ENCODER.fingerprint
SUBJECTS = {
    "law": ["the court ruled on the contract", "a judge and the law of contracts", "court appeal"],
    "code": ["the compiler links the code", "a function in the code", "compiler errors in code"],
    "food": ["bake the bread in the oven", "an oven for bread", "bread and butter"],
}


class Expert:
    """Names itself, and notes what it was asked."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, []

    def retrieve(self, queries: Any, k: int, *, filter: Any = None) -> list[Ranking]:
        self.asked.append((len(queries), k, filter))
        return [Ranking(query, (self.name,), np.ones(1, np.float32)) for query in queries]


def trained() -> Pilots:
    texts = [text for texts in SUBJECTS.values() for text in texts]
    owners = [name for name, texts in SUBJECTS.items() for _ in texts]
    quality = {name: np.array([float(owner == name) for owner in owners]) for name in SUBJECTS}
    return pilots_from(ENCODER.encode_queries(texts), quality, OURS)


def test_each_query_goes_to_its_expert_in_one_batch_an_expert() -> None:
    experts = {name: Expert(name) for name in SUBJECTS}
    texts = ["is the contract law?", "bread from my oven", "the code of a compiler", "a court"]
    queries = [Query(str(n), text) for n, text in enumerate(texts)]
    rankings = Routed(experts, ENCODER, trained()).retrieve(queries, 7, filter={"a": 1})
    assert [ranking.query for ranking in rankings] == queries
    assert [ranking.ids for ranking in rankings] == [("law",), ("food",), ("code",), ("law",)]
    assert experts["law"].asked == [(2, 7, {"a": 1})] and len(experts["food"].asked) == 1
    assert Routed(experts, ENCODER, trained()).retrieve([], 7) == []


def test_pilots_are_means_of_what_each_was_best_at() -> None:
    """By hand, with two groups; a query at which all are equal has no part."""
    queries = np.array([[1, 0], [0, 1], [3, 4], [0, -2], [5, 5]], np.float32)
    quality = {"x": np.array([1, 1, 0, 0, 0.5]), "y": np.array([0, 0, 1, 1, 0.5])}
    found = pilots_from(queries, quality, OURS, groups=["b", "b", "b", "a", "a"])
    assert found.experts == ("y", "x", "y")
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found.vectors, [[0, -1], [half, half], [0.6, 0.8]], atol=1e-6)


def test_the_choice_equals_the_definition() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(9, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pilots = Pilots(OURS, vectors, tuple("abcabcabc"))
    queries = random.normal(size=(50, 5)).astype(np.float32)
    for nearest in (None, 1, 2, 9):
        for query, chosen in zip(queries, pilots.choose(queries, nearest), strict=True):
            means = {}
            for name in "abc":
                own = [query @ v for v, owner in zip(vectors, "abcabcabc", strict=True)
                       if owner == name]  # fmt: skip
                means[name] = np.mean(sorted(own, reverse=True)[:nearest])
            assert chosen == max(means, key=means.get)


def test_several_pilots_tell_kinds_of_queries_apart() -> None:
    """An expert for two opposite kinds has a mean near nothing; two pilots have not."""
    random = np.random.default_rng(1)
    ends = np.array([[4, 0], [-4, 0], [0, 4]], np.float32)
    queries = (ends[np.arange(90) % 3] + random.normal(size=(90, 2))).astype(np.float32)
    both = (np.arange(90) % 3 < 2).astype(float)
    found = pilots_from(queries, {"ends": both, "top": 1 - both}, OURS, pilots=2)
    assert found.experts == ("ends", "ends", "top", "top")
    np.testing.assert_allclose(sorted(found.vectors[:2, 0]), [-1, 1], atol=0.05)
    assert found.choose(ends, nearest=1) == ["ends", "ends", "top"]


def test_saved_pilots_choose_the_same(tmp_path: Path) -> None:
    pilots = trained()
    pilots.save(tmp_path)
    again = Pilots.load(tmp_path)
    assert again.experts == pilots.experts and again.encoder == OURS
    assert np.array_equal(again.vectors, pilots.vectors)


@pytest.mark.parametrize("facts", [{}, {"experts": ["a"]}, {"experts": [1, 2, 3]}])
def test_forged_pilots_are_damaged(facts: Any, tmp_path: Path) -> None:
    save_learned(tmp_path, Learned("pilots", OURS, facts, {"vectors": trained().vectors}))
    with pytest.raises(Damaged):
        Pilots.load(tmp_path)


def test_what_is_refused() -> None:
    pilots = trained()
    experts = {name: Expert(name) for name in SUBJECTS}
    with pytest.raises(Mismatch, match="pilots learned for hashing-64@"):
        Routed(experts, HashingEncoder(64, seed=1), pilots)
    del experts["law"]
    with pytest.raises(UsageError, match="pilots of 'law', which is no expert here"):
        Routed(experts, ENCODER, pilots)
    with pytest.raises(UsageError):
        Routed({**experts, "law": Expert("law")}, ENCODER, pilots, nearest=0)
    queries = np.ones((2, 3), np.float32)
    with pytest.raises(InputError, match="no query tells the experts apart"):
        pilots_from(queries, {"a": np.ones(2), "b": np.ones(2)}, OURS)
    with pytest.raises(InputError, match="not one value for each"):
        pilots_from(queries, {"a": np.ones(3)}, OURS)
