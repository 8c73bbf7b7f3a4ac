"""Porter's stemmer, as a kernel over many words at once.

The steps are those of the paper, with the two departures of Porter's own C program that Lucene
shares: step 2 has "bli" -> "ble" for "abli" -> "able", and a rule "logi" -> "log"; words of one or
two letters stay. Letters are UTF-16 code units, of which only a, e, i, o, u and y can be vowels.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980.
https://tartarus.org/martin/PorterStemmer/
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Units: TypeAlias = NDArray[np.uint16]

SEPARATOR = 10
LONGEST = 1 << 12  # longer words stay as they are; the tokeniser cuts at 255 units


def _rules(text: str) -> NDArray[np.uint8]:
    """Rules "suffix>replacement" as rows: lengths of both, then both, longest suffix first."""
    pairs = sorted((rule.split(">") for rule in text.split()), key=lambda pair: -len(pair[0]))
    rows = np.zeros((len(pairs), 16), np.uint8)
    for row, (suffix, new) in zip(rows, pairs, strict=True):
        row[0], row[1] = len(suffix), len(new)
        row[2 : 2 + len(suffix)] = np.frombuffer(suffix.encode(), np.uint8)
        row[9 : 9 + len(new)] = np.frombuffer(new.encode(), np.uint8)
    return rows


STEP_1A = _rules("sses>ss ies>i ss>ss s>")
STEP_1B = _rules("eed>ee ed> ing>")
STEP_1B_AFTER = _rules("at>ate bl>ble iz>ize")
STEP_2 = _rules(
    "ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble alli>al entli>ent eli>e ousli>ous"
    " ization>ize ation>ate ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al"
    " iviti>ive biliti>ble logi>log"
)
STEP_3 = _rules("icate>ic ative> alize>al iciti>ic ical>ic ful> ness>")
STEP_4 = _rules(
    "al> ance> ence> er> ic> able> ible> ant> ement> ment> ent> sion>s tion>t ou> ism> ate> iti>"
    " ous> ive> ize>"
)


@njit(cache=True, nogil=True)
def _mark(word, vowels, start, length):  # type: ignore[no-untyped-def]
    """Say which letters from `start` on are vowels: y is one after a consonant."""
    for i in range(start, length):
        c = word[i]
        plain = c == 97 or c == 101 or c == 105 or c == 111 or c == 117
        vowels[i] = plain or (c == 121 and i > 0 and not vowels[i - 1])


@njit(cache=True, nogil=True)
def _measure(vowels, length):  # type: ignore[no-untyped-def]
    """How often a consonant follows a vowel: the m of the paper."""
    count = 0
    for i in range(1, length):
        count += vowels[i - 1] and not vowels[i]
    return count


@njit(cache=True, nogil=True)
def _has_vowel(vowels, length):  # type: ignore[no-untyped-def]
    for i in range(length):
        if vowels[i]:
            return True
    return False


@njit(cache=True, nogil=True)
def _doubled(word, vowels, length):  # type: ignore[no-untyped-def]
    """Whether the word ends in a double consonant."""
    return length > 1 and word[length - 1] == word[length - 2] and not vowels[length - 1]


@njit(cache=True, nogil=True)
def _short(word, vowels, length):  # type: ignore[no-untyped-def]
    """Whether the word ends consonant, vowel, consonant, the last none of w, x, y."""
    if length < 3 or vowels[length - 1] or not vowels[length - 2] or vowels[length - 3]:
        return False
    last = word[length - 1]
    return last != 119 and last != 120 and last != 121


@njit(cache=True, nogil=True)
def _match(word, length, rules):  # type: ignore[no-untyped-def]
    """The first rule whose suffix the word ends in, or -1."""
    for rule in range(len(rules)):
        size = rules[rule, 0]
        if size <= length:
            i = 0
            while i < size and word[length - size + i] == rules[rule, 2 + i]:
                i += 1
            if i == size:
                return rule
    return -1


@njit(cache=True, nogil=True)
def _replace(word, vowels, length, rules, rule):  # type: ignore[no-untyped-def]
    """Put the rule's replacement in the place of its suffix; gives the new length."""
    stem, size = length - rules[rule, 0], rules[rule, 1]
    for i in range(size):
        word[stem + i] = rules[rule, 9 + i]
    _mark(word, vowels, stem, stem + size)
    return stem + size


@njit(cache=True, nogil=True, inline="always")
def _step_1(word, vowels, length):  # type: ignore[no-untyped-def]
    """Plurals, -ed and -ing; a final y becomes i."""
    rule = _match(word, length, STEP_1A)
    if rule >= 0:
        length = _replace(word, vowels, length, STEP_1A, rule)
    rule = _match(word, length, STEP_1B)
    if rule >= 0:
        stem = length - STEP_1B[rule, 0]
        if STEP_1B[rule, 1] > 0:
            length -= _measure(vowels, stem) > 0
        elif _has_vowel(vowels, stem):
            length = _tidy(word, vowels, stem)
    if word[length - 1] == 121 and _has_vowel(vowels, length - 1):
        word[length - 1] = 105
        vowels[length - 1] = True
    return length


@njit(cache=True, nogil=True, inline="always")
def _tidy(word, vowels, length):  # type: ignore[no-untyped-def]
    """What remains after -ed or -ing gets its e back, or loses a doubled letter."""
    rule = _match(word, length, STEP_1B_AFTER)
    if rule >= 0:
        return _replace(word, vowels, length, STEP_1B_AFTER, rule)
    if _doubled(word, vowels, length):
        last = word[length - 1]
        return length - (last != 108 and last != 115 and last != 122)
    if _measure(vowels, length) == 1 and _short(word, vowels, length):
        word[length] = 101
        vowels[length] = True
        return length + 1
    return length


@njit(cache=True, nogil=True, inline="always")
def _step_4(word, vowels, length):  # type: ignore[no-untyped-def]
    """Take off -ant, -ence and the like where more than one measure is left."""
    rule = _match(word, length, STEP_4)
    if rule >= 0:
        stem = length - STEP_4[rule, 0] + STEP_4[rule, 1]
        if _measure(vowels, stem) > 1:
            return stem
    return length


@njit(cache=True, nogil=True, inline="always")
def _step_5(word, vowels, length):  # type: ignore[no-untyped-def]
    """Remove a final e, and one of a final ll."""
    measure = _measure(vowels, length)
    if word[length - 1] == 101:
        length -= measure > 1 or (measure == 1 and not _short(word, vowels, length - 1))
    if word[length - 1] == 108 and measure > 1 and _doubled(word, vowels, length):
        length -= 1
    return length


@njit(cache=True, nogil=True, inline="always")
def _stem(word, vowels, length):  # type: ignore[no-untyped-def]
    """Stem the first `length` units of `word` in place; gives the new length."""
    _mark(word, vowels, 0, length)
    length = _step_1(word, vowels, length)
    for rules in (STEP_2, STEP_3):
        rule = _match(word, length, rules)
        if rule >= 0 and _measure(vowels, length - rules[rule, 0]) > 0:
            length = _replace(word, vowels, length, rules, rule)
    length = _step_4(word, vowels, length)
    return _step_5(word, vowels, length)


@njit("int64(uint16[::1])", cache=True, nogil=True)
def stem_words(units: Units) -> int:
    """Stem in place words that each end in a line feed; gives how many units are left."""
    word = np.empty(LONGEST + 1, np.uint16)
    vowels = np.zeros(LONGEST + 1, np.bool_)
    start = left = 0
    for i in range(len(units)):
        if units[i] != SEPARATOR:
            continue
        length = i - start
        if length <= 2 or length > LONGEST:
            for j in range(start, i):
                units[left + j - start] = units[j]
        else:
            for j in range(length):
                word[j] = units[start + j]
            length = _stem(word, vowels, length)
            for j in range(length):
                units[left + j] = word[j]
        units[left + length] = SEPARATOR
        left += length + 1
        start = i + 1
    return left
