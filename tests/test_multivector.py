"""The multi-vector index against MaxSim of what it stores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, UsageError
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.multivector import MultiVector
from ragstone.indexes.multivector_part import live_numbers
from ragstone.indexes.multivector_pooling import pooled
from ragstone.records import TokenVectors
from ragstone.storage import MemoryPart

from .test_maxsim import brute, token_vectors

SETTINGS: list[dict[str, Any]] = [
    {"codes": "float16", "search": "exact"},
    {"codes": "float16", "search": "exact", "normalize": False},
    {"codes": "float16", "search": "centroids", "depth": 10_000},
    {"codes": "residual1", "search": "exact"},
    {"codes": "residual2", "search": "auto", "depth": 10_000, "normalize": False},
    {"codes": "residual4", "search": "fixed", "depth": 10_000, "repetitions": 3, "cells": 2},
]


def part_of(family: MultiVector, keys: TokenVectors) -> MemoryPart:
    builder, part = family.builder(), MemoryPart()
    builder.add(keys)
    builder.write(part)
    return part


def as_stored(family: MultiVector, parts: list[OpenPart]) -> TokenVectors:
    """All tokens of several parts as they are read back."""
    texts = [family.open_part(part).tokens.read(np.arange(part.rows)) for part in parts]
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(text.offsets) for text in texts)])
    empty = np.empty((0, family.dimensions), np.float32)
    vectors = np.concatenate([empty, *(text.vectors for text in texts)])
    return TokenVectors(np.cumsum(counts), vectors)


def unit(keys: TokenVectors) -> TokenVectors:
    lengths = np.linalg.norm(keys.vectors.astype(np.float64), axis=1, keepdims=True)
    return replace(keys, vectors=(keys.vectors / lengths).astype(np.float32))


def same(found, truth: np.ndarray, k: int) -> None:
    """What was found is the best of `truth` (queries, rows), -inf = nothing to find."""
    assert found.numbers.shape == found.scores.shape == (len(truth), k)
    for numbers, scores, true in zip(found.numbers, found.scores, truth, strict=True):
        hits = min(k, int(np.isfinite(true).sum()))
        assert (numbers[hits:] == -1).all() and np.isneginf(scores[hits:]).all()
        assert len(set(numbers[:hits].tolist())) == hits
        np.testing.assert_allclose(scores[:hits], true[numbers[:hits]], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores[:hits], np.sort(true)[::-1][:hits], rtol=1e-5, atol=1e-5)
        falls = np.diff(scores[:hits])
        assert (falls <= 0).all() and (np.diff(numbers[:hits])[falls == 0] > 0).all()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_equals_brute_force_under_adds_deletes_filters_and_merges(data: st.DataObject) -> None:
    family = MultiVector(9, **data.draw(st.sampled_from(SETTINGS)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = data.draw(st.lists(st.integers(0, 40), max_size=4))
    batches = [token_vectors(rng, rng.integers(0, 6, n).tolist(), 9) for n in sizes]
    rows = sum(sizes)
    deleted = rng.random(rows) < data.draw(st.sampled_from([0.0, 0.3, 0.9]))
    parts, base = [], 0
    for batch in batches:
        dead = deleted[base : base + len(batch)]
        parts.append(OpenPart(part_of(family, batch), base, len(batch), dead))
        base += len(batch)
    queries, k = token_vectors(rng, [4, 0, 1, 7], 9), data.draw(st.sampled_from([1, 5, 300]))
    index = family.open(parts)
    assert index.rows == rows
    truth = brute(unit(queries) if family.normalize else queries, as_stored(family, parts))
    same(index.search(queries, k), np.where(deleted, -np.inf, truth), k)
    allowed = rng.random(rows) < data.draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    here = np.where(allowed & ~deleted, truth, -np.inf)
    same(index.search(queries, k, allowed=allowed), here, k)

    found = index.search(queries, k)
    np.testing.assert_array_equal(index.score(queries, found.numbers), found.scores)
    if not rows:
        return
    merged = MemoryPart()
    family.merge(parts, merged)
    live = np.flatnonzero(~deleted)
    again = family.open([OpenPart(merged, 0, len(live))]).search(queries, k)
    np.testing.assert_array_equal(again.scores, found.scores)
    np.testing.assert_array_equal(
        np.where(again.numbers >= 0, np.append(live, -1)[again.numbers], -1), found.numbers
    )


def test_codes_are_near_and_nearer_with_more_bits() -> None:
    keys = unit(token_vectors(np.random.default_rng(0), [20] * 200, 64))
    cosines = []
    for codes in ("residual1", "residual2", "residual4", "float16"):
        family = MultiVector(64, codes=codes)
        part = part_of(family, keys)
        read = as_stored(family, [OpenPart(part, 0, 200)]).vectors
        np.testing.assert_allclose(np.linalg.norm(read, axis=1), 1, rtol=1e-3)
        cosines.append(float((read * keys.vectors).sum(axis=1).mean()))
        assert part.nbytes / 4000 < {"residual1": 18, "residual2": 26, "residual4": 42}.get(
            codes, 150
        )
    # of normal differences 1, 2 and 4 bits keep 0.85, 0.96 and 0.997
    assert np.all(np.array(cosines) > [0.84, 0.955, 0.995, 0.999]), cosines


@pytest.mark.parametrize("codes", ["residual2", "float16"])
def test_candidates_by_centroids_find_what_is_near(codes: str) -> None:
    """Passages of five themes each; a query has the vectors of one passage, somewhat off."""
    rng = np.random.default_rng(3)
    themes = rng.standard_normal((300, 16))
    chosen = rng.integers(0, 300, (2000, 5))

    def near(some: np.ndarray) -> TokenVectors:
        vectors = themes[some].reshape(-1, 16) + 0.3 * rng.standard_normal((some.size, 16))
        return TokenVectors(np.arange(0, some.size + 1, 5), vectors.astype(np.float32))

    keys, queries = near(chosen), near(chosen[:40])
    family = MultiVector(16, codes=codes, search="centroids", depth=100)
    exact = replace(family, search="exact")
    part = OpenPart(part_of(family, keys), 0, 2000)
    found = family.open([part]).search(queries, 10)
    truth = exact.open([part]).search(queries, 10)
    assert (found.numbers[:, 0] == truth.numbers[:, 0]).all()
    recall = np.mean(
        [np.isin(a, b).mean() for a, b in zip(truth.numbers, found.numbers, strict=True)]
    )
    assert recall > 0.8
    few = np.zeros(2000, bool)
    few[7::200] = True
    filtered = family.open([part]).search(queries, 20, allowed=few)
    assert ((filtered.numbers >= 0).sum(axis=1) == 10).all()


def test_pools_what_it_stores() -> None:
    keys = unit(token_vectors(np.random.default_rng(4), [7, 0, 1, 12], 8))
    keys.vectors[-12:] = np.repeat(np.eye(8, dtype=np.float32)[:1], 12, axis=0)
    family = MultiVector(8, codes="float16", pool=3)
    stored = as_stored(family, [OpenPart(part_of(family, keys), 0, 4)])
    wanted = unit(pooled(keys, 3))
    np.testing.assert_array_equal(np.diff(stored.offsets), [3, 0, 1, 4])
    np.testing.assert_allclose(stored.vectors, wanted.vectors, atol=1e-3)
    opposite = TokenVectors(np.array([0, 2]), np.array([[1, 0], [-1, 0]], np.float32))
    family = MultiVector(2, codes="float16", pool=2)
    stored = as_stored(family, [OpenPart(part_of(family, opposite), 0, 1)])
    np.testing.assert_array_equal(stored.vectors, [[1, 0]])


def test_merging_keeps_of_codebooks_what_tokens_need() -> None:
    rng, family = np.random.default_rng(5), MultiVector(8, codes="residual1")
    parts = [
        OpenPart(part_of(family, token_vectors(rng, [8] * 100, 8)), 0, 100, np.arange(100) > 0),
        OpenPart(part_of(family, token_vectors(rng, [8] * 100, 8)), 100, 100),
    ]
    merged = MemoryPart()
    family.merge(parts, merged)
    assert len(merged.array("starts")) == 3
    sizes = np.diff(merged.array("starts"))
    assert sizes[0] < len(parts[0].part.array("scales")) and sizes[1] <= 16
    np.testing.assert_array_equal(merged.array("books"), [0] + [1] * 100)
    before = [family.open_part(part).tokens.read(live_numbers(part)).vectors for part in parts]
    after = family.open_part(OpenPart(merged, 0, 101)).tokens.read(np.arange(101)).vectors
    np.testing.assert_array_equal(np.concatenate(before), after)


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (0, "zero")],
)
def test_refuses_what_it_cannot_store(spoiled: float, said: str) -> None:
    keys = token_vectors(np.random.default_rng(6), [2, 0, 3], 8)
    keys.vectors[3] = spoiled
    family = MultiVector(8)
    with pytest.raises(BadKey, match=said) as caught:
        family.check(keys)
    assert caught.value.row == 2
    builder = family.builder()
    with pytest.raises(BadKey):
        builder.add(keys)
    with pytest.raises(BadKey, match="float32"):
        family.check(token_vectors(np.random.default_rng(0), [2], 7))
    with pytest.raises(BadKey, match="float16"):
        MultiVector(8, normalize=False).check(
            TokenVectors(np.array([0, 1]), np.full((1, 8), 7e4, np.float32))
        )
    with pytest.raises(BadKey, match="rise"):
        family.check(TokenVectors(np.array([0, 4, 2]), np.ones((4, 8), np.float32)))


@pytest.mark.parametrize(
    "wrong",
    [{"codes": "residual3"}, {"search": "plaid"}, {"depth": 0}, {"pool": 0}, {"normalize": 1},
     {"cells": 20}, {"dimensions": True}, {"width": 1024, "repetitions": 1024}],
)  # fmt: skip
def test_refuses_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        load_family("multivector", {"dimensions": 8} | wrong)


def test_refuses_calls_that_make_no_sense() -> None:
    rng, family = np.random.default_rng(7), MultiVector(8)
    keys = token_vectors(rng, [3, 4], 8)
    index = family.open([OpenPart(part_of(family, keys), 0, 2)])
    with pytest.raises(UsageError, match="k=0"):
        index.search(keys, 0)
    with pytest.raises(UsageError, match="allowed"):
        index.search(keys, 1, allowed=np.ones(3, bool))
    with pytest.raises(UsageError, match="numbers are"):
        index.score(keys, np.zeros((1, 2), np.int64))
    with pytest.raises(UsageError, match="is not -1 to 1"):
        index.score(keys, np.full((2, 1), 2))
    with pytest.raises(UsageError, match="not the next"):
        index.add(np.array([1]), token_vectors(rng, [1], 8))


class Altered:
    """A part of which one array is another."""

    def __init__(self, part: MemoryPart, name: str, array: Any) -> None:
        self.part, self.name, self.changed = part, name, array

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def __contains__(self, name: str) -> bool:
        return name in self.part

    def array(self, name: str) -> Any:
        return self.changed if name == self.name else self.part.array(name)


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [("ids", 5, 60_000), ("books", 1, 1), ("books", 0, -1), ("starts", 1, 3), ("starts", 0, -1),
     ("offsets", 3, 10**6), ("offsets", -1, 10**6), ("offsets", 0, 1), ("scales", 0, np.nan),
     ("spreads", 1, np.inf), ("context-scales", 3, np.nan)],
)  # fmt: skip
def test_forged_arrays_are_refused(name: str, at: int, value: float) -> None:
    family = MultiVector(8)
    part = part_of(family, token_vectors(np.random.default_rng(8), [9] * 60, 8))
    array = part.array(name).copy()
    array.reshape(-1)[at] = value
    with pytest.raises(Damaged):
        family.open([OpenPart(Altered(part, name, array), 0, 60)])
