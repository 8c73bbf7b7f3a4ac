"""Learning from a collection and judged queries: adapters, score maps and query towers for it.

What is learned lies in the collection's folder under ``learned/INDEX/KIND``, and is refused for any
other encoder than that of the index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..corpus import open_beir, read_qrels_tsv, read_queries
from ..corpus.sentences import sentences
from ..errors import InputError, UsageError
from ..indexes.collection import Collection
from ..models.adapter_training import AdapterTraining, Examples, train_adapter
from ..models.cosine_adapter import ScoreMap, train_score_map
from ..models.query_tower import QueryTower
from ..models.tower_training import TowerTraining, distil_tower
from ..records import JSON, Neighbours, Query
from .encoders import encoder_of
from .learned import Kind, learned_folder
from .recipes import AnyEncoder

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]

MINED = 8
"""Passages near each query that an adapter learns to leave aside."""

JUDGED = 20
"""Passages of each query that a score map is learned from."""

_CHUNKS = 4096
"""Chunks of a document that are looked for."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What was learned, for which index, where it is, and what came of it on what was held out."""

    kind: Kind
    index: str
    folder: Path
    facts: Mapping[str, JSON]


def train_for_adapter(
    collection: Collection,
    source: Path,
    *,
    index: str = "dense",
    split: str = "train",
    training: AdapterTraining | None = None,
) -> TrainingReport:
    """Learn an adapter from the judged queries of a split of a BEIR folder, and keep it.

    The ids of its documents have to be those of the collection. Passages are not encoded again:
    their vectors come from the index. Needs torch.
    Raises UsageError, InputError, Mismatch, MissingExtra, DiskError.
    """
    _vectors_index(collection, index)
    queries, qrels = judged_queries(source, split)
    encoder = encoder_of(collection, index)
    examples = examples_from(collection, index, encoder, queries, qrels)
    adapter = train_adapter(examples, encoder.fingerprint, training)
    folder = learned_folder(collection, index, "adapter")
    adapter.save(folder)
    return TrainingReport("adapter", index, folder, adapter.facts)


def train_for_score_map(
    collection: Collection, source: Path, *, index: str = "dense", split: str = "train"
) -> TrainingReport:
    """Learn where relevance ends from the judged queries of a split, and keep it; see `CutOff`."""
    vectors = _vectors_index(collection, index)
    queries, qrels = judged_queries(source, split)
    encoder = encoder_of(collection, index)
    keys = encoder.encode_queries([query.text for query in queries])
    found = vectors.search(keys, JUDGED)
    relevant = _Relevant(collection, queries, qrels)
    is_relevant = np.array(
        [np.isin(row, list(own)) for row, own in zip(found.numbers, relevant.all, strict=True)]
    )
    found_map: ScoreMap = train_score_map(keys, found.scores, is_relevant, encoder.fingerprint)
    folder = learned_folder(collection, index, "score-map")
    found_map.save(folder)
    return TrainingReport("score-map", index, folder, found_map.facts)


def train_for_tower(
    collection: Collection,
    texts: Sequence[str],
    *,
    index: str = "dense",
    drawn: int = 5000,
    training: TowerTraining | None = None,
) -> TrainingReport:
    """Distil a query tower from unjudged texts and the vectors of the index, and keep it.

    texts: such as people ask.  drawn: how many sentences of passages are learned from as well;
    from few texts alone a tower is poor at what they do not speak of.
    """
    vectors = _vectors_index(collection, index)
    encoder = encoder_of(collection, index)
    passages = vectors.vectors(np.flatnonzero(collection.passages.select({})))
    texts = [*texts, *_sentences_of(collection, drawn)]
    tower: QueryTower = distil_tower(encoder, texts, passages=passages, training=training)
    folder = learned_folder(collection, index, "tower")
    tower.save(folder)
    return TrainingReport("tower", index, folder, tower.facts)


def _sentences_of(collection: Collection, count: int) -> list[str]:
    """Sentences of passages that are drawn at random, the same at every call."""
    live = np.flatnonzero(collection.passages.select({}))
    drawn = np.random.default_rng(0).permutation(live)[:count]
    passages = collection.passages.fetch(collection.passages.ids(np.sort(drawn)))
    each = -(-count // max(1, len(passages)))
    found = [
        text
        for passage in passages
        for start, end in sentences(passage.text)[:each]
        if len(text := passage.text[start:end]) > 20
    ]
    return found[:count]


def judged_queries(source: Path, split: str) -> tuple[list[Query], Qrels]:
    """The queries of a BEIR folder that have a relevant document in this split."""
    dataset = open_beir(source)
    qrels = read_qrels_tsv(dataset.qrels(split))
    judged = {query for query, documents in qrels.items() if max(documents.values()) > 0}
    return [query for query in read_queries(dataset.queries) if query.id in judged], qrels


def examples_from(
    collection: Collection,
    index: str,
    encoder: AnyEncoder,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    mined: int = MINED,
) -> Examples:
    """Vectors of the queries, of their relevant passages, and of passages near them.

    A document that was cut into passages is stood for by the one nearest to the query. Judgements
    of documents that the collection does not have are left out.
    """
    vectors = _vectors_index(collection, index)
    keys = encoder.encode_queries([query.text for query in queries])
    relevant = _Relevant(collection, queries, qrels)
    pairs = [
        (row, _nearest_of(vectors, numbers, keys[row]))
        for row, documents in enumerate(relevant.by_document)
        for numbers in documents
    ]
    if not pairs:
        what = f"none of the documents judged for {len(queries)} queries is in the collection"
        raise InputError(what, remedy="Train on the source that the collection was built from")
    most = max((len(own) for own in relevant.all), default=0)
    found = vectors.search(keys, mined + most).numbers
    near = np.full((len(queries), mined), -1, np.int64)
    for row, numbers, own in zip(near, found.tolist(), relevant.all, strict=True):
        others = [number for number in numbers if number >= 0 and number not in own][:mined]
        row[: len(others)] = others
    used = np.array(pairs, np.int64)
    pool = np.unique(np.concatenate([used[:, 1], near[near >= 0]]))
    used[:, 1] = np.searchsorted(pool, used[:, 1])
    rows = np.where(near >= 0, np.searchsorted(pool, near), -1)
    return Examples(keys, vectors.vectors(pool), used, rows)


class _Relevant:
    """The numbers of the passages of the relevant documents of each query.

    by_document: for each query a list of documents, each the numbers of its passages.
    all: the same numbers as one set a query.
    """

    def __init__(self, collection: Collection, queries: Sequence[Query], qrels: Qrels) -> None:
        self._passages = collection.passages
        self._known: dict[str, list[int]] = {}
        self.by_document = [
            [
                numbers
                for document, grade in qrels.get(query.id, {}).items()
                if grade > 0 and (numbers := self._numbers(document))
            ]
            for query in queries
        ]
        self.all = [{n for numbers in one for n in numbers} for one in self.by_document]

    def _numbers(self, document: str) -> list[int]:
        """Of a document that is one passage, or of all chunks of one that was cut."""
        if document not in self._known:
            found = self._passages.numbers([document])
            width = 16
            while found[0] < 0 and width <= _CHUNKS:
                chunks = self._passages.numbers([f"{document}#{n}" for n in range(width)])
                if chunks[-1] < 0 or width == _CHUNKS:
                    found = chunks
                    break
                width *= 4
            self._known[document] = found[found >= 0].tolist()
        return self._known[document]


class VectorsIndex(Protocol):
    """An index of vectors that gives them back."""

    def search(self, keys: NDArray[np.float32], k: int) -> Neighbours: ...

    def vectors(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]: ...


def _vectors_index(collection: Collection, index: str) -> VectorsIndex:
    """UsageError for an index that is not there, or keeps no vectors."""
    if index not in collection.indexes:
        known = ", ".join(collection.indexes)
        raise UsageError(f"this collection has no index '{index}'", remedy=f"It has: {known}")
    found = collection.indexes[index]
    if not hasattr(found, "vectors"):
        what = f"the index '{index}' does not give vectors back"
        raise UsageError(what, remedy="Name an index of dense vectors")
    return cast(VectorsIndex, found)


def _nearest_of(vectors: VectorsIndex, numbers: Sequence[int], key: NDArray[np.float32]) -> int:
    """The passage among some with the greatest product with a query."""
    if len(numbers) == 1:
        return numbers[0]
    return numbers[int((vectors.vectors(np.array(numbers)) @ key).argmax())]
