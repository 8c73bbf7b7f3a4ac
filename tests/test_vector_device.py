"""Exact search as a CUDA device computes it, on the processor: the same answers to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.indexes import vector_device
from ragstone.indexes.vector import Vector
from ragstone.indexes.vector_device import DevicePart, device_for
from ragstone.indexes.vector_exact import search_exactly

from .test_vector_exact import ADVERSARIES, part_of, unit

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def same(part, queries: np.ndarray, k: int, live: np.ndarray | None = None) -> None:
    found = DevicePart(part, "cpu").search(queries, k, live)
    wanted = search_exactly([(part, live)], queries, k)
    np.testing.assert_array_equal(found.numbers, wanted.numbers)
    np.testing.assert_array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_equals_the_processor_on_vectors_made_to_mislead(name: str) -> None:
    random = np.random.default_rng(3)
    vectors = ADVERSARIES[name](random)
    queries = np.concatenate(
        [
            unit(random.standard_normal((5, 24))),
            vectors[:3],
            np.zeros((1, 24), np.float32),
            (random.standard_normal((2, 24)) * 1e17).astype(np.float32),
            (random.standard_normal((2, 24)) * 1e-35).astype(np.float32),
        ]
    )
    for k in (1, 10, 700, 900):
        same(part_of(vectors), queries, k)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_equals_the_processor_in_blocks_with_filters_and_ties(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows, d = data.draw(st.integers(1, 400)), data.draw(st.sampled_from([1, 8, 33]))
    vectors = random.standard_normal((rows, d)).astype(np.float32)
    queries = random.standard_normal((7, d)).astype(np.float32)
    if data.draw(st.booleans()):
        vectors, queries = np.rint(vectors), np.rint(queries)
    share = data.draw(st.sampled_from([None, 0.0, 0.1, 0.7]))
    live = None if share is None else random.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_device, "_PRODUCTS", data.draw(st.sampled_from([7, 300, 10**6])))
        patch.setattr(vector_device, "QUERIES", data.draw(st.sampled_from([2, 100])))
        same(part_of(vectors, base=5), queries, data.draw(st.sampled_from([1, 7, 500])), live)


def test_more_dimensions_than_a_float32_sum_holds_exactly() -> None:
    vectors = unit(np.random.default_rng(4).standard_normal((300, 3000)))
    same(part_of(vectors), vectors[:5], 20)


def test_an_index_takes_the_device_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the processor stands in for it."""
    random = np.random.default_rng(5)
    keys = random.standard_normal((500, 16)).astype(np.float32)
    plain, made = (Vector(16, device=device) for device in ("cpu", "cuda"))
    indexes = [family.open([]) for family in (plain, made)]
    for index in indexes:
        index.add(np.arange(500), keys)
    allowed = random.random(500) < 0.5
    monkeypatch.setattr(vector_device, "has_cuda", lambda: True)
    opened = []
    monkeypatch.setattr(
        "ragstone.indexes.vector_search.DevicePart",
        lambda coded, device: opened.append(device) or DevicePart(coded, "cpu"),
    )
    for given_rows in (None, allowed):
        left, right = (index.search(keys[:9], 7, allowed=given_rows) for index in indexes)
        np.testing.assert_array_equal(left.numbers, right.numbers)
        np.testing.assert_array_equal(left.scores, right.scores)
    assert opened == ["cuda"]


def test_the_device_is_chosen_by_the_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_device, "has_cuda", lambda: True)
    assert device_for("auto", 10**6) is None and device_for("auto", 10**12) == "cuda"
    assert device_for("cpu", 10**12) is None and device_for("cuda", 1) == "cuda"
    monkeypatch.setattr(vector_device, "has_cuda", lambda: False)
    assert device_for("auto", 10**12) is None
    with pytest.raises(UsageError, match="cuda"):
        device_for("cuda", 1)
