"""Ranking measures with trec_eval's semantics, as arithmetic over flat arrays.

Only hits that are judged can change a value. `judge` finds them once: their query, rank and
relevance. The best possible ranking of each query has the same form, so a measure is one or two
sums over such arrays, normalised by the same sums over the best possible ranking.

- Every query with a judgement counts; one without hits, or without relevant passages, scores 0
  (trec_eval -c). Rankings of queries that nobody judged are ignored.
- Hits stand by descending score as float32, equal scores by DESCENDING id, whatever their order in
  the Ranking: trec_eval 9 and pytrec_eval sort so. Published figures contain that order.
- Relevance above 0 is relevant. nDCG's gain is the relevance itself (Järvelin and Kekäläinen,
  Cumulated gain-based evaluation of IR techniques, 2002), its discount log2(rank + 1).

Left out: relevance thresholds (change the judgements) and exponential gains.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DuplicateId, InputError, UsageError
from ..records import Ranking
from .trec import Qrels

PerQuery: TypeAlias = NDArray[np.float64]
"""One value a judged query, in the order of `judged_queries`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure over the first `cutoff` hits, or over all; as text "nDCG@10" or "MAP"."""

    name: str
    cutoff: int | None = None

    def __str__(self) -> str:
        return self.name if self.cutoff is None else f"{self.name}@{self.cutoff}"


@dataclass(frozen=True, slots=True, eq=False)
class JudgedHits:
    """Judged passages at their ranks: three arrays of one length, sorted by query and rank.

    query: number of the judged query.  rank: from 1.  relevance: as judged, may be below 1.
    queries: how many queries are judged, with or without an entry here.
    """

    queries: int
    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    relevance: NDArray[np.int64]


def measure(
    rankings: Sequence[Ranking], qrels: Qrels, measures: Sequence[Measure]
) -> dict[Measure, PerQuery]:
    """The values of each measure for every judged query, in the order of `judged_queries`.

    Raises DuplicateId for a query ranked twice or a passage that stands twice in a ranking,
    InputError for scores that are not finite.
    """
    found, ideal = judge(rankings, qrels), best_possible(qrels)
    return {each: FORMULAS[each.name](found, ideal, each.cutoff) for each in measures}


def judged_queries(qrels: Qrels) -> tuple[str, ...]:
    """The queries that count: those with at least one judgement."""
    return tuple(query for query, judgements in qrels.items() if judgements)


def parse_measure(text: str) -> Measure:
    """The measure that a name such as "nDCG@10", "MAP" or "R@100" stands for.

    Upper or lower case; AP and RR are other names of MAP and MRR.
    """
    parts = re.fullmatch(r"([a-z]+)(?:@([1-9][0-9]*))?", text.strip(), re.IGNORECASE)
    name = NAMES.get(parts[1].lower()) if parts else None
    if parts is None or name is None or (name in CUT_ONLY and not parts[2]):
        raise UsageError(f"no measure is called '{text}'", remedy=f"There are: {KNOWN}")
    return Measure(name, int(parts[2]) if parts[2] else None)


# --- from rankings to judged ranks ---------------------------------------------------------------


def judge(rankings: Sequence[Ranking], qrels: Qrels) -> JudgedHits:
    """The judged hits of the rankings."""
    by_query = {ranking.query.id: ranking for ranking in rankings}
    if len(by_query) < len(rankings):
        raise _twice([ranking.query.id for ranking in rankings], "the run: query")
    queries = judged_queries(qrels)
    return _stacked(
        [_judged_hits(by_query[id], qrels[id]) if id in by_query else NOTHING for id in queries]
    )


def best_possible(qrels: Qrels) -> JudgedHits:
    """All relevant passages of each query, most relevant first."""
    rankings = []
    for query in judged_queries(qrels):
        relevant = sorted((value for value in qrels[query].values() if value > 0), reverse=True)
        rankings.append((np.arange(1, len(relevant) + 1), np.array(relevant, np.int64)))
    return _stacked(rankings)


_Ranks: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
NOTHING: _Ranks = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _judged_hits(ranking: Ranking, judgements: Mapping[str, int]) -> _Ranks:
    """Ranks and relevances of the judged hits of one ranking, by rank."""
    # One dictionary look-up a hit is the whole cost of evaluating; all else is per judged hit.
    found = [place for place, id in enumerate(ranking.ids) if id in judgements]
    ids = [ranking.ids[place] for place in found]
    if len(set(ids)) < len(ids):
        raise _twice(ids, f"the ranking of query '{ranking.query.id}': passage")
    ranks = _ranks(ranking, np.array(found, np.int64))
    relevance = np.array([judgements[id] for id in ids], np.int64)
    order = np.argsort(ranks)
    return ranks[order], relevance[order]


def _ranks(ranking: Ranking, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks of the hits at `places`: 1 + those with a larger score + ties with a larger id."""
    if not np.isfinite(ranking.scores).all():
        raise InputError(
            "a score is not finite",
            where=f"the ranking of query '{ranking.query.id}'",
            remedy="Leave the hit out or give it a number",
        )
    scores, ascending = ranking.scores[places], np.sort(ranking.scores)
    not_larger = np.searchsorted(ascending, scores, "right")
    ranks = 1 + len(ascending) - not_larger
    tied = not_larger - np.searchsorted(ascending, scores, "left") > 1
    for score in np.unique(scores[tied]):
        same = np.flatnonzero(scores == score)
        ranks[same] += _order_of_ties(ranking, score, places[same])
    return ranks


def _order_of_ties(
    ranking: Ranking, score: np.float32, places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many hits of equal `score` stand before each of `places`: those with a larger id."""
    ties = [ranking.ids[place] for place in np.flatnonzero(ranking.scores == score)]
    before = {id: count for count, id in enumerate(sorted(ties, reverse=True))}
    return np.array([before[ranking.ids[place]] for place in places], np.int64)


def _stacked(rankings: Sequence[_Ranks]) -> JudgedHits:
    lengths = [len(ranks) for ranks, _ in rankings]
    ranks, relevances = zip(NOTHING, *rankings, strict=True)
    query = np.repeat(np.arange(len(rankings)), lengths)
    return JudgedHits(len(rankings), query, np.concatenate(ranks), np.concatenate(relevances))


def _twice(ids: Sequence[str], where: str) -> DuplicateId:
    first = next(id for id, count in Counter(ids).items() if count > 1)
    return DuplicateId(f"'{first}' stands twice", where=where, remedy="Keep one of the two")


# --- from judged ranks to values -----------------------------------------------------------------


def _chosen(hits: JudgedHits, which: NDArray[np.bool_]) -> JudgedHits:
    return JudgedHits(hits.queries, hits.query[which], hits.rank[which], hits.relevance[which])


def _top(hits: JudgedHits, cutoff: int | None) -> JudgedHits:
    return hits if cutoff is None else _chosen(hits, hits.rank <= cutoff)


def _relevant(hits: JudgedHits) -> JudgedHits:
    return _chosen(hits, hits.relevance > 0)


def _count(hits: JudgedHits) -> PerQuery:
    return _sum(hits, np.ones(len(hits.query)))


def _sum(hits: JudgedHits, values: PerQuery) -> PerQuery:
    return np.asarray(np.bincount(hits.query, values, minlength=hits.queries), np.float64)


def _share(part: PerQuery, whole: PerQuery) -> PerQuery:
    """part / whole, 0 where there is nothing to find."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _dcg(hits: JudgedHits) -> PerQuery:
    return _sum(hits, hits.relevance / np.log2(hits.rank + 1))


def ndcg(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """Discounted gain of the hits over that of the best possible ranking."""
    return _share(_dcg(_top(_relevant(found), cutoff)), _dcg(_top(ideal, cutoff)))


def average_precision(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """Precision at each relevant hit, summed, over the number of relevant passages."""
    hits = _top(_relevant(found), cutoff)
    so_far = 1 + np.arange(len(hits.query)) - np.searchsorted(hits.query, hits.query)
    return _share(_sum(hits, so_far / hits.rank), _count(ideal))


def reciprocal_rank(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """1 / rank of the first relevant hit, 0 without one."""
    hits, first = _top(_relevant(found), cutoff), np.full(found.queries, np.inf)
    np.minimum.at(first, hits.query, hits.rank)
    return 1 / first


def precision(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """Relevant hits among the first k, over k, also where there are fewer hits."""
    assert cutoff is not None
    return _count(_top(_relevant(found), cutoff)) / cutoff


def recall(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """Relevant hits among the first k, over the number of relevant passages."""
    return _share(_count(_top(_relevant(found), cutoff)), _count(ideal))


def success(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """1 where a relevant hit is among the first k."""
    return np.minimum(_count(_top(_relevant(found), cutoff)), 1)


def judged(found: JudgedHits, ideal: JudgedHits, cutoff: int | None) -> PerQuery:
    """Hits among the first k that somebody judged, relevant or not, over k."""
    assert cutoff is not None
    return _count(_top(found, cutoff)) / cutoff


Formula: TypeAlias = Callable[[JudgedHits, JudgedHits, int | None], PerQuery]
FORMULAS: Mapping[str, Formula] = {
    "nDCG": ndcg,
    "MAP": average_precision,
    "MRR": reciprocal_rank,
    "P": precision,
    "R": recall,
    "Success": success,
    "Judged": judged,
}
CUT_ONLY = frozenset({"P", "R", "Success", "Judged"})
NAMES = {name.lower(): name for name in FORMULAS} | {"ap": "MAP", "rr": "MRR"}
KNOWN = ", ".join(f"{name}@k" if name in CUT_ONLY else f"{name}[@k]" for name in FORMULAS)

DEFAULT = tuple(parse_measure(text) for text in ("nDCG@10", "R@100", "MRR@10", "MAP"))
