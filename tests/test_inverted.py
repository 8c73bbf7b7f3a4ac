"""The inverted index against brute force in NumPy, under adds, deletes, merges and filters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, InputError, UsageError
from ragstone.indexes.bm25 import LENGTHS, norms
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.inverted import Inverted, InvertedIndex
from ragstone.records import Neighbours, WeightedTerms
from ragstone.storage import MemoryPart

VOCABULARY = [f"t{i}".encode() for i in range(60)] + ["é".encode(), b"", b"x" * 300]


def terms_of(
    rows: Sequence[dict[int, float]], lengths: Sequence[int] | None = None
) -> WeightedTerms:
    """Texts given as term number -> weight; without lengths, the sum of the weights."""
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    ids = np.array([i for row in rows for i in row], np.int32)
    weights = np.array([w for row in rows for w in row.values()], np.float32)
    if lengths is None:
        lengths = [max(int(sum(row.values())), 1) if row else 0 for row in rows]
    return WeightedTerms(offsets, ids, weights, VOCABULARY, np.array(lengths, np.int32))


def matrix_of(keys: WeightedTerms) -> np.ndarray:
    dense = np.zeros((len(keys), len(VOCABULARY)))
    dense[np.repeat(np.arange(len(keys)), np.diff(keys.offsets)), keys.ids] = keys.weights
    return dense


def brute_force(family: Inverted, keys: WeightedTerms, live: np.ndarray, query: Any) -> np.ndarray:
    """Scores (queries, rows) in float64, 0 where a row is deleted or holds no term."""
    weights, asked = matrix_of(keys), matrix_of(query)
    if family.scoring == "bm25":
        lengths, n = keys.lengths.astype(float), int((live & (keys.lengths > 0)).sum())
        average = lengths[live].sum() / max(n, 1) or 1.0
        frequency = (weights[live] > 0).sum(axis=0)
        idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
        rounded = LENGTHS[norms(keys.lengths)] / average
        factor = family.k1 * (1 - family.b + family.b * rounded)[:, None]
        present = np.where(weights > 0, weights, 1)
        weights = np.where(weights > 0, idf * present / (present + factor), 0)
    return np.where(live, asked @ weights.T, 0)


def part_of(family: Inverted, keys: WeightedTerms) -> MemoryPart:
    builder, part = family.builder(), MemoryPart()
    for start in range(0, len(keys), max(len(keys) // 2, 1)):  # in two batches
        builder.add(rows_of(keys, np.arange(len(keys))[start : start + max(len(keys) // 2, 1)]))
    assert builder.nbytes > 0
    builder.write(part)
    return part


def rows_of(keys: WeightedTerms, rows: np.ndarray) -> WeightedTerms:
    pieces = [np.arange(keys.offsets[row], keys.offsets[row + 1]) for row in rows]
    chosen = np.concatenate([np.zeros(0, np.int64), *pieces])
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)]).astype(np.int64)
    ids, weights = keys.ids[chosen], keys.weights[chosen]
    return WeightedTerms(offsets, ids, weights, keys.vocabulary, keys.lengths[rows])


def segmented(
    family: Inverted, keys: WeightedTerms, cuts: Sequence[int], live: np.ndarray
) -> list[OpenPart]:
    """The rows in parts that begin at the cuts, with deletes."""
    bounds = [0, *sorted(set(cuts)), len(keys)]
    return [
        OpenPart(part_of(family, rows_of(keys, np.arange(a, b))), a, b - a, ~live[a:b])
        for a, b in zip(bounds, bounds[1:], strict=False)
    ]


def assert_exact(found: Neighbours, scores: np.ndarray, k: int) -> None:
    """The k best by score, ties by ascending number, padded."""
    assert found.numbers.shape == found.scores.shape == (len(scores), k)
    for numbers, values, expected in zip(found.numbers, found.scores, scores, strict=True):
        n = min(k, int((expected > 0).sum()))
        assert (numbers[n:] == -1).all() and np.isneginf(values[n:]).all()
        assert (numbers[:n] >= 0).all() and len(set(numbers[:n])) == n
        np.testing.assert_allclose(values[:n], expected[numbers[:n]], rtol=2e-6)
        np.testing.assert_allclose(values[:n], np.sort(expected)[::-1][:n], rtol=2e-6)
        assert sorted(zip(-values[:n], numbers[:n], strict=True)) == list(
            zip(-values[:n], numbers[:n], strict=True)
        )


ROW = st.dictionaries(st.integers(0, 62), st.integers(1, 4).map(float), max_size=8)
FAMILIES = [Inverted(), Inverted(k1=2.0, b=0.0), Inverted(k1=0.0, b=1.0), Inverted("impact")]


@st.composite
def corpora(draw: st.DrawFn) -> tuple[WeightedTerms, np.ndarray, list[int]]:
    rows = draw(st.lists(ROW, max_size=30))
    live = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=3))
    return terms_of(rows), np.array(live, np.bool_), cuts


@settings(max_examples=120, deadline=None)
@given(
    corpora(), st.lists(ROW, max_size=3), st.integers(1, 40), st.sampled_from(FAMILIES), st.data()
)
def test_search_is_exact(
    corpus: Any, queries: list[dict[int, float]], k: int, family: Inverted, data: st.DataObject
) -> None:
    """And gives the same scores, to the bit, as one part of the live rows, and as a merged one."""
    keys, live, cuts = corpus
    query = terms_of(queries)
    parts = segmented(family, keys, cuts, live)
    index, expected = family.open(parts), brute_force(family, keys, live, query)
    found = index.search(query, k)
    assert_exact(found, expected, k)
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))), bool
    )
    assert_exact(index.search(query, k, allowed=allowed), np.where(allowed, expected, 0), k)

    rows = np.flatnonzero(live)
    whole = family.open([OpenPart(part_of(family, rows_of(keys, rows)), 0, len(rows))])
    merged = MemoryPart()
    family.merge(parts, merged)
    for other in (whole, family.open([OpenPart(merged, 0, len(rows))])):
        again = other.search(query, k)
        assert np.array_equal(again.scores, found.scores)
        assert np.array_equal(np.where(again.numbers < 0, -1, rows[again.numbers]) if len(rows) else
                              again.numbers, found.numbers)  # fmt: skip


def random_rows(
    random: np.random.Generator, n: int, terms: int, most: int
) -> list[dict[int, float]]:
    """Few frequent and many rare terms."""
    sizes = random.integers(0, most, n)
    drawn = np.minimum(terms * random.random(sizes.sum()) ** 3, terms - 1).astype(int)
    rows: list[dict[int, float]] = []
    for piece in np.split(drawn, np.cumsum(sizes)[:-1]):
        numbers, counts = np.unique(piece, return_counts=True)
        rows.append(dict(zip(numbers.tolist(), counts.astype(float).tolist(), strict=True)))
    return rows


@pytest.fixture(scope="module")
def large() -> WeightedTerms:
    """More rows than one range has, with every form of postings."""
    return terms_of(random_rows(np.random.default_rng(1), 67_000, 60, 12))


@pytest.mark.parametrize("family", [Inverted(), Inverted("impact")], ids=["bm25", "impact"])
@pytest.mark.parametrize("deleting", [False, True])
def test_pruning_across_ranges_is_exact(
    large: WeightedTerms, family: Inverted, deleting: bool
) -> None:
    random = np.random.default_rng(2)
    live = random.random(len(large)) < (0.8 if deleting else 1.1)
    queries = terms_of([row for row in random_rows(random, 12, 63, 7) if row])
    expected = brute_force(family, large, live, queries)
    index = family.open(segmented(family, large, [66_000] if deleting else [], live))
    for k in (1, 10, 300, 5000):
        assert_exact(index.search(queries, k), expected, k)
        for share in (0.5, 0.01, 0.0005):
            allowed = random.random(len(large)) < share
            found = index.search(queries, k, allowed=allowed)
            assert_exact(found, np.where(allowed, expected, 0), k)


def test_one_query_alone_gives_what_it_gives_in_a_batch(large: WeightedTerms) -> None:
    index = Inverted().open([OpenPart(part_of(Inverted(), large), 0, len(large))])
    queries = terms_of(random_rows(np.random.default_rng(5), 30, 63, 9))
    batch = index.search(queries, 7)
    for i in range(len(queries)):
        alone = index.search(rows_of(queries, np.array([i])), 7)
        assert np.array_equal(alone.numbers[0], batch.numbers[i])
        assert np.array_equal(alone.scores[0], batch.scores[i])


def test_merging_large_parts_equals_a_rebuild(large: WeightedTerms) -> None:
    """Array by array."""
    random, family = np.random.default_rng(7), Inverted()
    live = random.random(len(large)) < 0.9
    merged, rebuilt = MemoryPart(), part_of(family, rows_of(large, np.flatnonzero(live)))
    family.merge(segmented(family, large, [10_000, 10_001, 40_000], live), merged)
    assert merged.facts == rebuilt.facts and merged.nbytes == rebuilt.nbytes
    for name in ("ends", "buckets", "starts", "sparse", "common", "bases", "directory", "docs",
                 "codes", "dense_terms", "dense_counts", "dense", "norms", "lengths"):  # fmt: skip
        assert np.array_equal(merged.array(name), rebuilt.array(name)), name
    assert np.array_equal(merged.blob("terms"), rebuilt.blob("terms"))


@pytest.mark.parametrize("frequency", [63, 64, 255, 256, 300, 65_535, 65_536, 10**6])
def test_frequencies_of_any_size(frequency: int) -> None:
    """Above 255 they take two bytes; above 65,535 they count as that."""
    rows = [{0: 1.0, 1: float(frequency)}, {0: 2.0}, {1: 1.0, 2: 5.0}] * 5
    keys = terms_of(rows, [100] * 15)
    query = terms_of([{0: 1.0, 1: 1.0}])
    kept = terms_of([{i: min(w, 65_535.0) for i, w in row.items()} for row in rows], [100] * 15)
    expected = brute_force(Inverted(), kept, np.ones(15, bool), query)
    parts = segmented(Inverted(), keys, [4], np.ones(15, bool))
    merged = MemoryPart()
    Inverted().merge(parts, merged)
    for opened in (parts, [OpenPart(merged, 0, 15)]):
        assert_exact(Inverted().open(opened).search(query, 20), expected, 20)


def test_a_term_in_every_row_of_a_range() -> None:
    n, m = 1 << 16, 1 << 18
    weights = np.full(n, 1.0)
    keys = WeightedTerms(
        np.minimum(np.arange(m + 1), n), np.zeros(n, np.int32), weights.astype(np.float32),
        VOCABULARY, np.minimum(np.arange(m)[::-1] + 1 - (m - n), 1).clip(0, 1).astype(np.int32),
    )  # fmt: skip
    found = Inverted().open([OpenPart(part_of(Inverted(), keys), 0, m)])
    assert found.search(terms_of([{0: 1.0}]), 3).numbers.tolist() == [[0, 1, 2]]


def test_growing_in_memory() -> None:
    rows = random_rows(np.random.default_rng(3), 90, 30, 9)
    index, query = Inverted().open([]), terms_of([{0: 1.0, 3: 2.0}, {}, {61: 1.0}])
    assert index.rows == 0 and index.search(query, 4).numbers.tolist() == [[-1] * 4] * 3
    for start in range(0, 90, 30):
        index.add(np.arange(start, start + 30), terms_of(rows[start : start + 30]))
        keys, live = terms_of(rows[: start + 30]), np.ones(start + 30, bool)
        assert_exact(index.search(query, 9), brute_force(Inverted(), keys, live, query), 9)
    assert index.rows == 90 and index.nbytes > 0
    with pytest.raises(UsageError, match="from 90 to 90"):
        index.add(np.array([5]), terms_of([{0: 1.0}]))


def test_settings_give_an_equal_family_back() -> None:
    family = Inverted(scoring="impact", k1=1.5, b=0.25)
    assert load_family(family.kind, family.settings) == family
    for wrong in ({"scoring": "tfidf"}, {"k1": -1.0}, {"b": 1.5}, {"k1": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Inverted(**wrong)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_what_is_no_frequency_is_refused_with_its_row(weight: float) -> None:
    keys = terms_of([{0: 1.0}, {}, {1: 2.0, 2: weight}], [1, 0, 3])
    with pytest.raises(BadKey, match="row 2.*'t2'") as error:
        Inverted().check(keys)
    assert error.value.row == 2
    builder = Inverted().builder()
    with pytest.raises(BadKey):
        builder.add(keys)
    builder.add(terms_of([{5: 1.0}]))  # nothing of the refused batch was taken
    part = MemoryPart()
    builder.write(part)
    assert part.facts["terms"] == 1 and len(part.array("lengths")) == 1
    if weight == 1.5:
        Inverted("impact").check(keys)
    else:
        with pytest.raises(BadKey, match="row 2"):
            Inverted("impact").check(keys)


def test_wrong_calls_are_refused() -> None:
    index = Inverted().open([OpenPart(part_of(Inverted(), terms_of([{0: 1.0}] * 3)), 0, 3)])
    query = terms_of([{0: 1.0}])
    with pytest.raises(UsageError, match="k=0"):
        index.search(query, 0)
    for allowed in (np.ones(2, bool), np.ones(3, np.int64), np.ones((3, 1), bool)):
        with pytest.raises(UsageError, match="one bool for each of the 3"):
            index.search(query, 1, allowed=allowed)
    with pytest.raises(InputError, match="negative"):
        index.search(terms_of([{0: -1.0}], [1]), 1)
    bad = WeightedTerms(
        query.offsets, np.array([99], np.int32), query.weights, VOCABULARY, query.lengths
    )
    with pytest.raises(UsageError, match="not one of the vocabulary"):
        index.search(bad, 1)
    with pytest.raises(BadKey, match="length 0"):
        Inverted().check(terms_of([{0: 1.0}], [0]))


@pytest.mark.parametrize("name", ["ends", "buckets", "starts", "sparse", "common", "bases",
                                  "directory", "docs", "dense", "norms", "lengths"])  # fmt: skip
def test_parts_that_do_not_fit_together_are_damaged(name: str, large: WeightedTerms) -> None:
    part = part_of(Inverted(), rows_of(large, np.arange(200)))
    forged = MemoryPart()
    for array in ("ends", "buckets", "starts", "sparse", "common", "bases", "directory", "docs",
                  "codes", "dense_terms", "dense_counts", "dense", "norms", "lengths"):  # fmt: skip
        values = part.array(array)
        forged.array(array, values[:-1] if array == name else values)
    forged.blob("terms", part.blob("terms").tobytes())
    forged.facts(part.facts)
    with pytest.raises(Damaged):
        Inverted().open([OpenPart(forged, 0, 200)])


def test_the_scores_of_the_reference_run() -> None:
    """Anserini's run on SciFact: the same ten on top of every query, scores to four decimals."""
    import json
    import os
    from pathlib import Path

    from ragstone.models.analyzer import Analyzer

    if not os.environ.get("RAGSTONE_DATA"):
        pytest.skip("RAGSTONE_DATA names no data")
    data = Path(os.environ["RAGSTONE_DATA"])
    lines = (data / "beir-scifact" / "corpus.jsonl").read_text("utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    analyzer, index = Analyzer(), Inverted().open([])
    texts = [f"{document['title']} {document['text']}" for document in documents]
    index.add(np.arange(len(texts)), analyzer.encode_passages(texts))
    reference: dict[str, dict[str, float]] = {}
    for line in (data / "reference-runs" / "bm25.scifact.trec").read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        reference.setdefault(query, {})[document] = float(score)
    asked = {}
    for line in (data / "beir-scifact" / "queries.jsonl").read_text("utf-8").splitlines():
        query = json.loads(line)
        asked[query["_id"]] = query["text"]
    found = index.search(analyzer.encode_queries([asked[query] for query in reference]), 100)
    for expected, numbers, scores in zip(
        reference.values(), found.numbers, found.scores, strict=True
    ):
        ids = [documents[number]["_id"] for number in numbers[numbers >= 0]]
        assert set(ids[:10]) == set(list(expected)[:10])
        near = [
            abs(score - expected[i]) for i, score in zip(ids, scores, strict=False) if i in expected
        ]
        assert len(near) >= 95 or len(near) == len(expected)
        assert max(near) < 1e-4  # ties in the reference are told apart in the last decimal


def test_an_index_is_searched_by_several_threads(large: WeightedTerms) -> None:
    import threading

    index: InvertedIndex = Inverted().open([OpenPart(part_of(Inverted(), large), 0, len(large))])
    queries = terms_of(random_rows(np.random.default_rng(9), 40, 63, 6))
    expected, found = index.search(queries, 20), {}

    def search(name: int) -> None:
        for _ in range(5):
            found[name] = index.search(queries, 20)

    threads = [threading.Thread(target=search, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[name].numbers, expected.numbers) for name in range(4))
