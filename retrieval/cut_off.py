"""A ranking cut where relevance ends: fewer than k passages, or none, by a score map.

Rossi et al., Relevance Filtering for Embedding-based Retrieval, CIKM 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..models.cosine_adapter import KIND, ScoreMap
from ..models.learned_folder import require_encoder
from ..records import Filter, Query, Ranking
from ..stages import Encoder, Retriever


@dataclass(frozen=True, slots=True)
class CutOff:
    """A retriever without what is probably not relevant.

    retriever: gives cosines of the vectors of `encoder`, as a dense index with "cosine" does.
    map: learned for that encoder.  threshold: the probability that a passage needs; by default
    the one that was best where the map was learned. Scores and their order stay as they were.
    Mismatch: a map for another encoder.  UsageError: a threshold outside 0 .. 1.
    """

    retriever: Retriever
    encoder: Encoder[Any, NDArray[np.float32]]
    map: ScoreMap
    threshold: float | None = None

    def __post_init__(self) -> None:
        require_encoder(KIND, self.map.encoder, self.encoder.fingerprint)
        if self.threshold is not None and not 0 < self.threshold < 1:
            remedy = "Use one between 0 and 1"
            raise UsageError(f"threshold={self.threshold}", remedy=remedy)

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` passages a query.  UsageError: k < 1."""
        rankings = self.retriever.retrieve(queries, k, filter=filter)
        if not queries:
            return []
        keys = self.encoder.encode_queries([query.text for query in queries])
        limits = self.map.limits(keys, self.threshold or self.map.threshold)
        return [cut(one, limit) for one, limit in zip(rankings, limits.tolist(), strict=True)]


def cut(ranking: Ranking, limit: float) -> Ranking:
    """The hits whose score is at least `limit`."""
    kept = int((ranking.scores >= limit).sum())  # they come best first
    return Ranking(ranking.query, ranking.ids[:kept], ranking.scores[:kept])
