"""A collection with the encoders that made it: ask it in words, get passages and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import UsageError
from ..generation.extractive import ExtractiveReader
from ..indexes.collection import Collection
from ..records import Answer, Filter, Passage, Query
from ..retrieval.folding import Folded
from ..retrieval.fusion import Fused
from ..retrieval.index_retriever import IndexRetriever
from ..stages import Reader, Retriever
from .beside import LUCENE, has_lucene, open_lucene
from .encoders import checked, encoder_of
from .learned import ask_by, index_and_way, ways
from .recipes import GROUPS, AnyEncoder

HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search brought, with its score."""

    passage: Passage
    score: float


class Library:
    """Searches and answers over one collection; encoders are loaded when they are first needed.

    >>> library = Library.open("handbook.ragstone")
    >>> for found in library.search("how long is the notice period?", k=5):
    ...     print(found.score, found.passage.text)
    """

    def __init__(
        self, collection: Collection, *, encoders: Mapping[str, AnyEncoder] | None = None
    ) -> None:
        """`encoders` by index name stand in for those that the collection names."""
        self.collection = collection
        self._encoders = {
            name: checked(collection, name, one) for name, one in (encoders or {}).items()
        }

    @classmethod
    def open(
        cls, folder: Path | str, *, encoders: Mapping[str, AnyEncoder] | None = None
    ) -> "Library":
        """Open the newest generation of the collection in `folder`."""
        return cls(Collection.open(Path(folder)), encoders=encoders)

    @cached_property
    def systems(self) -> tuple[str, ...]:
        """What `using` may name: every index, and "hybrid", their fusion, where there are several.

        The fusion of some of them is named by them, as in "bm25+dense", and an index that is asked
        by what was learned for it by both, as in "dense:adapter".
        """
        indexes = tuple(self.collection.indexes)
        names = [*indexes, HYBRID] if len(indexes) > 1 else [*indexes]
        names += [f"{name}:{way}" for name in indexes for way in ways(self.collection, name)]
        return (*names, LUCENE) if has_lucene(self.collection) else (*names,)

    def retriever(self, using: str | None = None) -> Retriever:
        """The retriever called `using`; by default the fusion of all indexes.

        "lucene" is an index beside the collection, which is built when it is first asked for.
        Raises UsageError for a name the collection does not have, Mismatch when the encoder is
        not the one that built the index.
        """
        if using == LUCENE:
            return open_lucene(self.collection)
        legs = [self._single(leg) for leg in self._legs(using or self._default)]
        return Fused(legs, method="zscore") if len(legs) > 1 else legs[0]

    @property
    def _default(self) -> str:
        return HYBRID if HYBRID in self.systems else self.systems[0]

    def legs(self, using: str) -> tuple[str, ...]:
        """The indexes that the system `using` searches; Lucene is none of the collection's.

        UsageError: one is not there.
        """
        return () if using == LUCENE else tuple(index_and_way(leg)[0] for leg in self._legs(using))

    def _legs(self, using: str) -> tuple[str, ...]:
        """What is fused: indexes, each with the way in which it is asked."""
        if using == HYBRID and HYBRID in self.systems:
            return tuple(self.collection.indexes)
        named = [GROUPS.get(leg, (leg,)) for leg in using.split("+")]
        legs = tuple(dict.fromkeys(leg for one in named for leg in one))
        for leg in legs:
            if (name := index_and_way(leg)[0]) not in self.collection.indexes:
                remedy = f"It has: {', '.join(self.systems)}"
                raise UsageError(f"this collection has no index '{name}'", remedy=remedy)
        return legs

    def documents(self, using: str | None = None) -> Retriever:
        """Like `retriever`, with hits on passages folded to the documents they were cut from."""
        return Folded(self.retriever(using), self.collection.passages)

    def search(
        self, text: str, k: int = 10, *, using: str | None = None, filter: Filter | None = None
    ) -> list[Found]:
        """The k best passages for one query text, best first."""
        ranking = self.retriever(using).retrieve([Query("", text)], k, filter=filter)[0]
        passages = self.collection.passages.fetch(ranking.ids)
        return [Found(p, hit.score) for p, hit in zip(passages, ranking, strict=True)]

    def ask(
        self,
        question: str,
        *,
        depth: int = 10,
        using: str | None = None,
        filter: Filter | None = None,
        reader: Reader | None = None,
    ) -> Answer:
        """Answer one question from the `depth` best passages, with citations.

        Without a `reader` the answer is made of quoted sentences, and its trace says so.
        """
        rankings = self.retriever(using).retrieve([Query("", question)], depth, filter=filter)
        return (reader or ExtractiveReader(self.collection.passages)).read(rankings)[0]

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in this order."""
        return self.collection.passages.fetch(ids)

    def _single(self, leg: str) -> Retriever:
        name, way = index_and_way(leg)
        collection, encoder = self.collection, self._encoder(name)

        def open_index(encoder: AnyEncoder) -> Retriever:
            encoder = checked(collection, name, encoder)
            return IndexRetriever(encoder, collection.indexes[name], collection.passages)

        if way:
            return ask_by(collection, name, way, encoder, open_index)
        return IndexRetriever(encoder, collection.indexes[name], collection.passages)

    def _encoder(self, name: str) -> AnyEncoder:
        if name not in self._encoders:
            self._encoders[name] = encoder_of(self.collection, name)
        return self._encoders[name]
