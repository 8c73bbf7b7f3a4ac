"""What every index family keeps to: a family is covered by one entry in CASES.

Collections are built by random operations and searched; what comes back has to be what a brute
force over the live passages says, and what a collection made of those passages at once gives.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ragstone.errors import InputError, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.family import FAMILIES, BadKey, Family, OpenPart, load_family
from ragstone.models.keys import joined
from ragstone.records import Fingerprint, Neighbours, Passage, TokenVectors, WeightedTerms
from ragstone.storage import Disk, MemoryPart

from .ngrams import few_tokens, ngram_scores, together_as_tokens, with_unknown_token


class TallBuilder:
    """Collects the vectors of one segment of a Tall index."""

    def __init__(self, width: int) -> None:
        self.rows = [np.zeros((0, width), dtype=np.float32)]

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows)

    def add(self, keys: np.ndarray) -> None:
        self.rows.append(np.array(keys, dtype=np.float32))

    def write(self, writer: Any) -> None:
        writer.array("vectors", np.concatenate(self.rows))


class TallIndex:
    """Every query with every row: the least that keeps the contract of an index."""

    def __init__(self, parts: Sequence[OpenPart], family: "Tall") -> None:
        self.parts, self.family = list(parts), family

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(part.part.array("vectors").nbytes for part in self.parts)

    def add(self, numbers: np.ndarray, keys: np.ndarray) -> None:
        builder, memory = self.family.builder(), MemoryPart()
        builder.add(keys)
        builder.write(memory)
        self.parts.append(OpenPart(memory, self.rows, len(numbers)))

    def search(self, keys: np.ndarray, k: int, *, allowed: Any = None) -> Neighbours:
        found = np.full((len(keys), max(k, self.rows)), -np.inf, dtype=np.float32)
        for part in self.parts:
            live = np.ones(part.rows, dtype=bool) if part.deleted is None else ~part.deleted
            if allowed is not None:
                live = live & allowed[part.base : part.base + part.rows]
            scores = keys @ part.part.array("vectors").T * np.float32(self.family.factor)
            found[:, part.base : part.base + part.rows] = np.where(live, scores, -np.inf)
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(found, order, axis=1)
        return Neighbours(np.where(np.isneginf(scores), -1, order), scores)


@dataclass(frozen=True)
class Tall:
    """A family of small vectors: the stand-in that shows the contract to be enough."""

    kind: ClassVar[str] = "tall"
    width: int
    factor: float = 1.0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"width": self.width, "factor": self.factor}

    def check(self, keys: np.ndarray) -> None:
        wrong = np.flatnonzero(~np.isfinite(keys).all(axis=1))
        if len(wrong):
            raise BadKey("the vector is not finite", int(wrong[0]), remedy="Encode it again")

    def builder(self) -> TallBuilder:
        return TallBuilder(self.width)

    def open(self, parts: Sequence[OpenPart]) -> TallIndex:
        return TallIndex(parts, self)

    def merge(self, parts: Sequence[OpenPart], writer: Any) -> None:
        with writer.stream("vectors", np.float32, self.width) as stream:
            for part in parts:
                live = slice(None) if part.deleted is None else ~part.deleted
                stream.append(part.part.array("vectors")[live])


FAMILIES["tall"] = Tall


@dataclass(frozen=True)
class Case:
    """How the suite drives a family.

    family: with settings that are not the defaults.  encode: random keys of n passages or queries.
    score: keys of all live passages and of queries -> (queries, passages) scores, -inf = no hit.
    join: one batch of keys out of several.  spoil: a batch of which row 1 has to be refused.
    tolerance: how far scores may be from those of `score`.  moved: how far from those of the same
    passages that came in another way; 0 = equal to the bit.
    """

    family: Family[Any, Any]
    encode: Callable[[np.random.Generator, int], Any]
    score: Callable[[Any, Any], np.ndarray]
    join: Callable[[Sequence[Any]], Any]
    spoil: Callable[[Any], Any] | None = None
    tolerance: float = 1e-5
    moved: float = 0


def small_integers(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(-3, 4, (n, 4)).astype(np.float32)


def row_of_nan(keys: np.ndarray) -> np.ndarray:
    keys = keys.copy()
    keys[1] = np.nan
    return keys


WORDS = [f"w{i}é".encode() for i in range(40)]


def terms_of(matrix: np.ndarray, vocabulary: list[bytes]) -> WeightedTerms:
    """Weighted terms from (texts, words) weights; columns are numbered as in the vocabulary."""
    rows, words = np.nonzero(matrix)
    place = np.array([vocabulary.index(word) for word in WORDS], dtype=np.int32)
    return WeightedTerms(
        np.searchsorted(rows, np.arange(len(matrix) + 1)).astype(np.int64),
        place[words],
        matrix[rows, words].astype(np.float32),
        vocabulary,
        matrix.sum(axis=1).astype(np.int32),
    )


def matrix_of(keys: WeightedTerms) -> np.ndarray:
    matrix = np.zeros((len(keys), len(WORDS)))
    rows = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    words = np.array([WORDS.index(word) for word in keys.vocabulary], dtype=np.int64)
    matrix[rows, words[keys.ids]] = keys.weights
    return matrix


def few_words(rng: np.random.Generator, n: int) -> WeightedTerms:
    """Texts of at most 20 words, some of none; the first words are in every second text."""
    odds = np.linspace(0.5, 0.02, len(WORDS))
    matrix = (rng.random((n, len(WORDS))) < odds) * rng.integers(1, 3, (n, len(WORDS)))
    matrix[(matrix.sum(axis=1) > 20) | (rng.random(n) < 0.05)] = 0
    return terms_of(matrix, rng.permutation(np.array(WORDS, dtype=object)).tolist())


def together(batches: Sequence[WeightedTerms]) -> WeightedTerms:
    return terms_of(np.concatenate([matrix_of(batch) for batch in batches]), WORDS)


def bm25(keys: WeightedTerms, queries: WeightedTerms) -> np.ndarray:
    """The formula, with k1 = 1.2 and b = 0.75; lengths below 24 are not rounded."""
    passages, asked = matrix_of(keys), matrix_of(queries)
    filled = max(1, np.count_nonzero(passages.any(axis=1)))
    average = np.float32(keys.lengths.sum() / filled) or 1.0
    frequency = np.count_nonzero(passages, axis=0)
    idf = np.log1p((filled - frequency + 0.5) / (frequency + 0.5))
    norm = 1.2 * (0.25 + 0.75 * keys.lengths / average)
    worth = passages / (passages + norm[:, None] + (passages == 0))
    return np.where(asked @ (passages.T > 0) > 0, (asked * idf) @ worth.T, -np.inf)


def products(keys: WeightedTerms, queries: WeightedTerms) -> np.ndarray:
    passages, asked = matrix_of(keys), matrix_of(queries)
    return np.where(asked @ (passages.T > 0) > 0, asked @ passages.T, -np.inf)


def with_weight(weight: float, keys: WeightedTerms) -> WeightedTerms:
    """The same terms, the first one of row 1 with another weight."""
    weights = keys.weights.copy()
    weights[keys.offsets[1]] = weight
    return replace(keys, weights=weights)


def directions(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, 12), dtype=np.float32) * 3


def cosines(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    lengths = [np.linalg.norm(one.astype(np.float64), axis=1) for one in (queries, keys)]
    return queries.astype(np.float64) @ keys.astype(np.float64).T / np.outer(*lengths)


def inner_products(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return queries.astype(np.float64) @ keys.astype(np.float64).T


def half_products(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Inner products with what float16 keeps of the passages."""
    return queries.astype(np.float64) @ keys.astype(np.float16).astype(np.float64).T


def every_cell(search: str, metric: str = "cosine", **settings: Any) -> Case:
    """A structure of which all is looked at, so that it finds what brute force does."""
    whole = {"lists": 3, "least_rows": 3, "probes": 3, "depth": 1000, "metric": metric, **settings}
    return Case(
        family=load_family("vector", {"dimensions": 12, "search": search, **whole}),
        encode=directions,
        score=cosines if metric == "cosine" else inner_products,
        join=np.concatenate,
        spoil=row_of_nan,
    )


def few_vectors(rng: np.random.Generator, n: int) -> TokenVectors:
    """Texts of one to five vectors."""
    offsets = np.append(0, np.cumsum(rng.integers(1, 6, n)))
    return TokenVectors(offsets, directions(rng, offsets[-1]))


def sums_of_maxima(keys: TokenVectors, queries: TokenVectors) -> np.ndarray:
    near = cosines(keys.vectors, queries.vectors)
    best = np.maximum.reduceat(near, keys.offsets[:-1], axis=1)
    return np.add.reduceat(best, queries.offsets[:-1], axis=0)


def text_of_nan(keys: TokenVectors) -> TokenVectors:
    vectors = keys.vectors.copy()
    vectors[keys.offsets[1]] = np.nan
    return replace(keys, vectors=vectors)


CASES = {
    "tall": Case(
        family=Tall(4, factor=0.5),
        encode=small_integers,
        score=lambda keys, queries: queries @ keys.T * 0.5,
        join=np.concatenate,
        spoil=row_of_nan,
        tolerance=0,
    ),
    "bm25": Case(
        family=load_family("inverted", {"k1": 1.2, "b": 0.75}),
        encode=few_words,
        score=bm25,
        join=together,
        spoil=partial(with_weight, 0.5),
    ),
    "impact": Case(
        family=load_family("inverted", {"scoring": "impact"}),
        encode=few_words,
        score=products,
        join=together,
        spoil=partial(with_weight, np.nan),
    ),
    "impact-codes": Case(
        family=load_family(
            "inverted",
            {"scoring": "impact", "weights": "uint8", "search": "approximate", "margin": 1.0},
        ),
        encode=few_words,
        score=products,
        join=together,
        spoil=partial(with_weight, 300),
    ),
    "cosine": Case(
        family=load_family("vector", {"dimensions": 12, "search": "exact"}),
        encode=directions,
        score=cosines,
        join=np.concatenate,
        spoil=row_of_nan,
    ),
    "product": Case(
        family=load_family("vector", {"dimensions": 12, "metric": "ip", "dtype": "float16"}),
        encode=directions,
        score=half_products,
        join=np.concatenate,
        spoil=row_of_nan,
    ),
    "hnsw": Case(
        family=load_family("vector", {"dimensions": 12, "search": "hnsw", "links": 8}),
        encode=directions,
        score=cosines,
        join=np.concatenate,
        spoil=row_of_nan,
    ),
    "late": Case(
        family=load_family(
            "multivector", {"dimensions": 12, "codes": "float16", "search": "exact"}
        ),
        encode=few_vectors,
        score=sums_of_maxima,
        join=lambda batches: joined(batches[0], batches[1:]),
        spoil=text_of_nan,
        tolerance=2e-3,
    ),
    "late-codes": Case(
        family=load_family("multivector", {"dimensions": 12, "codes": "residual4"}),
        encode=few_vectors,
        score=sums_of_maxima,
        join=lambda batches: joined(batches[0], batches[1:]),
        spoil=text_of_nan,
        tolerance=0.25,
        moved=0.25,
    ),
    "ngram": Case(
        family=load_family("ngram", {"vocabulary": 9, "alpha": 1.5, "beta": 0.7, "single": 0.25}),
        encode=few_tokens,
        score=partial(ngram_scores, alpha=1.5, beta=0.7, single=0.25),
        join=together_as_tokens,
        spoil=with_unknown_token,
    ),
    "ngram-fm": Case(
        family=load_family("ngram", {"vocabulary": 9, "layout": "fm", "sampling": 3}),
        encode=few_tokens,
        score=ngram_scores,
        join=together_as_tokens,
        spoil=with_unknown_token,
    ),
    "ivf-pq": every_cell("ivf-pq", pieces=4),
    "ivf-sq8": every_cell("ivf-sq8", metric="ip"),
    "ivf-rabitq": every_cell("ivf-rabitq"),
    "binary": every_cell("binary"),
}

ENOUGH = [
    pytest.param(name, marks=pytest.mark.long) if name in ("ivf-sq8", "binary") else name
    for name in CASES
]
"""For suites of minutes: "ivf-rabitq" writes every file of the two that are left for long runs."""


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here: the medium need not confirm every commit."""
    monkeypatch.setattr(Disk, "sync", lambda *_: None)
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: None)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


class Model:
    """What a collection should hold: passages by id with their keys, one row each."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.rng, self.draw = case, np.random.default_rng(seed), random.Random(seed)
        self.live: dict[str, tuple[Passage, Any]] = {}

    def batch(self, ids: Sequence[str]) -> tuple[list[Passage], Any]:
        """New passages and keys under these ids, entered here and given to be added."""
        passages = [
            Passage(id, f"text {self.draw.random()}", "", {"n": self.draw.randrange(6)})
            for id in ids
        ]
        rows = [self.case.encode(self.rng, 1) for _ in ids]
        for passage, row in zip(passages, rows, strict=True):
            self.live.pop(passage.id, None)
            self.live[passage.id] = passage, row
        return passages, self.case.join(rows)

    def keys(self, ids: Sequence[str]) -> Any:
        return self.case.join([self.live[id][1] for id in ids])


def collection_at(folder: Path, case: Case) -> Collection:
    return Collection.create(folder, {"one": case.family})


def fill(collection: Collection, model: Model, ids: Sequence[str], commits: int = 1) -> Collection:
    """Add what the model has under these ids, in their order."""
    with collection.writer() as writer:
        for chunk in np.array_split(np.arange(len(ids)), commits):
            some = [ids[i] for i in chunk]
            writer.add([model.live[id][0] for id in some], {"one": model.keys(some)})
            writer.commit()
    return collection.refresh()


def check_search(collection: Collection, model: Model, queries: Any, k: int, allowed=None) -> None:
    """What comes back is what brute force over the live passages says."""
    numbers = np.arange(collection.passages.rows)
    if collection.passages.live is not None:
        numbers = numbers[collection.passages.live]
    ids = collection.passages.ids(numbers)
    assert sorted(ids) == sorted(model.live)
    found = collection.indexes["one"].search(queries, k, allowed=allowed)
    shape = (len(queries), k)
    assert found.numbers.shape == found.scores.shape == shape
    assert found.numbers.dtype == np.int64 and found.scores.dtype == np.float32
    if not ids:
        assert (found.numbers == -1).all() and np.isneginf(found.scores).all()
        return
    truth = np.asarray(model.case.score(model.keys(ids), queries), dtype=np.float64)
    if allowed is not None:
        truth = np.where(allowed[numbers], truth, -np.inf)
    place = {int(number): i for i, number in enumerate(numbers)}
    for row, scores, true in zip(found.numbers, found.scores, truth, strict=True):
        hits = int(min(k, np.count_nonzero(~np.isneginf(true))))
        assert (row[hits:] == -1).all() and np.isneginf(scores[hits:]).all()
        assert len(set(row[:hits].tolist())) == hits
        near = {"rtol": model.case.tolerance, "atol": model.case.tolerance}
        named = [place[int(number)] for number in row[:hits]]
        np.testing.assert_allclose(scores[:hits], true[named], **near)
        np.testing.assert_allclose(scores[:hits], np.sort(true)[::-1][:hits], **near)
        falls = np.diff(scores[:hits])
        assert (falls <= 0).all()
        assert (np.diff(row[:hits])[falls == 0] > 0).all(), "equal scores: ascending numbers"


def results(collection: Collection, queries: Any, k: int) -> list[dict[str, float]]:
    """The ids found for each query with their scores."""
    found = collection.indexes["one"].search(queries, k)
    return [
        dict(zip(collection.passages.ids(row[row >= 0]), scores.tolist(), strict=False))
        for row, scores in zip(found.numbers, found.scores, strict=True)
    ]


def assert_same(first: list[dict[str, float]], second: list[dict[str, float]], near: float) -> None:
    """Equal scores; where two ids stand for each other, they tie with the last."""
    for a, b in zip(first, second, strict=True):
        assert len(a) == len(b)
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=near, atol=near)
        for id in a.keys() | b.keys():
            last = min(a.values())
            assert a.get(id, last) == pytest.approx(b.get(id, last), rel=near, abs=near)


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_equal_brute_force_and_a_rebuild(case, seed, tmp_path) -> None:
    model = Model(case, seed)
    draw = model.draw
    collection = collection_at(tmp_path / "grown", case)
    fresh = 0
    for step in range(8):
        with collection.writer(duplicates="replace") as writer:
            for _ in range(draw.randrange(1, 4)):
                some = draw.sample(sorted(model.live), min(len(model.live), draw.randrange(6)))
                what = draw.choice(["add", "add", "replace", "delete"])
                if what == "delete":
                    assert writer.delete([*some, "unknown", *some]) == len(some)
                    for id in some:
                        del model.live[id]
                    continue
                new = [f"p{fresh + i}" for i in range(draw.randrange(1, 15))]
                fresh += len(new)
                passages, keys = model.batch(new if what == "add" else [*some, new[0]])
                assert writer.add(passages, {"one": keys}) == 0
            writer.commit(note={"step": step})
        collection = collection.refresh()
        if draw.random() < 0.3:
            collection = collection.compact()
            assert collection.segments <= 1
        if draw.random() < 0.3:
            collection = Collection.open(tmp_path / "grown")
        assert collection.note == {"step": step}
        queries = case.encode(model.rng, 3)
        for k in (1, 5, 200):
            check_search(collection, model, queries, k)
        allowed = collection.passages.select({"n": {"$in": draw.sample(range(7), 2)}})
        check_search(collection, model, queries, 7, allowed)
        chance = model.rng.random(collection.passages.rows) < draw.choice([0.05, 0.5])
        check_search(collection, model, queries, 7, chance)
    order = [passage.id for passage in collection.passages]
    rebuilt = fill(collection_at(tmp_path / "rebuilt", case), model, order)
    for k in (1, 10, 100):
        assert_same(results(collection, queries, k), results(rebuilt, queries, k), case.moved)


def test_an_empty_collection_pads(case, tmp_path) -> None:
    collection = collection_at(tmp_path / "c", case)
    model = Model(case, 0)
    check_search(collection, model, case.encode(model.rng, 2), 5)
    assert collection.indexes["one"].rows == 0
    with collection.writer() as writer:
        passages, keys = model.batch(["a", "b"])
        writer.add(passages, {"one": keys})
        writer.commit()
        writer.delete(["a", "b"])
        writer.commit()
    model.live.clear()
    check_search(collection.refresh(), model, case.encode(model.rng, 2), 5)


def test_no_query_and_nothing_allowed(case, tmp_path) -> None:
    model = Model(case, 1)
    model.batch([f"p{i}" for i in range(20)])
    collection = fill(collection_at(tmp_path / "c", case), model, list(model.live))
    queries = case.encode(model.rng, 4)
    nothing = np.zeros(20, dtype=bool)
    check_search(collection, model, queries, 5, nothing)
    check_search(collection, model, queries, 5, ~nothing)
    for number in (0, 19):
        only = nothing.copy()
        only[number] = True
        check_search(collection, model, queries, 5, only)


def test_increments_deletes_and_compaction_change_nothing(case, tmp_path) -> None:
    model = Model(case, 2)
    model.batch([f"p{i}" for i in range(100)])
    ids = list(model.live)
    once = fill(collection_at(tmp_path / "once", case), model, ids)
    queries = case.encode(model.rng, 5)
    truth = results(once, queries, 20)
    parts = fill(collection_at(tmp_path / "parts", case), model, ids, commits=5)
    assert parts.segments == 5
    assert_same(results(parts, queries, 20), truth, case.moved)
    some = ids[::5]
    with parts.writer() as writer:
        assert writer.delete(some) == 20
        writer.commit()
        writer.add([model.live[id][0] for id in some], {"one": model.keys(some)})
        writer.commit()
    again = parts.refresh()
    assert_same(results(again, queries, 20), truth, case.moved)
    compacted = again.compact()
    assert compacted.segments == 1 and compacted.passages.live is None
    before, after = results(again, queries, 20), results(compacted, queries, 20)
    assert_same(after, truth, case.moved)
    assert_same(before, after, case.moved)
    assert_same(results(parts, queries, 20), truth, case.moved)  # the old reader stays


def test_another_process_finds_the_same(case, request, tmp_path) -> None:
    model = Model(case, 3)
    model.batch([f"p{i}" for i in range(50)])
    collection = fill(collection_at(tmp_path / "c", case), model, list(model.live), commits=2)
    here = results(collection, case.encode(np.random.default_rng(9), 3), 10)
    name = request.node.callspec.params["case"]
    command = [sys.executable, "-m", "tests.test_contract", name, str(tmp_path / "c")]
    root = Path(__file__).parent.parent
    there = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == here


def test_settings_give_the_family_back(case, tmp_path) -> None:
    settings = json.loads(json.dumps(dict(case.family.settings)))
    assert load_family(case.family.kind, settings) == case.family
    collection_at(tmp_path / "c", case)
    assert Collection.open(tmp_path / "c").families == {"one": case.family}


def test_an_index_alone_in_memory(case, tmp_path) -> None:
    model = Model(case, 4)
    ids = [f"p{i}" for i in range(30)]
    model.batch(ids)
    index = case.family.open([])
    for start in (0, 10, 20):
        index.add(np.arange(start, start + 10), model.keys(ids[start : start + 10]))
    collection = fill(collection_at(tmp_path / "c", case), model, ids)
    queries = case.encode(model.rng, 3)
    alone, stored = index.search(queries, 8), collection.indexes["one"].search(queries, 8)
    np.testing.assert_allclose(alone.scores, stored.scores, rtol=case.moved)
    assert index.rows == collection.indexes["one"].rows == 30
    assert collection.indexes["one"].nbytes > 0


def test_a_refused_key_is_named_by_id_and_nothing_is_taken(case, tmp_path) -> None:
    if case.spoil is None:
        pytest.skip("every key can be stored")
    model = Model(case, 5)
    families = {"first": case.family, "one": case.family}
    collection = Collection.create(tmp_path / "c", families)
    passages, keys = model.batch(["a", "b", "c"])
    with collection.writer() as writer:
        with pytest.raises(InputError, match="passage 'b', index 'one'"):
            writer.add(passages, {"first": keys, "one": case.spoil(keys)})
        held = writer.nbytes
        assert writer.delete(["a"]) == 0
        writer.add(passages, {"first": keys, "one": keys})
        assert writer.nbytes > held
        with pytest.raises(UsageError, match="3 passages came with 6 keys for 'one'"):
            writer.add(passages, {"first": keys, "one": case.join([keys, keys])})
        writer.commit()
    check_search(collection.refresh(), model, case.encode(model.rng, 2), 5)


def test_an_index_is_added_later(case, tmp_path) -> None:
    model = Model(case, 6)
    ids = [f"p{i}" for i in range(40)]
    model.batch(ids)
    collection = Collection.create(tmp_path / "c", {})
    with collection.writer() as writer:
        for start in (0, 20):
            writer.add([model.live[id][0] for id in ids[start : start + 20]], {})
            writer.commit()
        writer.delete(ids[:5])
        writer.commit(note={"kept": True})
    for id in ids[:5]:
        del model.live[id]
    made = Fingerprint("encoder", "00", {"class": "none"})
    grown = collection.refresh().add_index(
        "one", case.family, lambda some: model.keys([p.id for p in some]), encoder=made
    )
    assert grown.encoders == {"one": made} and grown.note == {"kept": True}
    check_search(grown, model, case.encode(model.rng, 3), 10)
    check_search(Collection.open(tmp_path / "c"), model, case.encode(model.rng, 3), 10)


if __name__ == "__main__":
    opened = Collection.open(Path(sys.argv[2]))
    asked = CASES[sys.argv[1]].encode(np.random.default_rng(9), 3)
    print(json.dumps(results(opened, asked, 10)))
