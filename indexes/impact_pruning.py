"""Static pruning of learned sparse vectors: weighted terms in, fewer weighted terms out.

By passage: `heaviest_share` keeps the terms that make up a share of a passage's weight (with 0.9
the lightest terms, a tenth of the weight, go), `heaviest_terms` so many of each. By term:
`heaviest_postings` keeps of each term the heaviest share of its postings, over the whole batch.
The same functions shorten queries. What it costs is measured by benchmarks/sparse.py.

C. Lassance, S. Lupart, H. Déjean, S. Clinchant, N. Tonellotto, "A Static Pruning Study on Sparse
Neural Retrievers", SIGIR 2023.
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import WeightedTerms


def heaviest_share(keys: WeightedTerms, share: float) -> WeightedTerms:
    """Of each text the fewest terms that make up `share` of its weight, above 0 and up to 1."""
    _check_share(share)
    order, owner = _by_weight(keys)
    weights = keys.weights[order].astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(weights)])
    first, last = total[keys.offsets[:-1]], total[keys.offsets[1:]]
    before = total[:-1] - first[owner]
    return _with(keys, order[before < share * (last - first)[owner]])


def heaviest_terms(keys: WeightedTerms, most: int) -> WeightedTerms:
    """Of each text at most so many terms, those that weigh most."""
    if most < 1:
        raise UsageError(f"no text is left with {most} terms", remedy="Keep one at least")
    order, owner = _by_weight(keys)
    return _with(keys, order[np.arange(len(order)) - keys.offsets[owner] < most])


def heaviest_postings(keys: WeightedTerms, share: float) -> WeightedTerms:
    """Of each term the heaviest share of its postings, rounded up, above 0 and up to 1."""
    _check_share(share)
    order = np.lexsort((np.arange(len(keys.ids)), -keys.weights, keys.ids))
    counts = np.bincount(keys.ids, minlength=len(keys.vocabulary))
    term = keys.ids[order]
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[term]
    return _with(keys, order[rank < np.ceil(share * counts)[term]])


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise UsageError(f"share={share} keeps nothing", remedy="Use above 0 and up to 1")


def _by_weight(keys: WeightedTerms) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The entries of each text by falling weight, equal ones as they stand, and whose each is."""
    owner = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    return np.lexsort((np.arange(len(owner)), -keys.weights, owner)), owner


def _with(keys: WeightedTerms, entries: NDArray[np.int64]) -> WeightedTerms:
    """The texts with some of their entries, in their order; the lengths stay."""
    entries = np.sort(entries)
    offsets = np.searchsorted(entries, keys.offsets).astype(np.int64)
    return WeightedTerms(
        offsets, keys.ids[entries], keys.weights[entries], keys.vocabulary, keys.lengths
    )
