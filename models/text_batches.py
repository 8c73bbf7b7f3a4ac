"""Texts of about equal length put together, so that little padding is computed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


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
