"""Candidates ranked again by the tokens they share with the query, weighted in their context.

The weights are looked up in an index where there is one, so that a thousand candidates cost as
little as a search; without one the candidates' texts are encoded when they are asked for.

Zhuang and Zuccon, Fast Passage Re-ranking with Contextualized Exact Term Matching and Efficient
Passage Expansion, 2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..models.passage_text import passage_keys
from ..records import Bitmap, Neighbours, Passage, Ranking, WeightedTerms
from ..stages import Encoder

Scores = NDArray[np.float32]


class NumberedPassages(Protocol):
    """What is asked of a passage store: numbers for ids, and the passages themselves."""

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]: ...

    def fetch(self, ids: Sequence[str]) -> list[Passage]: ...


class ImpactIndex(Protocol):
    """An index whose score is the sum of query weights times passage weights."""

    @property
    def rows(self) -> int: ...

    def search(
        self, keys: WeightedTerms, k: int, *, allowed: Bitmap | None = None
    ) -> Neighbours: ...


@dataclass(frozen=True, slots=True)
class TildeReranker:
    """Scores passages by exact matches of weighted tokens, TILDEv2's or another encoder's.

    index: of the same encoder over the same passages. Without one, passages are encoded as a build
    would encode them.
    """

    encoder: Encoder[WeightedTerms, WeightedTerms]
    passages: NumberedPassages
    index: ImpactIndex | None = None

    def rerank(self, rankings: Sequence[Ranking], k: int) -> list[Ranking]:
        """The k best passages of each ranking by their new scores, equal ones by ascending id."""
        if k < 1:
            raise UsageError(f"k is {k}", remedy="Ask for k >= 1")
        texts = [ranking.query.text for ranking in rankings]
        scores = self._scores(texts, [ranking.ids for ranking in rankings])
        return [_sorted(one, own, k) for one, own in zip(rankings, scores, strict=True)]

    def score(self, query: str, ids: Sequence[str]) -> Scores:
        """(ids,) float32: what each passage scores for a query text, 0 where no token matches.

        Raises InputError for an id that no passage has.
        """
        return self._scores([query], [ids])[0]

    def _scores(self, queries: Sequence[str], ids: Sequence[Sequence[str]]) -> list[Scores]:
        if not queries:
            return []
        keys = self.encoder.encode_queries(queries)
        asked = [taken(keys, np.array([place])) for place in range(len(queries))]
        if self.index is not None:
            return [self._stored(self.index, *pair) for pair in zip(asked, ids, strict=True)]
        distinct = sorted({id for some in ids for id in some})
        weighed: WeightedTerms = passage_keys(self.encoder, self.passages.fetch(distinct))
        row_of = {id: row for row, id in enumerate(distinct)}
        rows = [np.array([row_of[id] for id in some], np.int64) for some in ids]
        return [matched(one, taken(weighed, some)) for one, some in zip(asked, rows, strict=True)]

    def _stored(self, index: ImpactIndex, keys: WeightedTerms, ids: Sequence[str]) -> Scores:
        """Scores of some passages by a search among them alone."""
        numbers = self.passages.numbers(ids)
        if (numbers < 0).any():
            missing = ids[int(np.argmin(numbers))]
            raise InputError(
                f"no passage has the id '{missing}'", remedy="Rerank what this collection returned"
            )
        if not len(ids):
            return np.zeros(0, np.float32)
        allowed = np.zeros(index.rows, np.bool_)
        allowed[numbers] = True
        found = index.search(keys, len(ids), allowed=allowed)
        real = found.numbers[0] >= 0
        score_of: Mapping[int, Any] = dict(
            zip(found.numbers[0][real].tolist(), found.scores[0][real], strict=True)
        )
        return np.array([score_of.get(number, 0) for number in numbers.tolist()], np.float32)


def matched(query: WeightedTerms, passages: WeightedTerms) -> Scores:
    """(passages,) the sums over shared terms of query weight times passage weight."""
    asked = {query.vocabulary[id]: w for id, w in zip(query.ids, query.weights, strict=True)}
    worth = np.array([asked.get(term, 0) for term in passages.vocabulary], np.float32)
    rows = np.repeat(np.arange(len(passages)), np.diff(passages.offsets))
    products = worth[passages.ids] * passages.weights
    return np.bincount(rows, products, minlength=len(passages)).astype(np.float32)


def taken(keys: WeightedTerms, rows: NDArray[np.int64]) -> WeightedTerms:
    """Some texts of a batch."""
    counts = np.diff(keys.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.repeat(keys.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    ids, weights = keys.ids[places], keys.weights[places]
    return WeightedTerms(offsets, ids, weights, keys.vocabulary, keys.lengths[rows])


def _sorted(ranking: Ranking, scores: Scores, k: int) -> Ranking:
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), ranking.ids[i]))[:k]
    return Ranking(ranking.query, tuple(ranking.ids[i] for i in order), scores[order])
