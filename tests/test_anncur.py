"""ANNCUR against brute force: exact where scores are of low rank, near where they nearly are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.records import Fingerprint, Passage, Query, Ranking
from ragstone.retrieval import anncur
from ragstone.retrieval.anncur import Anncur, fit_anncur
from ragstone.storage import Disk, Store


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "sync", lambda *_: None)
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: None)


class Scores:
    """Texts "q3" and "p7" have a score of low rank, with noise; counts what it is asked."""

    def __init__(self, passages: int, rank: int, noise: float = 0, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        left, right = random.standard_normal((300, rank)), random.standard_normal((rank, passages))
        self.table = left @ right + noise * random.standard_normal((300, passages))
        self.fingerprint = Fingerprint("scores", f"{passages} {rank} {noise} {seed}")
        self.asked: list[tuple[str, str]] = []

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Any:
        self.asked += pairs
        places = np.array([(int(query[1:]), int(text[1:])) for query, text in pairs])
        return self.table[places[:, 0], places[:, 1]].astype(np.float32)


ANCHORS = [f"q{number}" for number in range(100, 300)]


def text_of(passage: Passage) -> str:
    return passage.text


def collection_of(folder: Path, passages: int) -> Collection:
    """Passage p7 has the text "p7"; a third of what was added is deleted again."""
    collection = Collection.create(folder, {})
    with collection.writer() as writer:
        for start in range(0, passages, 400):
            some = range(start, min(start + 400, passages))
            batch = [Passage(f"p{n}", f"p{n}", "", {"third": n % 3}) for n in some]
            writer.add([*batch, *(Passage(f"gone {n}", "") for n in some if n % 2)], {})
            writer.commit()
        writer.delete([f"gone {n}" for n in range(passages)])
        writer.commit()
    return collection.refresh()


def asked(count: int) -> list[Query]:
    return [Query(f"q{number}", f"q{number}") for number in range(count)]


def best(scorer: Scores, query: Query, k: int, among: Sequence[int]) -> list[str]:
    scores = scorer.table[int(query.text[1:])].astype(np.float32)
    return [f"p{n}" for n in sorted(among, key=lambda n: (-scores[n], f"p{n}"))[:k]]


def recall(rankings: Sequence[Ranking], scorer: Scores, k: int) -> float:
    every = range(scorer.table.shape[1])
    hits = [len({*one.ids[:k]} & {*best(scorer, one.query, k, every)}) for one in rankings]
    return float(np.mean(hits)) / k


@settings(max_examples=12, deadline=None)
@given(
    rank=st.integers(1, 8),
    anchor_queries=st.integers(8, 30),
    extra=st.integers(0, 20),
    rounds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_scores_of_low_rank_are_found_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    rank: int,
    anchor_queries: int,
    extra: int,
    rounds: int,
    seed: int,
) -> None:
    """With as many random anchors as the rank, the estimate is the score: the k best come back."""
    folder, scorer = tmp_path_factory.mktemp("exact"), Scores(90, rank, seed=seed)
    collection = collection_of(folder / "c", 90)
    fit_anncur(folder / "a", collection, scorer, ANCHORS[:anchor_queries], text_of)
    anchors = rounds * (2 * rank + extra)
    made = Anncur(
        folder / "a", collection, scorer, text_of, anchors=anchors, depth=7, rounds=rounds
    )
    for ranking in made.retrieve(asked(3), 5):
        assert list(ranking.ids) == best(scorer, ranking.query, 5, range(90))
        own = [float(scorer([(ranking.query.text, id)])[0]) for id in ranking.ids]
        assert ranking.scores.tolist() == own, "exact scores of the scorer come back"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Collection, Scores]:
    folder = tmp_path_factory.mktemp("noisy")
    scorer = Scores(1000, 10, noise=0.3)
    collection = collection_of(folder / "c", 1000)
    fit_anncur(folder / "a", collection, scorer, ANCHORS[:60], text_of)
    return folder / "a", collection, scorer


@pytest.mark.parametrize("rounds", [1, 3])
def test_noisy_scores_are_nearly_found(noisy: Any, rounds: int) -> None:
    """As many anchors as anchor queries: where the plain pseudo-inverse would amplify the noise."""
    folder, collection, scorer = noisy
    made = Anncur(folder, collection, scorer, text_of, anchors=60, depth=40, rounds=rounds)
    assert recall(made.retrieve(asked(20), 10), scorer, 10) > 0.9
    blind = Anncur(folder, collection, scorer, text_of, anchors=1, depth=40)
    assert recall(blind.retrieve(asked(20), 10), scorer, 10) < 0.6, "anchors are what does it"


@pytest.mark.parametrize("rounds", [1, 4])
def test_what_is_scored_is_the_budget(noisy: Any, rounds: int) -> None:
    folder, collection, scorer = noisy
    made = Anncur(folder, collection, scorer, text_of, anchors=21, depth=13, rounds=rounds)
    scorer.asked.clear()
    rankings = made.retrieve(asked(5), 100)
    assert len(scorer.asked) == len(set(scorer.asked)) == 5 * (21 + 13)
    assert [len(ranking) for ranking in rankings] == [34] * 5
    scorer.asked.clear()
    assert made.retrieve([], 3) == [] and scorer.asked == []


def test_fitting_scores_every_anchor_query_with_every_passage(tmp_path: Path) -> None:
    scorer, collection = Scores(70, 2), collection_of(tmp_path / "c", 70)
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:9], text_of)
    assert len(scorer.asked) == len(set(scorer.asked)) == 9 * 70


def test_a_budget_for_all_passages_is_brute_force(noisy: Any) -> None:
    folder, collection, scorer = noisy
    made = Anncur(folder, collection, scorer, text_of, anchors=30, depth=2000)
    for ranking in made.retrieve(asked(2), 1000):
        assert list(ranking.ids) == best(scorer, ranking.query, 1000, range(1000))


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_filter_holds_for_what_comes_back(noisy: Any, rounds: int) -> None:
    folder, collection, scorer = noisy
    made = Anncur(folder, collection, scorer, text_of, anchors=60, depth=400, rounds=rounds)
    for ranking in made.retrieve(asked(3), 20, filter={"third": 1}):
        assert list(ranking.ids) == best(scorer, ranking.query, 20, range(1, 1000, 3))
    assert [len(one) for one in made.retrieve(asked(2), 5, filter={"third": 7})] == [0, 0]


class Same:
    """A retriever that gives every query the same ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)

    def retrieve(self, queries: Any, k: int, *, filter: Any = None) -> list[Ranking]:
        ids = self.ids[:k]
        return [Ranking(query, ids, np.zeros(len(ids), np.float32)) for query in queries]


def test_the_first_anchors_may_come_from_a_retriever(noisy: Any) -> None:
    folder, collection, scorer = noisy
    first = Same(["p5", "not there", "p900", "p3"])
    made = Anncur(folder, collection, scorer, text_of, anchors=20, rounds=2, depth=5, first=first)
    scorer.asked.clear()
    made.retrieve(asked(2), 5)
    assert len(set(scorer.asked)) == 2 * 25, "filled up at random"
    for query in ("q0", "q1"):
        begun = [text for asked, text in scorer.asked if asked == query][:10]
        assert begun[:3] == ["p5", "p900", "p3"]


def test_another_scorer_and_another_generation_are_refused(tmp_path: Path) -> None:
    scorer, collection = Scores(40, 2), collection_of(tmp_path / "c", 40)
    folder = tmp_path / "a"
    fit_anncur(folder, collection, scorer, ANCHORS[:6], text_of)
    with pytest.raises(Mismatch, match="scored by scores@"):
        Anncur(folder, collection, Scores(40, 3), text_of)
    with collection.writer() as writer:
        writer.add([Passage("p40", "p40")], {})
        writer.commit()
    newer, wide = collection.refresh(), Scores(41, 2)
    with pytest.raises(Mismatch, match="generation"):
        Anncur(folder, newer, scorer, text_of)
    fit_anncur(folder, newer, wide, ANCHORS[:7], text_of)  # takes the place of the other
    made = Anncur(folder, newer, wide, text_of, anchors=6, depth=41)
    assert len(made.retrieve(asked(1), 50)[0]) == 41
    with pytest.raises(Mismatch):
        Anncur(folder, collection, scorer, text_of)


def test_segments_are_written_as_memory_fills(tmp_path: Path, monkeypatch: Any) -> None:
    scorer, collection = Scores(600, 3), collection_of(tmp_path / "c", 600)
    monkeypatch.setattr(anncur, "SEGMENT", 1)
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:5], text_of)
    assert len(Store.open(tmp_path / "a").segments) == 3
    made = Anncur(tmp_path / "a", collection, scorer, text_of, anchors=5, depth=10)
    for ranking in made.retrieve(asked(3), 5):
        assert list(ranking.ids) == best(scorer, ranking.query, 5, range(600))


def test_an_empty_collection_finds_nothing(tmp_path: Path) -> None:
    scorer, collection = Scores(1, 1), Collection.create(tmp_path / "c", {})
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:3], text_of)
    made = Anncur(tmp_path / "a", collection, scorer, text_of)
    assert [len(one) for one in made.retrieve(asked(2), 5)] == [0, 0]


def test_settings_and_folders_without_sense_are_refused(tmp_path: Path) -> None:
    scorer, collection = Scores(20, 2), collection_of(tmp_path / "c", 20)
    with pytest.raises(UsageError, match="anchor queries is 0"):
        fit_anncur(tmp_path / "a", collection, scorer, [], text_of)
    with pytest.raises(UsageError, match="holds no scores"):
        fit_anncur(tmp_path / "c", collection, scorer, ANCHORS[:3], text_of)
    assert len(Collection.open(tmp_path / "c")) == 20
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:3], text_of)
    for wrong in ({"anchors": 0}, {"anchors": 2, "rounds": 3}, {"depth": 0}, {"rounds": 0}):
        with pytest.raises(UsageError):
            Anncur(tmp_path / "a", collection, scorer, text_of, **wrong)
    with pytest.raises(UsageError):
        Anncur(tmp_path / "a", collection, scorer, text_of).retrieve(asked(1), 0)


@pytest.mark.parametrize("wrong", ["NaN", "few"])
def test_scores_that_are_none_are_refused_and_nothing_is_kept(tmp_path: Path, wrong: str) -> None:
    scorer, collection = Scores(20, 2), collection_of(tmp_path / "c", 20)
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:4], text_of)

    class Broken(Scores):
        def __call__(self, pairs: Sequence[tuple[str, str]]) -> Any:
            scores = super().__call__(pairs)
            scores[-1] = np.nan
            return scores if wrong == "NaN" else scores[:-1]

    with pytest.raises(InputError):
        fit_anncur(tmp_path / "a", collection, Broken(20, 2), ANCHORS[:3], text_of)
    assert len(Anncur(tmp_path / "a", collection, scorer, text_of).retrieve(asked(1), 9)[0]) == 9


@pytest.mark.parametrize("forged", [{"scorer": 1}, {}, "x", {"dimensions": 10**9}])
def test_forged_settings_are_damage(tmp_path: Path, forged: Any) -> None:
    scorer, collection = Scores(20, 2), collection_of(tmp_path / "c", 20)
    fit_anncur(tmp_path / "a", collection, scorer, ANCHORS[:4], text_of)
    with Store.open(tmp_path / "a").begin() as change:
        good = change.store.settings["anncur"]
        whole = {**good, **forged} if forged and isinstance(forged, dict) else forged
        change.settings = {"anncur": whole}
        change.commit()
    with pytest.raises(Damaged):
        Anncur(tmp_path / "a", collection, scorer, text_of)
