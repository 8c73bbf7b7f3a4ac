"""The best candidates of each query, and groups of beams that are pushed apart.

Groups choose one after the other, and a token costs `diversity` for every beam of an earlier group
that went on with it at this step (Hamming diversity). The cost decides what is chosen at this step
and is not carried on.

Vijayakumar et al., Diverse Beam Search for Improved Description of Complex Scenes, AAAI 2018,
equation 5 and section on Hamming diversity.
"""

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidates


def best_of_each(
    candidates: Candidates,
    queries: NDArray[np.int64],
    scores: NDArray[np.float64],
    k: int,
) -> NDArray[np.int64]:
    """Places of the k best candidates of each query: by query, then by falling score.

    queries, scores: (candidates,). Equal scores go by row and then by token.
    """
    kept = np.flatnonzero(scores >= least_of_best(queries, scores, k)[queries])
    keys = (candidates.tokens[kept], candidates.rows[kept], -scores[kept], queries[kept])
    kept = kept[np.lexsort(keys)]
    return kept[rank_within(queries[kept]) < k]


def least_of_best(
    queries: NDArray[np.int64], scores: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """(queries,) the k-th best score of each, -inf where there are fewer."""
    order = np.argsort(queries, kind="stable")
    sizes = np.bincount(queries)
    table = np.full((len(sizes), max(int(sizes.max(initial=0)), k)), -np.inf)
    table[queries[order], rank_within(queries[order])] = scores[order]
    least: NDArray[np.float64] = np.partition(table, table.shape[1] - k, axis=1)[:, -k]
    return least


def rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many stand before each in its own group; groups: (n,), equal ones side by side."""
    new = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(new, np.diff(np.append(new, len(groups))))


def times_chosen(
    tokens: NDArray[np.int64],
    queries: NDArray[np.int64],
    chosen: NDArray[np.int64],
    chosen_for: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(n,) how often each token is among those `chosen` for the same query.

    tokens, queries: (n,).  chosen, chosen_for: (m,) tokens and their queries.
    """
    span = int(max(tokens.max(initial=0), chosen.max(initial=0))) + 1
    pairs, times = np.unique(chosen_for * span + chosen, return_counts=True)
    asked = queries * span + tokens
    places = np.searchsorted(pairs, asked)
    found = np.append(pairs, -1)[places] == asked
    return np.where(found, np.append(times, 0)[places], 0)
