"""Where the terms of a batch of queries have their postings, and what each term weighs."""

import numpy as np
from numba import njit

from .addresses import ZERO, i64, u8, u16, u32
from .postings import (
    BASES,
    BITS,
    BLOB,
    BUCKETS,
    COMMON,
    DELETED,
    DENSE_COUNTS,
    DENSE_HIGH,
    DENSE_LOW,
    DIRECTORY,
    DOCS,
    ENDS,
    LIVE_COUNTS,
    RANGE,
    ROWS,
    SPARSE,
    SPARSE_POSTINGS,
    SYMBOL_BITS,
    place_of,
    symbol_at,
)
from .scoring import CODES_AT, DOCS_AT, END, FORM, PLACE, TERM_BYTES
from .vocabulary import find_term, hash_bytes


@njit(cache=True, nogil=True)
def _count_live(part_at, kind, a, b):  # type: ignore[no-untyped-def]
    """How many passages that hold a term are not deleted. kind, a, b: of `place_of`."""
    part, live = i64(part_at), ZERO
    deleted = u8(part[DELETED])
    if kind == SPARSE:
        postings = u32(part[SPARSE_POSTINGS])
        for i in range(a, b):
            live += deleted[postings[i] >> SYMBOL_BITS] == 0
    elif kind == COMMON:
        ranges = (part[ROWS] + RANGE - 1) // RANGE
        sizes = u16(part[DIRECTORY] + 4 * a * ranges)
        docs = u16(part[DOCS] + 2 * i64(part[BASES])[2 * a])
        start = ZERO
        for r in range(ranges):
            end = start + sizes[2 * r] + sizes[2 * r + 1]
            for i in range(start, end):
                live += deleted[r * RANGE + docs[i]] == 0
            start = end
    else:
        for row in range(part[ROWS]):
            held = symbol_at(part[DENSE_LOW], part[DENSE_HIGH], a * part[ROWS] + row) > 0
            live += held and deleted[row] == 0
    return live


@njit(cache=True, nogil=True, inline="always")
def _locate(part_at, text, start, end, code, term_at):  # type: ignore[no-untyped-def]
    """Fill in where the postings of a term are; gives how many live passages hold it."""
    part, term = i64(part_at), i64(term_at)
    for field in range(8):
        term[field] = 0
    term[FORM] = -1
    number = find_term(text, start, end, code, part[BLOB], part[ENDS], part[BUCKETS], part[BITS])
    if number < 0:
        return ZERO
    kind, a, b = place_of(part_at, number)
    count = ZERO
    if kind == SPARSE:
        term[END], term[PLACE], count = a, b, b - a
    elif kind == COMMON:
        ranges = (part[ROWS] + RANGE - 1) // RANGE
        sizes, bases = u16(part[DIRECTORY] + 4 * a * ranges), i64(part[BASES] + 16 * a)
        for i in range(2 * ranges):
            count += sizes[i]
        term[PLACE], term[DOCS_AT], term[CODES_AT] = a, bases[0], bases[1]
    elif a >= 0:
        term[PLACE], count = a, np.int64(u32(part[DENSE_COUNTS])[a])
    if count > 0:
        term[FORM] = kind
        if part[DELETED] != 0:
            known = i64(part[LIVE_COUNTS] + 8 * number)
            if known[0] < 0:
                known[0] = _count_live(part_at, kind, a, b)
            count = known[0]
    return count


@njit(cache=True, nogil=True, inline="always")
def locate_all(parts, text, ends, passages, places, worth):  # type: ignore[no-untyped-def]
    """Where the terms of a batch are in each part, and what each weighs.

    parts: addresses.  passages: how many there are, for the inverse document frequency.
    Fills places: (terms, parts, 8), and worth: (terms,).
    """
    start, places_at = ZERO, places.ctypes.data
    for t in range(len(ends)):
        code, count = hash_bytes(text, start, ends[t]), ZERO
        for p in range(len(parts)):
            place_at = places_at + TERM_BYTES * (t * len(parts) + p)
            count += _locate(parts[p], text, start, ends[t], code, place_at)
        worth[t] = 0
        if count > 0:
            worth[t] = np.log(1 + (passages - count + 0.5) / (count + 0.5))
        start = ends[t]
