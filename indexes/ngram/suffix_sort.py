"""The suffix array of a text: its suffixes in the order of their tokens, a shorter one first.

With pydivsufsort installed that sorts; else suffixes are sorted by their first tokens, and then,
where those are the same, by where the suffixes that many tokens later stand, which doubles the
tokens that are sorted by. Both give the one order there is.

N. J. Larsson and K. Sadakane, "Faster suffix sorting", Theoretical Computer Science 387(3), 2007.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

FIRST = 4
"""Tokens that suffixes are sorted by at first."""

_QUICK = 2048


def suffix_array(text: NDArray[Any], codes: int) -> NDArray[np.uint32]:
    """(n,) uint32 positions of the suffixes of a text of uint16 or uint32 codes below `codes`.

    The text has fewer than 2^31 tokens.
    """
    if _sorts_bytes(text):
        return by_divsufsort(text)
    return by_doubling(text, codes)


def _sorts_bytes(text: NDArray[Any]) -> bool:
    return 0 < text.nbytes < 2**31 and find_spec("pydivsufsort") is not None


def by_divsufsort(text: NDArray[Any]) -> NDArray[np.uint32]:
    """The suffix array of the text as bytes, the highest first, without the odd ones."""
    width = text.dtype.itemsize
    # codes that fit into a byte or three make fewer bytes to be sorted
    data = text.astype(text.dtype.newbyteorder(">")).view(np.uint8)
    if int(text.max()) < 1 << 8 * (width - 1):
        width -= 1
        data = np.ascontiguousarray(data.reshape(len(text), -1)[:, 1:]).reshape(-1)
    found = import_module("pydivsufsort").divsufsort(data)
    if width == 1:
        return np.asarray(found, np.uint32)
    whole: NDArray[np.uint32] = (found[found % width == 0] // width).astype(np.uint32)
    return whole


def by_doubling(text: NDArray[Any], codes: int) -> NDArray[np.uint32]:
    """The suffix array, by this module alone. Takes 10 bytes a token and what is sorted at once."""
    order = np.empty(len(text), np.uint32)
    spare = np.empty(len(text), np.uint32)
    sort_first(text, codes, order, spare)
    ranks = spare
    first, last = name_groups(text, order, ranks)
    known: int = FIRST
    while len(first):
        widest = int(np.max(last - first))
        keys, other = np.empty(widest, np.int64), np.empty(widest, np.int64)
        refine(order, ranks, known, first, last, keys, other)
        first, last = still_tied(ranks, order, first, last)
        known *= 2
    return order


@njit(cache=True, nogil=True)
def sort_first(text, codes, order, spare):  # type: ignore[no-untyped-def]
    """Sort all suffixes by their first tokens into `order`: from the last token to the first."""
    n = len(text)
    heads = np.empty(codes + 1, np.int64)
    for i in range(n):
        spare[i] = i
    source, target = spare, order
    for depth in range(FIRST - 1, -1, -1):
        heads[:] = 0
        heads[0] = min(depth, n)
        for i in range(depth, n):
            heads[np.int64(text[i]) + 1] += 1
        place = np.int64(0)
        for code in range(codes + 1):
            place, heads[code] = place + heads[code], place
        for i in range(n):
            at = np.int64(source[i]) + depth
            head = np.int64(text[at]) + 1 if at < n else np.int64(0)
            target[heads[head]] = source[i]
            heads[head] += 1
        source, target = target, source
    if FIRST % 2 == 0:
        order[:] = spare


@njit(cache=True, nogil=True)
def _same_first(text, a, b):  # type: ignore[no-untyped-def]
    n = len(text)
    for depth in range(FIRST):
        if a + depth >= n or b + depth >= n or text[a + depth] != text[b + depth]:
            return False
    return True


@njit(cache=True, nogil=True)
def name_groups(text, order, ranks):  # type: ignore[no-untyped-def]
    """Give each suffix the place of the first that begins alike; the ends of groups of several."""
    n, groups = len(order), 0
    begin = 0
    for i in range(n):
        if i and not _same_first(text, np.int64(order[i - 1]), np.int64(order[i])):
            groups += i - begin > 1
            begin = i
        ranks[order[i]] = begin
    groups += n - begin > 1
    first, last = np.empty(groups, np.int64), np.empty(groups, np.int64)
    groups, begin = 0, 0
    for i in range(1, n + 1):
        if i == n or ranks[order[i]] == i:
            if i - begin > 1:
                first[groups], last[groups] = begin, i
                groups += 1
            begin = i
    return first, last


@njit(cache=True, nogil=True)
def refine(order, ranks, known, first, last, keys, spare):  # type: ignore[no-untyped-def]
    """Sort each group by the ranks `known` tokens later, and name what differs now."""
    n = len(order)
    for group in range(len(first)):
        begin, size = first[group], last[group] - first[group]
        for i in range(size):
            at = np.int64(order[begin + i]) + known
            rank = np.int64(ranks[at]) + 1 if at < n else np.int64(0)
            keys[i] = (rank << 32) | np.int64(order[begin + i])
        sort_keys(keys, spare, size)
        named = begin
        for i in range(size):
            suffix = keys[i] & 0xFFFFFFFF
            if i and keys[i] >> 32 != keys[i - 1] >> 32:
                named = begin + i
            order[begin + i] = suffix
            ranks[suffix] = named


@njit(cache=True, nogil=True)
def still_tied(ranks, order, first, last):  # type: ignore[no-untyped-def]
    """The groups of several that are left."""
    count = 0
    for find in range(2):
        if find:
            begins, ends = np.empty(count, np.int64), np.empty(count, np.int64)
            count = 0
        for group in range(len(first)):
            begin = first[group]
            while begin < last[group]:
                end = begin + 1
                while end < last[group] and ranks[order[end]] == begin:
                    end += 1
                if end - begin > 1:
                    if find:
                        begins[count], ends[count] = begin, end
                    count += 1
                begin = end
    return begins, ends


@njit(cache=True, nogil=True)
def sort_keys(keys, spare, n):  # type: ignore[no-untyped-def]
    """Sort the first n of different numbers, none below 0."""
    if n <= _QUICK:
        _sort_quickly(keys, n)
        return
    most = np.int64(0)
    for i in range(n):
        most |= keys[i]
    heads = np.empty(2048, np.int64)
    source, target, shift = keys, spare, 0
    while most >> shift:
        heads[:] = 0
        for i in range(n):
            heads[(source[i] >> shift) & 2047] += 1
        total = np.int64(0)
        for digit in range(2048):
            total, heads[digit] = total + heads[digit], total
        for i in range(n):
            digit = (source[i] >> shift) & 2047
            target[heads[digit]] = source[i]
            heads[digit] += 1
        source, target, shift = target, source, shift + 11
    if (shift // 11) % 2:
        keys[:n] = spare[:n]


@njit(cache=True, nogil=True)
def _sort_quickly(keys, n):  # type: ignore[no-untyped-def]
    """Quicksort down to short stretches, the longer side put off; then insertion."""
    stack = np.empty(64, np.int64)
    low, high, depth = 0, n - 1, 0
    while True:
        while high - low > 16:
            a, b, c = keys[low], keys[(low + high) >> 1], keys[high]
            pivot = max(min(a, b), min(max(a, b), c))
            i, j = low, high
            while i <= j:
                while keys[i] < pivot:
                    i += 1
                while keys[j] > pivot:
                    j -= 1
                if i <= j:
                    keys[i], keys[j] = keys[j], keys[i]
                    i, j = i + 1, j - 1
            if j - low > high - i:
                stack[depth], stack[depth + 1] = low, j
                low = i
            else:
                stack[depth], stack[depth + 1] = i, high
                high = j
            depth += 2
        if depth == 0:
            break
        depth -= 2
        low, high = stack[depth], stack[depth + 1]
    for i in range(1, n):
        key, j = keys[i], i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key
