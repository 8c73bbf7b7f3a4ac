"""What counted in one passage for one query, told."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .part import NgramPart
from .scoring import Asked, Scoring, some_of
from .scoring_kernels import count_ngrams, count_unigrams, match
from .search import matcher_of
from .texts import WeightedNgrams


@dataclass(frozen=True, slots=True)
class Evidence:
    """An n-gram that counts for a passage, or a token with a weight of its own.

    ngram: ids.  places: where it occurs among the tokens of the passage; -1 is the separator before
    it.  count: how often it occurs in the index.  weight: as it was given.  worth: to the power of
    alpha.  cover: the factor for tokens that counted before.  Together they make worth * cover.
    """

    ngram: tuple[int, ...]
    places: tuple[int, ...]
    count: int
    weight: float
    worth: float
    cover: float


def evidence(
    part: NgramPart,
    keys: WeightedNgrams,
    query: int,
    asked: Asked,
    ranges: NDArray[np.int64],
    row: int,
    scoring: Scoring,
) -> list[Evidence]:
    """What `search_part` adds up for a row; counts are left at 0."""
    occur = ranges[:, 1] > ranges[:, 0]
    some = some_of(asked, occur)
    matcher = matcher_of(some, part.tokens)
    text, begins, ends = part.layout.stretches(np.array([row]))
    begin, end = int(begins[0]), int(ends[0])
    n, found, _ = match(text, begin, end, *matcher[:5], *np.empty((2, 64), np.int64))
    if n == 0:
        return []
    covered, stamps = np.zeros(end - begin, np.bool_), np.zeros(len(matcher.table), np.int64)
    size = max(len(matcher.ranks), end - begin)
    counted, covers = np.empty(size, np.int64), np.empty(size)
    ngrams = matcher.by_rank, matcher.offsets, matcher.codes, matcher.worths
    state = float(scoring.beta), scoring.overlaps, covered, stamps, 1, counted, covers
    _, hits = count_ngrams(found, n, *ngrams, *state)
    told = list(_ngrams(keys, some, counted[:hits], covers))
    single = matcher.unigrams, float(scoring.beta), covered, stamps, 1, counted, covers
    _, hits = count_unigrams(text, begin, end, *single)
    told += _unigrams(keys, query, asked, part.tokens.ids[counted[:hits]], covers)
    passage = part.tokens.ids[text[begin:end]]
    return [Evidence(ids, _places(passage, ids), 0, *factors) for ids, *factors in told]


Told = tuple[tuple[int, ...], float, float, float]


def _ngrams(
    keys: WeightedNgrams, asked: Asked, counted: NDArray[np.int64], covers: NDArray[np.float64]
) -> Iterator[Told]:
    """N-grams with their weights, worths and cover factors."""
    for i, cover in zip(counted.tolist(), covers.tolist(), strict=False):
        ids = asked.ngrams.tokens[slice(*asked.ngrams.offsets[i : i + 2])]
        weight = float(keys.weights[asked.places[i]])
        yield tuple(ids.tolist()), weight, float(asked.worths[i]), cover


def _unigrams(
    keys: WeightedNgrams,
    query: int,
    asked: Asked,
    counted: NDArray[np.int32],
    covers: NDArray[np.float64],
) -> Iterator[Told]:
    if keys.unigrams is None or keys.unigram_weights is None:
        return
    weights = keys.unigram_weights[slice(*keys.unigrams.offsets[query : query + 2])]
    place = {id: i for i, id in enumerate(asked.unigrams.tolist())}
    for id, cover in zip(counted.tolist(), covers.tolist(), strict=False):
        i = place[id]
        yield (id,), float(weights[i]), float(asked.unigram_worths[i]), cover


def _places(passage: NDArray[np.int32], ids: tuple[int, ...]) -> tuple[int, ...]:
    """Where ids stand in a passage with its separators, counted from behind the first of them."""
    passage = passage[:-1] if len(ids) == 1 else passage  # nothing begins at the last separator
    windows = np.lib.stride_tricks.sliding_window_view(passage, len(ids))
    return tuple((np.flatnonzero((windows == ids).all(axis=1)) - 1).tolist())
