"""Systems side by side on judged queries: what they find and what it costs.

Only queries with judgements are asked. Each system answers them in batches, for the rankings and
the rate, and then a sample of them one at a time, for the latency.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..errors import DuplicateId, InputError, UsageError
from ..records import JSON, Query, Ranking
from ..stages import Retriever
from .measures import DEFAULT, Measure, PerQuery, judged_queries, measure
from .trec import Qrels

BATCH = 1000  # queries passed at once: enough to keep a retriever busy and to show progress

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the system, the queries it has answered, and the queries in all."""

Seconds: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True, eq=False)
class SystemResult:
    """What one system found and what it cost.

    measures: means over the judged queries, by name.  per_query: the values behind them, float64,
    in the order of `Evaluation.queries`.
    cost: search_s, encode_s, queries_per_s, p50_ms, p99_ms, and what callers add.
    rankings: as measured, in the order of the queries asked.
    without_hits: queries that found nothing.
    own_ids: queries whose own id was dropped from their hits; own_ids_judged: those of them whose
    own id is judged relevant, a sign that ids of queries and passages are unrelated here.
    """

    name: str
    measures: Mapping[str, float]
    per_query: Mapping[str, PerQuery]
    cost: Mapping[str, float]
    rankings: Sequence[Ranking]
    without_hits: tuple[str, ...]
    own_ids: tuple[str, ...]
    own_ids_judged: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Systems measured on the same judged `queries`, with the `parameters` of `evaluate`."""

    queries: tuple[str, ...]
    qrels: Qrels
    systems: Mapping[str, SystemResult]
    parameters: Mapping[str, JSON]


def evaluate(
    systems: Mapping[str, Retriever],
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    measures: Sequence[Measure] = DEFAULT,
    k: int = 1000,
    drop_own_id: bool = True,
    latency_queries: int = 100,
    latency_k: int = 10,
    encode_seconds: Mapping[str, Seconds] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Asks every system the judged queries for `k` hits each and measures what comes back.

    drop_own_id: a passage whose id is the query's is no hit (BEIR: ArguAna and Quora draw their
    queries from the corpus); k + 1 hits are retrieved and the passage goes before cutting at k.
    latency_queries, latency_k: so many queries are timed one at a time, for so many hits.
    encode_seconds: for a system that encodes queries, the seconds it has spent on that so far
    (`TimedEncoder.seconds`); encode_s and search_s are then told apart, search_s is else both.

    Raises InputError, naming ids, when judged queries are not among `queries`.
    """
    if k < 1 or latency_k < 1:
        raise UsageError(f"k={k} and latency_k={latency_k}", remedy="Ask for 1 hit or more")
    asked, results = _asked(queries, qrels), {}
    for name, system in systems.items():
        clock = (encode_seconds or {}).get(name)
        found, cost = _retrieve(name, system, asked, k + drop_own_id, clock, progress)
        cost |= _latency(system, _sample(asked, latency_queries), latency_k)
        results[name] = _result(name, found, qrels, measures, k, drop_own_id, cost)
    parameters: dict[str, JSON] = {
        "measures": [str(each) for each in measures],
        "k": k,
        "drop_own_id": drop_own_id,
        "latency_queries": latency_queries,
        "latency_k": latency_k,
    }
    return Evaluation(judged_queries(qrels), qrels, results, parameters)


def add_cost(evaluation: Evaluation, system: str, cost: Mapping[str, float]) -> Evaluation:
    """The evaluation with more entries in a system's cost, such as index_bytes_per_passage."""
    result = evaluation.systems[system]
    richer = replace(result, cost={**result.cost, **cost})
    return replace(evaluation, systems={**evaluation.systems, system: richer})


def without_own_id(ranking: Ranking, k: int) -> Ranking:
    """At most k hits of a ranking, none of them the query itself."""
    keep = [place for place, id in enumerate(ranking.ids) if id != ranking.query.id][:k]
    return Ranking(ranking.query, tuple(ranking.ids[place] for place in keep), ranking.scores[keep])


def _asked(queries: Sequence[Query], qrels: Qrels) -> list[Query]:
    """The queries to ask, in their own order; every judged one has to be there, once."""
    judged = set(judged_queries(qrels))
    asked = [query for query in queries if query.id in judged]
    missing = judged.difference(query.id for query in asked)
    if missing or not judged:
        raise InputError(
            f"{len(missing)} of {len(judged)} judged queries are not among the queries "
            f"(missing: {_some(missing)}; queries: {_some(query.id for query in queries)})",
            remedy="Take queries and judgements of the same data set and split",
        )
    if len(asked) > len(judged):
        raise DuplicateId("a judged query stands twice among the queries", remedy="Keep one")
    return asked


def _some(ids: Iterable[str]) -> str:
    first = sorted(ids)
    return (", ".join(first[:3]) + (" ..." if len(first) > 3 else "")) or "none"


def _sample(queries: Sequence[Query], wanted: int) -> Sequence[Query]:
    """At most `wanted` queries, evenly spread."""
    return queries[:: -(-len(queries) // wanted)] if wanted > 0 else []


def _retrieve(
    name: str,
    system: Retriever,
    queries: Sequence[Query],
    k: int,
    encode_seconds: Seconds | None,
    progress: Progress | None,
) -> tuple[list[Ranking], dict[str, float]]:
    """The rankings of all queries, asked in batches, and the time that took."""
    encoded_before = encode_seconds() if encode_seconds else 0.0
    started, found = time.perf_counter(), list[Ranking]()
    for first in range(0, len(queries), BATCH):
        found += system.retrieve(queries[first : first + BATCH], k)
        if progress:
            progress(name, min(first + BATCH, len(queries)), len(queries))
    seconds = time.perf_counter() - started
    if [ranking.query.id for ranking in found] != [query.id for query in queries]:
        raise UsageError(
            f"the retriever '{name}' gave {len(found)} rankings for {len(queries)} queries",
            remedy="It has to return one ranking a query, in their order",
        )
    encoding = encode_seconds() - encoded_before if encode_seconds else 0.0
    cost = {"search_s": seconds - encoding, "queries_per_s": len(queries) / seconds}
    return found, cost | ({"encode_s": encoding} if encode_seconds else {})


def _latency(system: Retriever, queries: Sequence[Query], k: int) -> dict[str, float]:
    """Median and 99th percentile of single queries, in milliseconds."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        system.retrieve([query], k)
        taken.append(1000 * (time.perf_counter() - started))
    if not taken:
        return {}
    p50, p99 = np.percentile(taken, [50, 99]).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


def _result(
    name: str,
    found: Sequence[Ranking],
    qrels: Qrels,
    measures: Sequence[Measure],
    k: int,
    drop_own_id: bool,
    cost: Mapping[str, float],
) -> SystemResult:
    own = [ranking.query.id for ranking in found if ranking.query.id in ranking.ids]
    own_ids = tuple(own) if drop_own_id else ()
    rankings = [without_own_id(ranking, k) for ranking in found] if drop_own_id else found
    values = measure(rankings, qrels, measures)
    return SystemResult(
        name,
        {str(each): float(of_queries.mean()) for each, of_queries in values.items()},
        {str(each): of_queries for each, of_queries in values.items()},
        cost,
        rankings,
        without_hits=tuple(ranking.query.id for ranking in rankings if not ranking.ids),
        own_ids=own_ids,
        own_ids_judged=tuple(id for id in own_ids if qrels[id].get(id, 0) > 0),
    )
