"""What is done with keys of any family: batches put together, and keys sketched as vectors."""

import zlib
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import TokenVectors, WeightedTerms

SKETCH = 256
"""Dimensions of the sketch of weighted terms."""


@singledispatch
def joined(first: Any, rest: Sequence[Any] = ()) -> Any:
    """One batch of keys: the texts of `first`, then those of each of the `rest`."""
    return np.concatenate([first, *rest])


@joined.register
def _(first: list, rest: Sequence[list[Any]] = ()) -> list[Any]:  # type: ignore[type-arg]
    return [key for batch in (first, *rest) for key in batch]


@joined.register
def _(first: TokenVectors, rest: Sequence[TokenVectors] = ()) -> TokenVectors:
    batches = (first, *rest)
    vectors = np.concatenate([batch.vectors for batch in batches])
    return TokenVectors(_offsets([batch.offsets for batch in batches]), vectors)


@joined.register
def _(first: WeightedTerms, rest: Sequence[WeightedTerms] = ()) -> WeightedTerms:
    batches = (first, *rest)
    places: dict[bytes, int] = {}
    ids = []
    for batch in batches:
        place = [places.setdefault(term, len(places)) for term in batch.vocabulary]
        ids.append(np.array(place, np.int32)[batch.ids])
    return WeightedTerms(
        _offsets([batch.offsets for batch in batches]),
        np.concatenate(ids),
        np.concatenate([batch.weights for batch in batches]),
        list(places),
        np.concatenate([batch.lengths for batch in batches]),
    )


def _offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    counts = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@singledispatch
def sketch(keys: Any) -> NDArray[np.float32]:
    """(texts, d) float32 vectors that are near where the keys are near.

    Vectors are their own sketch; token vectors are summed; weighted terms are added up in SKETCH
    places, with signs, both taken from a checksum of the term.
    """
    return np.asarray(keys, dtype=np.float32)


@sketch.register
def _(keys: TokenVectors) -> NDArray[np.float32]:
    sums = np.zeros((len(keys), keys.vectors.shape[1]), np.float32)
    np.add.at(sums, np.repeat(np.arange(len(keys)), np.diff(keys.offsets)), keys.vectors)
    return sums


@sketch.register
def _(keys: WeightedTerms) -> NDArray[np.float32]:
    marks = np.array([zlib.crc32(term) for term in keys.vocabulary], dtype=np.int64)[keys.ids]
    rows = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    sums = np.zeros((len(keys), SKETCH), np.float32)
    signs = np.where(marks & SKETCH, np.float32(1), np.float32(-1))
    np.add.at(sums, (rows, marks % SKETCH), signs * keys.weights)
    return sums
