"""From weights over a vocabulary of tokens to weighted terms, the keys of an inverted index."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..records import WeightedTerms

Row: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""One text: distinct token numbers, ascending, and their weights, all above 0."""

NOTHING: Row = (np.empty(0, np.int64), np.empty(0, np.float32))


def row_of(weights: NDArray[np.float32], most: int | None = None) -> Row:
    """The tokens that weigh more than 0 in a (vocabulary,) vector, the `most` heaviest of them.

    Of equal weights those with the lower token numbers stay.
    """
    places = np.flatnonzero(weights > 0)
    return strongest((places, np.asarray(weights[places], np.float32)), most)


def strongest(row: Row, most: int | None) -> Row:
    """The `most` heaviest tokens of a row, all of them for None."""
    tokens, weights = row
    if most is None or len(tokens) <= most:
        return row
    kept = np.sort(np.argsort(-weights, kind="stable")[:most])
    return tokens[kept], weights[kept]


def weighted_terms(rows: Sequence[Row], tokens: Sequence[bytes]) -> WeightedTerms:
    """Rows as one batch of keys, whose vocabulary is that part of `tokens` that occurs."""
    rows = [NOTHING, *rows]
    numbers = np.concatenate([row[0] for row in rows])
    used, ids = np.unique(numbers, return_inverse=True)
    offsets = np.cumsum([len(row[0]) for row in rows])
    return WeightedTerms(
        offsets.astype(np.int64),
        ids.astype(np.int32),
        np.concatenate([row[1] for row in rows]),
        [tokens[number] for number in used.tolist()],
        np.zeros(len(rows) - 1, np.int32),
    )


def token_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """The strings of tokens 0 to `size`, all distinct; `tokenizer`: of the package tokenizers.

    Models have room for tokens that the tokenizer lacks: those are named by their numbers.
    """
    strings = [tokenizer.id_to_token(number) for number in range(size)]
    known = set(strings)
    free = (f"[{number}]" for number in range(2 * size) if f"[{number}]" not in known)
    return [(next(free) if one is None else one).encode("utf-8", "replace") for one in strings]
