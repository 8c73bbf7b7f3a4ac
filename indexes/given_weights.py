"""Passages with weighted terms that another program made, straight from its file into an index."""

from pathlib import Path

from ..corpus.term_weights import WeightedPassage, read_weights, weighted
from .collection import Collection
from .writer import Duplicates, Writer

BATCH = 512
MEMORY = 256 << 20
"""Bytes held before a segment is written."""


def add_weights(
    collection: Collection, file: Path, *, index: str, duplicates: Duplicates = "error"
) -> Collection:
    """Add the passages of a file of JSON lines (`corpus.term_weights`), their terms as keys.

    index: the only index of the collection, with scoring="impact".
    Raises InputError, DuplicateId, UsageError (other indexes want keys as well), Locked, DiskError.
    What was committed before an error stays.
    """
    batch: list[WeightedPassage] = []
    with collection.writer(duplicates) as writer:
        for one in read_weights(file):
            batch.append(one)
            if len(batch) == BATCH:
                _add(writer, batch, index)
                batch = []
        _add(writer, batch, index)
        writer.commit()
    return collection.refresh()


def _add(writer: Writer, batch: list[WeightedPassage], index: str) -> None:
    keys = weighted([one.weights for one in batch])
    writer.add([one.passage for one in batch], {index: keys})
    if writer.nbytes >= MEMORY:
        writer.commit()
