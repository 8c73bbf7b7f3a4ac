"""The manifest: one generation of a folder, with the length and checksums of every file in it.

Its bytes are canonical JSON that carries its own sha256. Reading accepts exactly the bytes that
writing would give, so that a flipped space or a swapped key is found like any other damage.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import Damaged, Mismatch
from ..records import JSON
from . import canonical, npy

FORMAT = 1
"""The version of the format that this code reads and writes."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TOMBSTONES = re.compile(rf"\d{{12}}-(?P<segment>{UUID.pattern})(-[0-9a-f]{{8}})?\.bin")
_PART_NAME = re.compile(r"[a-z0-9_-]+")
_HASHES = re.compile(r"[0-9a-f]{8}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file has to be: its length, its checksums in hexadecimal, and the array in it.

    dtype and shape are None for raw bytes.
    """

    bytes: int
    crc32: str
    sha256: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    @property
    def suffix(self) -> str:
        return ".bin" if self.dtype is None else ".npy"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """The facts and files of one part; a file's key is the name of its array or blob."""

    facts: Mapping[str, JSON] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeletesRecord:
    """The tombstones of a segment: file `name` in deletes/, with `count` bits set."""

    name: str
    count: int
    file: FileRecord


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment: `name` is a uuid and the name of its folder."""

    name: str
    rows: int
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    deletes: DeletesRecord | None = None

    def paths(self) -> Iterator[tuple[str, FileRecord]]:
        """The files of the segment, tombstones last, as paths relative to the root."""
        for part_name, part in self.parts.items():
            for name, file in part.files.items():
                yield f"segments/{self.name}/{part_name}.{name}{file.suffix}", file
        if self.deletes is not None:
            yield f"deletes/{self.deletes.name}", self.deletes.file


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation. `parent` is the generation it was made from, 0 for the first.

    created: UTC, ISO 8601.  created_by: name and version of the program.
    """

    generation: int
    parent: int
    created: str
    created_by: str
    settings: Mapping[str, JSON] = field(default_factory=dict)
    note: Mapping[str, JSON] = field(default_factory=dict)
    segments: tuple[SegmentRecord, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all segments, deleted ones included."""
        return sum(segment.rows for segment in self.segments)

    @property
    def deleted(self) -> int:
        """How many of the rows are deleted."""
        return sum(segment.deletes.count for segment in self.segments if segment.deletes)

    @property
    def nbytes(self) -> int:
        """Length of all files of this generation."""
        return sum(file.bytes for _, file in self.paths())

    def paths(self) -> Iterator[tuple[str, FileRecord]]:
        """Every file of this generation, as paths relative to the root."""
        for segment in self.segments:
            yield from segment.paths()

    def encode(self) -> bytes:
        """The bytes of the manifest file."""
        content = {
            "format": FORMAT,
            "generation": self.generation,
            "parent": self.parent,
            "created": self.created,
            "created_by": self.created_by,
            "settings": canonical.plain(self.settings, "settings"),
            "note": canonical.plain(self.note, "note"),
            "segments": [_segment_out(segment) for segment in self.segments],
        }
        digest = hashlib.sha256(canonical.encode(content)).hexdigest()
        return canonical.encode({**content, "sha256": digest})


def decode(data: bytes, generation: int, where: str) -> Manifest:
    """The manifest in the bytes of the file `where`.

    Raises Damaged for anything but what `encode` gives for this generation, and Mismatch if a
    later version of the format wrote it.
    """
    try:
        content = _hashed(data)
        if type(content.get("format")) is int and content["format"] > FORMAT:
            raise newer(content["format"], where)
        manifest = _manifest_in(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"manifest of generation {generation}: {error}"
        raise Damaged(what, where=where) from error
    if manifest.generation != generation:
        what = f"this is the manifest of generation {manifest.generation}, not {generation}"
        raise Damaged(what, where=where)
    return manifest


def newer(version: int, where: str) -> Mismatch:
    """The error for a folder of a format that is not known yet."""
    return Mismatch(
        f"written in format {version}; this version reads format {FORMAT}",
        where=where,
        remedy="Upgrade: pip install --upgrade ragstone",
    )


def _hashed(data: bytes) -> dict[str, Any]:
    content = canonical.decode(data)
    if type(content) is not dict:
        raise ValueError("no manifest")
    stated = content.pop("sha256", None)
    if hashlib.sha256(canonical.encode(content)).hexdigest() != stated:
        raise ValueError("sha256 mismatch")
    return content


def _segment_out(segment: SegmentRecord) -> dict[str, JSON]:
    return {
        "name": segment.name,
        "rows": segment.rows,
        "parts": {name: _part_out(part) for name, part in segment.parts.items()},
        "deletes": _deletes_out(segment.deletes),
    }


def _part_out(part: PartRecord) -> dict[str, JSON]:
    return {
        "facts": part.facts,
        "files": {name: _file_out(file) for name, file in part.files.items()},
    }


def _file_out(file: FileRecord) -> dict[str, JSON]:
    return {
        "bytes": file.bytes,
        "crc32": file.crc32,
        "sha256": file.sha256,
        "dtype": file.dtype,
        "shape": file.shape,
    }


def _deletes_out(deletes: DeletesRecord | None) -> dict[str, JSON] | None:
    if deletes is None:
        return None
    return {"name": deletes.name, "count": deletes.count, "file": _file_out(deletes.file)}


def _manifest_in(content: dict[str, Any]) -> Manifest:
    _fields(content, format=int, generation=int, parent=int, created=str, created_by=str,
            settings=dict, note=dict, segments=list)  # fmt: skip
    _require(content.pop("format") == FORMAT, "format")
    segments = tuple(_segment_in(segment) for segment in content.pop("segments"))
    _require(len({segment.name for segment in segments}) == len(segments), "segments")
    return Manifest(**content, segments=segments)


def _segment_in(content: dict[str, Any]) -> SegmentRecord:
    _fields(content, name=str, rows=int, parts=dict, deletes=(dict, type(None)))
    name, rows = content["name"], _count(content["rows"], "rows")
    _require(UUID.fullmatch(name) is not None, "segment name")
    parts = {key: _part_in(key, part) for key, part in content["parts"].items()}
    return SegmentRecord(name, rows, parts, _deletes_in(content["deletes"], name, rows))


def _part_in(name: str, content: dict[str, Any]) -> PartRecord:
    _fields(content, facts=dict, files=dict)
    for key in (name, *content["files"]):
        _require(_PART_NAME.fullmatch(key) is not None, "part or file name")
    files = {key: _file_in(file) for key, file in content["files"].items()}
    return PartRecord(content["facts"], files)


def _deletes_in(content: dict[str, Any] | None, segment: str, rows: int) -> DeletesRecord | None:
    if content is None:
        return None
    _fields(content, name=str, count=int, file=dict)
    named = TOMBSTONES.fullmatch(content["name"])
    _require(named is not None and named["segment"] == segment, "name of deletes")
    file = _file_in(content["file"])
    _require(file.dtype is None and file.bytes == (rows + 7) // 8, "length of deletes")
    _require(0 <= content["count"] <= rows, "count of deletes")
    return DeletesRecord(content["name"], content["count"], file)


def _file_in(content: dict[str, Any]) -> FileRecord:
    _fields(content, bytes=int, crc32=str, sha256=str, dtype=(str, type(None)),
            shape=(list, type(None)))  # fmt: skip
    for pattern, digest in zip(_HASHES, (content["crc32"], content["sha256"]), strict=True):
        _require(pattern.fullmatch(digest) is not None, "checksum")
    size, dtype, shape = content["bytes"], content["dtype"], content["shape"]
    _require((dtype is None) == (shape is None), "dtype and shape")
    if dtype is None:
        _require(size >= 0, "length")
        return FileRecord(**content)
    _require(dtype in npy.DTYPES and len(shape) in (1, 2), "dtype and shape")
    content["shape"] = tuple(_count(extent, "shape") for extent in shape)
    _require(size == npy.length(dtype, content["shape"]), "length")
    return FileRecord(**content)


def _fields(content: Any, **kinds: type | tuple[type, ...]) -> None:
    """Raises ValueError unless `content` has exactly these fields, of exactly these types."""
    _require(type(content) is dict and content.keys() == kinds.keys(), "fields")
    for name, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        _require(type(content[name]) in allowed, name)


def _count(value: Any, what: str) -> int:
    _require(type(value) is int and value >= 0, what)
    return int(value)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"wrong {what}")
