"""Hits on chunks folded into hits on the documents they were cut from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..records import Filter, Query, Ranking
from ..stages import Passages, Retriever
from .index_retriever import require_positive
from .ordering import ranked

Keep = Literal["max", "sum"]


@dataclass(frozen=True, slots=True)
class Folding:
    """A ranking over documents, with the best passage of each: `best[i]` is of `ranking.ids[i]`."""

    ranking: Ranking
    best: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """A retriever of passages as a retriever of documents.

    A passage's document is the "document" of its metadata; one without it is its own document.

    keep: a document scores as its best passage ("max"), or as the sum of its passages among the
    hits looked at ("sum", for scores >= 0).  depth: hits looked at first; while they hold fewer
    than k documents, four times as many are looked at, until there are no more.  With "max" the
    result does not depend on it.  UsageError: a setting that makes no sense.

    Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural Language Modeling"
    (SIGIR 2019): MaxP and SumP.
    """

    retriever: Retriever
    passages: Passages
    keep: Keep = "max"
    depth: int = 100

    def __post_init__(self) -> None:
        require_positive("depth", self.depth)
        if self.keep not in ("max", "sum"):
            raise UsageError(f"no way of folding '{self.keep}'", remedy="Use 'max' or 'sum'")

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` documents a query.  UsageError: k < 1."""
        return [one.ranking for one in self.fold(queries, k, filter=filter)]

    def fold(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Folding]:
        """The same with the best passage of each document, to quote from.  UsageError: k < 1."""
        require_positive("k", k)
        folded: dict[int, Folding] = {}
        waiting, depth = list(range(len(queries))), max(k, self.depth)
        while waiting:
            rankings = self.retriever.retrieve([queries[i] for i in waiting], depth, filter=filter)
            folded.update(zip(waiting, self._fold_all(rankings, k), strict=True))
            full = {i for i, one in zip(waiting, rankings, strict=True) if len(one) >= depth}
            waiting = [i for i in waiting if i in full and len(folded[i].best) < k]
            depth *= 4
        return [folded[i] for i in range(len(queries))]

    def _fold_all(self, rankings: Sequence[Ranking], k: int) -> list[Folding]:
        ids = list(dict.fromkeys(id for ranking in rankings for id in ranking.ids))
        documents = {
            one.id: str(one.metadata.get("document", one.id)) for one in self.passages.fetch(ids)
        }
        return [fold_one(ranking, documents, k, self.keep) for ranking in rankings]


def fold_one(ranking: Ranking, documents: Mapping[str, str], k: int, keep: Keep) -> Folding:
    """The best `k` documents of one ranking of passages; `documents` has each passage's."""
    best: dict[str, str] = {}
    scores: dict[str, float] = {}
    for hit in ranking:  # best first, so the first hit of a document is its best
        document = documents[hit.id]
        if document not in best:
            best[document], scores[document] = hit.id, hit.score
        elif keep == "sum":
            scores[document] += hit.score
    folded = ranked(ranking.query, list(scores), np.array(list(scores.values())), k)
    return Folding(folded, tuple(best[document] for document in folded.ids))
