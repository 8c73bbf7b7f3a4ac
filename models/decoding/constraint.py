"""What a constraint on decoding answers: which tokens may follow, and how often something occurs.

An n-gram index, a trie of titles, or anything else can stand behind it. It is asked statelessly,
by whole prefixes, for all beams at once; it knows nothing of the model.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Continuations(Protocol):
    """The tokens that may follow each of many prefixes, one prefix after the other."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(prefixes + 1,) where each prefix's tokens begin."""
        ...

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The tokens of all prefixes, each once for a prefix."""
        ...

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each of the tokens follows."""
        ...


class Constraint(Protocol):
    """Everything takes prefixes as a (n, length) int64 array; `length` may be 0.

    Tokens that the constraint does not know, -1 among them, occur nowhere and follow nothing.
    """

    def counts(self, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) how often each prefix occurs; 0 for one that never does."""
        ...

    def continuations(self, prefixes: NDArray[np.int64]) -> Continuations:
        """Every token that may follow, however many there are; none after an unknown prefix."""
        ...

    def allowed(
        self, prefixes: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n, m) whether each of the (n, m) candidates may follow its prefix."""
        ...


class EachItsOwn:
    """Constraints of many queries asked as one: those that are the same object go together."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        places: dict[int, int] = {}
        self._different: list[Constraint] = []
        self._of = np.empty(len(constraints), dtype=np.int64)
        for query, constraint in enumerate(constraints):
            if id(constraint) not in places:
                places[id(constraint)] = len(self._different)
                self._different.append(constraint)
            self._of[query] = places[id(constraint)]

    def counts(self, queries: NDArray[np.int64], prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) as a Constraint; queries: (n,) whose prefix each is."""
        found = np.zeros(len(prefixes), dtype=np.int64)
        for constraint, rows in self._groups(queries):
            found[rows] = constraint.counts(prefixes[rows])
        return found

    def allowed(
        self,
        queries: NDArray[np.int64],
        prefixes: NDArray[np.int64],
        candidates: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """(n, m) as a Constraint."""
        found = np.zeros(candidates.shape, dtype=np.bool_)
        for constraint, rows in self._groups(queries):
            found[rows] = constraint.allowed(prefixes[rows], candidates[rows])
        return found

    def continuations(
        self, queries: NDArray[np.int64], prefixes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a row of `prefixes` and a token that may follow it, in no order of rows."""
        rows_of, tokens = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for constraint, rows in self._groups(queries):
            found = constraint.continuations(prefixes[rows])
            rows_of.append(np.repeat(rows, np.diff(found.offsets)))
            tokens.append(found.tokens)
        return np.concatenate(rows_of), np.concatenate(tokens)

    def _groups(self, queries: NDArray[np.int64]) -> list[tuple[Constraint, NDArray[np.int64]]]:
        """Each different constraint with the rows that ask it."""
        asked = self._of[queries]
        rows = ((which, np.flatnonzero(asked == which)) for which in np.unique(asked).tolist())
        return [(self._different[which], found) for which, found in rows]
