"""Token pooling: the vectors of a passage that are most alike become one, their mean.

Vectors are joined bottom-up by Ward's criterion, the pair first whose joining adds the least to the
squared distances from the means, until one of `factor` vectors is left. An index keeps that many
fewer; no model is trained for it.

Clavié, Chaffin and Adams, Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance
Impact via Token Pooling, 2024, https://arxiv.org/abs/2409.14683
"""

import numpy as np
from numba import float64, int64, njit, void
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import TokenVectors


def pooled(passages: TokenVectors, factor: int, *, protected: int = 0) -> TokenVectors:
    """Passages with a `factor`-th of their vectors each, rounded up.

    protected: so many first vectors of a passage stay as they are (markers such as [CLS]) and do
    not count. A group stands where its first vector stood, with the length its mean has: normalise
    it for cosines. Raises UsageError for a factor below 1.
    """
    if factor < 1 or protected < 0:
        raise UsageError(
            f"factor={factor}, protected={protected} cannot be", remedy="Use 2, or 1 for no pooling"
        )
    kept, counts = [], np.zeros(len(passages), np.int64)
    for i in range(len(passages)):
        first, last = passages.offsets[i : i + 2]
        start = min(first + protected, last)
        means = _means(passages.vectors[start:last], factor)
        kept += [passages.vectors[first:start], means]
        counts[i] = start - first + len(means)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    empty = np.empty((0, passages.vectors.shape[1]), np.float32)
    return TokenVectors(offsets, np.concatenate([empty, *kept]))


def _means(vectors: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The mean of each of the groups of (n, d) vectors."""
    wanted = -(-len(vectors) // factor)
    if wanted == len(vectors):
        return vectors
    groups = np.arange(len(vectors))
    wide = vectors.astype(np.float64)
    squares = (wide * wide).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * wide @ wide.T, 0)
    _join(apart / 2, np.ones(len(vectors)), wanted, groups)
    _, numbers = np.unique(groups, return_inverse=True)
    sums = np.zeros((wanted, vectors.shape[1]))
    np.add.at(sums, numbers, wide)
    return (sums / np.bincount(numbers)[:, None]).astype(np.float32)


@njit(void(float64[:, ::1], float64[::1], int64, int64[::1]), cache=True, nogil=True)
def _join(costs, sizes, wanted, groups):  # type: ignore[no-untyped-def]
    """Join the cheapest two until `wanted` are left; a group has the number of its first vector.

    costs: (n, n) what joining adds, overwritten (Lance and Williams).  sizes: (n,) of groups.
    """
    count = costs.shape[0]
    for _ in range(count - wanted):
        least, a, b = np.inf, 0, 0
        for i in range(count):
            if sizes[i] > 0:
                for j in range(i + 1, count):
                    if sizes[j] > 0 and costs[i, j] < least:
                        least, a, b = costs[i, j], i, j
        for i in range(count):
            if sizes[i] > 0 and i != a and i != b:
                total = sizes[a] + sizes[b] + sizes[i]
                cost = (sizes[a] + sizes[i]) * costs[a, i] + (sizes[b] + sizes[i]) * costs[b, i]
                costs[a, i] = costs[i, a] = (cost - sizes[i] * least) / total
        sizes[a] += sizes[b]
        sizes[b] = 0
        for i in range(count):
            if groups[i] == b:
                groups[i] = a
