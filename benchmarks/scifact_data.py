"""What benchmarks/scifact.py measures on: a BEIR folder, its encodings and indexes, each made once.

Everything is kept in a folder as it is finished, under a name that covers what it was made of, so
that an interrupted run goes on where it was. Encodings are arrays of NumPy, token vectors as
float16; indexes are collections as `ragstone index` makes them. Seconds are of processor time.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ragstone.corpus import open_source
from ragstone.indexes.collection import Collection
from ragstone.indexes.family import Family
from ragstone.models.fingerprint import canary
from ragstone.models.passage_text import passage_keys
from ragstone.pipeline.training import judged_queries
from ragstone.records import Passage, TokenVectors

SLICE = 512
"""Passages that are encoded before what was done is kept."""

Keys = Any
Slices = Callable[[], Iterator[Keys]]
"""The keys of all passages, some of them at a time, in order."""


class SciFact:
    """The passages, and the judged queries of the split "test"."""

    def __init__(self, folder: Path, cache: Path, most: int | None = None) -> None:
        self.folder, self.cache = folder, cache
        source = open_source(folder)
        self.passages = [passage for passage, _ in source.documents()][:most]
        self.signature = f"{source.signature()} {len(self.passages)}"
        self.queries, self.qrels = judged_queries(folder, "test")

    def kept(self, *parts: object) -> Path:
        """A place in the cache for what is made of the passages and of `parts`, first its name."""
        digest = hashlib.sha256(repr((self.signature, *parts)).encode()).hexdigest()
        return self.cache / f"{parts[0]}-{digest[:12]}"


@dataclass
class Encoded:
    """The keys of all passages by one encoder."""

    name: str
    encoder: Any
    data: SciFact

    @cached_property
    def folder(self) -> Path:
        return self.data.kept(self.name, self.encoder.fingerprint.digest)

    @cached_property
    def seconds(self) -> float:
        """Processor time that encoding took."""
        return sum(float(self._slice(number)["seconds"]) for number in range(len(self)))

    def __len__(self) -> int:
        """Slices."""
        return -(-len(self.data.passages) // SLICE)

    def __call__(self) -> Iterator[Keys]:
        for number in range(len(self)):
            arrays = self._slice(number)
            vectors = arrays["vectors"].astype(np.float32)
            yield TokenVectors(arrays["offsets"], vectors) if "offsets" in arrays else vectors

    def _slice(self, number: int) -> dict[str, np.ndarray]:
        """A slice of the passages, encoded unless that was done before."""
        path = self.folder / f"{number:05}.npz"
        if not path.exists():
            some = self.data.passages[number * SLICE : (number + 1) * SLICE]
            begin = time.process_time()
            keys = passage_keys(self.encoder, some)
            write_arrays(path, {**_arrays(keys), "seconds": time.process_time() - begin})
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)


def _arrays(keys: Keys) -> dict[str, Any]:
    if hasattr(keys, "offsets"):
        return {"offsets": keys.offsets, "vectors": keys.vectors.astype(np.float16)}
    return {"vectors": keys}


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """All of the file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    np.savez(unfinished, **arrays)
    os.replace(unfinished, path)


@dataclass(frozen=True)
class Built:
    """A collection with one index, what making it took, and its bytes on disk a passage."""

    collection: Collection
    seconds: float
    stored: float

    @property
    def index(self) -> Any:
        return self.collection.indexes[INDEX]


INDEX = "dense"
"""The name of every index: what is learned for it lies under its name."""


def build(
    data: SciFact,
    name: str,
    family: Family[Any, Any],
    encoder: Any,
    keys: Slices,
    passages: Sequence[Passage] | None = None,
) -> Built:
    """A collection of these keys, made unless it was before.

    name: says how the keys were made of what the encoder gives.  passages: all unless given.
    """
    settings = sorted(family.settings.items())
    folder = data.kept(name, encoder.fingerprint.digest, family.kind, settings)
    if not (folder / "cost.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        seconds = _build(folder / "collection", passages or data.passages, family, encoder, keys)
        (folder / "cost.json").write_text(json.dumps({"seconds": seconds}))
    collection = Collection.open(folder / "collection", check="size")
    cost = json.loads((folder / "cost.json").read_text())
    return Built(collection, cost["seconds"], collection.indexes[INDEX].nbytes / len(data.passages))


def _build(
    folder: Path, passages: Sequence[Passage], family: Any, encoder: Any, keys: Slices
) -> float:
    folder.mkdir(parents=True)
    known = {} if family.kind == "inverted" else {INDEX: canary(encoder)}
    collection = Collection.create(
        folder, {INDEX: family}, encoders={INDEX: encoder.fingerprint}, canaries=known
    )
    begin, start = time.process_time(), 0
    with collection.writer() as writer:
        for some in keys():
            writer.add(passages[start : start + len(some)], {INDEX: some})
            start += len(some)
        writer.commit()
    return time.process_time() - begin


class Clocked:
    """Encodes queries as the encoder it holds does, and counts the seconds."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.seconds = encoder, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        begin = time.process_time()
        found = self.encoder.encode_queries(texts)
        self.seconds += time.process_time() - begin
        return found
