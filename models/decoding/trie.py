"""A trie over given token sequences - titles, identifiers - as a constraint on decoding.

Level by level the edges of the trie are one sorted array of (node, token) numbers, in which the
node that an edge leads to is the edge's own place plus one: a step down is one binary search, for
all prefixes at once, and nothing but that array and the counts is stored.

De Cao et al., Autoregressive Entity Retrieval, ICLR 2021 (titles).
Tay et al., Transformer Memory as a Differentiable Search Index, NeurIPS 2022 (identifiers).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

LARGEST = 2**31 - 1
"""A token and a node are each below it, so that together they fit into 64 bits."""


class Children(NamedTuple):
    """What follows each of many prefixes, as a constraint gives it; the tokens ascend."""

    offsets: NDArray[np.int64]
    tokens: NDArray[np.int64]
    counts: NDArray[np.int64]


class TrieConstraint:
    """The given sequences, each ended by `end`; what is counted is how many begin with a prefix.

    A sequence that is given twice counts twice. Raises InputError for an empty sequence and for
    tokens that are negative or `end` itself.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], end: int) -> None:
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        flat = np.array([token for sequence in sequences for token in sequence], dtype=np.int64)
        _check(lengths, flat, end)
        self._span = int(max(flat.max(initial=0), end)) + 1
        self._edges, self._counts = self._built(lengths, flat, end)

    def _built(
        self, lengths: NDArray[np.int64], flat: NDArray[np.int64], end: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sorted edges, node * span + token, and how many sequences come to each node."""
        starts = np.cumsum(lengths) - lengths
        nodes, live, made = np.zeros(len(lengths), dtype=np.int64), np.arange(len(lengths)), 0
        edges, counts = [np.zeros(0, dtype=np.int64)], [np.array([len(lengths)])]
        for depth in range(int(lengths.max(initial=-1)) + 1):
            live = live[lengths[live] >= depth]
            inside = lengths[live] > depth
            tokens = np.full(len(live), end, dtype=np.int64)
            tokens[inside] = flat[starts[live[inside]] + depth]
            found, place, times = np.unique(
                nodes[live] * self._span + tokens, return_inverse=True, return_counts=True
            )
            nodes[live] = made + place + 1
            made += len(found)
            edges.append(found)
            counts.append(times.astype(np.int64))
        edges.append(np.array([np.iinfo(np.int64).max]))  # so that a search always ends inside
        return np.concatenate(edges), np.concatenate(counts)

    def counts(self, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) how many of the sequences, their ends included, begin with each prefix."""
        nodes = self._nodes(prefixes)
        return np.where(nodes >= 0, self._counts[np.maximum(nodes, 0)], 0)

    def continuations(self, prefixes: NDArray[np.int64]) -> Children:
        """What follows each prefix in some sequence."""
        nodes = self._nodes(prefixes)
        low = np.searchsorted(self._edges, nodes * self._span)
        high = np.searchsorted(self._edges, (nodes + 1) * self._span)
        sizes = np.where(nodes >= 0, high - low, 0)
        offsets = np.append(0, np.cumsum(sizes))
        at = np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], sizes)
        return Children(offsets, self._edges[at] % self._span, self._counts[at + 1])

    def allowed(
        self, prefixes: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n, m) whether each candidate follows its prefix in some sequence."""
        return self._down(self._nodes(prefixes)[:, None], candidates) >= 0

    def _nodes(self, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the node that each prefix leads to, -1 where there is none."""
        nodes = np.zeros(len(prefixes), dtype=np.int64)
        for tokens in prefixes.T:
            nodes = self._down(nodes, tokens)
        return nodes

    def _down(self, nodes: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nodes one token further down, -1 where there is none."""
        known = (nodes >= 0) & (tokens >= 0) & (tokens < self._span)
        wanted = np.where(known, nodes * self._span + tokens, -1)
        places = np.searchsorted(self._edges, wanted)
        found = known & (self._edges[places] == wanted)
        return np.where(found, places + 1, -1)


def _check(lengths: NDArray[np.int64], flat: NDArray[np.int64], end: int) -> None:
    if not lengths.all():
        raise InputError(
            f"sequence {int(np.argmin(lengths))} of the trie is empty",
            remedy="Leave out titles and identifiers without a token",
        )
    wrong = flat[(flat < 0) | (flat == end) | (flat >= LARGEST)]
    if len(wrong) or not 0 <= end < LARGEST:
        raise InputError(
            f"token {int(wrong[0]) if len(wrong) else end} in a trie that ends with {end}",
            remedy="Tokens are not negative, and `end` stands at the end alone: it is appended",
        )
