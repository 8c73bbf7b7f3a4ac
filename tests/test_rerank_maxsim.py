"""Candidates reranked by MaxSim: the order, the ties, and what is encoded how often."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import InputError, UsageError
from ragstone.indexes.multivector import MultiVector
from ragstone.records import Fingerprint, Passage, Query, Ranking, TokenVectors
from ragstone.rerank.maxsim import MaxSimReranker, StoredMaxSimReranker, chosen


@dataclass
class LetterEncoder:
    """One vector a letter, along the axis of that letter; remembers what it was asked for."""

    fingerprint: Fingerprint = Fingerprint("letters", "0")
    batches: list[list[str]] = field(default_factory=list)

    def encode_passages(self, texts: Sequence[str]) -> TokenVectors:
        self.batches.append(list(texts))
        return self.encode_queries(texts)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        letters = [[ord(letter) - ord("a") for letter in text if letter != " "] for text in texts]
        offsets = np.cumsum([0, *map(len, letters)])
        every = np.array([place for text in letters for place in text], dtype=np.int64)
        return TokenVectors(offsets, np.eye(26, dtype=np.float32)[every])


@dataclass
class Shelf:
    """Passages by id; numbers are places."""

    texts: dict[str, str]

    def fetch(self, ids: Sequence[str]) -> list[Passage]:
        return [Passage(id, self.texts[id]) for id in ids]

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        places = {id: place for place, id in enumerate(self.texts)}
        return np.array([places.get(id, -1) for id in ids], dtype=np.int64)


@dataclass
class Stored:
    """An index that keeps the vectors of all passages as they are."""

    keys: TokenVectors

    def score(self, keys: TokenVectors, numbers: np.ndarray) -> np.ndarray:
        found = np.full(numbers.shape, -np.inf, np.float32)
        for row, column in zip(*np.nonzero(numbers >= 0), strict=True):
            query, passage = chosen(keys, [row]), chosen(self.keys, [numbers[row, column]])
            if len(query.vectors) and len(passage.vectors):
                found[row, column] = (query.vectors @ passage.vectors.T).max(1).sum()
        return found


def ranking(text: str, ids: Sequence[str]) -> Ranking:
    scores = -np.arange(len(ids), dtype=np.float32)
    return Ranking(Query(text, text), tuple(ids), scores)


TEXTS = {"p1": "xyz", "p2": "abc", "p3": "cab", "p4": "bzz", "p5": ""}


def rerankers(texts: dict[str, str], batch: int = 1024) -> list[MaxSimReranker]:
    shelf, encoder = Shelf(texts), LetterEncoder()
    stored = Stored(encoder.encode_queries(list(texts.values())))
    return [
        MaxSimReranker(encoder, shelf, batch=batch),
        StoredMaxSimReranker(encoder, stored, shelf),  # type: ignore[list-item]
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_best_first_equal_scores_by_id_and_no_vectors_last(which: int) -> None:
    given = ranking("ab", ["p5", "p4", "p3", "p1", "p2"])
    (found,) = rerankers(TEXTS)[which].rerank([given], 100)
    assert found.ids == ("p2", "p3", "p4", "p1", "p5")
    assert found.scores.tolist()[:4] == [2, 2, 1, 0]
    assert np.isfinite(found.scores).all() and found.scores.dtype == np.float32
    (best,) = rerankers(TEXTS)[which].rerank([given], 2)
    assert best.ids == ("p2", "p3") and best.query == given.query


@pytest.mark.parametrize("which", [0, 1])
def test_a_query_that_says_nothing_leaves_the_ranking(which: int) -> None:
    silent, empty = ranking("", ["p4", "p1", "p2"]), ranking("ab", [])
    found = rerankers(TEXTS)[which].rerank([silent, empty], 2)
    assert found[0] == ranking("", ["p4", "p1"])
    assert len(found[1]) == 0
    assert rerankers(TEXTS)[which].rerank([empty], 2) == [empty]
    assert rerankers(TEXTS)[which].rerank([], 2) == []


LETTERS = st.text("abcdef", max_size=5)


@given(st.lists(LETTERS, min_size=1, max_size=8), st.lists(LETTERS, max_size=6), st.data())
@settings(deadline=None, max_examples=40)
def test_both_give_what_the_formula_gives(
    texts: list[str], asked: list[str], data: st.DataObject
) -> None:
    shelf = {f"p{place}": text for place, text in enumerate(texts)}
    subsets = st.lists(st.sampled_from(sorted(shelf)), unique=True)
    given = [ranking(text, data.draw(subsets)) for text in asked]
    k = data.draw(st.integers(1, 9))
    for reranker in rerankers(shelf, batch=data.draw(st.integers(1, 9))):
        for before, after in zip(given, reranker.rerank(given, k), strict=True):
            scores = {id: _score(before.query.text, shelf[id]) for id in before.ids}
            if any(score is not None for score in scores.values()):
                order = sorted(before.ids, key=lambda id: (_sortable(scores[id]), id))
                assert after.ids == tuple(order[:k])
            else:
                assert after.ids == before.ids[:k]


def _score(query: str, passage: str) -> int | None:
    return sum(letter in passage for letter in query) if query and passage else None


def _sortable(score: int | None) -> float:
    return np.inf if score is None else -score


def test_a_passage_is_encoded_once_a_batch() -> None:
    encoder = LetterEncoder()
    given = [ranking(text, ["p1", "p2", "p3"]) for text in "abcd"]
    MaxSimReranker(encoder, Shelf(TEXTS), batch=6).rerank(given, 3)
    assert encoder.batches == [["xyz", "abc", "cab"]] * 2


def test_the_title_is_encoded_with_the_text() -> None:
    @dataclass
    class Titled(Shelf):
        def fetch(self, ids: Sequence[str]) -> list[Passage]:
            return [Passage(id, self.texts[id], title="title") for id in ids]

    encoder = LetterEncoder()
    reranker = MaxSimReranker(encoder, Titled({"p1": "text"}))
    (found,) = reranker.rerank([ranking("li", ["p1"])], 1)
    assert found.scores.tolist() == [2]
    assert encoder.batches == [["title text"]]


def test_the_codes_of_a_multi_vector_index_rank_as_the_texts_do() -> None:
    encoder, shelf = LetterEncoder(), Shelf({"p1": "xyz", "p2": "abc", "p3": "acb", "p4": "bzz"})
    index = MultiVector(dimensions=26, codes="float16").open([])
    index.add(np.arange(4), encoder.encode_queries(list(shelf.texts.values())))
    given = [ranking("abz", ["p4", "p3", "p1", "p2"]), ranking("x", ["p1"]), ranking("", ["p2"])]
    stored = StoredMaxSimReranker(encoder, index, shelf).rerank(given, 3)
    fresh = MaxSimReranker(encoder, shelf).rerank(given, 3)
    assert [one.ids for one in stored] == [one.ids for one in fresh]
    assert stored[0].ids == ("p2", "p3", "p4")
    for one, other in zip(stored, fresh, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3)


def test_wrong_calls_are_refused() -> None:
    for reranker in rerankers(TEXTS):
        with pytest.raises(UsageError, match="k is 0"):
            reranker.rerank([], 0)
    with pytest.raises(InputError, match="no passage has the id 'p9'"):
        rerankers(TEXTS)[1].rerank([ranking("a", ["p1", "p9"])], 1)
