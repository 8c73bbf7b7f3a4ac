"""The passage store: ids, texts, titles and metadata of a collection, memory-mapped.

A passage number is a row: rows run through the segments in their order. Ids lead to numbers by
bisection among sorted 64-bit hashes, confirmed by the id itself; numbers lead to everything else
by offsets. Nothing here grows with the collection but one bitmap of what is deleted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, InputError, UsageError
from ..records import Bitmap, Filter, Passage
from .columns import Columns
from .family import OpenPart
from .filters import Condition, canonical, flatten, key_of, select
from .passage_arrays import PLACE, passage_arrays
from .passage_builder import hash_ids

_STRETCH = 1 << 16
_KEPT_FILTERS = 8


class _Rows:
    """The passages of one segment, by row."""

    def __init__(self, opened: OpenPart) -> None:
        self.base, self.rows, self.deleted = opened.base, opened.rows, opened.deleted
        arrays = passage_arrays(opened)
        self._ids, self._id_offsets, self._records, self._record_offsets = arrays[:4]
        self._hashes, self._order = arrays.hashes, arrays.order
        self.columns = Columns(opened.part, opened.rows)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of many rows: their bytes are gathered, decoded and split in one go each."""
        ids: list[str] = []
        for start in range(0, len(rows), _STRETCH):
            some = rows[start : start + _STRETCH]
            starts = self._id_offsets[some]
            lengths = self._id_offsets[some + 1] - starts
            shifts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
            gathered = self._ids[shifts + np.arange(len(shifts))]
            ids += _decoded(gathered.tobytes()).split("\n")[:-1]
        if len(ids) != len(rows):
            raise Damaged("the ids are not one to a line", where=PLACE)
        return ids

    def find(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the live row of every id, -1 where there is none."""
        places = np.searchsorted(self._hashes, hashes)
        places[places == self.rows] = 0
        rows = self._order[places].astype(np.int64)
        known = np.flatnonzero(self._hashes[places] == hashes)
        found = np.full(len(ids), -1, dtype=np.int64)
        for i, id in zip(known.tolist(), self.ids(rows[known]), strict=True):
            found[i] = rows[i] if id == ids[i] else -2
        if self.deleted is not None:
            found[known[self.deleted[rows[known]]]] = -2
        for i in np.flatnonzero(found == -2).tolist():
            found[i] = self._walk(ids[i], hashes[i], int(places[i]))
        return found

    def _walk(self, id: str, hash: np.uint64, place: int) -> int:
        """The live row of an id among those of equal hash: earlier versions, or a collision."""
        while place < self.rows and self._hashes[place] == hash:
            row = int(self._order[place])
            live = self.deleted is None or not self.deleted[row]
            if live and self.ids(np.array([row]))[0] == id:
                return row
            place += 1
        return -1

    def metadata(self, row: int) -> Mapping[str, Any]:
        start, end = self._record_offsets[3 * row + 2 : 3 * row + 4].tolist()
        return _parsed(self._records[start:end].tobytes())

    def passages(self, rows: NDArray[np.int64]) -> Iterator[Passage]:
        for id, row in zip(self.ids(rows), rows.tolist(), strict=True):
            bounds = self._record_offsets[3 * row : 3 * row + 4].tolist()
            title, text, metadata = (self._records[a:b].tobytes() for a, b in pairwise(bounds))
            yield Passage(id, _decoded(text), _decoded(title), _parsed(metadata))

    def live_rows(self) -> NDArray[np.int64]:
        every = np.arange(self.rows)
        return every if self.deleted is None else every[~self.deleted]

    def match(self, condition: Condition) -> Bitmap:
        """(rows,) bool; right for live rows."""
        if self.columns.answers(condition):
            return self.columns.match(condition)
        held = np.zeros(self.rows, dtype=np.bool_)
        for row in self.live_rows().tolist():
            there = flatten(self.metadata(row))
            keys = [key_of(value) for path, value in there if path == condition.path]
            held[row] = condition.holds(keys)
        return held


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"a stored text is not UTF-8 ({error})", where=PLACE) from None


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if not raw:
        return {}
    try:
        parsed = json.loads(_decoded(raw))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"stored metadata is not JSON ({error})", where=PLACE) from None
    if not isinstance(parsed, dict):
        raise Damaged("stored metadata is no JSON object", where=PLACE)
    return parsed


class PassageStore:
    """All passages of one generation, by number and by id."""

    def __init__(self, parts: Sequence[OpenPart]) -> None:
        """parts: the part `passages` of every segment, in order."""
        self._segments = [_Rows(part) for part in parts if part.rows]
        self._bases = np.array([segment.base for segment in self._segments], dtype=np.int64)
        self.rows = sum(part.rows for part in parts)
        self.live: Bitmap | None = _live(parts, self.rows)
        self._selected: dict[str, Bitmap] = {}

    def __len__(self) -> int:
        return self.rows if self.live is None else int(np.count_nonzero(self.live))

    def __iter__(self) -> Iterator[Passage]:
        """The live passages by ascending number."""
        for segment in self._segments:
            rows = segment.live_rows()
            for start in range(0, len(rows), 1024):
                yield from segment.passages(rows[start : start + 1024])

    def ids(self, numbers: NDArray[np.int64]) -> list[str]:
        """The id of every passage number (n,); a padded -1 is refused."""
        numbers = np.asarray(numbers, dtype=np.int64)
        self._check(numbers)
        if len(numbers) < self.rows // 64:
            return self._decode(numbers)
        # Many numbers name the same passages: decode each once.
        named = np.zeros(self.rows, dtype=np.bool_)
        named[numbers] = True
        ids = np.array(self._decode(np.flatnonzero(named)), dtype=np.object_)
        repeated: list[str] = ids[(np.cumsum(named) - 1)[numbers]].tolist()
        return repeated

    def _decode(self, numbers: NDArray[np.int64]) -> list[str]:
        ids = np.empty(len(numbers), dtype=np.object_)
        for segment, places in self._by_segment(numbers):
            ids[places] = segment.ids(numbers[places] - segment.base)
        return ids.tolist()

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """(n,) the number of every id, -1 where no live passage has it."""
        hashes = hash_ids([id.encode(errors="surrogatepass") for id in ids])
        found = np.full(len(ids), -1, dtype=np.int64)
        for segment in reversed(self._segments):
            missing = np.flatnonzero(found < 0)
            rows = segment.find([ids[i] for i in missing.tolist()], hashes[missing])
            found[missing] = np.where(rows >= 0, segment.base + rows, -1)
        return found

    def fetch(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids; InputError naming the first that is not there."""
        numbers = self.numbers(ids)
        if (numbers < 0).any():
            missing = ids[int(np.argmin(numbers))]
            raise InputError(
                f"no passage has the id '{missing}'", remedy="Ask for ids that a search returned"
            )
        passages: dict[int, Passage] = {}
        for segment, places in self._by_segment(numbers):
            rows = numbers[places] - segment.base
            passages |= zip(places.tolist(), segment.passages(rows), strict=True)
        return [passages[i] for i in range(len(ids))]

    def select(self, filter: Filter) -> Bitmap:
        """(rows,) bool, read-only: the live passages whose metadata fit the filter."""
        key = canonical(filter)
        if key not in self._selected:
            allowed = select(filter, self.rows, self._match)
            if self.live is not None:
                allowed &= self.live
            allowed.flags.writeable = False
            while len(self._selected) >= _KEPT_FILTERS:
                self._selected.pop(next(iter(self._selected)), None)
            self._selected[key] = allowed
        return self._selected[key]

    def _match(self, condition: Condition) -> Bitmap:
        held = [segment.match(condition) for segment in self._segments]
        return np.concatenate(held) if held else np.zeros(0, dtype=np.bool_)

    def _by_segment(self, numbers: NDArray[np.int64]) -> Iterator[tuple[_Rows, NDArray[np.int64]]]:
        """Each segment that holds some of the numbers, with their places among them."""
        if len(self._segments) == 1:
            yield self._segments[0], np.arange(len(numbers))
            return
        owner = np.searchsorted(self._bases, numbers, side="right") - 1
        for i in np.unique(owner).tolist():
            yield self._segments[i], np.flatnonzero(owner == i)

    def _check(self, numbers: NDArray[np.int64]) -> None:
        wrong = (numbers < 0) | (numbers >= self.rows)
        if wrong.any():
            raise UsageError(
                f"there is no passage number {numbers[wrong][0]}",
                remedy=f"Numbers run from 0 to {self.rows - 1}; drop the padding of neighbours",
            )


def _live(parts: Sequence[OpenPart], rows: int) -> Bitmap | None:
    if all(part.deleted is None for part in parts):
        return None
    live = np.ones(rows, dtype=np.bool_)
    for part in parts:
        if part.deleted is not None:
            live[part.base : part.base + part.rows] = ~part.deleted
    return live
