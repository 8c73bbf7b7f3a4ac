"""Cutting UTF-8 text into words by the rules of Unicode Standard Annex 29.

Words are found as Lucene's StandardTokenizer finds them: the word-break rules, one token for each
Han or Hiragana character, runs for South East Asian scripts, pictographs, and words cut at 255
UTF-16 units. ASCII goes through a fast path that looks one character ahead; whatever else occurs in
or next to a word goes through `scan`. Each step looks at most one window of 255 units ahead, so
the time is linear in the text.

https://www.unicode.org/reports/tr29/
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from . import word_break
from .word_break import (
    COMPLEX,
    DIGIT,
    DOUBLE_QUOTE,
    EXTEND,
    FLAG,
    HAN,
    HEBREW,
    HIRAGANA,
    JOINER,
    KATAKANA,
    LETTER,
    MID_DIGIT,
    MID_EITHER,
    MID_LETTER,
    OTHER,
    PICTURE,
    QUOTE,
)

Bytes: TypeAlias = NDArray[np.uint8]

WINDOW = 255
BEYOND = 255  # the class of a byte that is not ASCII
JOINS_WORD = 0x200D

ASCII_CLASSES = np.full(256, BEYOND, np.uint8)
ASCII_CLASSES[:128] = word_break.character_classes()[:128]
ASCII_LOWER = np.arange(256, dtype=np.uint8)
ASCII_LOWER[65:91] += 32
# What letters, digits and joiners are hashed as; 0 for all other bytes.
WORD_BYTES = np.where((ASCII_CLASSES > OTHER) & (ASCII_CLASSES <= JOINER), ASCII_LOWER, 0)
WORD_BYTES = WORD_BYTES.astype(np.uint8)


@njit(cache=True, nogil=True)
def _read(text, i, end):  # type: ignore[no-untyped-def]
    """The code point at `i` and its length in bytes; text comes from Python's own encoder."""
    b = np.int64(text[i])
    if b < 0x80 or i + 1 >= end:
        return b, 1
    if b < 0xE0:
        return (b & 0x1F) << 6 | (text[i + 1] & 0x3F), 2
    if b < 0xF0:
        return (b & 0x0F) << 12 | (text[i + 1] & 0x3F) << 6 | (text[i + 2] & 0x3F), 3
    high = (b & 0x07) << 18 | (text[i + 1] & 0x3F) << 12
    return high | (text[i + 2] & 0x3F) << 6 | (text[i + 3] & 0x3F), 4


@njit(cache=True, nogil=True)
def _skip_extenders(text, i, end, left, classes):  # type: ignore[no-untyped-def]
    """Past the marks that belong to the character before, within `left` UTF-16 units.

    Gives the position, the units left, and whether the last mark was a zero-width joiner.
    """
    joined = False
    while i < end:
        point, size = _read(text, i, end)
        if classes[point] != EXTEND or left < 1 + (size == 4):
            break
        joined = point == JOINS_WORD
        left -= 1 + (size == 4)
        i += size
    return i, left, joined


@njit(cache=True, nogil=True)
def _next(text, i, end, left, classes):  # type: ignore[no-untyped-def]
    """Class of the character at `i`, its end with its marks, units left; OTHER past the window."""
    if i >= end:
        return OTHER, i, left
    point, size = _read(text, i, end)
    units = 1 + (size == 4)
    if units > left:
        return OTHER, i, left
    after, left, _ = _skip_extenders(text, i + size, end, left - units, classes)
    return classes[point], after, left


@njit(cache=True, nogil=True)
def _bridges(last, middle, following):  # type: ignore[no-untyped-def]
    """Whether a word goes on over one punctuation mark between two characters (WB6-7, WB11-12)."""
    either = middle == MID_EITHER or middle == QUOTE
    if last == DIGIT:
        return following == DIGIT and (either or middle == MID_DIGIT)
    if last == HEBREW and middle == DOUBLE_QUOTE:
        return following == HEBREW
    letters = (last == LETTER or last == HEBREW) and (following == LETTER or following == HEBREW)
    return letters and (either or middle == MID_LETTER)


@njit(cache=True, nogil=True)
def _word_end(text, start, end, classes):  # type: ignore[no-untyped-def]
    """The end of the word that starts at `start`, or `start` when nothing but joiners is there."""
    i, left, last, some = start, WINDOW, OTHER, False
    while True:
        kind, after, rest = _next(text, i, end, left, classes)
        if LETTER <= kind <= KATAKANA:
            if last != OTHER and last != JOINER and (last == KATAKANA) != (kind == KATAKANA):
                break
            some = True
        elif kind != JOINER and not (last == HEBREW and kind == QUOTE):
            following, after, rest = _next(text, after, end, rest, classes)
            if kind == OTHER or not _bridges(last, kind, following):
                break
            if kind != DOUBLE_QUOTE:  # Lucene lets no quote or mark follow a Hebrew letter
                kind = DIGIT if following == DIGIT else LETTER  # that itself follows a mark
        i, left, last = after, rest, kind
    return i if some else start


@njit(cache=True, nogil=True)
def _after_joiners(text, start, end, classes):  # type: ignore[no-untyped-def]
    """Where to look on when a window of joiners holds no word: Lucene steps one by one."""
    i = start
    while i < end:
        point, size = _read(text, i, end)
        if classes[point] != JOINER and classes[point] != EXTEND:
            break
        i += size
    if i == end or not LETTER <= classes[point] <= KATAKANA:
        return i
    units = 1 + (size == 4)
    while True:  # the earliest start from which the word's first character is in the window
        back = i - 1
        while text[back] & 0xC0 == 0x80:
            back -= 1
        units += 1 + (i - back == 4)
        if units > WINDOW or back <= start:
            return max(i, start + 1)
        i = back


@njit(cache=True, nogil=True)
def _picture_end(text, start, end, classes):  # type: ignore[no-untyped-def]
    """The end of a pictograph with its marks and what zero-width joiners join to it."""
    i, left = start, WINDOW
    while True:
        _, size = _read(text, i, end)
        i, left, joined = _skip_extenders(text, i + size, end, left - 1 - (size == 4), classes)
        if not joined or i >= end or left < 2:
            return i
        if classes[_read(text, i, end)[0]] != PICTURE:
            return i


@njit(cache=True, nogil=True)
def scan(text, start, end, classes):  # type: ignore[no-untyped-def]
    """The token at `start`, if any: (its end, True), else (where to look on, False)."""
    kind, after, left = _next(text, start, end, WINDOW, classes)
    if LETTER <= kind <= JOINER:
        stop = _word_end(text, start, end, classes)
        if stop > start:
            return stop, True
        return _after_joiners(text, start, end, classes), False
    if kind == HAN or kind == HIRAGANA:
        return after, True
    if kind == COMPLEX:
        i = after
        while kind == COMPLEX:
            i = after
            kind, after, left = _next(text, i, end, left, classes)
        return i, True
    if kind == PICTURE:
        return _picture_end(text, start, end, classes), True
    if kind == FLAG:
        kind, stop, left = _next(text, after, end, left, classes)
        if kind == FLAG:
            return stop, True
    return start + _read(text, start, end)[1], False


@njit(cache=True, nogil=True)
def mix(code, byte):  # type: ignore[no-untyped-def]
    """One step of a multiplicative hash (FNV-1a, 64 bits)."""
    return (code ^ np.uint64(byte)) * np.uint64(0x100000001B3)


@njit(cache=True, nogil=True)
def scan_ascii(text, start, end, code):  # type: ignore[no-untyped-def]
    """The end of the ASCII word at `start` and its hash; -1 when `scan` has to decide."""
    i, stop = start, min(end, start + WINDOW - 1)
    if ASCII_CLASSES[text[i]] == JOINER:
        return -1, code
    while i < stop:
        byte = WORD_BYTES[text[i]]
        if byte != 0:
            code = mix(code, byte)
            i += 1
            continue
        kind = ASCII_CLASSES[text[i]]
        if kind == OTHER:
            return i, code
        if kind == BEYOND:
            return -1, code
        if i + 1 >= stop:
            break
        following = ASCII_CLASSES[text[i + 1]]
        if following == BEYOND:
            return -1, code
        if not _bridges(ASCII_CLASSES[text[i - 1]], kind, following):
            return i, code
        code = mix(code, text[i])
        i += 1
    if stop < end:
        return -1, code
    return i, code
