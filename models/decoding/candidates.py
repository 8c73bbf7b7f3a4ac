"""What may follow each beam, so many that the best of them are among them exactly.

After a prefix that occurs seldom, all tokens that follow it are enumerated. After one that occurs
often, the model's own best tokens are tested, and more of them until enough are allowed: what is
not among them is worse than enough others. So the work is bounded by neither the corpus nor the
vocabulary, and the best `wanted` of each row are what a mask over the vocabulary would give.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lookup import Lookup

if TYPE_CHECKING:
    from torch import Tensor

GROWTH = 4
"""By how much more tokens are tested where too few were allowed."""

AT_ONCE = 8
"""Rows of logits that stay in a processor's cache."""


class Candidates(NamedTuple):
    """Tokens that may follow, for many rows.

    rows, tokens: (n,) int64.  logprobs: (n,) float64, of the token among the whole vocabulary.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float64]

    def of(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> "Candidates":
        return Candidates(self.rows[kept], self.tokens[kept], self.logprobs[kept])


class Finder:
    """How candidates are found.

    wanted: how many of a row's best are certain to be there.  tested: the model's best tokens that
    are tested first.  enumerated: prefixes that occur at most so often are enumerated.
    """

    def __init__(self, lookup: Lookup, wanted: int, tested: int, enumerated: int) -> None:
        self._lookup, self._wanted = lookup, wanted
        self._tested, self._enumerated = tested, enumerated

    def find(
        self,
        logits: "Tensor",
        queries: NDArray[np.int64],
        written: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> Candidates:
        """What may follow each row; logits: (rows, vocabulary).

        queries: (rows,) whose each is.  written: (rows, tokens), which occur `counts` times.
        """
        seldom = counts <= self._enumerated
        rows, tokens = self._all(np.flatnonzero(seldom), queries, written)
        tested = self._best(logits, np.flatnonzero(~seldom), queries, written)
        rows = np.concatenate([rows, *(found[0] for found in tested)])
        tokens = np.concatenate([tokens, *(found[1] for found in tested)])
        return Candidates(rows, tokens, logprobs_of(logits, rows, tokens))

    def _all(
        self, asked: NDArray[np.int64], queries: NDArray[np.int64], written: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, tokens = self._lookup.continuations(queries[asked], written[asked])
        return asked[rows], tokens

    def _best(
        self,
        logits: "Tensor",
        asked: NDArray[np.int64],
        queries: NDArray[np.int64],
        written: NDArray[np.int64],
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pairs of rows and allowed tokens from tests of more and more of the best tokens."""
        found, size = [], self._tested
        while len(asked):
            size = min(size, logits.shape[1])
            best = top_tokens(logits, asked, size)
            allowed = self._lookup.allowed(queries[asked], written[asked], best)
            enough = (allowed.sum(axis=1) >= self._wanted) | (size == logits.shape[1])
            at, place = np.nonzero(allowed & enough[:, None])
            found.append((asked[at], best[at, place]))
            asked, size = asked[~enough], size * GROWTH
        return found


def top_tokens(logits: "Tensor", rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(rows, size) the tokens with the highest logits in those rows."""
    import torch

    some = logits if len(rows) == len(logits) else logits[torch.from_numpy(rows).to(logits.device)]
    best: NDArray[np.int64] = some.topk(size, dim=1).indices.numpy(force=True)
    return best


def normalisers(logits: "Tensor") -> "Tensor":
    """(rows,) the logarithm of the sum of exponentials; on a processor a few rows at a time, since
    what stays in its cache takes a third of the time.
    """
    import torch

    rows = AT_ONCE if logits.device.type == "cpu" else len(logits)
    return torch.cat([some.logsumexp(dim=1) for some in torch.split(logits, max(rows, 1))])


def logprobs_of(
    logits: "Tensor", rows: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) the log-probability of each token among all of the vocabulary in its row."""
    import torch

    at = torch.from_numpy(rows).to(logits.device), torch.from_numpy(tokens).to(logits.device)
    normal = normalisers(logits)
    found: NDArray[np.float64] = (logits[at] - normal[at[0]]).double().numpy(force=True)
    return found
