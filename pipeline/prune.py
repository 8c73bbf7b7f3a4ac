"""Leave out the passages that probably no query will want, before they are encoded dearly."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..indexes.collection import Collection
from ..models.analyzer import Analyzer
from ..models.passage_quality import (
    CollectionDistance,
    InformationToNoise,
    ModelQuality,
    Quality,
    kept,
)
from ..models.passage_text import passage_text

BATCH = 512
SAMPLE = 20_000
"""Passages from which the words of the collection are counted."""

ESTIMATES = ("distance", "noise", "model")


def prune(
    folder: Path | str, share: float, *, by: str = "distance", model: str | None = None
) -> tuple[Collection, int]:
    """Delete the `share` of passages of lowest quality; how many they were.

    by: "distance", of a passage's words from the collection's; "noise", by repeated words; or
    "model", the first score of a sequence classifier that reads the passage alone. One commit:
    the generation before it can be restored while it is kept.
    Raises UsageError for a share outside [0, 1) and an estimate that is not known.
    """
    collection = Collection.open(Path(folder))
    quality = _quality(collection, by, model)
    qualities: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    ids: list[str] = []
    for texts, some in _batches(collection):
        qualities.append(quality(texts))
        ids += some
    stay = kept(np.concatenate(qualities), share)
    gone = [id for id, stays in zip(ids, stay.tolist(), strict=True) if not stays]
    if gone:
        with collection.writer() as writer:
            writer.delete(gone)
            writer.commit(note=collection.note)
    return collection.refresh(), len(gone)


def _quality(collection: Collection, by: str, model: str | None) -> Quality:
    if by not in ESTIMATES or (by == "model") != (model is not None):
        raise UsageError(
            f"there is no estimate by {by!r}{' without a model' if by == 'model' else ''}",
            remedy="Use 'distance', 'noise', or 'model' with the name of a model",
        )
    if model is not None:
        return ModelQuality(model)
    if by == "noise":
        return InformationToNoise(Analyzer())
    step = max(1, len(collection) // SAMPLE)
    sample = islice((passage_text(one) for one in collection.passages), 0, None, step)
    return CollectionDistance(Analyzer(), list(sample))


def _batches(collection: Collection) -> Iterator[tuple[list[str], Sequence[str]]]:
    """Texts and ids of all live passages."""
    passages = iter(collection.passages)
    while some := list(islice(passages, BATCH)):
        yield [passage_text(one) for one in some], [one.id for one in some]
