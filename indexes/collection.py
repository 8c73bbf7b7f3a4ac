"""A collection: passages and named indexes over them, all of one generation, in one folder."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, UsageError
from ..records import JSON, Fingerprint, Passage
from ..storage import LOCAL, Check, Disk, Manifest, Report, Store
from .compaction import merge_from, rewrite_with
from .family import Family, StoredIndex, load_family
from .passages import PassageStore
from .segments import PASSAGES, changing, open_parts
from .writer import Duplicates, Writer

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Collection:
    """One generation of a collection, open for reading; it never changes while it is open.

    create() makes an empty one, writer() adds and deletes, refresh() moves on to what was
    committed since. Indexes are opened when they are first asked for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        indexes, self.encoders, self.canaries = _read_settings(store.settings)
        self.families: Mapping[str, Family[Any, Any]] = {
            name: load_family(*kind_and_settings) for name, kind_and_settings in indexes.items()
        }
        self.indexes: Mapping[str, StoredIndex[Any, Any]] = _OpenIndexes(store, self.families)
        self.passages = PassageStore(open_parts(store, PASSAGES))

    @classmethod
    def create(
        cls,
        folder: Path,
        indexes: Mapping[str, Family[Any, Any]],
        *,
        encoders: Mapping[str, Fingerprint] | None = None,
        canaries: Mapping[str, NDArray[np.float32]] | None = None,
        disk: Disk = LOCAL,
    ) -> Self:
        """An empty collection in a new or empty folder.

        indexes: a family under each name.  encoders, canaries: what made the keys of an index,
        and the keys of a few known texts, so that another encoder is noticed at query time.
        """
        encoders, canaries = encoders or {}, canaries or {}
        for name in indexes:
            _check_name(name)
        for name in [*encoders, *canaries]:
            if name not in indexes:
                raise UsageError(
                    f"an encoder was given for '{name}', which is no index",
                    remedy=f"The indexes are: {', '.join(sorted(indexes)) or 'none'}",
                )
        settings = _settings(indexes, encoders, canaries)
        return cls(Store.create(folder, settings=settings, disk=disk))

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        generation: int | None = None,
        check: Check = "crc",
        disk: Disk = LOCAL,
    ) -> Self:
        """The newest generation, or the one that is named."""
        return cls(Store.open(folder, generation=generation, check=check, disk=disk))

    def __len__(self) -> int:
        return len(self.passages)

    @property
    def folder(self) -> Path:
        return self._store.folder

    @property
    def generation(self) -> int:
        return self._store.generation

    @property
    def note(self) -> Mapping[str, JSON]:
        """What the commit of this generation noted."""
        return self._store.note

    @property
    def segments(self) -> int:
        """How many segments there are; compaction makes them one."""
        return len(self._store.segments)

    def log(self) -> list[Manifest]:
        """The generations that can still be opened."""
        return self._store.log()

    @staticmethod
    def verify(folder: Path, *, deep: bool = False) -> Report:
        """Check every file of a collection; `deep` compares sha256 rather than crc32."""
        return Store.verify(folder, deep=deep)

    @classmethod
    def restore(cls, folder: Path, *, to: int) -> Self:
        """Make an earlier generation the newest one again."""
        return cls(Store.restore(folder, to=to))

    def writer(self, duplicates: Duplicates = "error") -> Writer:
        """Adds and deletes in a `with` block, over the newest generation and under its lock."""
        return Writer(self._store, self.families, duplicates)

    def refresh(self) -> Self:
        """The newest generation; this one stays as it is."""
        store = self._store.refresh()
        return self if store is self._store else type(self)(store)

    def compact(self) -> Self:
        """Merge all segments into one without the deleted rows; results stay the same."""
        with changing(self._store) as change:
            store = change.store
            if len(store.segments) <= 1 and all(one.deleted is None for one in store.segments):
                return type(self)(store)
            merge_from(change, self.families, 0)
            return type(self)(change.commit(note=store.note))

    def add_index(
        self,
        name: str,
        family: Family[Any, Any],
        keys_for: Callable[[Sequence[Passage]], Any],
        *,
        encoder: Fingerprint | None = None,
        canary: NDArray[np.float32] | None = None,
    ) -> Self:
        """Give the collection one more index; see `add_indexes`."""
        return self.add_indexes(
            {name: family},
            {name: keys_for},
            encoders={name: encoder} if encoder is not None else {},
            canaries={name: canary} if canary is not None else {},
        )

    def add_indexes(
        self,
        indexes: Mapping[str, Family[Any, Any]],
        keys_for: Mapping[str, Callable[[Sequence[Passage]], Any]],
        *,
        encoders: Mapping[str, Fingerprint] | None = None,
        canaries: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Self:
        """Give the collection more indexes, with keys for all passages that are there.

        keys_for, by the name of the index, is called with some hundred passages at a time, which
        each index gets before the next hundred. Every segment is written anew, and memory holds
        the new keys of the largest one.
        """
        for name in indexes:
            _check_name(name)
            if name in self.families:
                remedy = "Choose another name"
                raise UsageError(f"there is an index '{name}' already", remedy=remedy)
        settings = _settings(
            {**self.families, **indexes},
            {**self.encoders, **(encoders or {})},
            {**self.canaries, **(canaries or {})},
        )
        with changing(self._store) as change:
            rewrite_with(change, self.families, indexes, keys_for)
            change.settings = settings
            return type(self)(change.commit(note=change.store.note))


class _OpenIndexes(Mapping[str, StoredIndex[Any, Any]]):
    """The indexes of a generation, each opened when it is first asked for."""

    def __init__(self, store: Store, families: Mapping[str, Family[Any, Any]]) -> None:
        self._store, self._families = store, families
        self._opened: dict[str, StoredIndex[Any, Any]] = {}

    def __getitem__(self, name: str) -> StoredIndex[Any, Any]:
        if name not in self._opened:
            if name not in self._families:
                raise KeyError(name)
            self._opened[name] = self._families[name].open(open_parts(self._store, name))
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._families)

    def __len__(self) -> int:
        return len(self._families)


def _check_name(name: str) -> None:
    if name == PASSAGES or not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of an index",
            remedy=f"Use a-z, 0-9, _ and -, at most 64; '{PASSAGES}' is taken",
        )


def _settings(
    indexes: Mapping[str, Family[Any, Any]],
    encoders: Mapping[str, Fingerprint],
    canaries: Mapping[str, NDArray[np.float32]],
) -> dict[str, JSON]:
    """What the manifest keeps of the definitions."""
    return {
        "indexes": {
            name: {"kind": family.kind, "settings": dict(family.settings)}
            for name, family in indexes.items()
        },
        "encoders": {
            name: {"name": one.name, "digest": one.digest, "settings": dict(one.settings)}
            for name, one in encoders.items()
        },
        "canaries": {name: _packed(canary) for name, canary in canaries.items()},
    }


def _packed(array: NDArray[np.float32]) -> JSON:
    array = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(array.shape), "float32": b64encode(array.tobytes()).decode()}


def _unpacked(packed: Mapping[str, Any]) -> NDArray[np.float32]:
    rows, columns = packed["shape"]
    return np.frombuffer(b64decode(packed["float32"]), dtype="<f4").reshape(rows, columns)


def _fingerprint(name: str, digest: str, settings: Mapping[str, JSON]) -> Fingerprint:
    if not (isinstance(name, str) and isinstance(digest, str) and isinstance(settings, dict)):
        raise TypeError("this is no fingerprint")
    return Fingerprint(name, digest, settings)


def _read_settings(
    settings: Mapping[str, Any],
) -> tuple[
    dict[str, tuple[str, Mapping[str, JSON]]],
    dict[str, Fingerprint],
    dict[str, NDArray[np.float32]],
]:
    """Kind and settings of every index, the fingerprints and the canaries."""
    try:
        indexes = {
            name: (one["kind"], one["settings"]) for name, one in settings["indexes"].items()
        }
        encoders = {name: _fingerprint(**one) for name, one in settings["encoders"].items()}
        canaries = {name: _unpacked(one) for name, one in settings["canaries"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Damaged(
            f"the settings of the collection make no sense ({error!r})",
            where="manifest",
            remedy="Run: ragstone log, ragstone restore",
        ) from error
    return indexes, encoders, canaries
