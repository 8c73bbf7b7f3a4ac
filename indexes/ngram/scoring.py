"""The intersective score: what the n-grams that occur in a passage say of it together.

An n-gram of a passage counts if one of its occurrences at least does not overlap an occurrence of a
counted n-gram of more weight; of equal weights the one that is given first goes first. It adds

    weight ** alpha * (1 - beta + beta * share)

where `share` is how many of its different tokens are in no n-gram that counted before. Tokens with
weights of their own then add theirs, to the power of `unigram_alpha`, once each where they stand
outside of all counted occurrences, times 1 - beta if they are in a counted n-gram. The score is
mixed with that of the best n-gram alone: ``(1 - single) * sum + single * best``. With ``single=1``
it is the "LM" or "LM+FM" score, as the weights are.

Bevilacqua et al., Autoregressive Search Engines: Generating Substrings as Document Identifiers,
NeurIPS 2022, https://arxiv.org/abs/2204.10628
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .texts import TokenText, WeightedNgrams

SMOOTHING = 5.0


@dataclass(frozen=True, slots=True)
class Scoring:
    """How n-grams make a score; the defaults are those of the paper, tuned on Natural Questions.

    overlaps: n-grams count wherever they occur.
    most_hits: n-grams that occur more often bring no passages by themselves; they count in those
    that others bring. depth: so many passages of a segment are scored at most, those of which
    n-grams promise most. None: no limit, and the k best are exact.
    """

    alpha: float = 2.0
    beta: float = 0.8
    unigram_alpha: float = 1.0
    single: float = 0.0
    overlaps: bool = False
    most_hits: int | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        for name, most in (("alpha", 4), ("unigram_alpha", 4), ("beta", 1), ("single", 1)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= most:
                raise UsageError(f"{name}={value!r} is out of range", remedy=f"Use 0 to {most}")
        if type(self.overlaps) is not bool:
            raise UsageError(f"overlaps={self.overlaps!r} is no truth value", remedy="Use true")
        for name in ("most_hits", "depth"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"{name}={value!r} is out of range", remedy="Use 1 or more")


def corpus_weights(
    logprobs: NDArray[np.float64],
    counts: NDArray[np.int64],
    tokens: int,
    smoothing: float = SMOOTHING,
) -> NDArray[np.float32]:
    """The weights "LM+FM": by how much n-grams are likelier under the query than in the corpus.

    max(0, log p (1 - P) / (P (1 - p))) where p is the probability of an n-gram given the query, of
    which (n,) natural logarithms are given, and P = (count + s) / (tokens + s). 0 for a count of 0.
    """
    given = np.minimum(np.asarray(logprobs, np.float64), 0.0) - 1e-10
    share = np.minimum((counts + smoothing) / (tokens + smoothing), 1 - 1e-10)
    weights = given - _log_complement(given) - (np.log(share) - np.log1p(-share))
    return np.where(np.asarray(counts) > 0, np.maximum(weights, 0.0), 0.0).astype(np.float32)


def _log_complement(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 - exp(logs)) for logarithms below 0, without losing the small ones."""
    near = logs > -np.log(2)
    direct = np.log1p(-np.exp(np.where(near, -1.0, logs)))
    found: NDArray[np.float64] = np.where(
        near, np.log(-np.expm1(np.where(near, logs, -1.0))), direct
    )
    return found


class Asked(NamedTuple):
    """The n-grams of one query that weigh something, in the order of their tokens.

    places: (n,) where they are among all n-grams of the batch.  ngrams: the ids.
    ranks: (n,) their places by descending weight.  worths: (n,) float64, weight ** alpha.
    unigrams: ids.  unigram_worths: float64.
    """

    places: NDArray[np.int64]
    ngrams: TokenText
    ranks: NDArray[np.int64]
    worths: NDArray[np.float64]
    unigrams: NDArray[np.int32]
    unigram_worths: NDArray[np.float64]


def prepared(keys: WeightedNgrams, scoring: Scoring) -> list[Asked]:
    """The n-grams of each query as they are looked for."""
    return [_asked(keys, query, scoring) for query in range(len(keys))]


def _asked(keys: WeightedNgrams, query: int, scoring: Scoring) -> Asked:
    first, last = keys.queries[query : query + 2]
    places = first + np.flatnonzero(keys.weights[first:last] > 0)
    places = places[_order_of_tokens(keys.ngrams, places)]
    weights = keys.weights[places].astype(np.float64)
    ranks = np.empty(len(places), np.int64)
    ranks[np.lexsort((places, -weights))] = np.arange(len(places))
    unigrams, worths = np.empty(0, np.int32), np.empty(0)
    if keys.unigrams is not None and keys.unigram_weights is not None:
        here = slice(*keys.unigrams.offsets[query : query + 2])
        unigrams = keys.unigrams.tokens[here]
        worths = keys.unigram_weights[here].astype(np.float64) ** scoring.unigram_alpha
    chosen = _chosen(keys.ngrams, places)
    return Asked(places, chosen, ranks, weights**scoring.alpha, unigrams, worths)


def _order_of_tokens(ngrams: TokenText, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """How the n-grams at these places are sorted; a shorter one goes before what it begins."""
    begins, ends = ngrams.offsets[places], ngrams.offsets[places + 1]
    longest = int((ends - begins).max(initial=0))
    columns = [places]
    for depth in range(longest - 1, -1, -1):
        there = np.minimum(begins + depth, len(ngrams.tokens) - 1)
        columns.append(np.where(begins + depth < ends, ngrams.tokens[there], -1))
    return np.lexsort(columns)


def _chosen(ngrams: TokenText, places: NDArray[np.int64]) -> TokenText:
    lengths = ngrams.offsets[places + 1] - ngrams.offsets[places]
    offsets = np.zeros(len(places) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - ngrams.offsets[places], lengths)
    return TokenText(offsets, ngrams.tokens[within])


def some_of(asked: Asked, kept: NDArray[np.bool_]) -> Asked:
    """Those n-grams alone; ranks stay in their order, without gaps."""
    which = np.flatnonzero(kept)
    ranks = np.empty(len(which), np.int64)
    ranks[np.argsort(asked.ranks[which])] = np.arange(len(which))
    ngrams = _chosen(asked.ngrams, which)
    rest = asked.unigrams, asked.unigram_worths
    return Asked(asked.places[which], ngrams, ranks, asked.worths[which], *rest)
