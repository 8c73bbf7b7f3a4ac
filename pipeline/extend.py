"""More indexes for a collection that is there, made of the passages that it holds."""

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..indexes.collection import Collection
from ..models.fingerprint import canary
from ..models.keys import joined
from ..models.passage_text import passage_keys, slices
from ..records import Passage
from .intake import SLICE, Progress, Step, ignore
from .recipes import AnyEncoder
from .wanted import Wanted


def extend(
    folder: Path | str, asked: Sequence[Wanted], *, progress: Progress = ignore
) -> Collection:
    """Give the collection in `folder` the indexes that are `asked` for.

    One commit each; those of a group are made together, by one pass of their model.
    Raises UsageError for an index whose name is taken, before anything is encoded.
    """
    collection = Collection.open(Path(folder))
    for one in asked:
        if one.name in collection.families:
            remedy = f"Give the new one another name, such as other={one.name}"
            raise UsageError(f"there is an index '{one.name}' already", remedy=remedy)
    for _, group in groupby(asked, key=lambda one: one.asked):
        collection = _extended(collection, tuple(group), progress)
    return collection


def _extended(collection: Collection, asked: Sequence[Wanted], progress: Progress) -> Collection:
    encoders = {one.name: one.encoder() for one in asked}
    all_ = len(collection)
    return collection.add_indexes(
        {one.name: one.family(encoders[one.name]) for one in asked},
        {name: _Keys(name, encoder, all_, progress) for name, encoder in encoders.items()},
        encoders={name: encoder.fingerprint for name, encoder in encoders.items()},
        canaries={one.name: canary(encoders[one.name]) for one in asked if one.recipe.takes_model},
    )


class _Keys:
    """Encodes passages and says how far it is."""

    def __init__(self, name: str, encoder: AnyEncoder, passages: int, progress: Progress) -> None:
        self._name, self._encoder, self._all, self._progress = name, encoder, passages, progress
        self._done, self._begun = 0, time.perf_counter()

    def __call__(self, passages: Sequence[Passage]) -> Any:
        parts = [self._encoded(some) for some in slices(self._encoder, passages, SLICE)]
        return joined(parts[0], parts[1:])

    def _encoded(self, passages: Sequence[Passage]) -> Any:
        keys = passage_keys(self._encoder, passages)
        self._done += len(passages)
        rate = self._done / max(time.perf_counter() - self._begun, 1e-9)
        self._progress(Step(f"encoding {self._name}", self._done, self._all, self._done, rate))
        return keys
