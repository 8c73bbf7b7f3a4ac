"""Writing the passages of a segment: checks, what is stored of each, and merging segments.

Arrays of the part `passages`, for n rows: `ids` uint8 (UTF-8, each id followed by a line feed)
with `id_offsets` int64 (n + 1,); `records` uint8 (title, text and metadata as JSON, one after the
other) with `record_offsets` int64 (3 n + 1,); `hashes` uint64 (n,), ascending, with `order` int32
(n,), the row of each hash; and the metadata as columns (see `columns`).
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, InputError
from ..records import Passage
from ..storage import PartWriter
from .columns import ColumnsBuilder, merge_columns
from .family import OpenPart
from .passage_arrays import PLACE, passage_arrays

LONGEST_ID = 512
"""Bytes of an id in UTF-8."""
_STRETCH = 1 << 14


@dataclass(frozen=True, slots=True)
class PassageRow:
    """A checked passage as it is stored."""

    id: bytes
    title: bytes
    text: bytes
    metadata: bytes
    columns: Mapping[str, Any]


def hash_ids(ids: Sequence[bytes]) -> NDArray[np.uint64]:
    """(n,) the same on every machine; built so that nobody can choose ids that collide."""
    digests = b"".join([blake2b(id, digest_size=8).digest() for id in ids])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


def check_passage(passage: Passage) -> PassageRow:
    """The passage as bytes; InputError naming its id for what cannot be stored."""
    id = _checked_id(passage.id)
    return PassageRow(
        id,
        _checked_text(passage.title, passage.id, "title"),
        _checked_text(passage.text, passage.id, "text"),
        _checked_metadata(passage) if passage.metadata else b"",
        passage.metadata,
    )


def _checked_id(id: str) -> bytes:
    if not isinstance(id, str) or not id:
        raise InputError(
            f"a passage id is a string of at least one character, not {id!r}",
            remedy="Give every passage an id of its own",
        )
    if not id.isprintable() and any(char < " " or "\x7f" <= char <= "\x9f" for char in id):
        raise InputError(
            "the id has a control character", where=repr(id), remedy="Remove it from the id"
        )
    try:
        encoded = id.encode()
    except UnicodeEncodeError:
        raise InputError(
            "the id has half of a surrogate pair", where=repr(id), remedy="Repair its encoding"
        ) from None
    if len(encoded) > LONGEST_ID:
        raise InputError(
            f"the id has {len(encoded)} bytes",
            where=f"{id[:40]}...",
            remedy=f"Use ids of at most {LONGEST_ID} bytes",
        )
    return encoded


def _checked_text(text: str, id: str, field: str) -> bytes:
    if not isinstance(text, str) or "\0" in text:
        what = "has a NUL character" if isinstance(text, str) else f"is {text!r}, no string"
        raise InputError(f"the {field} {what}", where=f"passage '{id}'", remedy="Clean the source")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {field} has half of a surrogate pair at character {error.start}",
            where=f"passage '{id}'",
            remedy="Repair its encoding",
        ) from None


def _checked_metadata(passage: Passage) -> bytes:
    """Canonical JSON; keys have to be strings and numbers finite."""
    try:
        _check_keys(passage.metadata)
        written = json.dumps(
            passage.metadata,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            sort_keys=True,
        )
        return written.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the metadata is not JSON ({error})",
            where=f"passage '{passage.id}'",
            remedy="Use finite numbers, strings, booleans, None, lists and dictionaries",
        ) from None


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("a key is no string")
        for inner in value.values():
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


class PassageBuilder:
    """Collects the passages of one segment in memory."""

    def __init__(self) -> None:
        self.rows = 0
        self._ids = bytearray()
        self._id_ends = array("q", [0])
        self._records = bytearray()
        self._record_ends = array("q", [0])
        self._digests = bytearray()
        self._columns = ColumnsBuilder()

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays = (self._ids, self._records, self._digests)
        return sum(map(len, arrays)) + 32 * self.rows + self._columns.nbytes

    def add(self, rows: Sequence[PassageRow]) -> None:
        for row in rows:
            self._ids += row.id
            self._ids += b"\n"
            self._id_ends.append(len(self._ids))
            for field in (row.title, row.text, row.metadata):
                self._records += field
                self._record_ends.append(len(self._records))
            if row.columns:
                self._columns.add(self.rows, row.columns)
            self.rows += 1
        self._digests += hash_ids([row.id for row in rows]).tobytes()

    def write(self, writer: PartWriter) -> None:
        writer.array("ids", np.frombuffer(self._ids, dtype=np.uint8))
        writer.array("id_offsets", np.frombuffer(self._id_ends, dtype=np.int64))
        writer.array("records", np.frombuffer(self._records, dtype=np.uint8))
        writer.array("record_offsets", np.frombuffer(self._record_ends, dtype=np.int64))
        hashes = np.frombuffer(self._digests, dtype=np.uint64)
        _write_hashes(writer, hashes, np.arange(self.rows, dtype=np.int32))
        writer.facts(self._columns.write(writer))


def _write_hashes(writer: PartWriter, hashes: NDArray[np.uint64], rows: NDArray[np.int32]) -> None:
    """Sort by hash; equal hashes come in ascending rows, which the stable sort keeps."""
    order = np.argsort(hashes, kind="stable")
    writer.array("hashes", hashes[order])
    writer.array("order", rows[order])


def merge_passages(parts: Sequence[OpenPart], writer: PartWriter) -> None:
    """Write the live rows of all parts, in order, as one part; texts are streamed."""
    for part in parts:
        passage_arrays(part)
    _merge_blob(parts, writer, "ids", "id_offsets", fields=1)
    _merge_blob(parts, writer, "records", "record_offsets", fields=3)
    _merge_hashes(parts, writer)
    writer.facts(merge_columns(parts, writer))


def _merge_blob(
    parts: Sequence[OpenPart], writer: PartWriter, blob: str, offsets: str, *, fields: int
) -> None:
    end = 0
    with writer.stream(blob, np.uint8) as bytes_out, writer.stream(offsets, np.int64) as ends_out:
        ends_out.append(np.zeros(1, dtype=np.int64))
        for part in parts:
            source = part.part.array(blob)
            for bounds, live in _stretches(part, part.part.array(offsets), fields):
                lengths = np.diff(bounds).reshape(-1, fields)[live].ravel()
                ends = end + np.cumsum(lengths)
                end = int(ends[-1]) if len(ends) else end
                ends_out.append(ends)
                for start, stop in _runs(live):
                    bytes_out.append(source[bounds[start * fields] : bounds[stop * fields]])


def _stretches(
    part: OpenPart, offsets: NDArray[np.int64], fields: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Some thousand rows at a time: the offsets that bound their fields, and which are live."""
    for start in range(0, part.rows, _STRETCH):
        stop = min(part.rows, start + _STRETCH)
        live = np.ones(stop - start, dtype=np.bool_)
        if part.deleted is not None:
            live = ~part.deleted[start:stop]
        yield np.asarray(offsets[start * fields : stop * fields + 1]), live


def _runs(live: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The stretches of consecutive live rows, as (start, stop)."""
    padded = np.concatenate(([False], live, [False])).astype(np.int8)
    steps = np.diff(padded)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _merge_hashes(parts: Sequence[OpenPart], writer: PartWriter) -> None:
    hashes, rows, base = [], [], 0
    for part in parts:
        order, values = part.part.array("order"), part.part.array("hashes")
        if part.deleted is None:
            hashes.append(values)
            rows.append(order + np.int32(base))
        else:
            new = np.cumsum(~part.deleted, dtype=np.int32) + np.int32(base - 1)
            live = ~part.deleted[order]
            hashes.append(values[live])
            rows.append(new[order[live]])
        base += part.live
    if base != sum(map(len, rows)):
        raise Damaged("some rows have no id or several", where=PLACE)
    _write_hashes(writer, np.concatenate(hashes), np.concatenate(rows))
