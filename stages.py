"""The five stages, one verb each: this page is the architecture.

    Encoder   texts -> keys        what an index stores and what it is asked with
    Index     keys -> neighbours   passage numbers and scores
    Retriever queries -> rankings
    Reranker  rankings -> better rankings
    Reader    rankings -> answers

Everything is batched; a single query is a list of one.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .records import Answer, Bitmap, Filter, Fingerprint, Neighbours, Passage, Query, Ranking

PassageKeys_co = TypeVar("PassageKeys_co", covariant=True)
QueryKeys_co = TypeVar("QueryKeys_co", covariant=True)
PassageKeys_contra = TypeVar("PassageKeys_contra", contravariant=True)
QueryKeys_contra = TypeVar("QueryKeys_contra", contravariant=True)


class Encoder(Protocol[PassageKeys_co, QueryKeys_co]):
    """Turns texts into the keys of one index family."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    def encode_passages(self, texts: Sequence[str]) -> PassageKeys_co: ...

    def encode_queries(self, texts: Sequence[str]) -> QueryKeys_co: ...


class Index(Protocol[PassageKeys_contra, QueryKeys_contra]):
    """Finds the nearest passages by their keys."""

    def add(self, numbers: NDArray[np.int64], keys: PassageKeys_contra) -> None: ...

    def search(
        self, keys: QueryKeys_contra, k: int, *, allowed: Bitmap | None = None
    ) -> Neighbours: ...


class Passages(Protocol):
    """Gives passages back by id: what readers and rerankers look texts up in."""

    def fetch(self, ids: Sequence[str]) -> list[Passage]: ...


class Retriever(Protocol):
    """Finds passages for queries."""

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]: ...


class Reranker(Protocol):
    """Turns rankings into better ones of at most k passages."""

    def rerank(self, rankings: Sequence[Ranking], k: int) -> list[Ranking]: ...


class Reader(Protocol):
    """Answers each ranking's query from its passages."""

    def read(self, rankings: Sequence[Ranking]) -> list[Answer]: ...
