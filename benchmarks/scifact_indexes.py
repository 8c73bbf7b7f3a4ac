"""The systems that benchmarks/scifact.py compares, each made of what is kept of the others."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scifact_data import INDEX, Built, Clocked, Encoded, SciFact, build

from ragstone.indexes.bm25 import Statistics, norms, saturation
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.multivector import MultiVector
from ragstone.indexes.vector import Vector
from ragstone.models.adapter import AdaptedEncoder, Adapter
from ragstone.models.analyzer import Analyzer
from ragstone.models.bi_encoder import BiEncoder
from ragstone.models.matryoshka import unit
from ragstone.models.passage_quality import CollectionDistance, kept
from ragstone.models.passage_text import passage_text
from ragstone.models.query_tower import QueryTower
from ragstone.models.token_encoder import TokenEncoder
from ragstone.pipeline.learned import learned_folder
from ragstone.pipeline.training import judged_queries, train_for_adapter, train_for_tower
from ragstone.records import Query, Ranking, WeightedTerms
from ragstone.rerank.maxsim import MaxSimReranker, StoredMaxSimReranker
from ragstone.retrieval import Fused, IndexRetriever, fuse
from ragstone.stages import Reranker, Retriever

DEPTH = 100
"""Passages that are reranked."""


@dataclass(frozen=True)
class System:
    """A retriever, and what is measured of it beside its rankings.

    stored: bytes a passage.  encoding, building: seconds.  found_by: a retriever that finds the
    same in less time.  cuts: whether what it finds first does not depend on how much is asked for.
    slow: timed on fewer queries.  timed_as: systems that say the same here take the same time.
    """

    group: str
    retriever: Retriever
    clocks: Sequence[Clocked]
    stored: float
    encoding: float = 0.0
    building: float = 0.0
    found_by: Retriever | None = None
    cuts: bool = False
    slow: bool = False
    note: str = ""
    timed_as: str = ""


class Made:
    """Everything that systems are made of, made when it is first asked for."""

    def __init__(self, data: SciFact, model: str) -> None:
        self.data, self.model = data, model
        self.texts = [passage_text(passage) for passage in data.passages]
        self.analyzer = Analyzer()
        self._legs: dict[str, tuple[System, list[Ranking]]] = {}

    @cached_property
    def dense(self) -> Encoded:
        return Encoded("dense", BiEncoder(self.model), self.data)

    @cached_property
    def tokens(self) -> Encoded:
        return Encoded("tokens", TokenEncoder(self.model), self.data)

    @cached_property
    def words(self) -> Encoded:
        return Encoded("words", TokenEncoder(self.model, unit="word"), self.data)

    @cached_property
    def terms(self) -> WeightedTerms:
        return self.analyzer.encode_passages(self.texts)

    # words

    def bm25(self, pruned: float = 0.0) -> System:
        """Without the share of the passages that are most unlike the collection."""
        passages = self.data.passages
        if pruned:
            quality = CollectionDistance(self.analyzer, self.texts)
            stay = kept(quality(self.texts), pruned)
            passages = [one for one, stays in zip(passages, stay, strict=True) if stays]

        def keys() -> Iterator[WeightedTerms]:
            yield self.analyzer.encode_passages([passage_text(one) for one in passages])

        name = f"bm25-{pruned}"
        built = build(self.data, name, Inverted(), self.analyzer, keys, passages)
        return self._over("words", built, self.analyzer, cuts=True)

    def impacts(
        self, prune: Callable[[WeightedTerms], WeightedTerms] | None = None, name: str = "all"
    ) -> System:
        """BM25's weights as impacts, such as a learned sparse model would give."""

        def keys() -> Iterator[WeightedTerms]:
            whole = impacts_of(self.terms)
            yield prune(whole) if prune else whole

        family = Inverted(scoring="impact")
        built = build(self.data, f"impacts-{name}", family, self.analyzer, keys)
        return self._over("words", built, self.analyzer, cuts=True)

    # one vector a passage

    def vectors(self, dimensions: int | None = None, **settings: Any) -> System:
        """The first dimensions of the vectors, in an index with these settings."""
        encoder = self.dense.encoder
        if dimensions is not None:
            encoder = BiEncoder(self.model, dimensions=dimensions)
        built = self._vectors(encoder, settings)
        exact = "search" not in settings
        return self._over("dense", built, encoder, self.dense.seconds, cuts=exact)

    def _vectors(self, encoder: Any, settings: Mapping[str, Any]) -> Built:
        family = Vector(encoder.dimensions, **{"search": "exact", **settings})

        def keys() -> Iterator[np.ndarray]:
            return (unit(some[:, : encoder.dimensions]) for some in self.dense())

        return build(self.data, "vectors", family, encoder, keys)

    def fewer_layers(self, layers: int) -> System:
        encoded = Encoded(f"layers-{layers}", BiEncoder(self.model, layers=layers), self.data)
        encoder = encoded.encoder
        family = Vector(encoder.dimensions, search="exact")
        built = build(self.data, f"layers-{layers}", family, encoder, encoded)
        return self._over("dense", built, encoder, encoded.seconds, cuts=True)

    # one vector a token

    def late(self, codes: str, search: str, pool: int = 1, words: bool = False) -> System:
        encoded = self.words if words else self.tokens
        exact = search == "exact"
        family = MultiVector(encoded.encoder.dimensions, codes, pool=pool, search=search)
        built = build(self.data, "late", family, encoded.encoder, encoded)
        return self._over("late", built, encoded.encoder, encoded.seconds, cuts=exact, slow=exact)

    # several of them

    def leg(self, name: str) -> System:
        return {
            "bm25": self.bm25,
            "dense": self.vectors,
            "late": lambda: self.late("residual2", "centroids"),
        }[name]()

    def fused(self, names: Sequence[str], method: str) -> System:
        """Rankings of 1,000 each; they are found once for all methods."""
        legs = [self._leg(name) for name in names]
        systems = [system for system, _ in legs]
        return System(
            "fused",
            Fused([system.retriever for system in systems], method=method),
            [clock for system in systems for clock in system.clocks],
            *(sum(each) for each in zip(*map(costs, systems), strict=True)),
            found_by=Again([found for _, found in legs], method),
            cuts=True,
            slow="late" in names,
            timed_as="+".join(names),
        )

    def _leg(self, name: str) -> tuple[System, list[Ranking]]:
        if name not in self._legs:
            system = self.leg(name)
            self._legs[name] = system, system.retriever.retrieve(self.data.queries, 1000)
        return self._legs[name]

    def reranked(self, codes: str, search: str) -> System:
        """The best of BM25 by what a multi-vector index keeps of them."""
        first, second = self.bm25(), self.late(codes, search)
        clock: Clocked = second.clocks[0]
        index = second.retriever.index  # type: ignore[attr-defined]
        reranker = StoredMaxSimReranker(clock, index, second.retriever.passages)  # type: ignore[attr-defined]
        stored, encoding, building = map(sum, zip(costs(first), costs(second), strict=True))
        return System(
            "reranked", Reranked(first.retriever, reranker), [*first.clocks, clock],
            stored, encoding, building, cuts=True,
        )  # fmt: skip

    def reranked_from_texts(self) -> System:
        """The same with passages encoded when they are met: no index of token vectors."""
        first, quality = self.bm25(), self.reranked("float16", "exact")
        store = first.retriever.passages  # type: ignore[attr-defined]
        clock = Clocked(self.tokens.encoder)
        reranker = MaxSimReranker(clock, store)
        return System(
            "reranked", Reranked(first.retriever, reranker), [*first.clocks, clock],
            *costs(first), found_by=quality.retriever, cuts=True, slow=True,
        )  # fmt: skip

    # what is learned

    def adapted(self) -> System:
        folder, seconds = self._learned("adapter")
        encoder = AdaptedEncoder(self.dense.encoder, Adapter.load(folder), folder=folder)
        return self._asked_by(encoder, seconds)

    def tower(self) -> System:
        folder, seconds = self._learned("tower")
        return self._asked_by(QueryTower.load(folder), seconds)

    def _asked_by(self, encoder: Any, seconds: float) -> System:
        built = self._dense_index
        system = self._over("learned", built, encoder, self.dense.seconds, cuts=True)
        return System(**{**vars(system), "note": f"learned in {seconds:.0f} s"})

    def _learned(self, kind: Any) -> tuple[Path, float]:
        """Where it is, and what learning it took."""
        collection, source = self._dense_index.collection, self.data.folder
        folder = learned_folder(collection, INDEX, kind)
        cost = collection.folder.parent / f"{kind}.json"
        if not cost.exists():
            begin = time.process_time()
            if kind == "adapter":
                train_for_adapter(collection, source)
            else:
                queries, _ = judged_queries(source, "train")
                train_for_tower(collection, [query.text for query in queries])
            cost.write_text(json.dumps({"seconds": time.process_time() - begin}))
        return folder, json.loads(cost.read_text())["seconds"]

    @cached_property
    def _dense_index(self) -> Built:
        return self._vectors(self.dense.encoder, {})

    def _over(
        self, group: str, built: Built, encoder: Any, encoding: float = 0.0, **more: Any
    ) -> System:
        clock = Clocked(encoder)
        retriever = IndexRetriever(clock, built.index, built.collection.passages)
        return System(group, retriever, [clock], built.stored, encoding, built.seconds, **more)


def costs(system: System) -> tuple[float, float, float]:
    return system.stored, system.encoding, system.building


@dataclass(frozen=True)
class Again:
    """A fusion of rankings that were found before."""

    legs: Sequence[Sequence[Ranking]]
    method: str

    def retrieve(self, queries: Sequence[Query], k: int, **_: Any) -> list[Ranking]:
        fused = {one.query.id: one for one in fuse(self.legs, k, method=self.method)}
        return [fused[query.id] for query in queries]


@dataclass(frozen=True)
class Reranked:
    """The best of a retriever in another order."""

    first: Retriever
    reranker: Reranker

    def retrieve(self, queries: Sequence[Query], k: int, **_: Any) -> list[Ranking]:
        return self.reranker.rerank(self.first.retrieve(queries, DEPTH), k)


def impacts_of(terms: WeightedTerms, k1: float = 0.9, b: float = 0.4) -> WeightedTerms:
    """BM25's weights of the terms of passages, from their frequencies."""
    holds = np.diff(terms.offsets) > 0
    statistics = Statistics(int(holds.sum()), int(terms.lengths.sum()))
    among = np.bincount(terms.ids, minlength=len(terms.vocabulary))
    idf = np.log1p((statistics.passages - among + 0.5) / (among + 0.5))
    table = saturation(int(terms.weights.max()), statistics, k1, b)
    lengths = np.repeat(norms(terms.lengths), np.diff(terms.offsets))
    weights = idf[terms.ids] * table[terms.weights.astype(np.int64), lengths]
    return WeightedTerms(
        terms.offsets, terms.ids, weights.astype(np.float32), terms.vocabulary, terms.lengths
    )
