"""Fusion against Pyserini's published vectors and plain arithmetic."""

import os
from collections import defaultdict
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.records import Query, Ranking
from ragstone.retrieval import Fused, fuse


def ranking(query: str, hits: dict[str, float]) -> Ranking:
    """The hits as a Ranking, in the order that a Ranking has."""
    order = sorted(hits, key=lambda id: (-hits[id], id))
    scores = np.array([hits[id] for id in order], dtype=np.float32)
    return Ranking(Query(query, ""), tuple(order), scores)


def read_run(path: Path) -> dict[str, dict[str, float]]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return {
        topic: {line[2]: float(line[4]) for line in group}
        for topic, group in groupby(lines, key=lambda line: line[0])
    }


class Vectors:
    """Pyserini's two runs as legs over the same three topics, and what it makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.legs = [self.leg(f"simple_trec_run_fusion_{number}.txt") for number in (1, 2)]

    def leg(self, name: str) -> list[Ranking]:
        run = read_run(self.folder / name)
        return [ranking(topic, run.get(topic, {})) for topic in "123"]

    def expected(self, name: str) -> list[dict[str, float]]:
        run = read_run(self.folder / name)
        return [run[topic] for topic in "123"]


@pytest.fixture
def vectors() -> Vectors:
    if "RAGSTONE_DATA" not in os.environ:
        pytest.skip("RAGSTONE_DATA is not set")
    return Vectors(Path(os.environ["RAGSTONE_DATA"]) / "pyserini-fusion-vectors")


def as_dicts(rankings: list[Ranking]) -> list[dict[str, float]]:
    return [{hit.id: hit.score for hit in one} for one in rankings]


def assert_close(got: list[Ranking], expected: list[dict[str, float]]) -> None:
    for one, scores in zip(got, expected, strict=True):
        assert one.ids == tuple(scores)
        np.testing.assert_allclose(one.scores, list(scores.values()), rtol=1e-6)


def test_average_and_interpolation_are_those_of_pyserini(vectors: Vectors) -> None:
    average = fuse(vectors.legs, 10, method="sum", weights=[0.5, 0.5])
    assert_close(average, vectors.expected("simple_trec_run_average_verify.txt"))
    interpolated = fuse(vectors.legs, 10, method="sum", weights=[0.4, 0.6])
    assert_close(interpolated, vectors.expected("simple_trec_run_interpolation_verify.txt"))


def test_min_max_is_that_of_pyserini(vectors: Vectors) -> None:
    fused = fuse(vectors.legs, 10, method="minmax")
    assert_close(fused, vectors.expected("simple_fusion_normalize_verify.txt"))
    alone = fuse([vectors.leg("simple_trec_run_fusion_1.txt")], 10, method="minmax")
    run = read_run(vectors.folder / "simple_trec_run_normalize_verify.txt")
    assert_close(alone, [run["1"], run["2"], {}])


def test_reciprocal_rank_is_that_of_pyserini(vectors: Vectors) -> None:
    first, second = vectors.legs
    # The second file of topic 1 goes from rank 1 to rank 3; ranks here are places, so fill place 2.
    second[0] = ranking("1", {"pyeb86on": 2.4, "filler": 2.0, "2054tkb7": 1.3})
    fused = as_dicts(fuse([first, second], 10, method="rrf"))
    fused[0].pop("filler")
    for got, expected in zip(
        fused, vectors.expected("simple_trec_run_rrf_verify.txt"), strict=True
    ):
        assert got == pytest.approx(expected, rel=1e-6)


LEGS = st.lists(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2), st.floats(-100, 100, width=32), max_size=12
    ),
    min_size=1,
    max_size=3,
)


def contribution(method: str, hits: dict[str, float]) -> dict[str, float]:
    """The textbook formulas, one hit at a time."""
    order = sorted(hits, key=lambda id: (-hits[id], id))
    scores = [hits[id] for id in order]
    low, high = min(scores), max(scores)
    mean = sum(scores) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores) / len(scores)) ** 0.5
    formulas = {
        "rrf": lambda place, _: 1 / (60 + place + 1),
        "minmax": lambda _, score: (score - low) / (high - low) if high > low else 1.0,
        "zscore": lambda _, score: 2 + ((score - mean) / deviation if high > low else 0.0),
        "sum": lambda _, score: score,
    }
    return {id: formulas[method](place, hits[id]) for place, id in enumerate(order)}


@pytest.mark.parametrize("method", ["rrf", "minmax", "zscore", "sum"])
@given(legs=LEGS, weight=st.floats(0.1, 2))
def test_every_method_is_its_formula(
    method: str, legs: list[dict[str, float]], weight: float
) -> None:
    expected: dict[str, float] = defaultdict(float)
    weights = [weight] * len(legs)
    for hits in filter(None, legs):
        for id, value in contribution(method, hits).items():
            expected[id] += weight * value
    rankings = [[ranking("q", hits)] for hits in legs]
    (fused,) = fuse(rankings, 100, method=method, weights=weights)
    got = {hit.id: hit.score for hit in fused}
    assert got == pytest.approx(dict(expected), rel=1e-4, abs=1e-4)
    keys = [(-hit.score, hit.id) for hit in fused]
    assert keys == sorted(keys)


def test_one_hit_counts_in_full() -> None:
    """A leg with a single hit, or with equal ones, says that they are found: not nothing."""
    wide = {"x": 3.0, "y": 2.0, "z": 1.0}
    for method in ("minmax", "zscore"):
        for few in ({"z": 7.0}, {"z": 7.0, "w": 7.0}):
            (fused,) = fuse([[ranking("q", wide)], [ranking("q", few)]], 9, method=method)
            scores = {hit.id: hit.score for hit in fused}
            (alone,) = fuse([[ranking("q", wide)]], 9, method=method)
            before = {hit.id: hit.score for hit in alone}
            assert scores["z"] - before["z"] == pytest.approx({"minmax": 1, "zscore": 2}[method])


def test_equal_scores_come_by_ascending_id_and_ten_of_them_only() -> None:
    legs = [[ranking("q", {f"{i:02}": 1.0 for i in range(30)})] for _ in range(2)]
    (fused,) = fuse(legs, 10, method="minmax")
    assert fused.ids == tuple(f"{i:02}" for i in range(10))
    # reciprocal rank: a document at rank r of one leg alone ties with that of the other
    apart = [[ranking("q", {"b": 2.0, "d": 1.0})], [ranking("q", {"a": 2.0, "c": 1.0})]]
    (fused,) = fuse(apart, 3, method="rrf")
    assert fused.ids == ("a", "b", "c")


def test_weights_decide() -> None:
    legs = [[ranking("q", {"a": 2.0, "b": 1.0})], [ranking("q", {"b": 2.0, "a": 1.0})]]
    assert fuse(legs, 1, method="minmax", weights=[2, 1])[0].ids == ("a",)
    assert fuse(legs, 1, method="rrf", weights=[1, 2])[0].ids == ("b",)
    assert fuse(legs, 1, method="rrf", weights=[0, 1])[0].ids == ("b",)


def test_the_constant_of_reciprocal_rank_is_used() -> None:
    (fused,) = fuse([[ranking("q", {"a": 2.0, "b": 1.0})]], 2, method="rrf", constant=2)
    np.testing.assert_allclose(fused.scores, [1 / 3, 1 / 4], rtol=1e-6)


class Fixed:
    """A retriever that returns what it was given, cut to k, and remembers what it was asked."""

    def __init__(self, hits: dict[str, float]) -> None:
        self.hits, self.asked = hits, []

    def retrieve(self, queries, k, *, filter=None):
        self.asked.append((k, filter))
        best = dict(sorted(self.hits.items(), key=lambda item: (-item[1], item[0]))[:k])
        return [Ranking(query, *ranking_parts(best)) for query in queries]


def ranking_parts(hits: dict[str, float]) -> tuple[tuple[str, ...], np.ndarray]:
    one = ranking("", hits)
    return one.ids, one.scores


def test_fused_asks_each_retriever_for_its_depth_and_passes_the_filter_on() -> None:
    one, two = Fixed({"a": 1.0, "b": 0.5}), Fixed({"b": 9.0, "c": 1.0})
    fused = Fused([one, two], method="minmax", depth=20)
    queries = [Query("1", "x"), Query("2", "y")]
    first, second = fused.retrieve(queries, 2, filter={"lang": "en"})
    assert first.ids == second.ids == ("a", "b")
    assert (first.query, second.query) == tuple(queries)
    fused.retrieve(queries, 50)
    assert one.asked == two.asked == [(20, {"lang": "en"}), (50, None)]


def test_a_fused_retriever_is_a_retriever() -> None:
    inner = Fused([Fixed({"a": 2.0, "b": 1.0}), Fixed({"b": 2.0})], method="rrf")
    outer = Fused([inner, Fixed({"c": 1.0})], method="minmax", weights=[1.0, 0.5])
    assert outer.retrieve([Query("1", "")], 3)[0].ids == ("b", "c", "a")
    assert outer.retrieve([], 3) == []


def test_nothing_found_anywhere_is_an_empty_ranking() -> None:
    (none,) = Fused([Fixed({}), Fixed({})]).retrieve([Query("1", "")], 3)
    assert none.ids == () and len(none.scores) == 0
    (some,) = Fused([Fixed({}), Fixed({"a": 5.0})]).retrieve([Query("1", "")], 3)
    assert some.ids == ("a",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "borda"}, "no fusion method 'borda'"),
        ({"weights": [1.0]}, "1 weights for 2 legs"),
        ({"weights": [1.0, -1.0]}, "weights"),
        ({"weights": [0.0, 0.0]}, "weights"),
        ({"weights": [1.0, float("nan")]}, "weights"),
        ({"depth": 0}, "depth is 0"),
        ({"constant": -1}, "constant is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_when_made(settings, words) -> None:
    with pytest.raises(UsageError, match=words):
        Fused([Fixed({}), Fixed({})], **settings)


def test_misuse_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to fuse"):
        Fused([])
    with pytest.raises(UsageError, match="k is 0"):
        Fused([Fixed({})]).retrieve([Query("1", "")], 0)
    with pytest.raises(UsageError, match="from '3' on"):
        fuse([[ranking("1", {}), ranking("2", {})], [ranking("1", {}), ranking("3", {})]], 5)
    with pytest.raises(UsageError, match="different queries"):
        fuse([[ranking("1", {})], []], 5)
