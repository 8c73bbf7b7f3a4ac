"""A wavelet matrix: codes as planes of bits, so that one kind of code is counted in any stretch.

Plane 0 has the highest bit of each code, in their order; in the next plane the codes whose bit is 0
stand before those whose bit is 1. A plane is blocks of eight uint64 words, 64 bytes: how many bits
are set before the block, and seven words of bits.

F. Claude, G. Navarro and A. Ordóñez, "The wavelet matrix: An efficient wavelet tree for large
alphabets", Information Systems 47, 2015.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..popcount import popcount

WORDS = 8
BITS = 64 * (WORDS - 1)
"""Bits of a block."""


def blocks_for(bits: int) -> int:
    """Blocks of a plane, with one behind the last bit."""
    return bits // BITS + 1


def wavelet(codes: NDArray[Any], depth: int) -> NDArray[np.uint64]:
    """(depth, words) uint64: the planes of codes below 2 ** depth."""
    planes = np.zeros((depth, blocks_for(len(codes)) * WORDS), np.uint64)
    codes, spare = codes.copy(), np.empty_like(codes)
    for plane in range(depth):
        fill_plane(codes, depth - 1 - plane, planes[plane], spare)
        codes, spare = spare, codes
    return planes


def bit_plane(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(words,) one plane of bits."""
    plane = np.zeros(blocks_for(len(bits)) * WORDS, np.uint64)
    fill_plane(bits, 0, plane, np.empty_like(bits))
    return plane


@njit(cache=True, nogil=True)
def fill_plane(codes, bit, plane, parted):  # type: ignore[no-untyped-def]
    """Write one bit of each code; `parted` gets the codes with 0 before those with 1."""
    zeros, n = 0, len(codes)
    for i in range(n):
        zeros += 1 - ((np.int64(codes[i]) >> bit) & 1)
    low, high = 0, zeros
    for i in range(n):
        block, place = i // BITS, i % BITS
        if (np.int64(codes[i]) >> bit) & 1:
            plane[block * WORDS + 1 + (place >> 6)] |= np.uint64(1) << np.uint64(place & 63)
            parted[high] = codes[i]
            high += 1
        else:
            parted[low] = codes[i]
            low += 1
    total = np.uint64(0)
    for block in range(len(plane) // WORDS):
        plane[block * WORDS] = total
        for word in range(1, WORDS):
            total += popcount(plane[block * WORDS + word])


@njit(cache=True, nogil=True)
def counts_right(planes, n):  # type: ignore[no-untyped-def]
    """Whether the blocks count their bits, and none is set behind the last of n."""
    for plane in planes:
        total = np.uint64(0)
        for block in range(len(plane) // WORDS):
            if plane[block * WORDS] != total:
                return False
            for word in range(1, WORDS):
                total += popcount(plane[block * WORDS + word])
        if total != rank(plane, n):
            return False
    return True


@njit(cache=True, nogil=True, inline="always")
def rank(plane, place):  # type: ignore[no-untyped-def]
    """How many bits are set before a place."""
    block, within = place // BITS, place % BITS
    at = block * WORDS
    total, last = plane[at], at + 1 + (within >> 6)
    for word in range(at + 1, last):
        total += popcount(plane[word])
    mask = (np.uint64(1) << np.uint64(within & 63)) - np.uint64(1)
    return np.int64(total + popcount(plane[last] & mask))


@njit(cache=True, nogil=True, inline="always")
def bit(plane, place):  # type: ignore[no-untyped-def]
    """Whether a bit is set."""
    word = plane[(place // BITS) * WORDS + 1 + ((place % BITS) >> 6)]
    return (word >> np.uint64(place % BITS & 63)) & np.uint64(1) != 0


def first_places(firsts: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """(codes,) where each code stands behind the last plane, in which they are sorted backwards.

    firsts: (codes + 1,) how many have a lower code.
    """
    codes = np.arange(len(firsts) - 1)
    backwards = np.zeros(len(codes), np.int64)
    for level in range(depth):
        backwards |= ((codes >> level) & 1) << (depth - 1 - level)
    order = np.argsort(backwards)
    places = np.zeros(len(codes), np.int64)
    places[order[1:]] = np.cumsum(np.diff(firsts)[order])[:-1]
    return places


@njit(cache=True, nogil=True)
def has_codes(planes, zeros, places, firsts, n):  # type: ignore[no-untyped-def]
    """Whether every code is there as often as `firsts` say; then there are no others."""
    for code in range(len(places)):
        low, high = narrowed(planes, zeros, places, code, 0, n)
        if low != 0 or high != firsts[code + 1] - firsts[code]:
            return False
    return True


@njit(cache=True, nogil=True)
def code_at(planes, zeros, places, place):  # type: ignore[no-untyped-def]
    """The code at a place, and how many of the same stand before it."""
    code = np.int64(0)
    for level in range(len(planes)):
        plane = planes[level]
        below = rank(plane, place)
        if bit(plane, place):
            code, place = 2 * code + 1, zeros[level] + below
        else:
            code, place = 2 * code, place - below
    return code, place - places[code]


@njit(cache=True, nogil=True)
def narrowed(planes, zeros, places, code, low, high):  # type: ignore[no-untyped-def]
    """How many of a code stand before `low` and before `high`; (0, 0) if none between them."""
    for level in range(len(planes)):
        plane = planes[level]
        a, b = rank(plane, low), rank(plane, high)
        if (code >> (len(planes) - 1 - level)) & 1:
            low, high = zeros[level] + a, zeros[level] + b
        else:
            low, high = low - a, high - b
        if low >= high:
            return np.int64(0), np.int64(0)
    return low - places[code], high - places[code]


@njit(cache=True, nogil=True)
def enumerate_codes(planes, zeros, low, high, stack, codes, counts, n):  # type: ignore[no-untyped-def]
    """Append the codes between two places and how many there are, ascending; gives how many then.

    stack: (2 * levels + 2, 4).
    """
    depth, levels = 1, len(planes)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, 0, low, high
    while depth:
        depth -= 1
        level, code, low, high = stack[depth]
        if level == levels:
            if n < len(codes):
                codes[n], counts[n] = code, high - low
                n += 1
            continue
        a, b = rank(planes[level], low), rank(planes[level], high)
        if b > a:
            stack[depth, 0], stack[depth, 1] = level + 1, 2 * code + 1
            stack[depth, 2], stack[depth, 3] = zeros[level] + a, zeros[level] + b
            depth += 1
        if high - b > low - a:
            stack[depth, 0], stack[depth, 1] = level + 1, 2 * code
            stack[depth, 2], stack[depth, 3] = low - a, high - b
            depth += 1
    return n
