"""What a generation of a collection is called by the things that are derived from it."""

import hashlib

from ..errors import UsageError
from ..indexes.collection import Collection


def generation_stamp(collection: Collection) -> str:
    """Its number and a digest of its manifest: another content never has the same stamp.

    UsageError when the manifest of this generation is not kept any more.
    """
    for manifest in collection.log():
        if manifest.generation == collection.generation:
            digest = hashlib.sha256(manifest.encode()).hexdigest()
            return f"{manifest.generation:012d}-{digest[:16]}"
    raise UsageError(
        f"generation {collection.generation} of the collection is gone",
        where=str(collection.folder),
        remedy="Open the collection again",
    )
