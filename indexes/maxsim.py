"""MaxSim: how well a passage of several vectors answers a query of several vectors.

The score is the sum over the query's vectors of the greatest inner product that each has with a
vector of the passage. Without a vector on either side there is no score: -inf.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020, https://arxiv.org/abs/2004.12832
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import TokenVectors
from .multivector_products import greatest, sums

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
    scores = np.full((len(queries), len(passages)), -np.inf, np.float32)
    asked, held = (np.flatnonzero(np.diff(texts.offsets)) for texts in (queries, passages))
    if not len(asked) or not len(held):
        return scores
    ends, query_ends = np.unique(passages.offsets), np.unique(queries.offsets)
    turned = np.ascontiguousarray(queries.vectors[query_ends[0] : query_ends[-1]].T)
    for first, last in blocks(ends, rows_for(turned.shape[1])):
        offsets = ends[first : last + 1]
        products = passages.vectors[offsets[0] : offsets[-1]] @ turned
        maxima = np.empty((last - first, turned.shape[1]), np.float32)
        greatest(products.reshape(-1), offsets - offsets[0], maxima)
        scores[np.ix_(asked, held[first:last])] = sums(maxima, query_ends - query_ends[0]).T
    return scores


def rows_for(columns: int) -> int:
    """Vectors of passages to multiply at once by so many of queries."""
    return max(256, min(4096, PRODUCTS // max(columns, 1)))


def blocks(offsets: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Stretches of passages, from `first` to before `last`, of at most `size` vectors each."""
    stretches, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + size, "right")) - 1
        last = max(last, first + 1)
        stretches.append((first, last))
        first = last
    return stretches
