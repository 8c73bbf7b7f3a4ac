"""Folders as a forger would leave them: anything may be changed, and every checksum fits.

A `Forger` holds one collection in memory, changes some places of a copy, computes all lengths,
checksums and digests anew and writes the copy out.
"""

import hashlib
import json
import random
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ragstone.storage import npy

WILD: list[Any] = [
    0, 1, -1, 2, 7, 10**400,
    2**15, 2**26, 2**26 + 1, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30,
    0.5, -0.0, 1e308, 5e-324, True, False, None, "", "x", "0", "1e9", "ip", "impact", "float16",
    "hnsw", "../x", "\x00", "\ud800", "é" * 300, [], [0], [[]], [["n", 1, 1]], {}, {"": 0},
]  # fmt: skip

DTYPES = sorted(npy.DTYPES)


@dataclass
class Entry:
    """A file of a collection: an array, or the bytes of a blob or of tombstones."""

    path: str
    record: dict[str, Any]
    content: Any  # an array, or bytes


@dataclass
class Forger:
    """A collection that can be forged again and again; `folder` is only read."""

    folder: Path
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._head = max(self.folder.glob("manifest-*"))
        self._content = json.loads(self._head.read_bytes())
        self._files = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def forge(self, target: Path, draw: random.Random) -> None:
        """Write a copy with one to three changes; `done` then says which."""
        manifest, self.done = deepcopy(self._content), []
        entries = self._entries(manifest)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            kind = draw.choices((_values, _shape, _swap, _facts, _tombstones), (8, 3, 1, 3, 1))[0]
            # after a wild value in the manifest there may be nothing left for this kind to change
            with suppress(TypeError, KeyError, AttributeError):
                self.done.append(f"{kind.__name__}: {kind(manifest, entries, draw)}")
        self._write(target, manifest, entries)

    def untouched(self, target: Path) -> None:
        """Write a copy without a change: what this writes is what was there."""
        manifest = deepcopy(self._content)
        self._write(target, manifest, self._entries(manifest))

    def _entries(self, manifest: dict[str, Any]) -> list[Entry]:
        entries = []
        for segment in manifest["segments"]:
            for part_name, part in segment["parts"].items():
                for name, record in part["files"].items():
                    suffix = ".bin" if record["dtype"] is None else ".npy"
                    path = f"segments/{segment['name']}/{part_name}.{name}{suffix}"
                    entries.append(Entry(path, record, self._load(path, record)))
            if segment["deletes"]:
                path, record = f"deletes/{segment['deletes']['name']}", segment["deletes"]["file"]
                entries.append(Entry(path, record, self._files[path]))
        return entries

    def _load(self, path: str, record: dict[str, Any]) -> Any:
        raw = self._files[path]
        if record["dtype"] is None:
            return raw
        return np.frombuffer(raw[npy.HEADER :], record["dtype"]).reshape(record["shape"]).copy()

    def _write(self, target: Path, manifest: dict[str, Any], entries: list[Entry]) -> None:
        shutil.rmtree(target, ignore_errors=True)
        for name in ("segments", "deletes", *(f"segments/{s['name']}" for s in self.segments)):
            (target / name).mkdir(parents=True)
        (target / "FORMAT").write_bytes(self._files["FORMAT"])
        for entry in entries:
            data = _bytes(entry)
            entry.record["bytes"] = len(data)
            entry.record["crc32"] = f"{zlib.crc32(data):08x}"
            entry.record["sha256"] = hashlib.sha256(data).hexdigest()
            (target / entry.path).with_suffix(
                ".bin" if entry.record["dtype"] is None else ".npy"
            ).write_bytes(data)
        (target / self._head.name).write_bytes(signed(manifest))

    @property
    def segments(self) -> list[dict[str, Any]]:
        return list(self._content["segments"])


def signed(manifest: dict[str, Any]) -> bytes:
    """The bytes of a manifest whose own digest is right."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    dump: dict[str, Any] = {"sort_keys": True, "separators": (",", ":")}
    digest = hashlib.sha256(json.dumps(content, **dump).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, **dump).encode()


def _bytes(entry: Entry) -> bytes:
    if isinstance(entry.content, bytes):
        entry.record.update(dtype=None, shape=None)
        return entry.content
    array = np.ascontiguousarray(entry.content)
    entry.record.update(dtype=array.dtype.str, shape=list(array.shape))
    return npy.header(array.dtype.str, array.shape) + array.tobytes()


def _values(manifest: dict[str, Any], entries: list[Entry], draw: random.Random) -> str:
    """Other values in an array or a blob."""
    entry = draw.choice(entries)
    if isinstance(entry.content, bytes):
        return _noise(entry, draw)
    flat = entry.content.reshape(-1)
    if not len(flat):
        return f"{entry.path} is empty"
    change = draw.choice(VALUE_CHANGES)
    with np.errstate(all="ignore"):
        change(flat, draw)
    return f"{change.__name__} {entry.path}"


def _noise(entry: Entry, draw: random.Random) -> str:
    data = bytearray(entry.content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if data:
            data[draw.randrange(len(data))] = draw.choice((0, 10, 34, 44, 91, 123, 255, 128, 48))
    entry.content = bytes(data)
    return f"noise {entry.path}"


def _set(flat: Any, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 5))):
        flat[draw.choice((0, -1, draw.randrange(len(flat))))] = _extreme(flat, draw)


def _extreme(flat: Any, draw: random.Random) -> Any:
    if flat.dtype.kind == "f":
        huge = [np.nan, np.inf, -np.inf, 3e38, -3e38, 65504, 1e18, 0, -0.0, 1e-45]
        return flat.dtype.type(draw.choice(huge))
    if flat.dtype.kind == "b":
        return draw.random() < 0.5
    info, own = np.iinfo(flat.dtype), int(draw.choice(flat[: 1 << 12]))
    wanted = draw.choice(
        (0, 1, -1, info.max, info.min, len(flat), len(flat) - 1, own + 1, own - 1, own * 2)
        + (draw.randrange(info.min, info.max), 255, 65_535, 65_536, 80, 90)
    )
    return min(max(wanted, info.min), info.max)


def _fill(flat: Any, draw: random.Random) -> None:
    start, stop = sorted((draw.randrange(len(flat) + 1), draw.randrange(len(flat) + 1)))
    flat[start:stop] = _extreme(flat, draw)


def _shuffle(flat: Any, draw: random.Random) -> None:
    flat[:] = flat[np.random.default_rng(draw.randrange(1 << 32)).permutation(len(flat))]


def _reverse(flat: Any, draw: random.Random) -> None:
    flat[:] = flat[::-1].copy()


def _exchange(flat: Any, draw: random.Random) -> None:
    """Two values change places: sums stay, order does not."""
    a, b = draw.randrange(len(flat)), draw.randrange(len(flat))
    flat[a], flat[b] = flat[b].copy(), flat[a].copy()


def _balance(flat: Any, draw: random.Random) -> None:
    """One value grows by what another loses: sums and lengths stay."""
    a, b, by = draw.randrange(len(flat)), draw.randrange(len(flat)), draw.choice((1, 2, 60))
    if flat.dtype.kind != "b":
        flat[a] += flat.dtype.type(by)
        flat[b] -= flat.dtype.type(by)


def _bit(flat: Any, draw: random.Random) -> None:
    raw = flat.view(np.uint8)
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)


def _noisy(flat: Any, draw: random.Random) -> None:
    raw = flat.view(np.uint8)
    for _ in range(8):
        raw[draw.randrange(len(raw))] = draw.randrange(256)


VALUE_CHANGES: list[Callable[[Any, random.Random], None]] = [
    _set, _set, _set, _set, _fill, _shuffle, _reverse, _exchange, _balance, _bit, _noisy,
]  # fmt: skip


def _shape(manifest: dict[str, Any], entries: list[Entry], draw: random.Random) -> str:
    """Another length, number of dimensions or number type."""
    entry = draw.choice(entries)
    array = entry.content
    if isinstance(array, bytes):
        entry.content = draw.choice((b"", array[:-1], array + b"\n", array * 2))
        return f"length {entry.path}"
    kind = draw.choice(("cut", "empty", "twice", "longer", "column", "row", "flat", "type", "view"))
    if kind == "cut":
        entry.content = array[: draw.randrange(len(array) + 1)]
    elif kind == "empty":
        entry.content = array[:0]
    elif kind == "twice":
        entry.content = np.concatenate((array, array))
    elif kind == "longer":
        entry.content = np.concatenate((array, array[:1], array[-1:]))
    elif kind == "column":
        entry.content = array.reshape(-1, 1)
    elif kind == "row":
        entry.content = array.reshape(1, -1)
    elif kind == "flat":
        entry.content = array.reshape(-1)
    elif kind == "type":
        with np.errstate(all="ignore"):
            entry.content = array.astype(draw.choice(DTYPES))
    else:
        size = array.dtype.itemsize
        entry.content = array.view(
            draw.choice([name for name in DTYPES if np.dtype(name).itemsize == size])
        )
    return f"{kind} {entry.path} -> {entry.content.dtype} {entry.content.shape}"


def _swap(manifest: dict[str, Any], entries: list[Entry], draw: random.Random) -> str:
    """The contents of two files exchanged, or a file gone."""
    one, other = draw.choice(entries), draw.choice(entries)
    if draw.random() < 0.3:
        for segment in manifest["segments"]:
            for part in segment["parts"].values():
                gone = [name for name, record in part["files"].items() if record is one.record]
                for name in gone:
                    del part["files"][name]
                    entries.remove(one)
        return f"without {one.path}"
    if isinstance(one.content, bytes) == isinstance(other.content, bytes):
        one.content, other.content = other.content, one.content
    return f"{one.path} {other.path}"


def _facts(manifest: dict[str, Any], entries: list[Entry], draw: random.Random) -> str:
    """Another value, one value less or one more in what the manifest says."""
    roots: list[Any] = [manifest["settings"], manifest["settings"], manifest["note"]]
    for segment in manifest["segments"]:
        parts = segment.get("parts")
        roots += [segment]
        if isinstance(parts, dict):
            roots += [part["facts"] for part in parts.values() if isinstance(part, dict)]
    places = leaves(draw.choice(roots))
    if not places:
        return "nothing"
    holder, key = draw.choice(places)
    if draw.random() < 0.1:
        del holder[key]
        return f"without {key}"
    value = deepcopy(draw.choice(WILD))
    if draw.random() < 0.3 and type(holder[key]) is int:
        value = holder[key] + draw.choice((-1, 1))
    holder[key] = value
    return f"{key} = {value!r}"


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every dictionary and list below a value with each of their keys, records of files aside."""
    if isinstance(value, dict):
        items: list[Any] = [(name, inner) for name, inner in value.items() if name != "files"]
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    below = [place for _, inner in items for place in leaves(inner)]
    return [(value, name) for name, _ in items] + below


def _tombstones(manifest: dict[str, Any], entries: list[Entry], draw: random.Random) -> str:
    """Other rows deleted, counted rightly; all of them, or none."""
    for segment in manifest["segments"]:
        if segment["deletes"]:
            [entry] = [one for one in entries if one.record is segment["deletes"]["file"]]
            rows = segment["rows"] if type(segment["rows"]) is int else 1
            share = draw.choice((0, 0.5, 1))
            gone = np.array([draw.random() < share for _ in range(min(abs(rows), 1000))], np.bool_)
            entry.content = np.packbits(gone, bitorder="little").tobytes()
            segment["deletes"]["count"] = int(gone.sum())
            return f"{share:.0%} of {rows}"
    return "none"
