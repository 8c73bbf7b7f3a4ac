"""Texts checked, and put together by length, so that little padding is computed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def by_length(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Places of the texts in batches of at most `budget` tokens, longest first, at least one each.

    Longest first, so that the memory that a run needs is seen at its start.
    """
    order = np.argsort(-lengths, kind="stable")
    batch: list[int] = []
    held = 0
    for place in order.tolist():
        if batch and held + lengths[place] > budget:
            yield np.array(batch)
            batch, held = [], 0
        batch.append(place)
        held += int(lengths[place])
    if batch:
        yield np.array(batch)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what no tokenizer reads, by its place: the library's own errors do not name it."""
    for place, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except AttributeError:
            what = f"text {place} is {type(text).__name__}, not str"
            raise InputError(what, remedy="Give a list of strings") from None
        except UnicodeEncodeError as error:
            what = f"text {place} has half of a character at {error.start} (a lone surrogate)"
            raise InputError(what, remedy="Decode the source strictly, or drop it") from None
