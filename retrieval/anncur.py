"""ANNCUR: the nearest passages under a cross-encoder, of which few are scored by it.

A matrix of scores, queries by passages, is nearly of low rank. So a passage is kept as its scores
under some anchor queries (computed once, by `fit_anncur`), and the scores of a new query with a few
anchor passages say which mixture of the anchor queries it is: C U R, with U the pseudo-inverse of
the scores of anchor queries with anchor passages. The mixture estimates the scores of all passages
by one inner product each, the best by estimate are scored exactly, and exact scores come back.

With `rounds` above 1, anchor passages are taken in rounds, each those that the estimate so far puts
first, which makes the estimate good where it matters (ADACUR).

Yadav, Monath, Angell, Zaheer and McCallum, "Efficient Nearest Neighbor Search for Cross-Encoder
Models using Matrix Factorization" (EMNLP 2022); Yadav, Monath, Zaheer and McCallum, "Efficient k-NN
Search with Cross-Encoders using Adaptive Multi-Round CUR Decomposition" (Findings of EMNLP 2023).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, InputError, Mismatch, UsageError
from ..indexes.collection import Collection
from ..indexes.segments import open_parts
from ..indexes.vector import Vector, VectorBuilder
from ..records import JSON, Filter, Fingerprint, Passage, Query, Ranking
from ..stages import Retriever
from ..storage import LOCAL, Disk, Store
from .generation import generation_stamp
from .index_retriever import require_positive
from .ordering import ranked

Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]
TextOf = Callable[[Passage], str]

PART, BATCH, SEGMENT = "scores", 256, 256 << 20
"""The part of every segment; passages scored at once; bytes held before a segment is written."""

CUTOFF = 1e-2
"""Singular values below this share of the greatest are taken for noise.

With as many anchor passages as anchor queries the plain pseudo-inverse blows the noise up: with 100
of both, among 5,000 noisy passages of rank 20, recall@10 was .49 without the cut and 1.0 with it.
"""


class Scorer(Protocol):
    """A cross-encoder: how well each (query text, passage text) fits, the more the better."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """(pairs,) float32, finite."""
        ...


def fit_anncur(
    folder: Path,
    collection: Collection,
    scorer: Scorer,
    queries: Sequence[str],
    text_of: TextOf,
    *,
    disk: Disk = LOCAL,
) -> None:
    """Score the anchor `queries` with every passage; keep that in `folder`, new or fitted before.

    Costs len(queries) x len(collection) calls of the scorer. 200 to 500 queries like those that
    will be asked are a good number. Memory holds a quarter of a gigabyte.
    UsageError: no queries, or a folder that holds something else.  InputError: a score that is no
    finite number.  Locked, DiskError.
    """
    require_positive("anchor queries", len(queries))
    family = Vector(dimensions=len(queries), metric="ip", search="exact")
    settings = _settings(scorer.fingerprint, generation_stamp(collection), len(queries))
    with _store(folder, settings, disk).begin() as change:
        for segment in change.store.segments:
            change.drop(segment.name)
        for builder, rows in _segments(family, collection, scorer, queries, text_of):
            with change.new_segment(rows) as writer:
                builder.write(writer.part(PART))
        change.settings = settings
        change.commit()


def _segments(
    family: Vector,
    collection: Collection,
    scorer: Scorer,
    queries: Sequence[str],
    text_of: TextOf,
) -> Iterator[tuple[VectorBuilder, int]]:
    """The scores of all passages in builders of about SEGMENT bytes, with their rows."""
    builder, rows = family.builder(), 0
    passages = iter(collection.passages)
    while batch := list(islice(passages, BATCH)):
        texts = [text_of(passage) for passage in batch]
        scores = scored(scorer, [(query, text) for text in texts for query in queries])
        builder.add(scores.reshape(len(batch), len(queries)))
        rows += len(batch)
        if builder.nbytes >= SEGMENT:
            yield builder, rows
            builder, rows = family.builder(), 0
    if rows:
        yield builder, rows


class Anncur:
    """Retrieves the best passages under a cross-encoder that scores `anchors + depth` a query.

    folder: what `fit_anncur` wrote of this generation of the collection with this scorer.
    text_of: the same as then.  anchors: passages scored to know a query; at most as many as there
    were anchor queries are of use.  depth: passages scored because their estimates are best.
    rounds: in how many steps anchors are chosen: 1 = all at random (by `seed`).
    first: takes the first round's anchors from a cheaper retriever instead of at random.

    UsageError: settings without sense, or a folder that holds nothing of the kind.  Mismatch:
    another scorer, or another generation.  Damaged.
    """

    def __init__(
        self,
        folder: Path,
        collection: Collection,
        scorer: Scorer,
        text_of: TextOf,
        *,
        anchors: int = 50,
        depth: int = 50,
        rounds: int = 1,
        first: Retriever | None = None,
        seed: int = 0,
    ) -> None:
        require_positive("depth", depth)
        require_positive("rounds", rounds)
        if anchors < rounds:
            raise UsageError(f"{anchors} anchors in {rounds} rounds", remedy="Use more anchors")
        self._scorer, self._passages, self._text_of = scorer, collection.passages, text_of
        store = Store.open(folder)
        dimensions = _fitting(store, scorer.fingerprint, generation_stamp(collection))
        family = Vector(dimensions=dimensions, metric="ip", search="exact")
        self._index = family.open(open_parts(store, PART))
        live = self._passages.live
        self._numbers = np.arange(self._passages.rows) if live is None else np.flatnonzero(live)
        if self._index.rows != len(self._numbers):
            what = f"{self._index.rows} passages are scored of {len(self._numbers)}"
            raise Damaged(what, where=str(folder), remedy="Fit it again")
        self._sizes = [len(one) for one in np.array_split(np.arange(anchors), rounds)] + [depth]
        self._first = first
        random = np.random.default_rng(seed)
        self._sample = random.permutation(self._index.rows)[: self._sizes[0]]

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking a query, by exact scores: the best `k` of the passages that were scored.

        There are fewer where k is above `anchors + depth`.  UsageError: k < 1.  InputError: a
        filter that cannot be read, or a score that is no finite number.
        """
        require_positive("k", k)
        allowed = np.ones(len(self._numbers), np.bool_)
        if filter is not None:
            allowed = self._passages.select(filter)[self._numbers]
        known = [_Known() for _ in queries]
        for place, size in enumerate(self._sizes):
            if place == 0:
                chosen = self._begin(queries, size, filter)
            else:
                chosen = self._best_unscored(known, size, allowed)
            self._score(queries, known, chosen)
        return [self._named(*one, allowed, k) for one in zip(queries, known, strict=True)]

    def _begin(
        self, queries: Sequence[Query], size: int, filter: Filter | None
    ) -> Sequence[Numbers]:
        if self._first is None:
            return [self._sample] * len(queries)
        rankings = self._first.retrieve(queries, size, filter=filter)
        return [self._filled(ranking.ids, size) for ranking in rankings]

    def _filled(self, ids: Sequence[str], size: int) -> Numbers:
        """The rows of these passages, and random ones where they are fewer than `size`."""
        numbers = self._passages.numbers(ids)
        rows = np.searchsorted(self._numbers, numbers[numbers >= 0])
        return np.concatenate((rows, self._sample[~np.isin(self._sample, rows)]))[:size]

    def _best_unscored(
        self, known: Sequence["_Known"], size: int, allowed: NDArray[np.bool_]
    ) -> list[Numbers]:
        """For each query the `size` passages of the best estimates among those not scored yet."""
        if not known:
            return []
        keys = np.stack([self._mixture(one) for one in known])
        depth = size + max(len(one.rows) for one in known)
        found = self._index.search(keys, depth, allowed=allowed).numbers
        unscored = [
            row[(row >= 0) & ~np.isin(row, one.rows)] for row, one in zip(found, known, strict=True)
        ]
        return [row[:size] for row in unscored]

    def _mixture(self, known: "_Known") -> Scores:
        """(anchor queries,) the weights that make of their scores those of this query, C U."""
        scores = self._index.vectors(known.rows).astype(np.float64)
        if not np.isfinite(scores).all():
            raise Damaged("a stored score is no finite number", remedy="Fit it again")
        weights = np.linalg.lstsq(scores, known.scores.astype(np.float64), rcond=CUTOFF)[0]
        return weights.astype(np.float32)

    def _score(
        self, queries: Sequence[Query], known: Sequence["_Known"], chosen: Sequence[Numbers]
    ) -> None:
        """Score the chosen passages of all queries in one call."""
        if not sum(map(len, chosen)):
            return
        rows = np.unique(np.concatenate(chosen))
        ids = self._passages.ids(self._numbers[rows])
        texts = [self._text_of(passage) for passage in self._passages.fetch(ids)]
        places = [np.searchsorted(rows, one).tolist() for one in chosen]
        pairs = [
            (query.text, texts[place])
            for query, some in zip(queries, places, strict=True)
            for place in some
        ]
        ends = np.cumsum([len(one) for one in chosen])[:-1]
        scores = np.split(scored(self._scorer, pairs), ends)
        for one, here, theirs in zip(known, chosen, scores, strict=True):
            one.add(here, theirs)

    def _named(self, query: Query, known: "_Known", allowed: NDArray[np.bool_], k: int) -> Ranking:
        kept = allowed[known.rows]
        ids = self._passages.ids(self._numbers[known.rows[kept]])
        return ranked(query, ids, known.scores[kept], k)


class _Known:
    """The rows whose exact scores for one query are known, with the scores."""

    def __init__(self) -> None:
        self.rows, self.scores = np.empty(0, np.int64), np.empty(0, np.float32)

    def add(self, rows: Numbers, scores: Scores) -> None:
        self.rows = np.concatenate((self.rows, rows))
        self.scores = np.concatenate((self.scores, scores))


def scored(scorer: Scorer, pairs: Sequence[tuple[str, str]]) -> Scores:
    """The scores of the pairs (pairs,); InputError unless they are finite and one a pair."""
    scores = np.asarray(scorer(pairs), np.float32)
    if scores.shape != (len(pairs),):
        what = f"{len(pairs)} pairs got scores of shape {scores.shape}"
        raise InputError(what, remedy="Return one score a pair")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        query, text = pairs[int(wrong[0])]
        what = f"the score of '{query[:60]}' with '{text[:60]}' is {scores[wrong[0]]}"
        raise InputError(what, remedy="Check the scorer's model and its number type")
    return scores


def _settings(scorer: Fingerprint, stamp: str, dimensions: int) -> dict[str, JSON]:
    model: dict[str, JSON] = {"name": scorer.name, "digest": scorer.digest}
    return {"anncur": {"scorer": model, "collection": stamp, "dimensions": dimensions}}


def _store(folder: Path, settings: Mapping[str, JSON], disk: Disk) -> Store:
    """The store of a new folder, or that of an earlier fit to take its place."""
    if not (folder / "FORMAT").exists():
        return Store.create(folder, settings=settings, disk=disk)
    store = Store.open(folder, check="size", disk=disk)
    _facts(store)
    return store


def _facts(store: Store) -> Mapping[str, Any]:
    found: Any = store.settings.get("anncur")
    if found is None:
        raise UsageError(
            "the folder holds no scores of anchor queries",
            where=str(store.folder),
            remedy="Name the folder of fit_anncur",
        )
    try:
        model, dimensions = found["scorer"], found["dimensions"]
        texts = [model["name"], model["digest"], found["collection"]]
        if type(dimensions) is not int or not 1 <= dimensions <= 65_536:
            raise TypeError(f"dimensions are {dimensions}")
        if not all(isinstance(one, str) for one in texts):
            raise TypeError(f"no text: {texts}")
    except (KeyError, TypeError) as error:
        what = f"the settings of the scores make no sense ({error!r})"
        raise Damaged(what, where=str(store.folder), remedy="Fit it again") from error
    facts: Mapping[str, Any] = found
    return facts


def _fitting(store: Store, scorer: Fingerprint, stamp: str) -> int:
    """The dimensions, if the scores are of this scorer and this generation."""
    facts = _facts(store)
    fitted = Fingerprint(facts["scorer"]["name"], facts["scorer"]["digest"])
    if fitted.digest != scorer.digest:
        old, new = f"{fitted.name}@{fitted.digest[:8]}", f"{scorer.name}@{scorer.digest[:8]}"
        raise Mismatch(
            f"the anchor queries were scored by {old}, the scorer is {new}",
            where=str(store.folder),
            remedy="Use the scorer of the fit, or fit it again",
        )
    if facts["collection"] != stamp:
        raise Mismatch(
            f"the scores are of generation {facts['collection']}, the collection is at {stamp}",
            where=str(store.folder),
            remedy="Fit it again: the passages may have changed",
        )
    dimensions: int = facts["dimensions"]
    return dimensions
