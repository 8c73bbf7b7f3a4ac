"""What travels between the stages: frozen records with no behaviour beyond order and equality."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

JSON: TypeAlias = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
Filter: TypeAlias = Mapping[str, JSON]
"""A condition on metadata: ``{"lang": "en", "year": {"$gte": 2020}}``."""

Bitmap: TypeAlias = NDArray[np.bool_]
"""One truth value a passage number: which passages a search may return."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be found, under an id that stays."""

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked; `id` ties it to its judgements."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage of a ranking."""

    id: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The passages found for one query, best first, equal scores by ascending id.

    `ids` and `scores` (float32) have the same length; iterating gives Hits.
    """

    query: Query
    ids: tuple[str, ...]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Hit]:
        return (Hit(id, float(score)) for id, score in zip(self.ids, self.scores, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranking):
            return NotImplemented
        same_order = (self.query, self.ids) == (other.query, other.ids)
        return same_order and np.array_equal(self.scores, other.scores)


@dataclass(frozen=True, slots=True)
class Citation:
    """A quoted span: characters `start` to `end` of the text of a passage."""

    passage_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query, the spans it rests on, and how it came about."""

    query: Query
    text: str
    citations: tuple[Citation, ...] = ()
    trace: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What an index finds: passage `numbers` (queries, k) int64 and `scores` (queries, k) float32.

    Best first, equal scores by ascending number; rows with fewer than k hits are padded with the
    number -1 and the score -inf. A padded -1 must never reach an array lookup.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class WeightedTerms:
    """A batch of sparse vectors: texts as weighted terms, in compressed rows.

    Text `i` has the terms ``vocabulary[ids[offsets[i]:offsets[i + 1]]]`` with the `weights` at the
    same places; a term stands at most once in a text. For BM25 a weight is a term frequency.

    offsets: (texts + 1,) int64.  ids: (entries,) int32.  weights: (entries,) float32.
    vocabulary: distinct terms, UTF-8 encoded.
    lengths: (texts,) int32, tokens of each text after analysis (0 where it has no meaning).
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    vocabulary: Sequence[bytes]
    lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """A batch of texts with several vectors each, one after the other.

    Text `i` has the rows ``vectors[offsets[i]:offsets[i + 1]]``; it may have none.

    offsets: (texts + 1,) int64.  vectors: (tokens, d) float32.
    """

    offsets: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which encoder made the keys of an index.

    name: for people ("all-MiniLM-L6-v2", "english").  digest: sha256 over everything that changes
    the keys (weights, tokenizer, pooling, prompts, lengths, number type).  settings: the same in
    words, shown when two fingerprints differ.
    """

    name: str
    digest: str
    settings: Mapping[str, JSON] = field(default_factory=dict)
