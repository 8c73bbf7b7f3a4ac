"""The vector index as an index: adds, deletes, filters, merges, refusals, stores on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, InputError, UsageError
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.vector import Vector, check_vectors
from ragstone.storage import MemoryPart, Store

FAMILIES = [
    Vector(6),
    Vector(6, metric="ip"),
    Vector(6, dtype="float16", search="exact"),
    Vector(6, metric="ip", dtype="float16", search="exact"),
]


def stored(family: Vector, keys: np.ndarray) -> np.ndarray:
    """What an index keeps of the keys."""
    if family.metric == "cosine":
        keys = keys.astype(np.float64)
        keys = (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)
    return keys.astype(family.dtype)


def brute(family: Vector, vectors: np.ndarray, keys: np.ndarray, k: int, live: np.ndarray):
    """Numbers and scores of the k best live rows, equal scores by number."""
    queries = stored(Vector(family.dimensions, metric=family.metric), keys)
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    scores = np.where(live, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    missing = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(np.where(np.isneginf(best), -1, order), missing, constant_values=-1),
        np.pad(best, missing, constant_values=-np.inf),
    )


def same(found, wanted) -> None:
    """Equal but for the last bit of scores, and for the order of scores that close."""
    np.testing.assert_array_equal(found.numbers < 0, wanted[0] < 0)
    real = wanted[0] >= 0
    np.testing.assert_allclose(found.scores[real], wanted[1][real], rtol=2e-7, atol=1e-12)
    assert np.isneginf(found.scores[~real]).all()
    differ = found.numbers != wanted[0]
    for row in np.flatnonzero(differ.any(axis=1)):
        places = np.flatnonzero(differ[row])
        close = np.abs(np.diff(wanted[1][row][real[row]])) <= 2e-7
        assert close[np.clip(places, 0, len(close)) - 1].any() or close[places[:1]].any()


def part_of(family: Vector, keys: np.ndarray) -> MemoryPart:
    builder, part = family.builder(), MemoryPart()
    builder.add(keys)
    builder.write(part)
    return part


def some_keys(random: np.random.Generator, n: int, d: int, whole: bool) -> np.ndarray:
    if not whole:
        return random.standard_normal((n, d)).astype(np.float32)
    keys = random.integers(-2, 3, (n, d)).astype(np.float32)
    keys[~keys.any(axis=1), 0] = 1
    return keys


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_equals_brute_force_under_adds_deletes_filters_and_merges(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = data.draw(st.lists(st.integers(0, 60), max_size=4))
    whole = data.draw(st.booleans())
    batches = [some_keys(random, n, 6, whole) for n in sizes]
    keys = np.concatenate([np.empty((0, 6), np.float32), *batches])
    deleted = random.random(len(keys)) < data.draw(st.sampled_from([0.0, 0.3, 0.9]))
    parts, base = [], 0
    for batch in batches:
        dead = deleted[base : base + len(batch)]
        part = part_of(family, batch)
        parts.append(OpenPart(part, base, len(batch), dead if dead.any() else None))
        base += len(batch)
    queries, k = some_keys(random, 4, 6, whole), data.draw(st.sampled_from([1, 5, 300]))
    index = family.open(parts)
    assert index.rows == len(keys)
    vectors = stored(family, keys)
    allowed = random.random(len(keys)) < data.draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    same(index.search(queries, k), brute(family, vectors, queries, k, ~deleted))
    filtered = index.search(queries, k, allowed=allowed)
    same(filtered, brute(family, vectors, queries, k, allowed & ~deleted))

    merged = MemoryPart()
    family.merge(parts, merged)
    rows = int((~deleted).sum())
    again = family.open([OpenPart(merged, 0, rows)])
    fresh = family.open([OpenPart(part_of(family, keys[~deleted]), 0, rows)])
    left, right = again.search(queries, k), fresh.search(queries, k)
    np.testing.assert_array_equal(left.numbers, right.numbers)
    np.testing.assert_array_equal(left.scores, right.scores)
    same(left, brute(family, vectors[~deleted], queries, k, np.ones(rows, bool)))


def test_added_in_memory_like_built_at_once() -> None:
    family, random = Vector(6, metric="ip"), np.random.default_rng(1)
    keys, queries = some_keys(random, 90, 6, False), some_keys(random, 5, 6, False)
    index = family.open([])
    for first in range(0, 90, 30):
        index.add(np.arange(first, first + 30), keys[first : first + 30])
    once = family.open([OpenPart(part_of(family, keys), 0, 90)])
    left, right = index.search(queries, 20), once.search(queries, 20)
    np.testing.assert_array_equal(left.numbers, right.numbers)
    np.testing.assert_array_equal(left.scores, right.scores)
    with pytest.raises(UsageError, match="from 90 to 90"):
        index.add(np.array([5]), keys[:1])


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_kept_in_a_store(tmp_path: Path, family: Vector) -> None:
    random = np.random.default_rng(2)
    keys, queries = some_keys(random, 50, 6, False), some_keys(random, 5, 6, False)
    store = Store.create(
        tmp_path / "store", settings={"kind": family.kind, "settings": dict(family.settings)}
    )
    with store.begin() as change:
        for first in (0, 30):
            batch = keys[first : first + 30]
            with change.new_segment(len(batch)) as segment:
                builder = family.builder()
                builder.add(batch)
                builder.write(segment.part("dense"))
        change.commit(note={})
    store = Store.open(tmp_path / "store")
    with store.begin() as change:
        change.delete(store.segments[1].name, np.array([3, 4]))
        change.commit(note={})
    store = Store.open(tmp_path / "store")
    again = load_family(str(store.settings["kind"]), store.settings["settings"])  # type: ignore
    assert again == family
    parts, base = [], 0
    for segment in store.segments:
        parts.append(OpenPart(segment.part("dense"), base, segment.rows, segment.deleted))
        base += segment.rows
    index = again.open(parts)
    assert index.nbytes >= 50 * 6 * np.dtype(family.dtype).itemsize
    live = np.ones(50, bool)
    live[[33, 34]] = False
    vectors = stored(family, keys)
    same(index.search(queries, 12), brute(family, vectors, queries, 12, live))
    allowed = random.random(50) < 0.3
    same(
        index.search(queries, 50, allowed=allowed),
        brute(family, vectors, queries, 50, live & allowed),
    )


def test_settings_give_an_equal_family_back() -> None:
    family = Vector(
        7, "ip", "float16", "hnsw", links=5, build_effort=6, effort=8, exact_rows=9, threads=2
    )
    assert load_family("vector", family.settings) == family
    assert family.settings["links"] == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimensions": 0},
        {"metric": "l2"},
        {"dtype": "int8"},
        {"search": "fast"},
        {"links": 1},
        {"effort": 0},
        {"threads": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Vector(**{"dimensions": 4, **wrong})


BAD = {
    "NaN": (np.nan, "NaN or infinity", Vector(4)),
    "infinity": (-np.inf, "NaN or infinity", Vector(4, metric="ip")),
    "too long": (2e18, "longer than", Vector(4, metric="ip")),
    "too great for float16": (7e4, "float16", Vector(4, metric="ip", dtype="float16")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_vectors_are_refused_by_row_and_a_batch_is_never_half_taken(name: str) -> None:
    value, message, family = BAD[name]
    keys = np.ones((5, 4), np.float32)
    keys[3, 2] = keys[4, 1] = value
    builder = family.builder()
    builder.add(keys[:3])
    held = builder.nbytes
    with pytest.raises(BadKey, match=message) as caught:
        builder.add(keys)
    assert caught.value.row == 3 and "row 3" in str(caught.value)
    assert builder.nbytes == held
    with pytest.raises(BadKey, match="row 3"):
        family.check(keys)
    index = family.open([])
    index.add(np.arange(3), keys[:3])
    with pytest.raises(InputError, match="row 3"):
        index.search(keys, 2)
    with pytest.raises(InputError):
        index.add(np.arange(3, 8), keys)
    assert index.rows == 3


def test_zero_vectors_have_no_cosine_but_an_inner_product() -> None:
    keys = np.ones((4, 3), np.float32)
    keys[2] = 0
    with pytest.raises(BadKey, match="row 2: .* zero"):
        check_vectors(keys, Vector(3))
    index = Vector(3, metric="ip").open([])
    index.add(np.arange(4), keys)
    found = index.search(keys[:3], 4)
    np.testing.assert_array_equal(found.numbers[0], [0, 1, 3, 2])
    np.testing.assert_array_equal(found.numbers[2], [0, 1, 2, 3])
    np.testing.assert_array_equal(found.scores[2], 0)


@pytest.mark.parametrize(
    "keys",
    [np.ones((2, 5), np.float32), np.ones((2, 4)), np.ones(4, np.float32), np.ones((2, 4), int)],
    ids=["too wide", "float64", "one vector", "integers"],
)
def test_keys_of_another_shape_or_dtype_are_refused(keys: np.ndarray) -> None:
    with pytest.raises(BadKey, match=r"not float32 \(n, 4\)"):
        Vector(4).check(keys)


def test_very_short_and_very_long_vectors_have_a_direction() -> None:
    keys = np.array([[1e-44, 0, 0], [3e38, 3e38, 3e38], [0, 1e-30, 0]], np.float32)
    index = Vector(3).open([])
    index.add(np.arange(3), keys)
    found = index.search(keys, 1)
    np.testing.assert_array_equal(found.numbers[:, 0], [0, 1, 2])
    np.testing.assert_allclose(found.scores, 1, rtol=1e-6)


def test_a_call_that_makes_no_sense_is_refused() -> None:
    index = Vector(3).open([])
    index.add(np.arange(2), np.ones((2, 3), np.float32))
    one = np.ones((1, 3), np.float32)
    with pytest.raises(UsageError, match="k=0"):
        index.search(one, 0)
    for allowed in (np.ones(3, bool), np.ones(2, np.int64)):
        with pytest.raises(UsageError, match="one bool for each of the 2"):
            index.search(one, 1, allowed=allowed)


def test_empty_indexes_and_empty_batches() -> None:
    index = Vector(3).open([])
    found = index.search(np.ones((2, 3), np.float32), 4)
    assert (found.numbers == -1).all() and found.numbers.shape == (2, 4)
    index.add(np.arange(0), np.empty((0, 3), np.float32))
    index.add(np.arange(1), np.ones((1, 3), np.float32))
    found = index.search(np.ones((2, 3), np.float32), 4)
    np.testing.assert_array_equal(found.numbers, [[0, -1, -1, -1]] * 2)
    assert index.search(np.empty((0, 3), np.float32), 4).numbers.shape == (0, 4)


@pytest.mark.parametrize("name", ["vectors", "codes", "ranges", "centre"])
@pytest.mark.parametrize("how", ["missing", "short", "other dtype"])
def test_arrays_that_do_not_fit_are_damage(name: str, how: str) -> None:
    part, spoiled = part_of(Vector(3), np.eye(3, dtype=np.float32)), MemoryPart()
    for one in ("vectors", "codes", "ranges", "centre"):
        array = part.array(one)
        if one == name and how == "missing":
            continue
        if one == name:
            array = array[:-1] if how == "short" else array.astype(np.float64)
        spoiled.array(one, array)
    with pytest.raises(Damaged, match=name):
        Vector(3).open([OpenPart(spoiled, 0, 3)])


def test_stored_vectors_come_back_by_number() -> None:
    """Across parts, in the order asked for, repeated ones too."""
    rng = np.random.default_rng(7)
    index = Vector(dimensions=5, metric="ip").open([])
    keys = rng.normal(size=(9, 5)).astype(np.float32)
    index.add(np.arange(4), keys[:4])
    index.add(np.arange(4, 9), keys[4:])
    wanted = np.array([8, 0, 4, 3, 3])
    assert np.array_equal(index.vectors(wanted), keys[wanted])
    assert index.vectors(np.empty(0, np.int64)).shape == (0, 5)
    for wrong in (-1, 9):
        with pytest.raises(UsageError, match="no vectors for the passages"):
            index.vectors(np.array([wrong]))
