"""The one order of every ranking: best score first, equal scores by ascending id."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Query, Ranking


def ranked(query: Query, ids: Sequence[str], scores: NDArray[Any], k: int) -> Ranking:
    """The best `k` of `ids` (hits,) by `scores` (hits,), in the order that a Ranking has.

    Scores are rounded to float32 first: two that a Ranking cannot tell apart count as equal.
    """
    single = np.asarray(scores, dtype=np.float32)
    order = _by_id_where_equal(ids, single, np.argsort(-single, kind="stable"), k)[:k]
    return Ranking(query, tuple([ids[place] for place in order.tolist()]), single[order])


def _by_id_where_equal(
    ids: Sequence[str], scores: NDArray[np.float32], order: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """`order` (hits,), best first, with the runs of equal scores put in ascending order of ids.

    Only runs that begin among the first `k` are sorted: comparing strings is the dearest part.
    """
    edges = np.flatnonzero(np.diff(scores[order])) + 1
    starts = np.concatenate(([0], edges))
    ends = np.concatenate((edges, [len(order)]))
    for run in np.flatnonzero((ends - starts > 1) & (starts < k)).tolist():
        start, end = starts[run], ends[run]
        order[start:end] = sorted(order[start:end].tolist(), key=lambda place: ids[place])
    return order
