"""Several rankings of the same queries made into one, by ranks or by normalised scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import Filter, Query, Ranking
from ..stages import Retriever
from .index_retriever import require_positive
from .ordering import ranked

Scores: TypeAlias = NDArray[np.float64]


def reciprocal_rank(scores: Scores, constant: float) -> Scores:
    """1 / (constant + rank), ranks counted from 1; the scores themselves do not matter.

    Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
    Rank Learning Methods" (SIGIR 2009), which sets the constant to 60.
    """
    return 1.0 / (constant + np.arange(1, len(scores) + 1, dtype=np.float64))


def min_max(scores: Scores, _: float) -> Scores:
    """Scores (hits,), best first, moved to 0 (the last hit) .. 1 (the first).

    One hit, or hits of equal score, all become 1: nothing tells them from the first.

    Lee, "Analyses of Multiple Evidence Combination" (SIGIR 1997); ties and single hits as Pyserini
    and Anserini have them.
    """
    width = scores[0] - scores[-1]
    return (scores - scores[-1]) / width if width > 0 else np.ones(len(scores))


def z_score(scores: Scores, _: float) -> Scores:
    """Scores (hits,) in standard deviations over their mean, plus 2.

    The 2 makes a passage that a retriever did not return (it gets 0) count as one that lies two
    deviations under that retriever's mean; without it, being missed would beat being found low.
    One hit, or hits of equal score, lie at the mean.

    Montague and Aslam, "Relevance Score Normalization for Metasearch" (CIKM 2001): 2MUV.
    """
    spread = float(scores.std()) if scores[0] > scores[-1] else 1.0
    shifted: Scores = 2.0 + (scores - scores.mean()) / spread
    return shifted


def as_they_are(scores: Scores, _: float) -> Scores:
    """The scores themselves: sums, averages and interpolations of legs on one scale."""
    return scores


METHODS: Mapping[str, Callable[[Scores, float], Scores]] = {
    "rrf": reciprocal_rank,
    "minmax": min_max,
    "zscore": z_score,
    "sum": as_they_are,
}
"""From the scores of one ranking (hits,), best first, to what each hit adds to its fused score."""


def fuse(
    legs: Sequence[Sequence[Ranking]],
    k: int,
    *,
    method: str = "minmax",
    weights: Sequence[float] | None = None,
    constant: float = 60,
) -> list[Ranking]:
    """The best `k` of the rankings that several legs give for the same queries, query by query.

    A passage's fused score is the sum over legs of weight x contribution (see METHODS); a leg that
    did not return it adds nothing. `weights`: one a leg, all 1 by default. `constant`: that of
    reciprocal rank.  UsageError: an unknown method, weights or legs that do not fit together.
    """
    require_positive("k", k)
    _require_weights(weights, len(legs))
    _require_same_queries(legs)
    contribute = _method(method)
    factors = [1.0] * len(legs) if weights is None else weights
    return [
        _fuse_one(rankings, k, lambda scores: contribute(scores, constant), factors)
        for rankings in zip(*legs, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Fused:
    """Several retrievers as one: each is asked for its best `depth`, the rankings are fused.

    method: "minmax", "rrf", "zscore" or "sum" (see METHODS).  weights: one a retriever, all 1 by
    default.  depth: hits taken of each retriever (of more, if k is greater).  constant: that of
    reciprocal rank; other tools have other defaults, so results compare only at the same one.
    UsageError: a setting that makes no sense.
    """

    retrievers: Sequence[Retriever]
    method: str = "minmax"
    weights: Sequence[float] | None = None
    depth: int = 1000
    constant: float = 60

    def __post_init__(self) -> None:
        _method(self.method)
        _require_weights(self.weights, len(self.retrievers))
        require_positive("depth", self.depth)
        if self.constant < 0:
            raise UsageError(f"constant is {self.constant}", remedy="Use one >= 0, such as 60")

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One fused ranking of at most `k` passages a query.

        UsageError: k < 1.  What the retrievers raise passes through.
        """
        require_positive("k", k)
        depth = max(k, self.depth)
        legs = [one.retrieve(queries, depth, filter=filter) for one in self.retrievers]
        return fuse(legs, k, method=self.method, weights=self.weights, constant=self.constant)


def _fuse_one(
    rankings: Sequence[Ranking],
    k: int,
    contribute: Callable[[Scores], Scores],
    weights: Sequence[float],
) -> Ranking:
    """The fused ranking of one query: one slot a distinct id, contributions summed into slots."""
    found = [(one, weight) for one, weight in zip(rankings, weights, strict=True) if len(one)]
    if not found:
        return rankings[0]
    everything = list(chain.from_iterable(one.ids for one, _ in found))
    ids = list(dict.fromkeys(everything))
    slot = {id: place for place, id in enumerate(ids)}
    slots = np.fromiter(map(slot.__getitem__, everything), np.int64, len(everything))
    added = [weight * contribute(one.scores.astype(np.float64)) for one, weight in found]
    fused = np.bincount(slots, weights=np.concatenate(added), minlength=len(ids))
    return ranked(rankings[0].query, ids, fused, k)


def _method(name: str) -> Callable[[Scores, float], Scores]:
    if name not in METHODS:
        raise UsageError(f"no fusion method '{name}'", remedy=f"Use one of {', '.join(METHODS)}")
    return METHODS[name]


def _require_weights(weights: Sequence[float] | None, legs: int) -> None:
    if legs < 1:
        raise UsageError("nothing to fuse", remedy="Give at least one retriever or run")
    if weights is None:
        return
    if len(weights) != legs:
        raise UsageError(f"{len(weights)} weights for {legs} legs", remedy="Give one weight a leg")
    if not (np.isfinite(weights).all() and min(weights) >= 0 and max(weights) > 0):
        raise UsageError(
            f"weights {list(weights)}", remedy="Use finite weights >= 0, at least one above 0"
        )


def _require_same_queries(legs: Sequence[Sequence[Ranking]]) -> None:
    first = [ranking.query.id for ranking in legs[0]]
    for leg in legs[1:]:
        if (other := [ranking.query.id for ranking in leg]) != first:
            odd = next((b or a for a, b in zip_longest(first, other) if a != b), "")
            raise UsageError(
                f"the legs rank different queries, from '{odd}' on",
                remedy="Give each leg the same queries in the same order",
            )
