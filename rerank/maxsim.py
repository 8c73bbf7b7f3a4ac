"""Late interaction as a second stage: candidates in the order of their MaxSim with the query.

Either the candidates' texts are encoded when they are met, which needs no index of token vectors,
or an index of token vectors that holds them scores them from its codes.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..indexes.maxsim import maxsim
from ..models.passage_text import passage_keys
from ..records import Ranking, TokenVectors
from ..stages import Encoder, Passages

Scores = NDArray[np.float32]


class TokenIndex(Protocol):
    """What is asked of an index of token vectors."""

    def score(self, keys: TokenVectors, numbers: NDArray[np.int64]) -> Scores: ...


class NumberedPassages(Protocol):
    """Passage numbers (n,) for ids, -1 where there is no such passage."""

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class MaxSimReranker:
    """Encodes the candidates, with what stands above them, and scores them exactly.

    batch: candidates that are encoded together; what several queries of a batch have in common is
    encoded once.
    """

    encoder: Encoder[TokenVectors, TokenVectors]
    passages: Passages
    batch: int = 1024

    def rerank(self, rankings: Sequence[Ranking], k: int) -> list[Ranking]:
        """The best `k` of each ranking's passages; all of them if it has fewer.

        UsageError: k < 1.  InputError: a passage that is not in the store.
        """
        _check(k)
        queries = self.encoder.encode_queries([ranking.query.text for ranking in rankings])
        found = []
        for first, some in _batches(rankings, self.batch):
            ids = list(dict.fromkeys(id for ranking in some for id in ranking.ids))
            keys: TokenVectors = passage_keys(self.encoder, self.passages.fetch(ids))
            places = {id: place for place, id in enumerate(ids)}
            for number, ranking in enumerate(some, first):
                own = chosen(keys, [places[id] for id in ranking.ids])
                scores = maxsim(chosen(queries, [number]), own)[0]
                found.append(reordered(ranking, scores, k))
        return found


@dataclass(frozen=True, slots=True)
class StoredMaxSimReranker:
    """Scores the candidates from what an index of token vectors keeps of them."""

    encoder: Encoder[Any, TokenVectors]
    index: TokenIndex
    passages: NumberedPassages

    def rerank(self, rankings: Sequence[Ranking], k: int) -> list[Ranking]:
        """The best `k` of each ranking's passages; all of them if it has fewer.

        UsageError: k < 1.  InputError: a passage that is not in the store.
        """
        _check(k)
        depth = max((len(ranking) for ranking in rankings), default=0)
        if not depth:
            return list(rankings)
        numbers = np.full((len(rankings), depth), -1, dtype=np.int64)
        for row, ranking in zip(numbers, rankings, strict=True):
            row[: len(ranking)] = self._numbers(ranking.ids)
        queries = self.encoder.encode_queries([ranking.query.text for ranking in rankings])
        scores = self.index.score(queries, numbers)
        pairs = zip(rankings, scores, strict=True)
        return [reordered(ranking, row[: len(ranking)], k) for ranking, row in pairs]

    def _numbers(self, ids: Sequence[str]) -> NDArray[np.int64]:
        numbers = self.passages.numbers(ids)
        if len(numbers) and numbers.min() < 0:
            raise InputError(
                f"no passage has the id {ids[int(np.argmin(numbers))]!r}",
                remedy="Rerank what was found in the same collection",
            )
        return numbers


def reordered(ranking: Ranking, scores: Scores, k: int) -> Ranking:
    """The best `k` passages of a ranking by other `scores` (hits,), equal ones by ascending id.

    A passage without vectors (-inf) comes last; where none has a score the ranking stays as it is.
    """
    if not np.isfinite(scores).any():
        return Ranking(ranking.query, ranking.ids[:k], ranking.scores[:k])
    scores = np.maximum(scores, np.finfo(np.float32).min)
    kept = sorted(range(len(ranking)), key=lambda place: (-scores[place], ranking.ids[place]))[:k]
    ids = tuple([ranking.ids[place] for place in kept])
    return Ranking(ranking.query, ids, np.asarray(scores, dtype=np.float32)[kept])


def chosen(keys: TokenVectors, places: Sequence[int]) -> TokenVectors:
    """The vectors of some texts of a batch, in the order of their `places`."""
    rows = [np.arange(keys.offsets[place], keys.offsets[place + 1]) for place in places]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return TokenVectors(offsets, keys.vectors[np.concatenate([np.empty(0, np.int64), *rows])])


def _batches(rankings: Sequence[Ranking], size: int) -> Iterator[tuple[int, Sequence[Ranking]]]:
    """Neighbouring rankings with at most `size` candidates, or one, and the number of the first."""
    first = held = 0
    for number, ranking in enumerate(rankings):
        if number > first and held + len(ranking) > size:
            yield first, rankings[first:number]
            first, held = number, 0
        held += len(ranking)
    if rankings:
        yield first, rankings[first:]


def _check(k: int) -> None:
    if k < 1:
        raise UsageError(f"k is {k}", remedy="Ask for k >= 1")
