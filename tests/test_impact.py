"""Impacts: how weights are stored, the approximate search, and queries of every kind."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, InputError, UsageError
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.impact_weights import (
    MOST,
    UINT8_ERROR,
    codes_of,
    least_share,
    symbols_of,
    values,
)
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.weighted_terms import MOST_QUERY_TERMS
from ragstone.records import WeightedTerms
from ragstone.storage import MemoryPart

from .test_inverted import matrix_of, part_of, random_rows, rows_of, segmented, terms_of

POSITIVE = st.floats(2**-7, 240, width=32)


def weighted(random: np.random.Generator, keys: WeightedTerms, spread: float) -> WeightedTerms:
    """The same terms with log-normal weights."""
    weights = np.exp(spread * random.standard_normal(len(keys.ids)))
    return replace(keys, weights=np.clip(weights, 0.01, 200).astype(np.float32))


@pytest.fixture(scope="module")
def large() -> WeightedTerms:
    """More rows than one range has."""
    random = np.random.default_rng(3)
    return weighted(random, terms_of(random_rows(random, 67_000, 60, 14)), 1.0)


@pytest.fixture(scope="module")
def queries() -> WeightedTerms:
    random = np.random.default_rng(4)
    return weighted(random, terms_of([row for row in random_rows(random, 25, 63, 9) if row]), 1.0)


def stored(keys: WeightedTerms, kind: str) -> np.ndarray:
    """The weights (texts, terms) as they are kept, in float64."""
    symbols = symbols_of(keys.weights, kind)
    kept = symbols.view(np.float16) if kind == "float16" else values(kind, 1.0)[symbols]
    return matrix_of(replace(keys, weights=kept.astype(np.float32)))


@settings(max_examples=100, deadline=None)
@given(st.lists(POSITIVE, min_size=1, max_size=50))
def test_uint8_is_off_by_what_is_stated(weights: list[float]) -> None:
    given_ = np.array(weights, np.float32)
    kept = values("uint8", 1.0)[symbols_of(given_, "uint8")].astype(np.float64)
    assert (np.abs(kept - given_) <= UINT8_ERROR * given_ * (1 + 1e-5)).all()
    assert pytest.approx(0.0219, abs=1e-4) == UINT8_ERROR
    halves = symbols_of(given_, "float16").view(np.float16).astype(np.float64)
    assert (np.abs(halves - given_) <= given_ / 2048).all()


@pytest.mark.parametrize("top", [65_504.0, 3.7, 6e-8])
def test_codes_in_postings_are_never_worth_less_than_the_weight(top: float) -> None:
    kept = np.arange(1, 0x7C00, dtype=np.uint16)
    weights = kept.view(np.float16).astype(np.float64)
    kept, weights = kept[weights <= max(top, 1e-7)], weights[weights <= max(top, 1e-7)]
    codes = codes_of("float16", max(top, 1e-7))[kept]
    worth = values("float16", max(top, 1e-7))[codes]
    assert (np.diff(codes.astype(int)) >= 0).all() and codes.min() >= 1
    assert (worth >= weights).all()
    assert (weights >= worth * least_share("float16"))[codes > 1].all()


@pytest.mark.parametrize("kind", ["float16", "uint8"])
@pytest.mark.parametrize("deleting", [False, True])
def test_exact_search_finds_the_best_by_stored_weights(
    large: WeightedTerms, queries: WeightedTerms, kind: Any, deleting: bool
) -> None:
    random, family = np.random.default_rng(5), Inverted("impact", weights=kind)
    live = random.random(len(large)) < (0.7 if deleting else 1.1)
    index = family.open(segmented(family, large, [66_000] if deleting else [], live))
    truth = np.where(live, matrix_of(queries) @ stored(large, kind).T, 0)
    for k in (1, 10, 100, 2000):
        for share in (1.1, 0.5, 0.001):
            allowed = random.random(len(large)) < share
            best = np.where(allowed, truth, 0)
            found = index.search(queries, k, allowed=allowed if share < 1 else None)
            for row, scores, expected in zip(found.numbers, found.scores, best, strict=True):
                n = min(k, int((expected > 0).sum()))
                assert (row[:n] >= 0).all() and (row[n:] == -1).all()
                np.testing.assert_allclose(scores[:n], expected[row[:n]], rtol=2e-6)
                np.testing.assert_allclose(scores[:n], np.sort(expected)[::-1][:n], rtol=2e-6)
                assert len(set(row[:n])) == n


@pytest.mark.parametrize("margin", [0.001, 0.2, 0.6])
def test_approximate_search_gives_k_exact_scores(
    large: WeightedTerms, queries: WeightedTerms, margin: float
) -> None:
    """As many results as there are, each with its score; the more the margin the better."""
    family = Inverted("impact", search="approximate", margin=margin)
    live = np.random.default_rng(6).random(len(large)) < 0.9
    index = family.open(segmented(family, large, [30_000], live))
    truth = np.where(live, matrix_of(queries) @ stored(large, "float16").T, 0)
    for k in (3, 40, 66_000):
        found = index.search(queries, k)
        hits = 0
        for row, scores, expected in zip(found.numbers, found.scores, truth, strict=True):
            n = min(k, int((expected > 0).sum()))
            assert (row[:n] >= 0).all() and (row[n:] == -1).all() and len(set(row[:n])) == n
            np.testing.assert_allclose(scores[:n], expected[row[:n]], rtol=2e-6)
            assert (np.diff(scores[:n]) <= 0).all()
            hits += int((scores[:n] >= np.sort(expected)[::-1][n - 1] * (1 - 1e-6)).sum()) / n
        assert hits / len(truth) > (0.95 if margin >= 0.2 else 0.3)


def test_a_margin_of_one_is_exact(large: WeightedTerms, queries: WeightedTerms) -> None:
    part = part_of(Inverted("impact"), large)
    found = [
        Inverted("impact", search=search, margin=1.0)
        .open([OpenPart(part, 0, len(large))])
        .search(queries, 20)
        for search in ("exact", "approximate")
    ]
    assert np.array_equal(found[0].numbers, found[1].numbers)
    assert np.array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("kind", ["float16", "uint8"])
def test_merging_equals_a_rebuild(large: WeightedTerms, kind: Any) -> None:
    """Array by array, over several ranges, deletes and terms that no row has any more."""
    live = np.random.default_rng(7).random(len(large)) < 0.9
    live[:10] = False
    only = large.vocabulary.index(b"x" * 300)
    gone = replace(large, ids=np.where(np.arange(len(large.ids)) == 0, only, large.ids))
    family = Inverted("impact", weights=kind)
    merged = MemoryPart()
    rebuilt = part_of(family, rows_of(gone, np.flatnonzero(live)))
    family.merge(segmented(family, gone, [10, 10_001, 40_000], live), merged)
    assert merged.facts == rebuilt.facts and merged.nbytes == rebuilt.nbytes
    for name in ("ends", "buckets", "offsets", "words", "weights", "starts", "docs", "codes"):
        assert np.array_equal(merged.array(name), rebuilt.array(name)), name


def test_more_terms_than_two_bytes_can_number() -> None:
    """Every row has a term of its own and shares one."""
    n = 66_000
    ids = np.stack([np.arange(n) + 1, np.zeros(n)], axis=1).astype(np.int32).ravel()
    weights = np.tile(np.array([2, 1], np.float32), n)
    offsets = np.arange(n + 1, dtype=np.int64) * 2
    vocabulary = [f"v{i}".encode() for i in range(n + 1)]
    keys = WeightedTerms(offsets, ids, weights, vocabulary, np.full(n, 2, np.int32))
    family = Inverted("impact")
    deleted = np.arange(n) == 65_900
    index = family.open([OpenPart(part_of(family, keys), 0, n, deleted)])
    asked = rows_of(keys, np.array([0, 65_535, 65_900, 65_999]))
    found = index.search(asked, 2)
    assert found.numbers.tolist() == [[0, 1], [65_535, 0], [0, 1], [65_999, 0]]
    assert found.scores.tolist() == [[5, 1], [5, 1], [1, 1], [5, 1]]
    merged = MemoryPart()
    family.merge([OpenPart(part_of(family, keys), 0, n, deleted)], merged)
    again = family.open([OpenPart(merged, 0, n - 1)]).search(asked, 2)
    assert np.array_equal(again.scores, found.scores)


def test_query_weights_of_zero_are_no_terms(large: WeightedTerms) -> None:
    index = Inverted("impact").open([OpenPart(part_of(Inverted("impact"), large), 0, len(large))])
    plain, padded = terms_of([{3: 1.5}, {}]), terms_of([{3: 1.5, 1: 0.0, 5: 0.0}, {4: 0.0}])
    first, second = index.search(plain, 5), index.search(padded, 5)
    assert np.array_equal(first.numbers, second.numbers)
    assert (second.numbers[1] == -1).all()
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="query weight"):
            index.search(terms_of([{3: bad}], [1]), 5)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e36])
def test_query_weights_of_any_size(queries: WeightedTerms, scale: float) -> None:
    """The best are the same, however small or large the numbers are."""
    random = np.random.default_rng(8)
    keys = weighted(random, terms_of(random_rows(random, 300, 60, 14)), 1.0)
    index = Inverted("impact").open([OpenPart(part_of(Inverted("impact"), keys), 0, 300)])
    scaled = replace(queries, weights=(queries.weights * np.float32(scale)).astype(np.float32))
    found = index.search(scaled, 1)
    truth = matrix_of(scaled) @ stored(keys, "float16").T
    for row, best in zip(found.numbers, truth, strict=True):
        assert best[row[0]] == pytest.approx(best.max(), rel=1e-5)


def test_queries_of_very_many_terms() -> None:
    """Beyond what coarse sums can hold, passages are scored one by one; then it is refused."""
    n = MOST_QUERY_TERMS + 1
    vocabulary = [f"v{i}".encode() for i in range(n)]
    rows = [np.arange(6000), np.arange(2, 50), np.array([n - 1])]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ids, lengths = np.concatenate(rows).astype(np.int32), np.ones(3, np.int32)
    keys = WeightedTerms(offsets, ids, np.ones(len(ids), np.float32), vocabulary, lengths)
    index = Inverted("impact").open([OpenPart(part_of(Inverted("impact"), keys), 0, 3)])
    found = index.search(rows_of(keys, np.array([0])), 3)
    assert found.numbers.tolist() == [[0, 1, -1]] and found.scores[0, :2].tolist() == [6000, 48]
    ends, ids = np.array([0, n], np.int64), np.arange(n, dtype=np.int32)
    ones = np.ones(n, np.float32)
    with pytest.raises(InputError, match="65,536 terms"):
        index.search(WeightedTerms(ends, ids, ones, vocabulary, lengths[:1]), 3)


def test_settings_travel_and_nonsense_is_refused() -> None:
    family = Inverted("impact", weights="uint8", search="approximate", margin=0.4)
    assert load_family("inverted", family.settings) == family
    for wrong in (
        {"scoring": "impact", "weights": "int4"},
        {"scoring": "impact", "search": "fast"},
        {"scoring": "impact", "margin": 0},
        {"scoring": "impact", "margin": float("nan")},
        {"weights": "uint8"},
        {"search": "approximate"},
    ):
        with pytest.raises(UsageError):
            Inverted(**wrong)


@pytest.mark.parametrize("kind", ["float16", "uint8"])
def test_weights_that_cannot_be_kept_are_refused(kind: Any) -> None:
    family = Inverted("impact", weights=kind)
    family.check(terms_of([{1: MOST[kind] * (1 - 1e-5), 2: 1e-9}]))
    for weight in (0.0, -1.0, np.nan, np.inf, MOST[kind] * 1.001):
        with pytest.raises(BadKey, match="'t2' is not above 0") as error:
            family.check(terms_of([{1: 1.0}, {2: weight}], [1, 1]))
        assert error.value.row == 1


class Part(MemoryPart):
    """A part of impacts with one array, or one fact, replaced."""

    def __init__(self, whole: MemoryPart, name: str, value: Any) -> None:
        self._whole, self._name, self._value = whole, name, value

    def __contains__(self, name: object) -> bool:
        return name in self._whole or name == self._name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    @property
    def facts(self) -> Any:
        changed = {self._name: self._value} if self._name in self._whole.facts else {}
        return {**self._whole.facts, **changed}

    def array(self, name: str) -> np.ndarray:
        return self._value if name == self._name else self._whole.array(name)

    def blob(self, name: str) -> Any:
        return self._whole.blob(name)


def forged(array: np.ndarray, at: int, value: int) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("offsets", 0, 1), ("offsets", 1, 99), ("offsets", -1, 4), ("words", 0, 3),
        ("starts", 0, 1), ("starts", 1, 9), ("starts", -1, 4), ("docs", 0, 3),
        ("weights", 0, 0x7C00), ("ends", -1, 99), ("buckets", -1, 9), ("top", 0, 0.0),
        ("top", 0, float("nan")), ("top", 0, 1), ("terms", 0, 4), ("words_high", 0, 1),
        ("codes", None, 0), ("docs", None, 0),
    ],
)  # fmt: skip
def test_a_forged_part_is_refused(name: str, at: int | None, value: Any) -> None:
    whole = part_of(Inverted("impact"), terms_of([{1: 1.0, 2: 2.0}, {1: 3.0, 2: 1.0}, {4: 1.0}]))
    if name in ("top", "terms"):
        spoiled = value
    elif name == "words_high":
        spoiled = np.ones(5, np.uint8)
    else:
        array = whole.array(name)
        spoiled = array[:-1] if at is None else forged(array, at, value)
    with pytest.raises(Damaged):
        Inverted("impact").open([OpenPart(Part(whole, name, spoiled), 0, 3)])


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_forged_codes_end_the_search_all_the_same(search: Any) -> None:
    """A code of 0 is worth nothing, so that no smaller amount would ever read it."""
    family = Inverted("impact", search=search)
    keys = terms_of([{1: 1.0, 2: 2.0}, {1: 3.0, 2: 1.0}, {4: 1.0}] * 30)
    whole = part_of(family, keys)
    codes = np.zeros_like(whole.array("codes"))
    for spoiled in (codes, forged(codes, -1, 255)):
        index = family.open([OpenPart(Part(whole, "codes", spoiled), 0, 90)])
        assert index.search(terms_of([{1: 1.0, 2: 0.5}]), 5).numbers.shape == (1, 5)
