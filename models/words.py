"""Numbering the distinct words of texts, and counting terms: the kernels of the analyzer.

A table of words is two arrays: `slots` (a power of two, uint64, open addressing; a slot holds the
upper half of a word's hash above the place of its record plus one, 0 is free) and `records` (uint8,
one after the other: a word's length in two bytes, its number in four, its bytes, ASCII in lower
case), so that a word is found at the price of two cache misses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import overload

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .tokenizer import ASCII_CLASSES, ASCII_LOWER, BEYOND, mix, scan, scan_ascii
from .word_break import JOINER, OTHER, character_classes

UPPER = np.uint64(0xFFFFFFFF00000000)
LOWER = np.uint64(0x00000000FFFFFFFF)
ONE, HALF = np.uint64(1), np.uint64(32)


HEAD = 6  # bytes of a record before the word


@njit(cache=True, nogil=True)
def _length_at(records, at):  # type: ignore[no-untyped-def]
    return np.int64(records[at]) | np.int64(records[at + 1]) << 8


@njit("void(uint64[::1], uint8[::1], int64, uint64)", cache=True, nogil=True)
def fill_slots(slots, records, end, seed):  # type: ignore[no-untyped-def]
    """Enter the words into empty slots."""
    mask = np.uint64(len(slots) - 1)
    at = 0
    while at < end:
        code, length = seed, _length_at(records, at)
        for i in range(at + HEAD, at + HEAD + length):
            code = mix(code, records[i])
        slot = (code ^ (code >> HALF)) & mask
        while slots[slot] != 0:
            slot = (slot + ONE) & mask
        slots[slot] = code & UPPER | np.uint64(at + 1)
        at += HEAD + length


@njit(
    "UniTuple(int64, 3)(Array(uint8, 1, 'C', readonly=True), int64[::1],"
    "Array(uint8, 1, 'C', readonly=True), uint64, uint64[::1], uint8[::1], int32[::1],"
    "int64[::1], int64, int64, int64[::1], int64)",
    cache=True,
    nogil=True,
)
def number_words(  # type: ignore[no-untyped-def]
    text, bounds, classes, seed, slots, records, words, starts, document, i, size, n
):
    """Cut texts into words and number them, new words last, until the table is full.

    text: (bytes,) UTF-8 of all texts; text i is ``text[bounds[i]:bounds[i + 1]]``.
    seed: where every hash starts, so that nobody can know which words collide.
    words, starts: filled with the number of each token's word and where each text's tokens start.
    document, i, n: where to begin: a text, a byte in it, tokens so far; the same three are
    returned, and when the text is not past the last, the table needs more room.
    size: (2,) how many words there are, and the bytes of their records; brought up to date.
    """
    mask = np.uint64(len(slots) - 1)
    while document < len(bounds) - 1:
        end = bounds[document + 1]
        while i < end:
            kind = ASCII_CLASSES[text[i]]
            if kind == OTHER or (JOINER < kind < BEYOND):
                i += 1
                continue
            start = i
            i, code = scan_ascii(text, start, end, seed)
            if i < 0:
                i, found = scan(text, start, end, classes)
                if not found:
                    continue
                code = seed
                for j in range(start, i):
                    code = mix(code, ASCII_LOWER[text[j]])
            slot = (code ^ (code >> HALF)) & mask
            word = np.int64(-1)
            while slots[slot] != 0:
                if slots[slot] & UPPER == code & UPPER:
                    at = np.int64(slots[slot] & LOWER) - 1
                    if _length_at(records, at) == i - start:
                        j = start
                        while j < i and records[at + HEAD + j - start] == ASCII_LOWER[text[j]]:
                            j += 1
                        if j == i:
                            word = np.int64(records[at + 2]) | np.int64(records[at + 3]) << 8
                            word |= np.int64(records[at + 4]) << 16
                            word |= np.int64(records[at + 5]) << 24
                            break
                slot = (slot + ONE) & mask
            if word < 0:
                word, at = size[0], size[1]
                if at + HEAD + i - start > len(records) or 2 * word >= len(slots):
                    return document, start, n
                records[at], records[at + 1] = (i - start) & 255, (i - start) >> 8
                for j in range(4):
                    records[at + 2 + j] = (word >> (8 * j)) & 255
                for j in range(start, i):
                    records[at + HEAD + j - start] = ASCII_LOWER[text[j]]
                slots[slot] = code & UPPER | np.uint64(at + 1)
                size[0], size[1] = word + 1, at + HEAD + i - start
            words[n] = word
            n += 1
        document += 1
        starts[document] = n
    return document, i, n


@njit("void(uint8[::1], int64, int64, int64[::1])", cache=True, nogil=True)
def _list_records(records, at, end, starts):  # type: ignore[no-untyped-def]
    """Fill in where the words of the records from `at` on start."""
    n = 0
    while at < end:
        starts[n] = at + HEAD
        at += HEAD + _length_at(records, at)
        n += 1


@dataclass(slots=True, eq=False)
class Words:
    """The distinct words seen so far, numbered in the order in which they came."""

    seed: np.uint64
    slots: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(1 << 12, np.uint64))
    records: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1 << 15, np.uint8))
    size: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))

    @property
    def count(self) -> int:
        return int(self.size[0])

    def number(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The number of each token's word, and (texts + 1,) where each text's tokens start."""
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=bounds[1:])
        text = np.frombuffer(b"".join(texts), np.uint8)
        # A token needs at least a byte and a half: "a" beside a copyright sign.
        words = np.empty(2 * len(text) // 3 + 2, np.int32)
        starts = np.zeros(len(bounds), np.int64)
        document, i, n = 0, 0, 0
        while True:
            table = self.seed, self.slots, self.records
            document, i, n = number_words(
                text, bounds, character_classes(), *table, words, starts, document, i, self.size, n
            )
            if document == len(texts):
                return words[:n], starts
            self._grow()

    def _grow(self) -> None:
        """Twice the room."""
        self.slots = np.zeros(2 * len(self.slots), np.uint64)
        self.records = np.concatenate([self.records, np.zeros_like(self.records)])
        fill_slots(self.slots, self.records, self.size[1], self.seed)

    def since(self, place: int, known: int) -> list[bytes]:
        """The words numbered `known` and above, whose records start at `place`."""
        starts = np.empty(self.count - known, np.int64)
        _list_records(self.records, place, self.size[1], starts)
        raw = self.records[place : self.size[1]].tobytes()
        begins = (starts - place).tolist()
        ends = [begin - HEAD for begin in begins[1:]] + [len(raw)]
        return [raw[i:j] for i, j in zip(begins, ends, strict=True)]


class Terms(Sequence[bytes]):
    """Terms as their bytes one after the other and where each ends: a vocabulary in two arrays."""

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._blob, self._ends = blob, ends

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of all terms, and where each ends."""
        return self._blob, self._ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return list(self)[number]
        number = range(len(self))[number]
        start = self._ends[number - 1] if number else 0
        return self._blob[start : self._ends[number]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        raw = self._blob.tobytes()
        return iter([raw[i:j] for i, j in pairwise([0, *self._ends.tolist()])])


@njit("Tuple((uint8[::1], int64[::1]))(uint8[::1], int64[::1], int32[::1])", cache=True, nogil=True)
def take_terms(blob, ends, chosen):  # type: ignore[no-untyped-def]
    """The bytes and ends of the chosen terms."""
    taken_ends, n = np.empty(len(chosen), np.int64), 0
    for i in range(len(chosen)):
        term = chosen[i]
        n += ends[term] - (ends[term - 1] if term > 0 else 0)
        taken_ends[i] = n
    taken, n = np.empty(n, np.uint8), 0
    for i in range(len(chosen)):
        term = chosen[i]
        for j in range(ends[term - 1] if term > 0 else 0, ends[term]):
            taken[n] = blob[j]
            n += 1
    return taken, taken_ends


@njit(
    "Tuple((int64[::1], int32[::1], float32[::1], int32[::1], int32[::1]))("
    "int32[::1], int64[::1], int32[::1], int64[::1], int32[::1], int32[::1], int64)",
    cache=True,
    nogil=True,
)
def count_terms(words, starts, terms, stamps, places, locals_, stamp):  # type: ignore[no-untyped-def]
    """Count the terms of each text and number the distinct terms of the batch.

    terms: (words,) the term of each word, -1 for words that are left out.
    stamps, places, locals_: (terms,) scratch kept between calls; `stamp` is higher than all stamps.
    Returns offsets, ids and weights as WeightedTerms has them, the texts' lengths in tokens, and
    the terms that the ids stand for.
    """
    texts = len(starts) - 1
    offsets = np.zeros(texts + 1, np.int64)
    ids = np.empty(len(words), np.int32)
    weights = np.empty(len(words), np.float32)
    lengths = np.zeros(texts, np.int32)
    batch = np.empty(min(len(words), len(stamps)), np.int32)
    n = distinct = 0
    for text in range(texts):
        for i in range(starts[text], starts[text + 1]):
            term = terms[words[i]]
            if term < 0:
                continue
            lengths[text] += 1
            if stamps[term] == stamp + text:
                weights[places[term]] += 1
                continue
            if stamps[term] < stamp:
                batch[distinct] = term
                locals_[term] = distinct
                distinct += 1
            stamps[term] = stamp + text
            places[term] = n
            ids[n] = locals_[term]
            weights[n] = 1
            n += 1
        offsets[text + 1] = n
    return offsets, ids[:n].copy(), weights[:n].copy(), lengths, batch[:distinct].copy()
