"""Search in cells and by short codes: recall, filters inside, exact scores, and forged arrays."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, MissingExtra, UsageError
from ragstone.indexes import vector_graph, vector_search
from ragstone.indexes.family import OpenPart
from ragstone.indexes.vector import Vector, VectorIndex
from ragstone.indexes.vector_cells import Cells, cluster, make_cells, nearest, open_cells, probe
from ragstone.indexes.vector_finders import _probes
from ragstone.indexes.vector_pq import pieces_of
from ragstone.indexes.vector_rabitq import Signs, rotation_of, sign_candidates, sign_code, words_of
from ragstone.records import Neighbours
from ragstone.storage import MemoryPart

pytest.importorskip("faiss").omp_set_num_threads(1)

ROWS, D = 6_000, 40
SEARCHES = ("ivf-pq", "ivf-sq8", "ivf-rabitq", "binary")


def clustered(rows: int, seed: int, clusters: int = 60) -> np.ndarray:
    """Vectors around centres that are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((clusters, D)).astype(np.float32)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows, D)).astype(np.float32)
    return centres[random.integers(0, clusters, rows)] + noise


KEYS, QUERIES = clustered(ROWS, 1), clustered(60, 2)


def family(search: Any, **settings: Any) -> Vector:
    return Vector(D, search=search, **{"lists": 50, "probes": 8, "least_rows": 100, **settings})


def written(made: Vector, keys: np.ndarray) -> MemoryPart:
    builder, part = made.builder(), MemoryPart()
    builder.add(keys)
    builder.write(part)
    return part


@cache
def part_of(search: str) -> MemoryPart:
    return written(family(search), KEYS)


def opened(search: str, part: MemoryPart | None = None, **of_part: Any) -> VectorIndex:
    return family(search).open([OpenPart(part or part_of(search), 0, ROWS, **of_part)])


def exact(search: str, **of_part: Any) -> VectorIndex:
    return Vector(D, search="exact").open([OpenPart(part_of(search), 0, ROWS, **of_part)])


def recall(found: Neighbours, wanted: Neighbours) -> float:
    pairs = zip(found.numbers, wanted.numbers, strict=True)
    shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(1, (b >= 0).sum()) for a, b in pairs]
    return float(np.mean(shared))


@pytest.fixture
def never_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The structure is used however few rows are live."""
    monkeypatch.setattr(vector_search, "FEW_ROWS", 0)
    monkeypatch.setattr(vector_search, "FEW_SHARE", 0.0)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("search", SEARCHES)
def test_recall_and_scores_without_a_filter(search: str, k: int) -> None:
    found, wanted = opened(search).search(QUERIES, k), exact(search).search(QUERIES, k)
    assert recall(found, wanted) >= (
        0.93 if k > 10 else 0.95
    )  # of 40 signs; there are more in life
    both = found.numbers == wanted.numbers
    np.testing.assert_array_equal(found.scores[both], wanted.scores[both])
    assert (found.numbers >= 0).all() and (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_recall_of_inner_products_and_float16(search: Any) -> None:
    lengths = np.random.default_rng(3).gamma(4, 0.25, (ROWS, 1)).astype(np.float32)
    made = family(search, metric="ip", dtype="float16", depth=200, probes=16)
    part = OpenPart(written(made, KEYS * lengths), 0, ROWS)
    plain = Vector(D, "ip", "float16", "exact").open([part])
    assert recall(made.open([part]).search(QUERIES, 10), plain.search(QUERIES, 10)) >= 0.95


@pytest.mark.parametrize("search", SEARCHES)
def test_all_cells_and_all_rows_are_exact_search(search: Any) -> None:
    part = OpenPart(part_of(search), 0, ROWS)
    whole = family(search, probes=50, depth=ROWS).open([part]).search(QUERIES, 30)
    wanted = exact(search).search(QUERIES, 30)
    np.testing.assert_array_equal(whole.numbers, wanted.numbers)
    np.testing.assert_array_equal(whole.scores, wanted.scores)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
@pytest.mark.parametrize("search", SEARCHES)
def test_filters_and_deletes_leave_k_results(search: str, share: float, never_few: None) -> None:
    random = np.random.default_rng(4)
    allowed, deleted = random.random(ROWS) < share, random.random(ROWS) < 0.3
    found = opened(search, deleted=deleted).search(QUERIES, 10, allowed=allowed)
    wanted = exact(search, deleted=deleted).search(QUERIES, 10, allowed=allowed)
    np.testing.assert_array_equal(found.numbers >= 0, wanted.numbers >= 0)
    real = found.numbers[found.numbers >= 0]
    assert allowed[real].all() and not deleted[real].any()
    assert recall(found, wanted) >= 0.9


@pytest.mark.parametrize("search", SEARCHES)
def test_a_filter_far_from_the_query_leaves_k_results(search: str, never_few: None) -> None:
    scores = KEYS @ QUERIES[0]
    allowed = scores < np.quantile(scores, 0.01)
    found = opened(search).search(QUERIES[:1], 20, allowed=allowed)
    assert (found.numbers >= 0).all() and allowed[found.numbers].all()


@pytest.mark.parametrize("search", SEARCHES)
def test_few_live_rows_are_searched_exactly(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_search, "open_finder", None)
    allowed = np.random.default_rng(5).random(ROWS) < 0.5
    found = opened(search).search(QUERIES, 10, allowed=allowed)
    np.testing.assert_array_equal(
        found.numbers, exact(search).search(QUERIES, 10, allowed=allowed).numbers
    )


@pytest.mark.parametrize("search", SEARCHES)
def test_small_parts_have_no_structure_and_a_merge_builds_it(search: Any) -> None:
    made = family(search, least_rows=500)
    small = [written(made, KEYS[first : first + 400]) for first in (0, 400)]
    assert "order" not in small[0]
    deleted = np.arange(400) % 3 == 0
    parts = [OpenPart(small[0], 0, 400, deleted), OpenPart(small[1], 400, 400)]
    keys = np.concatenate([KEYS[:400][~deleted], KEYS[400:800]])
    assert (made.open(parts).search(QUERIES, 5).numbers >= 0).all()
    merged = MemoryPart()
    made.merge(parts, merged)
    assert "order" in merged
    built = written(made, keys)
    for name in ("order", "ends", "centroids", "signs", "pieces", "codebooks"):
        if name in built:
            np.testing.assert_array_equal(merged.array(name), built.array(name))
    found = made.open([OpenPart(merged, 0, len(keys))]).search(QUERIES, 900)
    assert ((found.numbers >= 0).sum(axis=1) == len(keys)).all()


def test_defaults_follow_the_rows() -> None:
    part = written(Vector(D, search="ivf-sq8", least_rows=2000), KEYS[:3600])
    assert len(part.array("ends")) == 90
    assert "order" not in written(Vector(D, search="ivf-sq8"), KEYS)
    assert "signs" in part_of("binary") and len(part_of("binary").array("ends")) == 1
    assert [pieces_of(d) for d in (384, 12, 15, 7)] == [192, 6, 5, 1]


def test_auto_has_cells_from_its_size_on() -> None:
    auto = Vector(D, exact_rows=3000)
    assert "signs" not in written(auto, KEYS[:2999]) and "order" not in written(auto, KEYS[:2999])
    part = written(auto, KEYS)
    np.testing.assert_array_equal(
        part.array("signs"), written(family("ivf-rabitq", lists=None), KEYS).array("signs")
    )
    found = auto.open([OpenPart(part, 0, ROWS)]).search(QUERIES, 10)
    assert 0.95 <= recall(found, exact("binary").search(QUERIES, 10)) < 1
    assert "signs" not in written(Vector(D, exact_rows=3000, lists=ROWS + 1), KEYS)


@pytest.mark.parametrize("lists, probes", [(7, 7), (100, 32), (1061, 49), (10_000, 150)])
def test_more_cells_are_looked_into_the_more_there_are(lists: int, probes: int) -> None:
    starts = np.arange(lists + 1) * 1000
    cells = Cells(*np.empty((3, lists), np.float32), starts, np.empty(1000 * lists, np.int32))
    assert _probes(cells, None, 10, 1.0) == probes
    assert _probes(cells, 8, 10, 1.0) == min(8, lists)


def test_without_faiss_only_product_quantization_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vector_graph, "has_faiss", lambda: False)
    with pytest.raises(MissingExtra, match=r"ragstone\[dense\]"):
        family("ivf-pq").builder()
    for search in ("ivf-sq8", "ivf-rabitq", "binary"):
        assert opened(search, written(family(search), KEYS)).search(QUERIES, 3).scores.all()


@pytest.mark.parametrize(
    "wrong", [{"lists": 0}, {"probes": 0}, {"depth": 0}, {"pieces": 7}, {"least_rows": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        family("ivf-pq", **wrong)


def test_each_vector_is_nearest_to_the_direction_of_its_cell() -> None:
    means = cluster(KEYS, 50, seed=0)
    np.testing.assert_array_equal(means, cluster(KEYS, 50, seed=0))
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)
    cells = nearest(KEYS, directions)
    np.testing.assert_array_equal(cells, (KEYS @ directions.T).argmax(axis=1))
    assert np.bincount(cells, minlength=50).max() < 10 * ROWS / 50


def test_clusters_of_equal_vectors_start_again() -> None:
    means = cluster(np.repeat(np.eye(2, 6, dtype=np.float32), 30, axis=0), 5, seed=0)
    assert np.isfinite(means).all() and len(np.unique(means, axis=0)) == 2


def test_cells_in_bfloat16_are_nearly_those_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    directions = KEYS[:50] / np.linalg.norm(KEYS[:50], axis=1, keepdims=True)
    plain = nearest(KEYS, directions)
    monkeypatch.setattr("ragstone.indexes.vector_cells._torch", lambda: torch)
    monkeypatch.setattr("ragstone.indexes.vector_cells._WORTH_TORCH", 1)
    narrow = nearest(KEYS, directions)
    products = KEYS @ directions.T
    lost = products[np.arange(ROWS), plain] - products[np.arange(ROWS), narrow]
    assert (lost <= 0.02 * np.abs(products).max(axis=1)).all() and (lost > 0).mean() < 0.2


@pytest.mark.parametrize("d", [1, 40, 64, 100])
def test_estimates_are_those_of_the_formula(d: int) -> None:
    """The twin in NumPy: with the queries rounded as the kernel rounds them, the same order."""
    random = np.random.default_rng(d)
    vectors = random.standard_normal((1300, d)).astype(np.float32)
    queries = random.standard_normal((5, d)).astype(np.float32)
    member = np.sort(random.integers(0, 2, 1300))
    means = np.stack([vectors[member == cell].mean(axis=0) for cell in (0, 1)])
    cells = make_cells(means, np.cumsum(np.bincount(member)), np.arange(1300, dtype=np.int32))
    rotation = rotation_of(d)
    signs, factors = sign_code(vectors, means[member], rotation)
    assert signs.shape == (1300, words_of(d))
    flat = [signs[member == cell].T.reshape(-1) for cell in (0, 1)]
    made = Signs(cells, np.concatenate(flat), factors, rotation, means @ rotation.T)
    found = sign_candidates(made, queries, 2, 20, None)
    bits = np.unpackbits(signs.view(np.uint8), axis=1, bitorder="little")[:, :d] * 2.0 - 1
    for query, rows in zip(queries, found, strict=True):
        rests = (query - means) @ rotation.T.astype(np.float64)
        low = rests.min(axis=1, keepdims=True)
        step = np.maximum((rests.max(axis=1, keepdims=True) - low) / 15, 1e-30)
        rounded = low + step * np.floor((rests - low) / step + 0.5)
        wanted = factors[:, 0] * (2 * ((bits > 0) * rounded[member]).sum(axis=1))
        wanted += means[member] @ query + factors[:, 1] - factors[:, 0] * rests.sum(axis=1)[member]
        best = np.sort(wanted)[::-1][:20]
        slack = 2 * d * step.max() * np.abs(factors[:, 0]).max() * 0.02 + 1e-4
        np.testing.assert_allclose(np.sort(wanted[rows])[::-1], best, atol=slack)


def test_estimates_are_right_on_average() -> None:
    random = np.random.default_rng(6)
    vector, query = random.standard_normal((2, 1, D)).astype(np.float32)
    zero, values = np.zeros((1, D), np.float32), []
    for seed in range(400):
        rotation = rotation_of(D, seed)
        signs, factors = sign_code(vector, zero, rotation)
        bits = np.unpackbits(signs.view(np.uint8), bitorder="little")[:D] * 2.0 - 1
        values.append(float(factors[0, 0] * (bits @ (rotation @ query[0]))))
    true = float(vector[0] @ query[0])
    assert abs(np.mean(values) - true) < 4 * np.std(values) / np.sqrt(400)


def test_probes_are_the_nearest_cells() -> None:
    cells = open_cells(part_of("ivf-sq8"), ROWS, D)
    best, products = probe(cells, QUERIES, 8)
    along = QUERIES @ cells.directions.T
    np.testing.assert_array_equal(best, np.argsort(-along, axis=1)[:, :8])
    wanted = np.take_along_axis(QUERIES @ cells.centroids.T, best, axis=1)
    np.testing.assert_allclose(products, wanted, rtol=1e-4, atol=1e-4)


NAMES = {
    "ivf-pq": ("codebooks", "pieces"),
    "ivf-sq8": (),
    "ivf-rabitq": ("signs", "factors", "rotation"),
    "binary": ("signs",),
}


def spoiled(search: str, **changes: Any) -> MemoryPart:
    part, source = MemoryPart(), part_of(search)
    for name in ("vectors", "codes", "ranges", "centre", "centroids", "ends", "order"):
        part.array(name, changes.get(name, source.array(name)))
    for name in NAMES[search]:
        array = changes.get(name, source.array(name))
        part.array(name, array)
    return part


def other(search: str, name: str, place: Any, value: Any) -> np.ndarray:
    array = part_of(search).array(name).copy()
    array[place] = value
    return array


FORGED: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "a row out of the part": ("ivf-sq8", lambda s: {"order": other(s, "order", 5, ROWS)}),
    "a negative row": ("ivf-sq8", lambda s: {"order": other(s, "order", 5, -1)}),
    "a row twice": ("ivf-sq8", lambda s: {"order": other(s, "order", 5, 5)}),
    "rows of int64": (
        "ivf-sq8",
        lambda s: {"order": part_of(s).array("order").astype(np.int64)},
    ),
    "ends that fall": ("ivf-sq8", lambda s: {"ends": other(s, "ends", 3, ROWS)}),
    "a negative end": ("ivf-sq8", lambda s: {"ends": other(s, "ends", 0, -1)}),
    "a last end too far": ("ivf-sq8", lambda s: {"ends": other(s, "ends", -1, ROWS + 1)}),
    "no ends": ("ivf-sq8", lambda s: {"ends": np.empty(0, np.int64)}),
    "fewer means": ("ivf-sq8", lambda s: {"centroids": part_of(s).array("centroids")[:-1]}),
    "a mean of NaN": ("ivf-sq8", lambda s: {"centroids": other(s, "centroids", 0, np.nan)}),
    "fewer signs": ("ivf-rabitq", lambda s: {"signs": part_of(s).array("signs")[:-1]}),
    "a rotation of NaN": ("ivf-rabitq", lambda s: {"rotation": other(s, "rotation", 0, np.nan)}),
    "fewer factors": ("ivf-rabitq", lambda s: {"factors": part_of(s).array("factors")[:-1]}),
    "fewer codes": ("ivf-pq", lambda s: {"pieces": part_of(s).array("pieces")[:-1]}),
    "narrower codes": ("ivf-pq", lambda s: {"pieces": part_of(s).array("pieces")[:, 1:].copy()}),
    "fewer codewords": ("ivf-pq", lambda s: {"codebooks": part_of(s).array("codebooks")[:-1]}),
    "codewords that do not divide": ("ivf-pq", lambda s: {"codebooks": np.ones((16, 3), "f4")}),
    "codewords without width": ("ivf-pq", lambda s: {"codebooks": np.ones((16, 0), "f4")}),
    "a codeword of NaN": ("ivf-pq", lambda s: {"codebooks": other(s, "codebooks", 3, np.nan)}),
}


@pytest.mark.parametrize("name", FORGED)
def test_cells_and_codes_that_would_lead_astray_are_damage(name: str) -> None:
    search, changes = FORGED[name]
    index = opened(search, spoiled(search, **changes(search)))
    with pytest.raises(Damaged, match="compact|verify"):
        index.search(QUERIES, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("search", ["ivf-rabitq", "binary"])
def test_estimates_of_nothing_end_in_exact_scores(search: str, value: float) -> None:
    """Factors are data and may be anything; what is found has the scores of its vectors."""
    source = part_of(search)
    part = MemoryPart()
    for name in ("vectors", "codes", "ranges", "centre", "centroids", "ends", "order"):
        part.array(name, source.array(name))
    for name in ("signs", "rotation"):
        part.array(name, source.array(name))
    part.array("factors", np.full((ROWS, 2), value, np.float32))
    with np.errstate(all="ignore"):
        found = opened(search, part).search(QUERIES, 10)
    assert (found.numbers >= 0).all()
    vectors, queries = source.array("vectors"), QUERIES / np.linalg.norm(QUERIES, axis=1)[:, None]
    true = np.einsum("qkd,qd->qk", vectors[found.numbers], queries)
    np.testing.assert_allclose(found.scores, true, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif("RAGSTONE_DATA" not in os.environ, reason="RAGSTONE_DATA is not set")
@pytest.mark.long
@pytest.mark.parametrize("search", SEARCHES)
def test_recall_on_passages_of_scifact(search: Any, tmp_path_factory: Any) -> None:
    passages, queries = scifact()
    made = Vector(384, search=search, least_rows=1000)
    part = OpenPart(written(made, passages), 0, len(passages))
    wanted = Vector(384, search="exact").open([part]).search(queries, 10)
    assert recall(made.open([part]).search(queries, 10), wanted) >= 0.96


@cache
def scifact() -> tuple[np.ndarray, np.ndarray]:
    """Passages and test queries by the embedded model."""
    import json

    from ragstone.models.bi_encoder import BiEncoder

    folder, encoder = Path(os.environ["RAGSTONE_DATA"]) / "beir-scifact", BiEncoder()
    texts = [
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("corpus.jsonl", "queries.jsonl")
    ]
    passages = encoder.encode_passages([f"{one['title']} {one['text']}" for one in texts[0]])
    return passages, encoder.encode_queries([one["text"] for one in texts[1]])
