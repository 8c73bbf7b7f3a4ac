"""The text and its suffix array: six bytes a token, and everything is found by halving.

suffixes (n,) uint32         positions of the text, in the order of what stands there
text (n,) uint16 or uint32   codes

The suffixes that begin with an n-gram are one range of the array, and in it they are sorted by the
token that follows. A suffix is no address before it was compared with the length of the text.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..family import OpenPart
from ..stored import stored
from .part import PLACE, Coded, Stretches, Tokens, require, write_tokens
from .suffix_sort import sort_keys, suffix_array

if TYPE_CHECKING:
    from ...storage import PartWriter

_FEW = 128
"""Suffixes of which all are looked at, rather than to search them for each candidate."""

_FREQUENT = 4096
"""Occurrences from which the tokens that follow a single token are noted, a bit each ..."""

_MOST_BYTES = 32 << 20
"""... for the most frequent ones that fit in here."""


class Suffixes:
    """A text with its suffix array; see `part.Layout`."""

    def __init__(self, opened: OpenPart, tokens: Tokens) -> None:
        self._tokens = tokens
        self._text = stored(opened.part, "text", tokens.dtype.__name__, PLACE)
        self._suffixes = stored(opened.part, "suffixes", "uint32", PLACE)
        require(len(self._text) == len(self._suffixes) == tokens.size, "text")
        require(int(self._text.max()) < len(tokens.ids), "text")
        known = tokens.firsts, tokens.codes, tokens.separator
        self._arrays = self._suffixes, self._text, *known
        edges = self._text[tokens.starts - 1]
        require(bool((edges == tokens.separator).all()), "starts")

    def ranges(self, offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.zeros((len(offsets) - 1, 2), np.int64)
        find_ranges(*self._arrays, offsets, ids, found)
        return found

    def allowed(
        self, ranges: NDArray[np.int64], length: int, candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        found = np.zeros(candidates.shape, np.bool_)
        noted, bits = np.full(len(ranges), -1), np.empty((0, 0), np.uint8)
        if length == 1 and len(ranges):
            places, bits = self._followers
            noted = places[np.searchsorted(self._tokens.firsts, ranges[:, 0], "right") - 1]
        known = self._tokens.codes, len(self._tokens.ids), noted, bits
        test_candidates(self._suffixes, self._text, *known, ranges, length, candidates, found)
        return found

    @cached_property
    def _followers(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """For each code its row of bits, -1 for none; in a row a bit a code, set if it follows."""
        counts, width = np.diff(self._tokens.firsts), len(self._tokens.ids) // 8 + 1
        frequent = np.argsort(-counts, kind="stable")[: _MOST_BYTES // width]
        frequent = frequent[counts[frequent] >= _FREQUENT]
        bits = np.zeros((len(frequent), width), np.uint8)
        note_followers(self._suffixes, self._text, self._tokens.firsts, frequent, bits)
        places = np.full(len(counts), -1)
        places[frequent] = np.arange(len(frequent))
        return places, bits

    def continuations(
        self, ranges: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        most = int(np.minimum(ranges[:, 1] - ranges[:, 0], len(self._tokens.ids)).sum())
        codes, counts = np.empty(most, np.int64), np.empty(most, np.int64)
        offsets = np.zeros(len(ranges) + 1, np.int64)
        enumerate_tokens(self._suffixes, self._text, ranges, length, offsets, codes, counts)
        return offsets, codes[: offsets[-1]], counts[: offsets[-1]]

    def located(
        self, ranges: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        return self._suffixes, ranges

    def stretches(self, rows: NDArray[np.int64]) -> Stretches:
        starts = self._tokens.starts
        return Stretches(self._text, starts[rows] - 1, starts[rows + 1])


def write_suffixes(writer: "PartWriter", coded: Coded) -> None:
    """Write a text and its suffix array."""
    write_tokens(writer, coded.tokens)
    writer.array("text", coded.text)
    writer.array("suffixes", suffix_array(coded.text, len(coded.tokens.ids)))


@njit(cache=True, nogil=True)
def _compare(text, at, codes, length):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: how the suffix at a position stands to what begins with `length` codes."""
    n = len(text)
    for depth in range(length):
        if at + depth >= n:
            return -1
        code = np.int64(text[at + depth])
        if code != codes[depth]:
            return -1 if code < codes[depth] else 1
    return 0


@njit(cache=True, nogil=True)
def encode(codes_of, separator, ids, codes):  # type: ignore[no-untyped-def]
    """Ids as codes; False if one does not occur or there is none.

    A separator ends an n-gram unless it is its first token: behind one nothing occurs.
    """
    for place in range(len(ids)):
        id = ids[place]
        if id < 0 or id >= len(codes_of) or codes_of[id] < 0:
            return False
        if place > 1 and codes[place - 1] == separator:
            return False
        codes[place] = codes_of[id]
    return len(ids) > 0


@njit(cache=True, nogil=True)
def find_ranges(suffixes, text, firsts, codes_of, separator, offsets, ids, found):  # type: ignore[no-untyped-def]
    """The suffixes that begin with each n-gram."""
    longest = np.int64(0)
    for i in range(len(found)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    codes = np.empty(longest, np.int64)
    for i in range(len(found)):
        length = offsets[i + 1] - offsets[i]
        if not encode(codes_of, separator, ids[offsets[i] : offsets[i + 1]], codes):
            continue
        low, high = firsts[codes[0]], firsts[codes[0] + 1]
        if length == 1:
            # behind the last separator, whose suffix is the shortest, nothing begins
            found[i, 0], found[i, 1] = low + (codes[0] == separator), high
            continue
        below, above = low, high
        while low < high:
            middle = (low + high) >> 1
            order = _compare(text, np.int64(suffixes[middle]), codes, length)
            if order < 0:
                low = middle + 1
            else:
                high = middle
                above = middle if order > 0 else above
        below, high = low, above
        while low < high:
            middle = (low + high) >> 1
            if _compare(text, np.int64(suffixes[middle]), codes, length) <= 0:
                low = middle + 1
            else:
                high = middle
        found[i, 0], found[i, 1] = below, low


@njit(cache=True, nogil=True)
def _following(suffixes, text, row, length):  # type: ignore[no-untyped-def]
    """The code behind the first `length` of a suffix, -1 where the text ends."""
    at = np.int64(suffixes[row]) + length
    return np.int64(text[at]) if at < len(text) else np.int64(-1)


@njit(cache=True, nogil=True)
def note_followers(suffixes, text, firsts, frequent, bits):  # type: ignore[no-untyped-def]
    """Set a bit for each code that follows one of the frequent ones."""
    for i in range(len(frequent)):
        for row in range(firsts[frequent[i]], firsts[frequent[i] + 1]):
            code = _following(suffixes, text, row, 1)
            if code >= 0:
                bits[i, code >> 3] |= np.uint8(1 << (code & 7))


@njit(cache=True, nogil=True)
def test_candidates(  # type: ignore[no-untyped-def]
    suffixes, text, codes_of, codes, noted, bits, ranges, length, candidates, found
):
    """Whether each candidate follows the n-grams in its range."""
    width = candidates.shape[1]
    wanted, spare = np.empty(width, np.int64), np.empty(width, np.int64)
    bounds = np.empty(width + 2, np.int64)
    seen = np.zeros(codes, np.int32)
    for i in range(len(ranges)):
        first, last = ranges[i]
        if last <= first:
            continue
        for j in range(width):
            id = candidates[i, j]
            code = np.int64(codes_of[id]) if 0 <= id < len(codes_of) else np.int64(-1)
            wanted[j] = (code + 1) << 32 | j
        if noted[i] >= 0:
            for j in range(width):
                code = (wanted[j] >> 32) - 1
                found[i, j] = code >= 0 and (bits[noted[i], code >> 3] >> (code & 7)) & 1
        elif last - first <= _FEW:
            for row in range(first, last):
                code = _following(suffixes, text, row, length)
                if code >= 0:
                    seen[code] = i + 1
            for j in range(width):
                code = (wanted[j] >> 32) - 1
                found[i, j] = code >= 0 and seen[code] == i + 1
        else:
            sort_keys(wanted, spare, width)
            _test_sorted(suffixes, text, first, last, length, wanted, bounds, found[i])


@njit(cache=True, nogil=True)
def _test_sorted(suffixes, text, first, last, length, wanted, bounds, found):  # type: ignore[no-untyped-def]
    """Look candidates up by halves: what is found for one bounds the search for those between.

    wanted: code + 1 << 32 | column, sorted.  bounds: for each from 1 on where it was found.
    """
    width, stride = len(wanted), 1
    while 2 * stride <= width:
        stride *= 2
    bounds[0] = first
    while stride:
        for j in range(stride, width + 1, 2 * stride):
            code = (wanted[j - 1] >> 32) - 1
            low = bounds[j - stride]
            high = bounds[j + stride] if j + stride <= width else last
            while low < high:
                middle = (low + high) >> 1
                if _following(suffixes, text, middle, length) < code:
                    low = middle + 1
                else:
                    high = middle
            bounds[j] = low
            if code >= 0 and low < last:
                there = _following(suffixes, text, low, length) == code
                found[wanted[j - 1] & 0xFFFFFFFF] = there
        stride //= 2


@njit(cache=True, nogil=True)
def enumerate_tokens(suffixes, text, ranges, length, offsets, codes, counts):  # type: ignore[no-untyped-def]
    """The codes that follow the n-grams in each range: from one to the next by doubling steps."""
    n = np.int64(0)
    for i in range(len(ranges)):
        row, last = ranges[i]
        previous = np.int64(-1)
        while row < last:
            code = _following(suffixes, text, row, length)
            step, low = np.int64(1), row
            while low + step < last and _following(suffixes, text, low + step, length) == code:
                low, step = low + step, 2 * step
            high = min(low + step, last)
            low += 1
            while low < high:
                middle = (low + high) >> 1
                if _following(suffixes, text, middle, length) == code:
                    low = middle + 1
                else:
                    high = middle
            if code > previous and n < len(codes):
                codes[n], counts[n] = code, low - row
                n, previous = n + 1, code
            row = low
        offsets[i + 1] = n
    return n
