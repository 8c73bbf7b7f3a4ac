"""Numbering the distinct words of texts, and counting terms: the kernels of the analyzer.

A table of words is four things: `slots` (a power of two, uint64, open addressing; a slot holds the
upper half of a word's hash above its number plus one, 0 is free), `blob` (uint8, the words' bytes
one after the other, ASCII in lower case), `ends` (int64, where each word ends in the blob) and how
many words there are.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .tokenizer import ASCII_CLASSES, ASCII_LOWER, BEYOND, mix, scan, scan_ascii
from .word_break import JOINER, OTHER, character_classes

UPPER = np.uint64(0xFFFFFFFF00000000)
LOWER = np.uint64(0x00000000FFFFFFFF)
ONE, HALF = np.uint64(1), np.uint64(32)


@njit("void(uint64[::1], uint8[::1], int64[::1], int64, uint64)", cache=True, nogil=True)
def fill_slots(slots, blob, ends, count, seed):  # type: ignore[no-untyped-def]
    """Enter the words into empty slots."""
    mask = np.uint64(len(slots) - 1)
    i = 0
    for word in range(count):
        code = seed
        while i < ends[word]:
            code = mix(code, blob[i])
            i += 1
        slot = (code ^ (code >> HALF)) & mask
        while slots[slot] != 0:
            slot = (slot + ONE) & mask
        slots[slot] = code & UPPER | np.uint64(word + 1)


@njit(
    "UniTuple(int64, 4)(Array(uint8, 1, 'C', readonly=True), int64[::1],"
    "Array(uint8, 1, 'C', readonly=True), uint64, uint64[::1], uint8[::1], int64[::1],"
    "int32[::1], int64[::1], int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)
def number_words(  # type: ignore[no-untyped-def]
    text, bounds, classes, seed, slots, blob, ends, words, starts, document, i, count, n
):
    """Cut texts into words and number them, new words last, until the table is full.

    text: (bytes,) UTF-8 of all texts; text i is ``text[bounds[i]:bounds[i + 1]]``.
    seed: where every hash starts, so that nobody can know which words collide.
    words, starts: filled with the number of each token's word and where each text's tokens start.
    document, i, count, n: where to begin: a text, a byte in it, words and tokens so far; the same
    four are returned, and when the text is not past the last, the table needs more room.
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
                    other = np.int64(slots[slot] & LOWER) - 1
                    at = ends[other - 1] if other > 0 else 0
                    if ends[other] - at == i - start:
                        j = start
                        while j < i and blob[at + j - start] == ASCII_LOWER[text[j]]:
                            j += 1
                        if j == i:
                            word = other
                            break
                slot = (slot + ONE) & mask
            if word < 0:
                word = count
                at = ends[word - 1] if word > 0 else 0
                full = at + i - start > len(blob) or count == len(ends)
                if full or 2 * count >= len(slots):
                    return document, start, count, n
                for j in range(start, i):
                    blob[at + j - start] = ASCII_LOWER[text[j]]
                ends[word] = at + i - start
                slots[slot] = code & UPPER | np.uint64(word + 1)
                count += 1
            words[n] = word
            n += 1
        document += 1
        starts[document] = n
    return document, i, count, n


@dataclass(slots=True, eq=False)
class Words:
    """The distinct words seen so far, numbered in the order in which they came."""

    seed: np.uint64
    count: int = 0
    slots: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(1 << 12, np.uint64))
    blob: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1 << 14, np.uint8))
    ends: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 11, np.int64))

    def number(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The number of each token's word, and (texts + 1,) where each text's tokens start."""
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=bounds[1:])
        text = np.frombuffer(b"".join(texts), np.uint8)
        # A token needs at least a byte and a half: "a" beside a copyright sign.
        words = np.empty(2 * len(text) // 3 + 2, np.int32)
        starts = np.zeros(len(bounds), np.int64)
        state = 0, 0, self.count, 0
        while True:
            table = self.slots, self.blob, self.ends
            state = number_words(
                text, bounds, character_classes(), self.seed, *table, words, starts, *state
            )
            self.count = state[2]
            if state[0] == len(texts):
                return words[: state[3]], starts
            self._grow()

    def _grow(self) -> None:
        """Twice the room."""
        self.slots = np.zeros(2 * len(self.slots), np.uint64)
        self.blob = np.concatenate([self.blob, np.zeros_like(self.blob)])
        self.ends = np.concatenate([self.ends, np.zeros_like(self.ends)])
        fill_slots(self.slots, self.blob, self.ends, self.count, self.seed)

    def since(self, known: int) -> list[bytes]:
        """The words numbered `known` and above, ASCII in lower case."""
        first = int(self.ends[known - 1]) if known else 0
        cuts = [0, *(self.ends[known : self.count] - first).tolist()]
        raw = self.blob[first : first + cuts[-1]].tobytes()
        return [raw[i:j] for i, j in pairwise(cuts)]


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
