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
    DIRECTORY,
    ENDS,
    LIVE_COUNTS,
    RANGE,
    ROWS,
    SPARSE,
    decode,
    place_of,
)
from .scoring import CODES_AT, DOCS_AT, END, FORM, PLACE, TERM_BYTES
from .vocabulary import find_term, hash_bytes


@njit(cache=True, nogil=True)
def _live_count(part_at, term, count):  # type: ignore[no-untyped-def]
    """How many passages hold a term and are not deleted, remembered for the next time."""
    part = i64(part_at)
    known, deleted = i64(part[LIVE_COUNTS] + 8 * term), u8(part[DELETED])
    if known[0] < 0:
        rows, symbols = np.empty(count, np.uint32), np.empty(count, np.uint16)
        live = ZERO
        for i in range(decode(part_at, term, rows, symbols, ZERO)):
            live += deleted[rows[i]] == 0
        known[0] = live
    return known[0]


@njit(cache=True, nogil=True)
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
            count = _live_count(part_at, number, count)
    return count


@njit(cache=True, nogil=True)
def locate_all(parts, text, ends, passages, places, worth):  # type: ignore[no-untyped-def]
    """Where the terms of a batch are in each part, and what each weighs.

    parts: addresses.  passages: how many there are, for the inverse document frequency; -1 gives
    every term the weight 1.  Fills places: (terms, parts, 8), and worth: (terms,).
    """
    start, places_at = ZERO, places.ctypes.data
    for t in range(len(ends)):
        code, count = hash_bytes(text, start, ends[t]), ZERO
        for p in range(len(parts)):
            place_at = places_at + TERM_BYTES * (t * len(parts) + p)
            count += _locate(parts[p], text, start, ends[t], code, place_at)
        worth[t] = 0
        if count > 0:
            worth[t] = 1 if passages < 0 else np.log(1 + (passages - count + 0.5) / (count + 0.5))
        start = ends[t]
