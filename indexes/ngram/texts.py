"""What an n-gram index stores and is asked: texts as token ids, and n-grams with weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..family import BadKey

RESERVED = 16
"""Ids behind a model's own vocabulary that are separators and marks of fields."""

LONGEST = 1024
"""Tokens that a weighted n-gram may have."""

MOST_WEIGHT = 1e6
"""What an n-gram may weigh, so that sums of powers are float32 numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenText:
    """A batch of token sequences, one after the other.

    Sequence `i` is ``tokens[offsets[i]:offsets[i + 1]]``; it may be empty.

    offsets: (n + 1,) int64.  tokens: int32, with the ids of `Marks` among them.
    """

    offsets: NDArray[np.int64]
    tokens: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class WeightedNgrams:
    """What a batch of queries looks for.

    Query `i` has the n-grams from `queries[i]` to `queries[i + 1]`, each with a weight above 0;
    one of weight 0 counts for nothing. It may have weights for single tokens besides, which add to
    the score of passages that n-grams bring, and bring none themselves.

    queries: (n + 1,) int64, where the n-grams of each begin.  ngrams: all of them.
    weights: (ngrams,) float32.
    unigrams: the tokens of each query, each once.  unigram_weights: float32, one a token.
    """

    queries: NDArray[np.int64]
    ngrams: TokenText
    weights: NDArray[np.float32]
    unigrams: TokenText | None = None
    unigram_weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.queries) - 1


class Marks(NamedTuple):
    """The ids behind a vocabulary: the separator, and what kinds of fields begin with."""

    separator: int
    title: int
    body: int
    query: int
    sentence: int
    entity: int

    @classmethod
    def of(cls, vocabulary: int) -> "Marks":
        """For a model with so many token ids."""
        return cls(*range(vocabulary, vocabulary + len(cls._fields)))


def texts_of(passages: Sequence[Sequence[Sequence[int]]], separator: int) -> TokenText:
    """Passages of fields of token ids, a separator between fields; a mark is a field's first id."""
    rows: list[list[int]] = []
    for fields in passages:
        row: list[int] = []
        for number, field in enumerate(fields):
            row += [separator, *field] if number else field
        rows.append(row)
    return flat(rows)


def flat(rows: Sequence[Sequence[int]]) -> TokenText:
    """Sequences of ids as one batch."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    tokens = np.fromiter((id for row in rows for id in row), np.int32, int(offsets[-1]))
    return TokenText(offsets, tokens)


def check_texts(keys: TokenText, vocabulary: int) -> None:
    """Raise BadKey with the first text that has ids outside the vocabulary and its marks."""
    check_offsets(keys.offsets, len(keys.tokens))
    if keys.tokens.dtype != np.int32 or keys.tokens.ndim != 1:
        raise BadKey(
            f"tokens are {keys.tokens.dtype} in {keys.tokens.ndim} dimensions, not int32 in one",
            0,
            remedy="Give the ids of a tokenizer as int32",
        )
    some = keys.tokens[keys.offsets[0] : keys.offsets[-1]]
    wrong = (some < 0) | (some >= vocabulary + RESERVED)
    if wrong.any():
        place = int(wrong.argmax()) + keys.offsets[0]
        raise BadKey(
            f"the token {keys.tokens[place]} is not among {vocabulary} and {RESERVED} reserved",
            int(np.searchsorted(keys.offsets, place, "right")) - 1,
            remedy="Encode with the tokenizer that the index was made for",
        )


def check_offsets(offsets: NDArray[np.int64], limit: int) -> None:
    """Raise BadKey unless offsets rise inside of so many tokens."""
    steps = np.diff(offsets)
    if offsets.dtype != np.int64 or not len(offsets) or offsets[0] < 0 or offsets[-1] > limit:
        raise BadKey("offsets are not int64, or not inside the tokens", 0, remedy="Let them rise")
    if (steps < 0).any():
        raise BadKey("the offsets fall", int((steps < 0).argmax()), remedy="Let them rise")


def check_ngrams(keys: WeightedNgrams) -> None:
    """Raise BadKey with the first query that cannot be asked."""
    check_offsets(keys.queries, len(keys.ngrams))
    check_offsets(keys.ngrams.offsets, len(keys.ngrams.tokens))
    _check_weights(keys.weights, len(keys.ngrams), keys.queries)
    lengths = np.diff(keys.ngrams.offsets)
    _refuse((lengths < 1) | (lengths > LONGEST), keys.queries, f"1 to {LONGEST} tokens a n-gram")
    if keys.unigrams is not None:
        weights = keys.unigram_weights
        check_offsets(keys.unigrams.offsets, len(keys.unigrams.tokens))
        if len(keys.unigrams) != len(keys) or weights is None:
            raise BadKey("unigrams are not those of the queries", 0, remedy="Give a row a query")
        _check_weights(weights, len(keys.unigrams.tokens), keys.unigrams.offsets)


def _check_weights(weights: NDArray[np.float32], count: int, offsets: NDArray[np.int64]) -> None:
    if weights.shape != (count,) or weights.dtype != np.float32:
        raise BadKey(f"weights are {weights.dtype} {weights.shape}", 0, remedy="One float32 each")
    _refuse(
        ~((weights >= 0) & (weights <= MOST_WEIGHT)), offsets, f"weights from 0 to {MOST_WEIGHT:g}"
    )


def _refuse(wrong: NDArray[np.bool_], offsets: NDArray[np.int64], wanted: str) -> None:
    wrong = wrong[: offsets[-1]]
    if wrong.any():
        row = int(np.searchsorted(offsets, int(wrong.argmax()), "right")) - 1
        raise BadKey("an n-gram of the query cannot be asked", row, remedy=f"Use {wanted}")
