"""Folding chunks to documents against folding everything by hand."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.records import Passage, Query, Ranking
from ragstone.retrieval import Folded


class Chunks:
    """Passages whose scores are given, both the store and the retriever; counts its searches."""

    def __init__(self, scores: dict[str, float], *, whole: Sequence[str] = ()) -> None:
        self.scores, self.whole = scores, set(whole)
        self.depths: list[int] = []
        self.asked: list[int] = []

    def fetch(self, ids: Sequence[str]) -> list[Passage]:
        return [
            Passage(id, "", metadata={} if id in self.whole else {"document": id.split("#")[0]})
            for id in ids
        ]

    def retrieve(self, queries, k, *, filter=None) -> list[Ranking]:
        self.depths.append(k)
        self.asked.append(len(queries))
        hits = [item for item in self.scores.items() if filter is None or item[0] in filter]
        best = sorted(hits, key=lambda item: (-item[1], item[0]))[:k]
        ids = tuple(id for id, _ in best)
        return [
            Ranking(query, ids, np.array([score for _, score in best], np.float32))
            for query in queries
        ]


def test_a_document_scores_as_its_best_chunk() -> None:
    chunks = Chunks({"a#0": 1, "a#1": 5, "b#0": 4, "c#0": 4.5, "b#1": 4.25})
    (folding,) = Folded(chunks, chunks).fold([Query("q", "")], 2)
    assert folding.ranking.ids == ("a", "c") and folding.ranking.scores.tolist() == [5, 4.5]
    assert folding.best == ("a#1", "c#0")
    assert Folded(chunks, chunks).retrieve([Query("q", "")], 2) == [folding.ranking]


def test_a_sum_counts_every_chunk() -> None:
    chunks = Chunks({"a#0": 3, "b#0": 2, "b#1": 2})
    (folding,) = Folded(chunks, chunks, keep="sum").fold([Query("q", "")], 2)
    assert [(hit.id, hit.score) for hit in folding.ranking] == [("b", 4), ("a", 3)]
    assert folding.best == ("b#0", "a#0")


def test_a_passage_that_names_no_document_is_one() -> None:
    chunks = Chunks({"a#0": 3, "a#1": 2, "b#0": 1}, whole=["a#0", "a#1"])
    (ranking,) = Folded(chunks, chunks).retrieve([Query("q", "")], 5)
    assert ranking.ids == ("a#0", "a#1", "b")


def test_it_looks_deeper_until_there_are_k_documents() -> None:
    long = {f"long#{i}": 1000.0 - i for i in range(100)}
    chunks = Chunks({**long, "short#0": 1.0, "other#0": 0.5})
    (ranking,) = Folded(chunks, chunks, depth=10).retrieve([Query("q", "")], 2)
    assert ranking.ids == ("long", "short")
    assert chunks.depths == [10, 40, 160]


def test_it_stops_where_nothing_is_left_and_asks_no_finished_query_again() -> None:
    chunks = Chunks({f"one#{i}": float(i) for i in range(5)})
    assert Folded(chunks, chunks, depth=4).retrieve([Query("q", "")], 3)[0].ids == ("one",)
    assert chunks.depths == [4, 16]

    class Mixed(Chunks):
        def retrieve(self, queries, k, *, filter=None):
            full = super().retrieve(queries, k, filter=filter)
            none = np.empty(0, np.float32)
            return [r if r.query.text else Ranking(r.query, (), none) for r in full]

    mixed = Mixed({f"one#{i}": float(i) for i in range(50)})
    queries = [Query("1", ""), Query("2", "text"), Query("3", "")]
    rankings = Folded(mixed, mixed, depth=5).retrieve(queries, 3)
    assert [r.ids for r in rankings] == [(), ("one",), ()]
    assert [r.query for r in rankings] == queries
    assert mixed.asked == [3, 1, 1]


@given(
    scores=st.dictionaries(
        st.builds("{}#{}".format, st.sampled_from("abcdef"), st.integers(0, 9)),
        st.integers(0, 5).map(float),
        max_size=30,
    ),
    k=st.integers(1, 8),
    depth=st.integers(1, 10),
)
def test_the_result_does_not_depend_on_the_depth(scores, k, depth) -> None:
    best: dict[str, float] = defaultdict(float)
    for id, score in scores.items():
        best[id.split("#")[0]] = max(best[id.split("#")[0]], score)
    chunks = Chunks(scores)
    (folding,) = Folded(chunks, chunks, depth=depth).fold([Query("q", "")], k)
    got = [(-hit.score, hit.id) for hit in folding.ranking]
    expected = sorted((-score, id) for id, score in best.items())
    assert [score for score, _ in got] == [score for score, _ in expected[:k]]
    assert got == sorted(got) and set(got) <= set(expected)
    for document, chunk in zip(folding.ranking.ids, folding.best, strict=True):
        assert chunk.split("#")[0] == document and scores[chunk] == best[document]


def test_filters_pass_through_and_misuse_is_refused() -> None:
    chunks = Chunks({"a#0": 2, "b#0": 1})
    folded = Folded(chunks, chunks)
    assert folded.retrieve([Query("q", "")], 2, filter={"b#0": True})[0].ids == ("b",)
    assert folded.retrieve([], 2) == []
    with pytest.raises(UsageError, match="k is 0"):
        folded.retrieve([Query("q", "")], 0)
    with pytest.raises(UsageError, match="depth is 0"):
        Folded(chunks, chunks, depth=0)
    with pytest.raises(UsageError, match="'mean'"):
        Folded(chunks, chunks, keep="mean")  # type: ignore[arg-type]
