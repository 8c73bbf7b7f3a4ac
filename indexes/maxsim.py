"""MaxSim: how well a passage of several vectors answers a query of several vectors.

The score is the sum over the query's vectors of the greatest inner product that each has with a
vector of the passage. Without a vector on either side there is no score: -inf.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020, https://arxiv.org/abs/2004.12832
"""

from typing import Any

import numpy as np
from numba import float32, float64, int64, njit, void
from numpy.typing import NDArray

from ..errors import InputError
from ..records import TokenVectors
from .vector_codes import read_only

PRODUCTS = 1 << 20
"""Products that are held at once."""


def maxsim(queries: TokenVectors, passages: TokenVectors) -> NDArray[np.float32]:
    """(queries, passages) float32 scores of all passages for all queries.

    The vectors are multiplied as they are: normalise them for cosines. Products are float32, their
    sums float64. Raises InputError when queries and passages differ in their dimensions.
    """
    if queries.vectors.shape[1:] != passages.vectors.shape[1:]:
        raise InputError(
            f"query vectors {queries.vectors.shape} and passage vectors "
            f"{passages.vectors.shape} differ in their dimensions",
            remedy="Encode both with the same model",
        )
    scores = np.empty((len(passages), len(queries)))
    turned = np.ascontiguousarray(queries.vectors.T)
    longest = int(np.diff(passages.offsets).max(initial=1))
    products = np.empty((rows_for(len(queries.vectors), longest), len(queries.vectors)), np.float32)
    for first, last in blocks(passages.offsets, len(products)):
        offsets = passages.offsets[first : last + 1]
        tokens = passages.vectors[offsets[0] : offsets[-1]]
        block = np.matmul(tokens, turned, out=products[: len(tokens)])
        add_maxima(block, offsets - offsets[0], queries.offsets, scores[first:last])
    return scores.T.astype(np.float32)


def rows_for(columns: int, longest: int) -> int:
    """Vectors of passages to multiply at once by so many of queries: a passage fits in whole."""
    return max(longest, 256, min(8192, PRODUCTS // max(columns, 1)))


def blocks(offsets: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Stretches of passages, from `first` to before `last`, of at most `size` vectors each."""
    stretches, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + size, "right")) - 1
        last = max(last, first + 1)
        stretches.append((first, last))
        first = last
    return stretches


@njit(
    void(read_only(float32, 2), read_only(int64, 1), read_only(int64, 1), float64[:, ::1]),
    cache=True,
    nogil=True,
)
def add_maxima(products: Any, offsets: Any, query_offsets: Any, scores: Any) -> None:
    """scores[p, q] of the passages of a block, from the products of all pairs of vectors.

    products: (tokens, query tokens).  offsets: (passages + 1,).  query_offsets: (queries + 1,).
    """
    best = np.empty(products.shape[1], np.float32)
    for passage in range(offsets.shape[0] - 1):
        best[:] = -np.inf
        for token in range(offsets[passage], offsets[passage + 1]):
            for i in range(best.shape[0]):
                value = products[token, i]
                best[i] = value if value > best[i] else best[i]
        for query in range(query_offsets.shape[0] - 1):
            total = 0.0
            for i in range(query_offsets[query], query_offsets[query + 1]):
                total += best[i]
            empty = query_offsets[query] == query_offsets[query + 1]
            scores[passage, query] = -np.inf if empty else total
