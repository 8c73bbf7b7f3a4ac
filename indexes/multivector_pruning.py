"""Token pruning: the vectors of a passage that matter least are left out.

What matters is given as a weight a token: the length of a vector before it is normalised, an
attention or idf weight, 0 for stop words and punctuation and 1 for the rest, or less the later a
token stands. See Lassance et al., A Study on Token Pruning for ColBERT, 2021,
https://arxiv.org/abs/2112.06540
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import TokenVectors


def pruned(
    passages: TokenVectors, weights: NDArray[np.float32], share: float, *, least: float = 0.0
) -> TokenVectors:
    """Passages with the `share` of their vectors that weigh most, rounded up, in their order.

    weights: (tokens,), one for each of `passages.vectors`; vectors that weigh no more than `least`
    are left out too, but one vector stays of a passage that has any. Equal weights: the first ones
    stay. Raises UsageError for another number of weights, NaN among them or a share not in (0, 1].
    """
    if weights.shape != (len(passages.vectors),) or np.isnan(weights).any():
        raise UsageError(
            f"weights are {weights.shape} or have NaN",
            remedy=f"Give a number for each of the {len(passages.vectors)} vectors",
        )
    if not 0 < share <= 1:
        raise UsageError(f"share={share} is not above 0 and up to 1", remedy="Use 0.5 for half")
    first, last = passages.offsets[0], passages.offsets[-1]
    counts = np.diff(passages.offsets)
    owners = np.repeat(np.arange(len(counts)), counts)
    here = weights[first:last]
    order = np.lexsort((-here, owners))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    places -= passages.offsets[owners] - first
    kept = (places < np.ceil(counts * share)[owners]) & ((here > least) | (places == 0))
    left = np.bincount(owners[kept], minlength=len(counts))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(left)]).astype(np.int64)
    return TokenVectors(offsets, passages.vectors[first:last][kept])


def early(passages: TokenVectors) -> NDArray[np.float32]:
    """Weights by position: the first vector of a passage weighs 1, the last the least above 0."""
    counts = np.diff(passages.offsets)
    weights = np.zeros(len(passages.vectors), np.float32)
    owners = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(passages.offsets[0], passages.offsets[-1])
    weights[places] = 1 - (places - passages.offsets[owners]) / np.maximum(counts[owners], 1)
    return weights


def lengths(passages: TokenVectors) -> NDArray[np.float32]:
    """Weights by length: those of the vectors."""
    found: NDArray[np.float32] = np.linalg.norm(passages.vectors, axis=1)
    return found
