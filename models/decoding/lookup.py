"""A model's tokens in the words of a constraint: what stands before them, and how they end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .constraint import Constraint, EachItsOwn


@dataclass(frozen=True, slots=True)
class Spelling:
    """How what a model writes is asked of a constraint.

    start: tokens of the constraint that stand before everything and that the model does not see -
    the separator after which titles begin, say.  eos: the model's token that completes, None where
    nothing is ever complete.  end: what the constraint calls that token; None: the same.
    vocabulary: ids from this on are never written, which models have that are wider than their
    tokenizers, and constraints for marks; None: all ids of the model can be.
    """

    start: tuple[int, ...] = ()
    eos: int | None = None
    end: int | None = None
    vocabulary: int | None = None


class Lookup:
    """The constraints of many queries, asked in tokens of a model with so large a vocabulary."""

    def __init__(
        self, constraints: Sequence[Constraint], spelling: Spelling, vocabulary: int
    ) -> None:
        self._asked = EachItsOwn(constraints)
        self._start = np.array(spelling.start, dtype=np.int64)
        self._eos = -1 if spelling.eos is None else spelling.eos
        self._end = self._eos if spelling.end is None else spelling.end
        self._vocabulary = min(vocabulary, spelling.vocabulary or vocabulary)

    def counts(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) how often what was written occurs; queries: (n,), tokens: (n, written)."""
        return self._asked.counts(queries, self._prefixes(self._spelled(tokens)))

    def allowed(
        self,
        queries: NDArray[np.int64],
        tokens: NDArray[np.int64],
        candidates: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """(n, m) whether each candidate may follow what was written."""
        spelled = self._spelled(candidates)
        return self._asked.allowed(queries, self._prefixes(tokens), spelled) & (spelled >= 0)

    def continuations(
        self, queries: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every pair of a row and a token of the model that may follow it, by ascending row."""
        rows, found = self._asked.continuations(queries, self._prefixes(tokens))
        ends = found == self._end
        kept = ends | ((found < self._vocabulary) & (found != self._eos))
        kept &= (found >= 0) & ~(ends & (self._eos < 0))
        written = np.where(ends, self._eos, found)[kept]
        order = np.argsort(rows[kept], kind="stable")
        return rows[kept][order], written[order]

    def _spelled(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """In the constraint's own numbers; -1 for what the model writes and cannot be meant."""
        unmeant = (tokens == self._end) | (tokens >= self._vocabulary)  # only eos says `end`
        return np.where(tokens == self._eos, self._end, np.where(unmeant, -1, tokens))

    def _prefixes(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        start = np.broadcast_to(self._start, (len(tokens), len(self._start)))
        return np.concatenate([start, tokens], axis=1)
