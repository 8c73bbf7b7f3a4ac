"""Where each token of a text stands in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """The tokens of one text, special ones included.

    ids (n,) int32; starts, ends (n,) int64: the characters of each token; special (n,) bool: what
    the tokenizer added of its own.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    special: NDArray[np.bool_]

    def within(self, start: int, end: int) -> NDArray[np.int64]:
        """Places of the tokens that have a character of ``text[start:end]``."""
        inside = (self.starts < end) & (self.ends > start) & ~self.special
        return np.flatnonzero(inside)


def token_spans(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], special: Sequence[Any]
) -> TokenSpans:
    """From what a tokenizer returns for one text."""
    places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    flags = np.array(special, dtype=bool)
    return TokenSpans(np.array(ids, dtype=np.int32), places[:, 0], places[:, 1], flags)


def spans_by(tokenizer: Any, texts: Sequence[str]) -> list[TokenSpans]:
    """The tokens of each whole text by a tokenizer of transformers.

    Raises InputError for one written in Python, which does not say where tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the tokenizer {type(tokenizer).__name__} does not say where tokens stand in a text",
            remedy="Use a model that has a tokenizer.json",
        )
    options = {"truncation": False, "verbose": False, "return_special_tokens_mask": True}
    found = tokenizer(list(texts), return_offsets_mapping=True, **options) if texts else {}
    columns = ("input_ids", "offset_mapping", "special_tokens_mask")
    rows = zip(*(found.get(name, []) for name in columns), strict=True)
    return [token_spans(*row) for row in rows]
