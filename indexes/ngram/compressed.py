"""The text as an FM-index: the text itself is not kept, and everything is found by counting.

planes (levels, words) uint64   the token that follows each sorted position, as a wavelet matrix
marked (words,) uint64          the rows of which a position is kept, as a plane of bits
samples (marked rows,) uint32   those positions
entries (rows,) uint32          the row from which each passage is read
primary (1,) int64              the row of the end

Row i is the i-th smallest suffix of the text read backwards, the empty one first; what stands
before it there follows in the text. So the rows of an n-gram are narrowed by appending a token to
it, and what may follow it is what the planes have between its rows. A position is that of the text
read backwards: where the occurrence that begins the suffix ends, counted from the end of the text.

P. Ferragina and G. Manzini, "Opportunistic data structures with applications", FOCS 2000.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..family import OpenPart
from ..stored import stored
from .part import PLACE, Coded, Stretches, Tokens, require, write_tokens
from .suffix_sort import suffix_array
from .suffixes import encode
from .wavelet import (
    WORDS,
    bit,
    bit_plane,
    blocks_for,
    code_at,
    counts_right,
    enumerate_codes,
    first_places,
    has_codes,
    narrowed,
    rank,
    wavelet,
)  # fmt: skip

if TYPE_CHECKING:
    from ...storage import PartWriter


class Compressed:
    """A text as an FM-index; see `part.Layout`."""

    def __init__(self, opened: OpenPart, tokens: Tokens, sampling: int) -> None:
        part, self._tokens, self._sampling = opened.part, tokens, sampling
        size, levels = tokens.size, levels_for(tokens)
        planes = stored(part, "planes", "uint64", PLACE, 2)
        self._marked = stored(part, "marked", "uint64", PLACE)
        self._samples = stored(part, "samples", "uint32", PLACE)
        self._entries = stored(part, "entries", "uint32", PLACE)
        primary = stored(part, "primary", "int64", PLACE)
        require(planes.shape == (levels, blocks_for(size) * WORDS), "planes")
        require(len(self._marked) == blocks_for(size + 1) * WORDS, "marked")
        require(counts_right(planes, size), "planes")
        require(counts_right(self._marked[None], size + 1), "marked")
        require(len(self._samples) == rank(self._marked, size + 1), "samples")
        require(len(self._entries) == tokens.rows, "entries")
        require(int(self._entries.max(initial=0)) <= size, "entries")
        require(len(primary) == 1 and 0 <= primary[0] <= size, "primary")
        zeros = np.array([size - rank(plane, size) for plane in planes], np.int64)
        places = first_places(tokens.firsts, levels)
        require(has_codes(planes, zeros, places, tokens.firsts, size), "planes")
        self._codes = planes, zeros, places, tokens.firsts, int(primary[0])

    def ranges(self, offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        found, tokens = np.zeros((len(offsets) - 1, 2), np.int64), self._tokens
        find_rows(*self._codes, tokens.codes, tokens.separator, offsets, ids, found)
        return found

    def _rows(self, ranges: NDArray[np.int64], lengths: Any) -> NDArray[np.int64]:
        """The rows of ranges: a separator alone has one more, at the end of the text."""
        first = self._tokens.firsts[self._tokens.separator] + 1
        more = (ranges[:, 0] == first) & (lengths == 1)
        return np.stack((ranges[:, 0], ranges[:, 1] + more), axis=1)

    def allowed(
        self, ranges: NDArray[np.int64], length: int, candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        found = np.zeros(candidates.shape, np.bool_)
        rows = self._rows(ranges, length)
        test_candidates(*self._codes, self._tokens.codes, rows, candidates, found)
        return found

    def continuations(
        self, ranges: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        rows = self._rows(ranges, length)
        most = int(np.minimum(rows[:, 1] - rows[:, 0], len(self._tokens.ids)).sum())
        codes, counts = np.empty(most, np.int64), np.empty(most, np.int64)
        offsets = np.zeros(len(ranges) + 1, np.int64)
        enumerate_tokens(*self._codes, rows, offsets, codes, counts)
        return offsets, codes[: offsets[-1]], counts[: offsets[-1]]

    def located(
        self, ranges: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        ends = np.cumsum(ranges[:, 1] - ranges[:, 0])
        stretches = np.stack((np.append(0, ends[:-1])[: len(ends)], ends), axis=1)
        found = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint32)
        rows, kept = self._rows(ranges, lengths), (self._marked, self._samples, self._sampling)
        locate_rows(*self._codes, *kept, self._tokens.size, rows, lengths, stretches, found)
        return found, stretches

    def stretches(self, rows: NDArray[np.int64]) -> Stretches:
        lengths = self._tokens.starts[rows + 1] - self._tokens.starts[rows] + 1
        ends = np.cumsum(lengths)
        text = np.full(int(ends[-1]) if len(ends) else 0, self._tokens.separator, np.uint32)
        read_passages(*self._codes, self._entries[rows], ends - lengths, ends, text)
        return Stretches(text.astype(self._tokens.dtype, copy=False), ends - lengths, ends)


def levels_for(tokens: Tokens) -> int:
    """Bits of a code."""
    return max(1, (len(tokens.ids) - 1).bit_length())


def write_compressed(writer: "PartWriter", coded: Coded, sampling: int) -> None:
    """Write a text as an FM-index: its suffixes, backwards, are sorted and then forgotten."""
    backwards, tokens = np.ascontiguousarray(coded.text[::-1]), coded.tokens
    order = suffix_array(backwards, len(tokens.ids))
    rows = np.concatenate((np.array([len(order)], np.uint32), order))
    del order
    whole = rows > 0
    write_tokens(writer, tokens)
    writer.array("planes", wavelet(backwards[rows[whole] - 1], levels_for(tokens)))
    sampled = rows % sampling == 0
    writer.array("marked", bit_plane(sampled.view(np.uint8)))
    writer.array("samples", rows[sampled])
    row_of = np.empty(len(rows), np.uint32)
    row_of[rows] = np.arange(len(rows), dtype=np.uint32)
    writer.array("entries", row_of[tokens.size - tokens.starts[:-1]])
    writer.array("primary", np.flatnonzero(~whole).astype(np.int64))


@njit(cache=True, nogil=True)
def find_rows(planes, zeros, places, firsts, primary, codes_of, separator, offsets, ids, found):  # type: ignore[no-untyped-def]
    """The rows of each n-gram, less the end of the text for a separator alone."""
    longest = np.int64(0)
    for i in range(len(found)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    codes = np.empty(longest, np.int64)
    for i in range(len(found)):
        length = offsets[i + 1] - offsets[i]
        if not encode(codes_of, separator, ids[offsets[i] : offsets[i + 1]], codes):
            continue
        low, high = firsts[codes[0]] + 1, firsts[codes[0] + 1] + 1
        for depth in range(1, length):
            code = codes[depth]
            below, above = low - (low > primary), high - (high > primary)
            below, above = narrowed(planes, zeros, places, code, below, above)
            low, high = firsts[code] + 1 + below, firsts[code] + 1 + above
            if low >= high:
                break
        if low < high:
            found[i, 0], found[i, 1] = low, high - (length == 1 and codes[0] == separator)


@njit(cache=True, nogil=True)
def test_candidates(planes, zeros, places, firsts, primary, codes_of, rows, candidates, found):  # type: ignore[no-untyped-def]
    """Whether each candidate follows the n-grams of its rows."""
    for i in range(len(rows)):
        low, high = rows[i, 0] - (rows[i, 0] > primary), rows[i, 1] - (rows[i, 1] > primary)
        if low >= high:
            continue
        for j in range(candidates.shape[1]):
            id = candidates[i, j]
            if 0 <= id < len(codes_of) and codes_of[id] >= 0:
                code = np.int64(codes_of[id])
                below, above = narrowed(planes, zeros, places, code, low, high)
                found[i, j] = below < above


@njit(cache=True, nogil=True)
def enumerate_tokens(planes, zeros, places, firsts, primary, rows, offsets, codes, counts):  # type: ignore[no-untyped-def]
    """The codes that follow the n-grams of each range of rows."""
    stack = np.empty((2 * len(planes) + 2, 4), np.int64)
    n = np.int64(0)
    for i in range(len(rows)):
        low, high = rows[i, 0] - (rows[i, 0] > primary), rows[i, 1] - (rows[i, 1] > primary)
        if low < high:
            n = enumerate_codes(planes, zeros, low, high, stack, codes, counts, n)
        offsets[i + 1] = n


@njit(cache=True, nogil=True)
def _next_row(planes, zeros, places, firsts, primary, row):  # type: ignore[no-untyped-def]
    """The row of the suffix that is longer by the token that follows, and that token."""
    code, before = code_at(planes, zeros, places, row - (row > primary))
    return firsts[code] + 1 + before, code


@njit(cache=True, nogil=True)
def locate_rows(  # type: ignore[no-untyped-def]
    planes, zeros, places, firsts, primary, marked, samples, sampling, size, rows, lengths,
    stretches, found,
):  # fmt: skip
    """Where n-grams begin in the text: on along it until a row of which the position is kept."""
    for i in range(len(rows)):
        at = stretches[i, 0]
        for start in range(rows[i, 0], rows[i, 1]):
            row, steps = np.int64(start), np.int64(0)
            if row == primary and rows[i, 1] - rows[i, 0] > stretches[i, 1] - stretches[i, 0]:
                continue  # a separator alone, where the text ends
            while steps < sampling and row != primary and not bit(marked, row):
                row, _ = _next_row(planes, zeros, places, firsts, primary, row)
                steps += 1
            position = steps
            if bit(marked, row):
                position += np.int64(samples[rank(marked, row)])
            if at < stretches[i, 1]:
                found[at] = max(size - position - lengths[i], np.int64(0))
            at += 1


@njit(cache=True, nogil=True)
def read_passages(planes, zeros, places, firsts, primary, entries, begins, ends, text):  # type: ignore[no-untyped-def]
    """Write passages between the separators that stand in the text already."""
    for i in range(len(entries)):
        row = np.int64(entries[i])
        for at in range(begins[i] + 1, ends[i] - 1):
            if row == primary:
                break
            row, code = _next_row(planes, zeros, places, firsts, primary, row)
            text[at] = code
