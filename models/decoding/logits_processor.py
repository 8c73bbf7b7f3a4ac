"""A constraint for users of transformers' own `generate`: what may not follow becomes impossible.

It keeps nothing between steps: beams may be put in any order, and rows may end.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .constraint import Constraint
from .lookup import Lookup, Spelling

if TYPE_CHECKING:
    from torch import Tensor


class ConstrainedLogits:
    """Goes into `generate(logits_processor=[...])`; exact for sampling, greedy and beam search.

    prompt_length: columns of the ids that `generate` is given, padding included; for models with an
    encoder the tokens that their decoder is begun with: 1 as a rule, 2 where the model forces a
    first token. Scores within them are left alone.  spelling: how the constraint is asked. Its
    `eos` is possible where the constraint has its end, and where nothing else may follow, so that
    every row can end. Raises UsageError without an `eos`.
    """

    def __init__(self, constraint: Constraint, prompt_length: int, spelling: Spelling) -> None:
        if spelling.eos is None:
            raise UsageError(
                "no token that completes, so that `generate` could not end",
                remedy="Give the model's end token as `eos` of the spelling",
            )
        self._constraint, self._prompt_length = constraint, prompt_length
        self._spelling, self._eos = spelling, spelling.eos

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """(rows, vocabulary) the scores, -inf for what may not follow (rows, length) input_ids."""
        import torch

        if input_ids.shape[1] < self._prompt_length:
            return scores
        written = input_ids[:, self._prompt_length :].numpy(force=True)
        different, which = different_rows(written)
        rows, tokens = self._possible(different, scores.shape[1])
        mask = torch.full_like(scores[: len(different)], -torch.inf)
        mask[torch.from_numpy(rows), torch.from_numpy(tokens)] = 0
        return scores + mask[torch.from_numpy(which)]

    def _possible(
        self, written: NDArray[np.int64], vocabulary: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a row and a token that may follow it, at least one for every row."""
        ended = (written == self._eos).any(axis=1)
        going = np.flatnonzero(~ended)
        lookup = Lookup([self._constraint], self._spelling, vocabulary)
        queries = np.zeros(len(going), dtype=np.int64)
        rows, tokens = lookup.continuations(queries, written[going])
        stuck = np.setdiff1d(np.arange(len(written)), going[rows])
        pairs = np.append(going[rows], stuck), np.append(tokens, np.full(len(stuck), self._eos))
        return pairs


def different_rows(written: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row once, and which of them each row is: early beams are much alike."""
    if not written.shape[1]:
        return written[:1], np.zeros(len(written), dtype=np.int64)
    different, which = np.unique(written, axis=0, return_inverse=True)
    return different, which.ravel()
