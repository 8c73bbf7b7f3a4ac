"""What was learned for one encoder, as a folder: arrays, small facts, and whose vectors they fit.

The folder is a store like a collection's: written crash-safe, with checksums, without pickle. What
is learned again takes the place of what was there in one step.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, Mismatch, UsageError
from ..records import JSON, Fingerprint
from ..storage import LOCAL, Disk, Store
from .fingerprint import digest

PART = "learned"
AGAIN = "Remove the folder and train it again"
"""The cure for what is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """`kind` says what it is; `encoder` made the vectors it was learned from."""

    kind: str
    encoder: Fingerprint
    facts: Mapping[str, JSON]
    arrays: Mapping[str, NDArray[Any]]
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over everything that changes what it does: kind, encoder, arrays and blobs."""
        contents: dict[str, JSON] = {
            name: [array.dtype.str, list(array.shape), _sha256(array.tobytes())]
            for name, array in self.arrays.items()
        }
        contents |= {name: _sha256(blob) for name, blob in self.blobs.items()}
        return digest({"kind": self.kind, "encoder": self.encoder.digest, "contents": contents})


def save_learned(folder: Path, learned: Learned, *, disk: Disk = LOCAL) -> None:
    """Write it to a new or empty folder, or in the place of something else that was learned.

    Raises UsageError for a folder that holds anything else, Locked, DiskError.
    """
    settings: dict[str, JSON] = {"learned": learned.kind, "encoder": _stated(learned.encoder)}
    store = _store(folder, settings, disk)
    with store.begin() as change:
        for segment in store.segments:
            change.drop(segment.name)
        with change.new_segment(0) as writer:
            part = writer.part(PART)
            part.facts(learned.facts)
            for name, array in learned.arrays.items():
                part.array(name, array)
            for name, blob in learned.blobs.items():
                part.blob(name, blob)
        change.settings = settings
        change.commit()


def load_learned(
    folder: Path, kind: str, shapes: Mapping[str, str], blobs: Sequence[str] = ()
) -> Learned:
    """Open what was saved as `kind`; arrays are read-only maps.

    shapes: the arrays to take as far as they are there, each with the names of its axes: "rd" and
    "dr" are two matrices whose r and d agree.
    Raises UsageError when the folder holds nothing of this kind, Damaged, Mismatch.
    """
    store = Store.open(folder)
    _check_kind(store, kind)
    if not store.segments:
        remedy = "Train it again"
        raise UsageError("nothing that was learned is in it yet", where=str(folder), remedy=remedy)
    try:
        encoder = _fingerprint(store.settings["encoder"])
        part = store.segments[0].part(PART)
        arrays = {name: part.array(name) for name in shapes if name in part}
        found = {name: part.blob(name).tobytes() for name in blobs}
        _check_arrays(arrays, shapes)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        what = f"what was learned makes no sense ({error})"
        raise Damaged(what, where=str(folder), remedy=AGAIN) from error
    return Learned(kind, encoder, part.facts, arrays, found)


def require_encoder(what: str, learned_for: Fingerprint, found: Fingerprint) -> None:
    """Raise Mismatch unless `found` is the encoder that `what` was learned for."""
    if learned_for.digest != found.digest:
        raise Mismatch(
            f"{what} learned for {short(learned_for)}, but the encoder is {short(found)}",
            remedy="Use the encoder that it was learned for, or train it again",
        )


def short(fingerprint: Fingerprint) -> str:
    """How a fingerprint is named in errors."""
    return f"{fingerprint.name}@{fingerprint.digest[:8]}"


def _store(folder: Path, settings: Mapping[str, JSON], disk: Disk) -> Store:
    try:
        store = Store.open(folder, check="size", disk=disk)
    except UsageError:  # nothing is there yet; what is there otherwise, `create` refuses
        return Store.create(folder, settings=settings, disk=disk)
    _check_kind(store, None)
    return store


def _check_kind(store: Store, kind: str | None) -> None:
    found = store.settings.get("learned")
    if found is None or kind not in (None, found):
        raise UsageError(
            f"the folder holds {f'a learned {found}' if found else 'nothing that was learned'}",
            where=str(store.folder),
            remedy=f"Name the folder of a {kind}" if kind else "Choose another folder",
        )


def _check_arrays(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, str]) -> None:
    """ValueError unless each array is finite float32 or float16 with axes that agree."""
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        axes = shapes[name]
        if array.dtype.str not in ("<f4", "<f2") or array.ndim != len(axes) or not array.size:
            raise ValueError(f"the array '{name}' is {array.dtype} {array.shape}")
        if any(sizes.setdefault(axis, n) != n for axis, n in zip(axes, array.shape, strict=True)):
            raise ValueError(f"the shape {array.shape} of '{name}' fits no other")
        if not np.isfinite(array).all():
            raise ValueError(f"the array '{name}' is not finite")


def _stated(fingerprint: Fingerprint) -> JSON:
    return {
        "name": fingerprint.name,
        "digest": fingerprint.digest,
        "settings": dict(fingerprint.settings),
    }


def _fingerprint(stated: Any) -> Fingerprint:
    name, digest, settings = stated["name"], stated["digest"], stated["settings"]
    if not (isinstance(name, str) and isinstance(digest, str) and isinstance(settings, Mapping)):
        raise TypeError("this is no fingerprint")
    return Fingerprint(name, digest, settings)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
