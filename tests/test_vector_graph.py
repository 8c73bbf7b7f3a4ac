"""Search by a graph: recall, filters inside, exact scores, and graphs that would lead astray."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, MissingExtra, UsageError
from ragstone.indexes import vector_finders, vector_graph, vector_search
from ragstone.indexes.family import OpenPart
from ragstone.indexes.vector import Vector, VectorIndex
from ragstone.indexes.vector_graph import open_graph, search_graph
from ragstone.indexes.vector_search import best_of
from ragstone.records import Neighbours
from ragstone.storage import MemoryPart, Store

faiss = pytest.importorskip("faiss")
faiss.omp_set_num_threads(1)

ROWS, D = 6_000, 32


def clustered(rows: int, seed: int, clusters: int = 60) -> np.ndarray:
    """Vectors around centres that are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((clusters, D)).astype(np.float32)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows, D)).astype(np.float32)
    return centres[random.integers(0, clusters, rows)] + noise


def written(family: Vector, keys: np.ndarray) -> MemoryPart:
    builder, part = family.builder(), MemoryPart()
    builder.add(keys)
    builder.write(part)
    return part


KEYS, QUERIES = clustered(ROWS, 1), clustered(60, 2)
GRAPH = Vector(D, search="hnsw", links=16, build_effort=60, effort=40)
PART = written(GRAPH, KEYS)


def open_graph_index(family: Vector = GRAPH, **of_part: Any) -> VectorIndex:
    return family.open([OpenPart(PART, 0, ROWS, **of_part)])


def open_exact(part: MemoryPart = PART, **of_part: Any) -> VectorIndex:
    return Vector(D, search="exact").open([OpenPart(part, 0, ROWS, **of_part)])


def recall(found: Neighbours, wanted: Neighbours) -> float:
    pairs = zip(found.numbers, wanted.numbers, strict=True)
    shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(1, (b >= 0).sum()) for a, b in pairs]
    return float(np.mean(shared))


@pytest.fixture
def always_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is walked however few rows are live."""
    monkeypatch.setattr(vector_search, "FEW_ROWS", 0)
    monkeypatch.setattr(vector_search, "FEW_SHARE", 0.0)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_recall_without_a_filter(k: int) -> None:
    found, wanted = open_graph_index().search(QUERIES, k), open_exact().search(QUERIES, k)
    assert recall(found, wanted) >= 0.95


@pytest.mark.parametrize("metric", ["cosine", "ip"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_recall_and_exact_scores_of_every_kind(metric: Any, dtype: Any) -> None:
    """Also for inner products of vectors whose lengths differ by much."""
    lengths = np.random.default_rng(3).gamma(4, 0.25, (ROWS, 1)).astype(np.float32)
    keys = KEYS * lengths
    family = Vector(D, metric, dtype, "hnsw", links=16, build_effort=60, effort=80)
    part = written(family, keys)
    found = family.open([OpenPart(part, 0, ROWS)]).search(QUERIES, 10)
    exact = Vector(D, metric, dtype, "exact").open([OpenPart(part, 0, ROWS)])
    wanted = exact.search(QUERIES, 10)
    assert recall(found, wanted) >= 0.95
    both = found.numbers == wanted.numbers
    np.testing.assert_array_equal(found.scores[both], wanted.scores[both])
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("walk", [True, False], ids=["walking", "by the rule"])
def test_filters_leave_k_results(share: float, walk: bool, request: pytest.FixtureRequest) -> None:
    if walk:
        request.getfixturevalue("always_walk")
    allowed = np.random.default_rng(4).random(ROWS) < share
    allowed[17] = True
    found = open_graph_index().search(QUERIES, 10, allowed=allowed)
    wanted = open_exact().search(QUERIES, 10, allowed=allowed)
    np.testing.assert_array_equal(found.numbers >= 0, wanted.numbers >= 0)
    assert allowed[found.numbers[found.numbers >= 0]].all()
    assert recall(found, wanted) >= (0.9 if walk else 1.0)


def test_a_filter_far_from_the_query_leaves_k_results(always_walk: None) -> None:
    """Only rows of clusters that the walk would not come near are allowed."""
    scores = KEYS @ QUERIES[0]
    allowed = scores < np.quantile(scores, 0.01)
    found = open_graph_index().search(QUERIES[:1], 20, allowed=allowed)
    wanted = open_exact().search(QUERIES[:1], 20, allowed=allowed)
    assert (found.numbers >= 0).all()
    assert recall(found, wanted) >= 0.9


def test_deleted_rows_are_never_found(always_walk: None) -> None:
    deleted = np.random.default_rng(5).random(ROWS) < 0.5
    found = open_graph_index(deleted=deleted).search(QUERIES, 10)
    wanted = open_exact(deleted=deleted).search(QUERIES, 10)
    assert not deleted[found.numbers].any()
    assert recall(found, wanted) >= 0.95


def test_what_faiss_leaves_out_is_never_looked_up(
    always_walk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-1 from faiss, even for all rows, makes a second walk and then an exact search."""
    efforts = []

    def finds_nothing(graph: Any, queries: Any, k: int, effort: int, live: Any) -> np.ndarray:
        efforts.append(effort)
        return np.full((len(queries), k), -1, np.int64)

    monkeypatch.setattr(vector_finders, "search_graph", finds_nothing)
    allowed = np.arange(ROWS) % 2 == 0
    found = open_graph_index().search(QUERIES, 10, allowed=allowed)
    wanted = open_exact().search(QUERIES, 10, allowed=allowed)
    assert efforts == [80, 320]
    np.testing.assert_array_equal(found.numbers, wanted.numbers)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_k_larger_than_the_part_pads() -> None:
    family = Vector(D, search="hnsw")
    index = family.open([OpenPart(written(family, KEYS[:7]), 0, 7)])
    found = index.search(QUERIES[:3], 12)
    assert (found.numbers[:, :7] >= 0).all() and (found.numbers[:, 7:] == -1).all()
    assert np.isneginf(found.scores[:, 7:]).all()


def test_one_graph_a_part_and_the_union_of_what_they_find() -> None:
    cut = 3_500
    parts = [
        OpenPart(written(GRAPH, KEYS[:cut]), 0, cut),
        OpenPart(written(Vector(D), KEYS[cut:]), cut, ROWS - cut),
    ]
    found = GRAPH.open(parts).search(QUERIES, 10)
    assert recall(found, open_exact().search(QUERIES, 10)) >= 0.95
    assert (found.numbers >= cut).any() and (found.numbers < cut).any()


def test_a_merge_builds_one_graph_of_the_live_rows() -> None:
    deleted = np.arange(3_000) % 3 == 0
    parts = [
        OpenPart(written(Vector(D), KEYS[:3_000]), 0, 3_000, deleted),
        OpenPart(written(Vector(D), KEYS[3_000:4_000]), 3_000, 1_000),
    ]
    merged = MemoryPart()
    GRAPH.merge(parts, merged)
    assert "links" in merged and len(merged.array("levels")) == 3_000
    found = GRAPH.open([OpenPart(merged, 0, 3_000)]).search(QUERIES, 10)
    keys = np.concatenate([KEYS[:3_000][~deleted], KEYS[3_000:4_000]])
    exact = Vector(D, search="exact").open([OpenPart(written(Vector(D), keys), 0, 3_000)])
    assert recall(found, exact.search(QUERIES, 10)) >= 0.95


def test_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a graph hears what is missing; "auto" needs none."""
    monkeypatch.setattr(vector_graph, "has_faiss", lambda: False)
    with pytest.raises(MissingExtra, match=r"ragstone\[dense\]"):
        GRAPH.builder()
    with pytest.raises(MissingExtra):
        open_graph_index().search(QUERIES, 10)
    found = open_graph_index(Vector(D)).search(QUERIES, 10)
    np.testing.assert_array_equal(found.numbers, open_exact().search(QUERIES, 10).numbers)


@pytest.mark.parametrize("rest", ["", "raise NameError('SuperKMeans')"])
def test_two_packages_of_the_module_that_spoilt_each_other(
    rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What faiss-cpu and faiss-gpu leave of each other: an empty folder, or files that differ."""
    (tmp_path / "faiss").mkdir()
    if rest:
        (tmp_path / "faiss" / "__init__.py").write_text(rest)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "faiss"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match="faiss-cpu and faiss-gpu"):
        GRAPH.builder()


def test_kept_in_a_store_and_read_where_it_lies(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store", settings={}).begin() as change:
        with change.new_segment(ROWS) as segment:
            builder = GRAPH.builder()
            builder.add(KEYS)
            builder.write(segment.part("dense"))
        change.commit(note={})
    segment = Store.open(tmp_path / "store").segments[0]
    part = OpenPart(segment.part("dense"), 0, ROWS)
    found, wanted = GRAPH.open([part]).search(QUERIES, 10), open_graph_index().search(QUERIES, 10)
    np.testing.assert_array_equal(found.numbers, wanted.numbers)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    graph = open_graph(part.part, part.part.array("vectors"))
    assert not faiss.downcast_index(graph.index.storage).codes.is_owned


def test_the_same_as_the_index_it_was_taken_from() -> None:
    vectors = PART.array("vectors")
    index = faiss.IndexHNSWFlat(D, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 60
    for first in range(0, ROWS, 4096):
        index.add(vectors[first : first + 4096])
    index.hnsw.efSearch = 40
    queries = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    rows = search_graph(open_graph(PART, vectors), queries, 10, 40, None)
    np.testing.assert_array_equal(rows, index.search(queries, 10)[1])


def test_faiss_without_views_gets_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opaque:
        """A vector of an older faiss: without the attributes of a view."""

    copied = []
    monkeypatch.setattr(faiss, "copy_array_to_vector", lambda array, vector: copied.append(array))
    vector_graph._lend(faiss, Opaque(), PART.array("links"))
    np.testing.assert_array_equal(copied[0], PART.array("links"))


def spoiled(**changes: Any) -> MemoryPart:
    """The part with other arrays or facts of its graph; None leaves an array out."""
    part = MemoryPart()
    for name in ("vectors", "codes", "ranges", "centre", "levels", "links"):
        array = changes.get(name, PART.array(name))
        if array is not None:
            part.array(name, array)
    facts = {name: changes.get(name, value) for name, value in PART.facts.items()}
    part.facts({name: value for name, value in facts.items() if value is not None})
    return part


def changed(name: str, place: Any, value: int) -> np.ndarray:
    array = PART.array(name).copy()
    array[place] = value
    return array


def upper_link(target: int) -> np.ndarray:
    """A link on the first upper level that leads to a row which does not stand there."""
    levels = PART.array("levels").astype(np.int64)
    row = int(np.flatnonzero(levels > 1)[0])
    offset = int((32 + 16 * (levels[:row] - 1)).sum()) + 32
    return changed("links", offset, target)


LOW = int(np.flatnonzero(PART.array("levels") == 1)[0])
FORGED: dict[str, Callable[[], MemoryPart]] = {
    "a link out of the part": lambda: spoiled(links=changed("links", 100, ROWS)),
    "a link below -1": lambda: spoiled(links=changed("links", 100, -2)),
    "an upper link to a lower row": lambda: spoiled(links=upper_link(LOW)),
    "a row on no level": lambda: spoiled(levels=changed("levels", LOW, 0)),
    "a row on level 200": lambda: spoiled(levels=changed("levels", LOW, 200)),
    "another level, so that offsets shift": lambda: spoiled(levels=changed("levels", LOW, 2)),
    "too few links": lambda: spoiled(links=PART.array("links")[:-1]),
    "no links": lambda: spoiled(links=np.empty(0, np.int32)),
    "links of another dtype": lambda: spoiled(links=PART.array("links").astype(np.int64)),
    "no levels": lambda: spoiled(levels=None),
    "an entry out of the part": lambda: spoiled(entry=ROWS),
    "a negative entry": lambda: spoiled(entry=-1),
    "an entry that is not on the highest level": lambda: spoiled(entry=LOW),
    "an entry that is no number": lambda: spoiled(entry="0"),
    "no entry": lambda: spoiled(entry=None),
    "more neighbours than there are": lambda: spoiled(neighbours=17),
    "neighbours that are true": lambda: spoiled(neighbours=True),
    "a great many neighbours": lambda: spoiled(neighbours=2**40),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_graph_that_would_lead_astray_is_damage(name: str) -> None:
    index = GRAPH.open([OpenPart(FORGED[name](), 0, ROWS)])
    with pytest.raises(Damaged, match="compact|verify"):
        index.search(QUERIES, 10)
    exact = Vector(D, search="exact").open([OpenPart(FORGED[name](), 0, ROWS)])
    np.testing.assert_array_equal(
        exact.search(QUERIES, 10).numbers, open_exact().search(QUERIES, 10).numbers
    )


def test_threads_are_given_back() -> None:
    before = faiss.omp_get_max_threads()
    written(Vector(D, search="hnsw", threads=2), KEYS[:50])
    assert faiss.omp_get_max_threads() == before


def test_best_of_pads_and_breaks_ties_by_number() -> None:
    one = Neighbours(np.array([[4, -1]]), np.array([[0.5, -np.inf]], np.float32))
    two = Neighbours(np.array([[7, 2]]), np.array([[0.9, 0.5]], np.float32))
    best = best_of([one, two], 6)
    np.testing.assert_array_equal(best.numbers, [[7, 2, 4, -1, -1, -1]])
    np.testing.assert_array_equal(best_of([one, two], 2).numbers, [[7, 2]])
    with pytest.raises(UsageError):
        open_exact().search(QUERIES, 0)
