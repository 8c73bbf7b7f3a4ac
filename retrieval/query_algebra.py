"""Queries combined by AND, OR and NOT over the scores of any index, exactly.

Each operand is searched by itself. AND is the least of its operands' scores ("min") or their mean,
OR the greatest; what NOT removes takes `weight` times its score above `floor` away. All operands
are scored on all candidates by a search among those alone, and candidates are added until no
passage outside can reach the k-th best: the result is that of scoring every passage.

Candidates are the nearest passages of every operand that is not under NOT, and, where keys are
vectors, those nearest to the sum of these operands less what is under NOT: the sum finds passages
that are good at all operands sooner, and has no part in the scores.

Liu, SetCSE: Set Operations using Contrastive Learning of Sentence Embeddings, ICLR 2024 (with
"mean", weight 1 and floor -1: intersection and difference as sums of signed similarities).
Fagin, Lotem and Naor, Optimal Aggregation Algorithms for Middleware, PODS 2001 (the threshold).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import Bitmap, Filter, Query, Ranking
from ..stages import Encoder, Index
from .index_retriever import NumberedPassages, require_positive
from .ordering import ranked
from .query_expression import Expression, Rules, Scores, parse_query

Numbers = NDArray[np.int64]

_GROWTH = 4
"""How many times more candidates there are in each round."""


@dataclass(frozen=True, slots=True)
class QueryAlgebra:
    """A retriever that reads operators in queries; without any it is an `IndexRetriever`.

    conjunction: what AND makes of scores, "min" or "mean".  weight, floor: of what NOT removes;
    scores below the floor take nothing away, so being unlike it is no merit.
    depth: candidates of each operand to begin with; the result does not depend on it, unless the
    index itself is approximate.
    A passage that an operand does not find at all (BM25 without a common term) counts as endlessly
    far from it.  UsageError: a setting that makes no sense.
    """

    encoder: Encoder[Any, Any]
    index: Index[Any, Any]
    passages: NumberedPassages
    conjunction: Literal["min", "mean"] = "min"
    weight: float = 1.0
    floor: float = 0.0
    depth: int = 100

    def __post_init__(self) -> None:
        require_positive("depth", self.depth)
        if self.conjunction not in ("min", "mean"):
            remedy = "Use 'min' or 'mean'"
            raise UsageError(f"no way of combining '{self.conjunction}'", remedy=remedy)
        if not (np.isfinite(self.weight) and self.weight >= 0 and np.isfinite(self.floor)):
            what = f"weight={self.weight}, floor={self.floor}"
            raise UsageError(what, remedy="Use a finite weight from 0 on and a finite floor")

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` passages a query, by the scores of its expression.

        UsageError: k < 1.  InputError: a query or a filter that cannot be read.
        """
        require_positive("k", k)
        expressions = [parse_query(query.text) for query in queries]
        allowed = self.passages.select({} if filter is None else filter)
        return [
            self._retrieve_one(query, expression, k, allowed)
            for query, expression in zip(queries, expressions, strict=True)
        ]

    def _retrieve_one(
        self, query: Query, expression: Expression, k: int, allowed: Bitmap
    ) -> Ranking:
        keys = self.encoder.encode_queries(expression.operands)
        rules = self._rules()
        depth = max(k, self.depth)
        while True:
            candidates, limits = self._candidates(keys, expression, depth, allowed)
            scores = expression.combine(self._scores(keys, candidates, allowed), rules)
            found = np.isfinite(scores)
            ids = self.passages.ids(candidates[found])
            ranking = ranked(query, ids, scores[found], k)
            bound = np.float32(expression.combine(limits[:, None], rules)[0])
            if np.isneginf(bound) or (len(ranking) == k and ranking.scores[-1] > bound):
                return ranking
            depth *= _GROWTH

    def _candidates(
        self, keys: Any, expression: Expression, depth: int, allowed: Bitmap
    ) -> tuple[Numbers, Scores]:
        """Ascending numbers (n,), and for each operand (operands,) what none outside can exceed."""
        found = self.index.search(keys, depth, allowed=allowed)
        wanted = np.array(expression.wanted)
        more_may_come = (found.numbers >= 0).all(axis=1)
        limits = np.where(wanted & more_may_come, found.scores[:, -1].astype(np.float64), -np.inf)
        numbers = [found.numbers[wanted].ravel()]
        if isinstance(keys, np.ndarray):
            total = keys[wanted].sum(axis=0) - self.weight * keys[~wanted].sum(axis=0)
            if total.any():  # no direction otherwise
                numbers.append(self.index.search(total[None], depth, allowed=allowed).numbers[0])
        candidates = np.unique(np.concatenate(numbers))
        return candidates[candidates >= 0], limits

    def _scores(self, keys: Any, candidates: Numbers, allowed: Bitmap) -> Scores:
        """(operands, candidates), -inf where an operand does not find a candidate."""
        scores = np.full((len(keys), len(candidates)), -np.inf)
        if not len(candidates):
            return scores
        among = np.zeros_like(allowed)
        among[candidates] = True
        found = self.index.search(keys, len(candidates), allowed=among)
        row, place = np.nonzero(found.numbers >= 0)
        column = np.searchsorted(candidates, found.numbers[row, place])
        scores[row, column] = found.scores[row, place]
        return scores

    def _rules(self) -> Rules:
        mean = self.conjunction == "mean"
        return Rules(
            all=lambda parts: np.mean(parts, axis=0) if mean else np.min(parts, axis=0),
            any=lambda parts: np.asarray(np.max(parts, axis=0)),
            without=lambda kept, removed: (
                kept - self.weight * np.maximum(removed - self.floor, 0.0)
            ),
        )
