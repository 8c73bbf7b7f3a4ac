"""Made-up learned sparse vectors: what the benchmark of sparse search is run on.

30,000 terms, about 120 of them in a passage and 25 in a query. Two terms in five are drawn by
popularity, which falls like Zipf's law; the others are from the topic of the passage: one topic for
1,000 passages, 500 terms in each, drawn by the root of their popularity, the first of them more
often. Each term of a topic has a strength that its passages share. A query is asked of one passage:
half of its terms are of the heavier ones there, the others of its topic or popular. With z, a sum
of normal deviates (own, and of the term in its topic), a weight is

    lognormal   0.4 exp(0.6 z)                       most between 0.1 and 2
    powerlaw    0.1 (1 - Phi(z)) ** (-1 / 1.5)       a Pareto tail, cut at 50

for passages and queries alike, the weights kept as float32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ragstone.records import WeightedTerms

TERMS, TOPIC_TERMS, A_TOPIC, BATCH = 30_000, 500, 1000, 8192
VOCABULARY = [f"term{i}".encode() for i in range(TERMS)]
KINDS = ("lognormal", "powerlaw")


@dataclass(frozen=True)
class Sparse:
    """Sparse vectors as compressed rows, the terms of a row ascending."""

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, first: int, last: int) -> "Sparse":
        part = slice(self.offsets[first], self.offsets[last])
        offsets = self.offsets[first : last + 1] - self.offsets[first]
        return Sparse(offsets, self.ids[part], self.weights[part])

    def keys(self) -> WeightedTerms:
        lengths = np.diff(self.offsets).astype(np.int32)
        return WeightedTerms(self.offsets, self.ids, self.weights, VOCABULARY, lengths)


def weighed(deviates: NDArray[np.float64], kind: str) -> NDArray[np.float32]:
    """Weights of normal deviates."""
    if kind == "lognormal":
        return (0.4 * np.exp(0.6 * deviates)).astype(np.float32)
    tail = np.maximum(ndtr(-deviates), 1e-9)
    return np.minimum(0.1 * tail ** (-1 / 1.5), 50).astype(np.float32)


class Source:
    """Passages and queries that share topics."""

    def __init__(self, passages: int, kind: str) -> None:
        self.passages, self.kind = passages, kind
        self._random = np.random.default_rng(7)
        popularity = 1 / (np.arange(TERMS) + 20.0)
        self._popular = np.cumsum(popularity) / popularity.sum()
        flat = np.cumsum(np.sqrt(popularity))
        topics = max(passages // A_TOPIC, 1)
        drawn = self._random.random((topics, TOPIC_TERMS)) * flat[-1]
        self._topics = np.minimum(np.searchsorted(flat, drawn), TERMS - 1).astype(np.int32)
        self._strength = self._random.standard_normal((topics, TOPIC_TERMS)).astype(np.float32)

    def _drawn(self, topic: NDArray[np.int64], topical: int, popular: int):  # type: ignore[no-untyped-def]
        """Terms (rows, topical + popular) and their deviates."""
        rows, random = len(topic), self._random
        places = (TOPIC_TERMS * random.random((rows, topical)) ** 2).astype(np.int64)
        terms = self._topics[topic[:, None], places]
        shared = self._strength[topic[:, None], places]
        other = np.searchsorted(self._popular, random.random((rows, popular))).astype(np.int32)
        own = random.standard_normal((rows, topical + popular))
        own[:, :topical] = 0.8 * own[:, :topical] + 0.6 * shared
        own[:, topical:] -= 0.4
        return np.concatenate([terms, np.minimum(other, TERMS - 1)], axis=1), own

    def _packed(self, terms, deviates, used) -> Sparse:  # type: ignore[no-untyped-def]
        """Rows of what is used; of a term drawn twice the first."""
        row = np.nonzero(used)[0]
        key, first = np.unique(row * TERMS + terms[used], return_index=True)
        offsets = np.searchsorted(key, np.arange(len(terms) + 1) * TERMS)
        ids = (key % TERMS).astype(np.int32)
        return Sparse(offsets.astype(np.int64), ids, weighed(deviates[used][first], self.kind))

    def batches(self):  # type: ignore[no-untyped-def]
        """The passages, some at a time."""
        for first in range(0, self.passages, BATCH):
            rows = min(BATCH, self.passages - first)
            topic = self._random.integers(0, len(self._topics), rows)
            terms, deviates = self._drawn(topic, 110, 66)
            share = np.clip(self._random.normal(0.78, 0.15, (rows, 1)), 0.1, 1)
            used = self._random.random(terms.shape) < share
            yield topic, self._packed(terms, deviates, used)

    def queries(self, count: int, passages: Sparse, topics: NDArray[np.int64]) -> Sparse:
        """Queries, each asked of one passage."""
        rows = self._random.integers(0, len(passages), count)
        terms, deviates = self._drawn(topics[rows], 24, 10)
        picked = np.full((count, 26), -1, np.int64)
        for i, row in enumerate(rows):
            here = slice(passages.offsets[row], passages.offsets[row + 1])
            lifted = passages.weights[here] * self._random.random(here.stop - here.start)
            chosen = passages.ids[here][np.argsort(-lifted)[:26]]
            picked[i, : len(chosen)] = chosen
        own = np.sort(self._random.standard_normal(picked.shape), axis=1)[:, ::-1] + 0.2
        used = self._random.random((count, 26)) < 0.5
        chance = self._random.random(terms.shape) < 0.4
        terms, deviates = np.hstack([picked, terms]), np.hstack([own, deviates - 0.2])
        return self._packed(terms, deviates, np.hstack([used & (picked >= 0), chance]))


def generated(passages: int, queries: int, kind: str) -> tuple[Sparse, Sparse]:
    """Passages and queries; the same for the same arguments."""
    source = Source(passages, kind)
    topics, batches = zip(*source.batches(), strict=True)
    sizes = np.concatenate([[0], *(np.diff(batch.offsets) for batch in batches)])
    ids = np.concatenate([batch.ids for batch in batches])
    weights = np.concatenate([batch.weights for batch in batches])
    found = Sparse(np.cumsum(sizes).astype(np.int64), ids, weights)
    return found, source.queries(queries, found, np.concatenate(topics))
