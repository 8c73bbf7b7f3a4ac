"""Metadata as columns: what filters read instead of a JSON document a passage.

A column holds one dotted path: its distinct values in order (as JSON, with offsets) and an entry
(row, code of the value) for every value that stands there, rows ascending. A condition is looked
up once among the distinct values by bisection and then mapped to rows by NumPy. Lists and objects
share one value that says only that something is there. What columns cannot answer (conditions on
whole lists or objects, very long strings, more than `MOST_PATHS` paths in a segment) is answered
by reading the metadata row by row.

Arrays of a part: `column_values` uint8, `column_offsets` int64, `column_rows` and `column_codes`
int32, all columns one after the other; the fact `columns` lists [path, entries, values] of each,
`scanned` the paths without a column, and `overflow` says that there are more of those.
"""

import heapq
import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, chain, compress, islice, pairwise, repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from ..records import Bitmap
from ..storage import Part, PartWriter
from .family import OpenPart
from .filters import LIST, STRING, Condition, Key, flatten, key_of
from .passage_arrays import PLACE, bounds, inside
from .stored import stored

MOST_PATHS = 256
LONGEST_PATH = 200
LONGEST_STRING = 256
"""Characters of a string that a column takes; a path with a longer one is read row by row."""

SOMETHING: Key = (LIST, 0)
"""The one value that stands for all lists and objects; it sorts after all others."""
_WRITTEN = {0: "null", LIST: "[]"}
_CHUNK = 1 << 14
_TYPES = {
    "column_values": "uint8",
    "column_offsets": "int64",
    "column_rows": "int32",
    "column_codes": "int32",
}

Entries: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Rows and the codes of the values that stand there."""


def scalar_key(value: Any) -> Key:
    """`key_of`, with lists and objects all alike."""
    return SOMETHING if isinstance(value, (list, tuple, dict)) else key_of(value)


class _Growing:
    """One column while its segment is collected: codes in order of first sight."""

    __slots__ = ("codes", "rows", "values")

    def __init__(self) -> None:
        self.values: dict[Key, int] = {}
        self.rows = array("i")
        self.codes = array("i")

    def add(self, row: int, key: Key) -> None:
        self.rows.append(row)
        self.codes.append(self.values.setdefault(key, len(self.values)))

    def ordered(self) -> tuple[list[bytes], Entries]:
        """The distinct values in order, as JSON, and the entries with codes in that order."""
        keys = sorted(self.values)
        rank = np.empty(len(keys), dtype=np.int32)
        rank[[self.values[key] for key in keys]] = np.arange(len(keys), dtype=np.int32)
        codes = rank[np.frombuffer(self.codes, dtype=np.int32)]
        texts = [_json_of(kind, value) for kind, value in keys]
        return texts, (np.frombuffer(self.rows, dtype=np.int32), codes)


def _json_of(kind: int, value: Any) -> bytes:
    return (_WRITTEN.get(kind) or json.dumps(value, ensure_ascii=False)).encode()


class ColumnsBuilder:
    """Collects the metadata of one segment, row by row, into columns."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._columns: dict[str, _Growing | None] = {}  # None: too long a string was seen
        self._overflow = False

    def add(self, row: int, metadata: Mapping[str, Any]) -> None:
        """Rows come in ascending order."""
        for path, key in {(path, scalar_key(value)) for path, value in flatten(metadata)}:
            column = self._column(path)
            if column is None:
                continue
            if key[0] == STRING and len(key[1]) > LONGEST_STRING:
                self._columns[path] = None
                continue
            before = len(column.values)
            column.add(row, key)
            # 8 bytes an entry; a distinct value costs about 250 bytes of Python objects.
            self.nbytes += 8 + 250 * (len(column.values) - before)

    def _column(self, path: str) -> _Growing | None:
        if path in self._columns:
            return self._columns[path]
        if len(self._columns) == MOST_PATHS or len(path) > LONGEST_PATH:
            self._overflow = True
            return None
        column = self._columns[path] = _Growing()
        return column

    def write(self, writer: PartWriter) -> Mapping[str, Any]:
        """Write the columns; returns the facts that the part has to keep for them."""
        grown = ((path, column) for path, column in sorted(self._columns.items()) if column)
        columns = ((path, texts, [entries]) for path, (texts, entries) in _ordered(grown))
        scanned = [path for path, column in self._columns.items() if column is None]
        return _facts(_write(writer, columns), scanned, self._overflow)


def _ordered(
    grown: Iterable[tuple[str, _Growing]],
) -> Iterator[tuple[str, tuple[list[bytes], Entries]]]:
    return ((path, column.ordered()) for path, column in grown)


def _facts(columns: list[list[Any]], scanned: Iterable[str], overflow: bool) -> Mapping[str, Any]:
    return {"columns": columns, "scanned": sorted(scanned), "overflow": overflow}


def _write(
    writer: PartWriter, columns: Iterable[tuple[str, Iterable[bytes], Iterable[Entries]]]
) -> list[list[Any]]:
    """Stream columns out, the values of each before its entries, and return the facts of each."""
    iterator = iter(columns)
    first = next(iterator, None)
    if first is None:
        return []
    facts: list[list[Any]] = []
    with ExitStack() as stack:
        values = stack.enter_context(writer.stream("column_values", np.uint8))
        offsets = stack.enter_context(writer.stream("column_offsets", np.int64))
        rows = stack.enter_context(writer.stream("column_rows", np.int32))
        codes = stack.enter_context(writer.stream("column_codes", np.int32))
        end = 0
        offsets.append(np.zeros(1, dtype=np.int64))
        for path, texts, entries in chain([first], iterator):
            count = 0
            for written in _batches(texts):
                values.append(np.frombuffer(b"".join(written), dtype=np.uint8))
                ends = end + np.cumsum([len(value) for value in written], dtype=np.int64)
                offsets.append(ends)
                end, count = int(ends[-1]), count + len(written)
            size = 0
            for row_chunk, code_chunk in entries:
                rows.append(row_chunk)
                codes.append(code_chunk)
                size += len(row_chunk)
            facts.append([path, size, count])
    return facts


def _batches(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Some thousand at a time."""
    iterator = iter(values)
    while batch := list(islice(iterator, _CHUNK)):
        yield batch


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One path: distinct values in order, and entries of (row, code), rows ascending."""

    values: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def key(self, code: int) -> Key:
        return _keys_of(self.texts(code, code + 1))[0]

    def texts(self, start: int, stop: int) -> list[bytes]:
        """The values of a range of codes, as JSON."""
        ends = self.offsets[start : stop + 1]
        raw = self.values[ends[0] : ends[-1]].tobytes()
        return [raw[a:b] for a, b in pairwise((ends - ends[0]).tolist())]

    def codes_of(self, condition: Condition) -> Iterator[tuple[int, int]]:
        """The values that fit, as ranges of codes."""
        everything = range(len(self))
        for key in map(key_of, condition.wanted):
            below = bisect_left(everything, key, key=self.key)
            upto = bisect_right(everything, key, key=self.key)
            match condition.operator:
                case "$eq" | "$in":
                    yield below, upto
                case "$lt":
                    yield bisect_left(everything, key[:1], key=self.key), below
                case "$lte":
                    yield bisect_left(everything, key[:1], key=self.key), upto
                case "$gt":
                    yield upto, bisect_left(everything, (key[0] + 1,), key=self.key)
                case _:
                    yield below, bisect_left(everything, (key[0] + 1,), key=self.key)

    def match(self, condition: Condition, rows: int) -> Bitmap:
        """(rows,) bool: where the condition holds."""
        held = np.zeros(rows, dtype=np.bool_)
        if condition.operator == "$exists":
            held[self.rows] = True
            return held if condition.operand else ~held
        fits = np.zeros(len(self), dtype=np.bool_)
        for below, upto in self.codes_of(condition):
            fits[below:upto] = True
        held[self.rows[fits[self.codes]]] = True
        if condition.operator in ("$eq", "$in") and None in condition.wanted:
            present = np.zeros(rows, dtype=np.bool_)
            present[self.rows] = True
            held |= ~present
        return held


def _keys_of(texts: Sequence[bytes]) -> list[Key]:
    """Parsed in one go, which is much faster than one by one."""
    try:
        values = json.loads((b"[%s]" % b",".join(texts)).decode())
        if len(values) != len(texts):
            raise ValueError("a value has a comma")
    except (ValueError, RecursionError) as error:
        raise Damaged(f"a metadata value cannot be read ({error})", where=PLACE) from error
    return [scalar_key(value) for value in values]


class Columns:
    """The columns of one part, for reading."""

    def __init__(self, part: Part, rows: int) -> None:
        self.rows = rows
        self.overflow = bool(part.facts.get("overflow"))
        scanned, facts = _read_facts(part)
        self.scanned = frozenset(scanned)
        self.paths: dict[str, tuple[slice, slice]] = {}
        entries = list(accumulate((size for _, size, _ in facts), initial=0))
        values = list(accumulate((count for _, _, count in facts), initial=0))
        for i, (path, _, _) in enumerate(facts):
            self.paths[path] = slice(*entries[i : i + 2]), slice(values[i], values[i + 1] + 1)
        self._part = part
        if facts:
            self._check(entries[-1], values[-1])

    def _check(self, entries: int, values: int) -> None:
        arrays = {name: stored(self._part, name, kind, PLACE) for name, kind in _TYPES.items()}
        sizes = [len(arrays[name]) for name in ("column_rows", "column_codes")]
        end = len(arrays["column_values"])
        if sizes != [entries, entries] or not bounds(arrays["column_offsets"], values, end):
            raise Damaged("the metadata columns do not fit together", where=PLACE)

    def column(self, path: str) -> Column:
        entries, values = self.paths[path]
        array = self._part.array
        column = Column(
            array("column_values"),
            array("column_offsets")[values],
            array("column_rows")[entries],
            array("column_codes")[entries],
        )
        size = len(column.rows)
        if not (inside(column.rows, size, self.rows) and inside(column.codes, size, len(column))):
            raise Damaged(f"the metadata column '{path}' points outside", where=PLACE)
        return column

    def answers(self, condition: Condition) -> bool:
        """Whether columns suffice; otherwise the metadata has to be read row by row."""
        path = condition.path
        if path not in self.paths:
            return not self.overflow and path not in self.scanned
        if condition.operator == "$exists":
            return True
        return all(scalar_key(value) != SOMETHING for value in condition.wanted)

    def match(self, condition: Condition) -> Bitmap:
        """(rows,) bool, for a condition that the columns answer."""
        if condition.path not in self.paths:
            return np.full(self.rows, condition.holds([]))
        return self.column(condition.path).match(condition, self.rows)


def _read_facts(part: Part) -> tuple[list[str], list[tuple[str, int, int]]]:
    """The paths without a column, and [path, entries, values] of each column."""
    scanned: Any = part.facts.get("scanned", [])
    columns: Any = part.facts.get("columns", [])
    try:
        facts = [(str(path), int(size), int(count)) for path, size, count in columns]
        if any(size < 1 or count < 1 for _, size, count in facts):
            raise ValueError("an empty column")
        return [str(path) for path in scanned], facts
    except (TypeError, ValueError) as error:
        raise Damaged(f"the metadata columns make no sense ({error})", where=PLACE) from None


def merge_columns(parts: Sequence[OpenPart], writer: PartWriter) -> Mapping[str, Any]:
    """Write the columns of the live rows of all parts; returns the facts, as `write` does."""
    opened = [Columns(part.part, part.rows) for part in parts]
    scanned = {path for columns in opened for path in columns.scanned}
    overflow = any(columns.overflow for columns in opened)
    every = {path for columns in opened for path in columns.paths} - scanned
    # Where a segment has more paths than it lists, one that it does not list may still be there.
    kept = sorted(
        path for path in every if all(path in one.paths or not one.overflow for one in opened)
    )
    overflow |= len(kept) < len(every) or len(kept) + len(scanned) > MOST_PATHS
    kept = kept[: max(0, MOST_PATHS - len(scanned))]
    renumbered = [_new_rows(part, base) for part, base in zip(parts, _bases(parts), strict=True)]
    merged = (_Merged(path, opened, renumbered) for path in kept)
    columns = ((one.path, one.texts(), one.entries()) for one in merged if one.used)
    return _facts(_write(writer, columns), sorted(scanned)[:MOST_PATHS], overflow)


def _bases(parts: Sequence[OpenPart]) -> list[int]:
    """The first new row of each part."""
    return list(accumulate((part.live for part in parts), initial=0))[:-1]


def _new_rows(part: OpenPart, base: int) -> NDArray[np.int32]:
    """(rows,) int32: the new row of every old one, -1 where it is deleted."""
    if part.deleted is None:
        return np.arange(base, base + part.rows, dtype=np.int32)
    new = np.cumsum(~part.deleted, dtype=np.int32) + np.int32(base - 1)
    new[part.deleted] = -1
    return new


class _Merged:
    """One path over several parts: the live values in order, then the entries with new codes."""

    def __init__(
        self, path: str, opened: Sequence[Columns], renumbered: Sequence[NDArray[np.int32]]
    ) -> None:
        pairs = zip(opened, renumbered, strict=True)
        here = [(columns.column(path), new) for columns, new in pairs if path in columns.paths]
        self.path = path
        self._columns = [column for column, _ in here]
        self._new_rows = [new for _, new in here]
        self._codes = [np.full(len(column), -1, dtype=np.int32) for column in self._columns]
        for i, column in enumerate(self._columns):
            self._codes[i][column.codes[self._new_rows[i][column.rows] >= 0]] = 0
        self.used = any(bool((codes >= 0).any()) for codes in self._codes)

    def texts(self) -> Iterator[bytes]:
        """The distinct values that live rows have; on the way, their new codes are noted."""
        last, code = None, -1
        for key, i, old, text in heapq.merge(*map(self._stream, range(len(self._columns)))):
            if key != last:
                last, code = key, code + 1
                yield text
            self._codes[i][old] = code

    def _stream(self, i: int) -> Iterator[tuple[Key, int, int, bytes]]:
        """(value, column, old code, JSON) of one column, in order, a stretch of codes at a time."""
        column = self._columns[i]
        for start in range(0, len(column), _CHUNK):
            stop = min(len(column), start + _CHUNK)
            used = self._codes[i][start:stop] >= 0
            texts = list(compress(column.texts(start, stop), used))
            codes = (start + np.flatnonzero(used)).tolist()
            yield from zip(_keys_of(texts), repeat(i), codes, texts, strict=False)

    def entries(self) -> Iterator[Entries]:
        for column, new_rows, codes in zip(self._columns, self._new_rows, self._codes, strict=True):
            for start in range(0, len(column.rows), _CHUNK):
                rows = new_rows[column.rows[start : start + _CHUNK]]
                live = rows >= 0
                yield rows[live], codes[column.codes[start : start + _CHUNK][live]]
