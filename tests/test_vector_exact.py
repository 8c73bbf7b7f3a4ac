"""Exact search through codes: the bounds hold, and the answer is that of brute force, whatever
the vectors look like and however the products are computed."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.indexes import vector_exact, vector_products, vector_topk
from ragstone.indexes.vector_codes import encode, float32_queries, int8_queries, query_terms
from ragstone.indexes.vector_exact import Coded, search_exactly
from ragstone.indexes.vector_part import coded as code
from ragstone.indexes.vector_products import (
    LEAST_WIDTH,
    FewProduct,
    Float32Product,
    Int8Product,
    Product,
    has_int8,
    multiply,
    product,
)
from ragstone.indexes.vector_scores import exact_scores, sort_rows
from ragstone.indexes.vector_topk import reached_by, reached_in

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

PRODUCTS = {"int8": Int8Product, "float32": Float32Product, "few": FewProduct}


def part_of(vectors: np.ndarray, base: int = 0, centre: np.ndarray | None = None) -> Coded:
    if centre is None:
        centre = (vectors.sum(axis=0, dtype=np.float64) / max(1, len(vectors))).astype(np.float32)
    codes, ranges = code(vectors, centre)
    for array in (vectors, codes, ranges):
        array.flags.writeable = False  # as memory maps are
    return Coded(vectors, codes, ranges, centre, base)


def brute(vectors: np.ndarray, queries: np.ndarray, k: int, live: np.ndarray | None = None):
    """Numbers and scores of the k best rows by float64 sums, equal scores by number."""
    wide = queries.astype(np.float64) @ vectors.astype(np.float64).T
    scores = wide.astype(np.float32)
    if live is not None:
        scores = np.where(live, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    order = np.where(np.isneginf(best), -1, order)
    missing = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(order, missing, constant_values=-1),
        np.pad(best, missing, constant_values=-np.inf),
    )


def same(found, vectors: np.ndarray, queries: np.ndarray, k: int, live=None) -> None:
    """The same scores as brute force to the last bit but one, and each of the number beside it."""
    numbers, scores = brute(vectors, queries, k, live)
    np.testing.assert_array_equal(found.numbers >= 0, numbers >= 0)
    # two float64 sums of the same products can fall on either side of a float32 boundary
    np.testing.assert_array_max_ulp(
        np.where(numbers >= 0, found.scores, 0), np.where(numbers >= 0, scores, 0), 1
    )
    for query, row in enumerate(found.numbers):
        real = row[row >= 0]
        assert len(set(real.tolist())) == len(real)
        true = (vectors[real].astype(np.float64) @ queries[query].astype(np.float64)).astype("f4")
        np.testing.assert_array_max_ulp(found.scores[query][: len(real)], true, 1)
        if live is not None:
            assert live[real].all()


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def huge_among_small(random: np.random.Generator) -> np.ndarray:
    vectors = random.standard_normal((700, 24)).astype(np.float32)
    vectors[::97] *= np.float32(1e15)
    vectors[::89] *= np.float32(1e-20)
    return vectors


def nearly_equal(random: np.random.Generator) -> np.ndarray:
    base = unit(random.standard_normal((1, 24)))
    return (base + random.standard_normal((700, 24)) * 1e-7).astype(np.float32)


def duplicates(random: np.random.Generator) -> np.ndarray:
    return unit(random.standard_normal((7, 24)))[random.integers(0, 7, 700)]


def one_spike(random: np.random.Generator) -> np.ndarray:
    vectors = (random.standard_normal((700, 24)) * 1e-4).astype(np.float32)
    vectors[:, 0] = 1.0
    return vectors


def subnormal(random: np.random.Generator) -> np.ndarray:
    return (random.standard_normal((700, 24)) * 1e-41).astype(np.float32)


ADVERSARIES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "random": lambda random: unit(random.standard_normal((700, 24))),
    "huge among small": huge_among_small,
    "nearly equal": nearly_equal,
    "duplicates": duplicates,
    "constant": lambda random: np.full((700, 24), 0.3, np.float32),
    "zero": lambda random: np.zeros((700, 24), np.float32),
    "one spike": one_spike,
    "subnormal": subnormal,
    "longest": lambda random: unit(random.standard_normal((700, 24))) * np.float32(9e17),
}


@pytest.mark.parametrize("way", PRODUCTS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_equals_brute_force_on_vectors_made_to_mislead(name: str, way: str) -> None:
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
    for k in (1, 10, 699, 700, 900):
        found = search_exactly(
            [(part_of(vectors), None)], queries, k, lambda q, n: PRODUCTS[way](q)
        )
        same(found, vectors, queries, k)


@pytest.mark.parametrize("way", PRODUCTS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_scores_lie_within_the_bounds(name: str, way: str) -> None:
    random = np.random.default_rng(4)
    vectors = ADVERSARIES[name](random)
    queries = np.concatenate([unit(random.standard_normal((6, 24))), vectors[:2]])
    part, products = part_of(vectors), PRODUCTS[way](queries)
    terms = query_terms(queries, part.centre, products.steps, products.rests)
    blocks = [products.block(part.codes[i : i + 1]).astype(np.float64) for i in range(700)]
    value = terms.bases + np.concatenate(blocks) * part.ranges[:, :1] * terms.steps
    margin = part.ranges[:, 1:2] * terms.reaches + part.ranges[:, 2:] * terms.norms + terms.slacks
    true = vectors.astype(np.float64) @ queries.astype(np.float64).T
    assert (np.abs(true - value) <= margin).all()


def test_bounds_are_tight_enough_to_matter() -> None:
    random = np.random.default_rng(5)
    vectors = unit(random.standard_normal((200, 384)))
    codes, steps, rests = int8_queries(vectors[:10])
    part = part_of(vectors)
    terms = query_terms(vectors[:10], part.centre, steps, rests)
    margin = part.ranges[:, 1:2] * terms.reaches + part.ranges[:, 2:] * terms.norms
    assert margin.max() < 0.025
    assert float32_queries(vectors[:10])[2].max() < 1e-4


def test_codes_are_those_of_the_formula() -> None:
    random = np.random.default_rng(6)
    vectors = random.standard_normal((50, 9)).astype(np.float32)
    vectors[7] = vectors[3] = 0
    centre = random.standard_normal(9).astype(np.float32)
    vectors[11] = centre
    codes, ranges = np.empty((50, 9), np.int8), np.empty((50, 3), np.float32)
    encode(vectors, centre, codes, ranges)
    rest = vectors.astype(np.float64) - centre
    scale = (np.abs(rest).max(axis=1) / 127).astype(np.float32)
    expected = np.rint(rest / np.where(scale > 0, scale, 1)[:, None].astype(np.float64))
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(ranges[:, 0], scale)
    left = rest - codes * scale[:, None].astype(np.float64)
    np.testing.assert_allclose(ranges[:, 2], np.linalg.norm(left, axis=1), rtol=1e-6)
    assert (ranges[:, 2] >= np.linalg.norm(left, axis=1)).all()
    assert (ranges[:, 1] >= np.linalg.norm(rest - left, axis=1)).all()


def test_whole_number_products_are_exact_and_float_products_close() -> None:
    random = np.random.default_rng(7)
    codes = random.integers(-127, 128, (300, 200)).astype(np.int8)
    queries = random.standard_normal((40, 200)).astype(np.float32)
    coded, _, _ = int8_queries(queries)
    exact = Int8Product(queries).block(codes)
    np.testing.assert_array_equal(exact, codes.astype(np.int64) @ coded.T.astype(np.int64))
    scaled, steps, rests = float32_queries(queries)
    true = codes.astype(np.float64) @ queries.T.astype(np.float64)
    reach = np.linalg.norm(codes.astype(np.float64), axis=1)[:, None] * rests
    for way in (Float32Product, FewProduct):
        assert (np.abs(way(queries).block(codes) * steps.astype(np.float64) - true) <= reach).all()
    products = np.empty((300, 40), np.float32)
    multiply(codes, scaled, products)
    np.testing.assert_allclose(products, codes @ scaled.T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("d", [8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384, 1000])
def test_whole_number_products_of_every_shape(d: int) -> None:
    """The function of torch is no promised interface: for one column it returns garbage."""
    random = np.random.default_rng(d)
    for rows in (1, 2, 7, 33, 100):
        for queries in (1, 2, 5, 16, 33):
            codes = random.integers(-127, 128, (rows, d)).astype(np.int8)
            batch = random.standard_normal((queries, d)).astype(np.float32)
            wanted = codes.astype(np.int64) @ int8_queries(batch)[0].T.astype(np.int64)
            np.testing.assert_array_equal(Int8Product(batch).block(codes), wanted)


def test_the_way_is_chosen_by_the_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def way(queries: int, rows: int) -> type[Product]:
        return type(product(np.ones((queries, 64), np.float32), rows))

    assert way(1, 10**9) is FewProduct
    assert way(5, 1000) is FewProduct
    assert way(100, 1000) is Float32Product
    assert way(100, 10**6) is (Int8Product if has_int8() else Float32Product)
    monkeypatch.setattr(vector_products, "has_int8", lambda: False)
    assert way(100, 10**6) is Float32Product


def test_without_torch_there_are_no_whole_number_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_int8.__wrapped__()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_over_parts_and_filters(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=4))
    d = data.draw(st.sampled_from([1, 3, 8, 33]))
    k = data.draw(st.sampled_from([1, 2, 7, 40, 500]))
    coarse = data.draw(st.booleans())  # whole numbers: many ties
    way = data.draw(st.sampled_from(sorted(PRODUCTS if d >= LEAST_WIDTH else ["few", "float32"])))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    everything = random.standard_normal((sum(sizes), d)).astype(np.float32)
    queries = random.standard_normal((5, d)).astype(np.float32)
    if coarse:
        everything, queries = np.rint(everything), np.rint(queries)
    live = random.random(len(everything)) < share
    parts, base = [], 0
    for size in sizes:
        rows = slice(base, base + size)
        vectors = everything[rows].copy()
        parts.append((part_of(vectors, base), None if share == 1 else live[rows]))
        base += size
    found = search_exactly(parts, queries, k, lambda q, n: PRODUCTS[way](q))
    same(found, everything, queries, k, live)
    if coarse:
        np.testing.assert_array_equal(found.numbers, brute(everything, queries, k, live)[0])


def test_equal_scores_go_by_number_across_parts() -> None:
    vectors = np.ones((300, 4), np.float32)
    parts = [(part_of(vectors.copy(), base), None) for base in (0, 300, 600)]
    found = search_exactly(parts, np.ones((2, 4), np.float32), 350)
    np.testing.assert_array_equal(found.numbers, np.tile(np.arange(350), (2, 1)))


def test_scores_do_not_depend_on_the_company() -> None:
    random = np.random.default_rng(8)
    vectors = unit(random.standard_normal((3000, 40)))
    queries = unit(random.standard_normal((300, 40)))
    whole = search_exactly([(part_of(vectors), None)], queries, 10, lambda q, n: Int8Product(q))
    halves = [(part_of(vectors[:1234].copy()), None), (part_of(vectors[1234:].copy(), 1234), None)]
    alone = [search_exactly(halves, queries[i : i + 1], 10) for i in range(len(queries))]
    np.testing.assert_array_equal(whole.numbers, np.concatenate([one.numbers for one in alone]))
    np.testing.assert_array_equal(whole.scores, np.concatenate([one.scores for one in alone]))


def test_loose_bounds_cost_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a centre far away every vector is a candidate, and places run out again and again."""
    random = np.random.default_rng(9)
    vectors = unit(random.standard_normal((3000, 16)))
    queries = unit(random.standard_normal((4, 16)))
    settled = []
    original = vector_exact.settle
    monkeypatch.setattr(
        vector_exact, "settle", lambda *arguments: settled.append(1) or original(*arguments)
    )
    part = part_of(vectors, centre=np.full(16, 1e4, np.float32))
    same(search_exactly([(part, None)], queries, 10), vectors, queries, 10)
    assert len(settled) > 2


def test_few_candidates_are_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(10)
    vectors = unit(random.standard_normal((20_000, 64)))
    queries = unit(random.standard_normal((64, 64)))
    scored = []
    original = vector_topk.exact_scores
    monkeypatch.setattr(
        vector_topk,
        "exact_scores",
        lambda *arguments: scored.append(len(arguments[1])) or original(*arguments),
    )
    found = search_exactly([(part_of(vectors), None)], queries, 10, lambda q, n: Int8Product(q))
    same(found, vectors, queries, 10)
    assert sum(scored) < 64 * 100


@pytest.mark.parametrize("guess", [None, -np.inf, 0.2, 0.9, np.nan, np.inf])
def test_a_guess_costs_time_only(guess: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right or wrong for some queries or all: the answer is that of brute force."""
    random = np.random.default_rng(12)
    vectors = unit(random.standard_normal((3000, 16)))
    queries = unit(random.standard_normal((20, 16)))
    live = random.random(3000) < 0.8
    tried = []
    original = vector_exact._search_batch
    monkeypatch.setattr(
        vector_exact,
        "_search_batch",
        lambda *arguments: tried.append(len(arguments[1])) or original(*arguments),
    )
    if guess is not None:
        monkeypatch.setattr(vector_exact, "_guess", lambda *_: np.full(20, guess))
    parts = [(part_of(vectors[:1000].copy()), live[:1000])]
    parts.append((part_of(vectors[1000:].copy(), 1000), live[1000:]))
    same(search_exactly(parts, queries, 60), vectors, queries, 60, live)
    assert tried[0] == 20 and sum(tried[1:]) == {None: 0, -np.inf: 0, 0.2: 0}.get(guess, 20)


def test_a_large_k_of_many_rows_guesses_and_scores_row_by_row() -> None:
    random = np.random.default_rng(13)
    vectors = unit(random.standard_normal((9000, 24)))
    vectors[4000:4400] = vectors[0]  # as many equal scores
    queries = unit(random.standard_normal((40, 24)))
    for way in PRODUCTS:
        found = search_exactly(
            [(part_of(vectors), None)], queries, 300, lambda q, n, way=way: PRODUCTS[way](q)
        )
        same(found, vectors, queries, 300)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_rows_are_sorted_as_numpy_does(rows: list[int]) -> None:
    array, order = np.array(rows, np.int64), np.empty(len(rows), np.int64)
    sort_rows(array, 10, order)
    np.testing.assert_array_equal(order, np.argsort(array, kind="stable"))


def test_reached_in_is_reached_by_for_every_row() -> None:
    values = np.random.default_rng(14).standard_normal((5, 70)).astype(np.float32)
    np.testing.assert_allclose(reached_in(values, 9), np.sort(values, axis=1)[:, -9], rtol=1e-6)
    assert np.isneginf(reached_in(values, 71)).all()


def test_float16_vectors_are_searched_as_they_are_stored() -> None:
    random = np.random.default_rng(11)
    vectors = unit(random.standard_normal((500, 24))).astype(np.float16)
    queries = unit(random.standard_normal((4, 24)))
    same(search_exactly([(part_of(vectors), None)], queries, 20), vectors, queries, 20)
    rows = np.arange(10)
    scores = exact_scores(vectors, rows, queries, np.zeros(10, np.int64))
    np.testing.assert_allclose(scores, vectors[:10].astype(np.float64) @ queries[0], rtol=1e-6)


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40),
    st.integers(1, 40),
    st.booleans(),
)
def test_reached_by_is_reached_by_k_values(values: list[float], k: int, known: bool) -> None:
    array, k = np.array(values), min(k, len(values))
    low = float(np.sort(array)[0]) if known else -np.inf
    reached = reached_by(array, k, low)
    assert (array >= reached).sum() >= k
    assert reached >= array.min()
    if np.ptp(array) < 1e3 * max(1e-3, np.abs(array).min()):
        kth = np.sort(array)[-k]
        assert reached >= kth - np.ptp(array) * 2.0**-30


def test_no_queries_and_no_rows() -> None:
    vectors = np.ones((3, 4), np.float32)
    empty = search_exactly([(part_of(vectors), None)], np.empty((0, 4), np.float32), 5)
    assert empty.numbers.shape == empty.scores.shape == (0, 5)
    nothing = search_exactly([], np.ones((2, 4), np.float32), 5)
    assert (nothing.numbers == -1).all() and np.isneginf(nothing.scores).all()
