"""Exact top-k over postings: term at a time, one range of 65,536 passages after the other.

The terms of a query are taken by descending weight, so that a passage's score is always the same
sum in the same order, however the passages are divided into segments. Scores of a range are added
up in an accumulator that fits the second-level cache. Once k passages are known to score more than
what the remaining terms can add, only passages found so far can come among the first k: the
remaining, frequent terms are then looked up for those few (MaxScore).

H. Turtle and J. Flood, "Query Evaluation: Strategies and Optimizations", Information Processing &
Management 31(6), 1995.
"""

import numpy as np
from numba import njit

from .addresses import ONE, ZERO, f32, i64, u8, u16, u32
from .postings import (
    COMMON,
    COMMON_TOPS,
    DENSE,
    DENSE_HIGH,
    DENSE_LOW,
    DENSE_TOPS,
    DIRECTORY,
    DOCS,
    HIGH,
    LOW,
    NORMS,
    RANGE,
    ROWS,
    SPARSE,
    SPARSE_POSTINGS,
    SYMBOL_BITS,
    TABLE,
    TOP,
    symbol_at,
)

# What a search works with, as an int64 array: addresses, then numbers.
ACCUMULATOR, TOUCHED, CANDIDATES, KEYS, TRIAL = 0, 1, 2, 3, 4
ALLOWED = 5  # a filter: one bool a passage, or 0
K, CAPACITY, FOUND, BAR = 6, 7, 8, 9  # wanted, room for keys, keys so far, the k-th best
TERM_ROWS, WEIGHTS, REST, QUERY_TERMS = 10, 11, 12, 13  # of a query in a part, and how many
PART, FIRST, SIZE = 14, 15, 16  # the part, the first row of the range at hand, and its rows
FEW_ROWS, FEW = 17, 18  # where its allowed rows are listed, and how many they are, or -1
STATE = 19
# A term of a query in a part: its form and place, and what belongs to the range at hand.
FORM, PLACE, END, DOCS_AT, CODES_AT, ONES, OTHERS, COUNT = range(8)
TERM_BYTES = 64

LENGTH_BITS = 8  # of a passage's length, below the symbol in the table of worths
SYMBOL_MASK = (1 << SYMBOL_BITS) - 1
# How to add: to all; to all, listing those that had nothing; only to those that have something.
EVERY, LISTED, KNOWN = np.int64(0), np.int64(1), np.int64(2)


@njit(cache=True, nogil=True)
def enter_range(part_at, term_at, r):  # type: ignore[no-untyped-def]
    """Move a term on to range `r`: where its postings there are, and how many."""
    part, term = i64(part_at), i64(term_at)
    if term[FORM] == SPARSE:
        at = term[END]
        postings = u32(part[SPARSE_POSTINGS])
        while at < term[PLACE] and postings[at] >> (16 + SYMBOL_BITS) == r:
            at += 1
        term[DOCS_AT], term[END] = term[END], at
        term[COUNT] = at - term[DOCS_AT]
    elif term[FORM] == COMMON:
        ranges = (part[ROWS] + RANGE - 1) // RANGE
        sizes = u16(part[DIRECTORY] + 4 * (term[PLACE] * ranges + r))
        term[DOCS_AT] += term[COUNT]
        term[CODES_AT] += term[OTHERS]
        term[ONES], term[OTHERS] = sizes[0], sizes[1]
        term[COUNT] = term[ONES] + term[OTHERS]
    else:
        term[DOCS_AT] = term[PLACE] * part[ROWS] + r * RANGE
        term[COUNT] = min(RANGE, part[ROWS] - r * RANGE)


@njit(cache=True, nogil=True, inline="always")
def _update(acc, touched, n, row, worth, mode):  # type: ignore[no-untyped-def]
    """Add to one passage; gives how many are touched."""
    before = acc[row]
    if mode == LISTED:
        touched[n] = row
        n += (before == 0) & (worth > 0)
    acc[row] = before + (worth if mode != KNOWN or before > 0 else np.float32(0))
    return n


@njit(cache=True, nogil=True)
def accumulate(state, term_at, weight, n, mode):  # type: ignore[no-untyped-def]
    """Add what a term is worth to the passages of the range; gives how many are touched."""
    s, term = i64(state), i64(term_at)
    part = i64(s[PART])
    acc, touched, norms = f32(s[ACCUMULATOR]), u16(s[TOUCHED]), u8(part[NORMS] + s[FIRST])
    table, count, ones = f32(part[TABLE]), term[COUNT], term[ONES]
    if term[FORM] == SPARSE:
        postings = u32(part[SPARSE_POSTINGS] + 4 * term[DOCS_AT])
        for i in range(count):
            row = np.int64((postings[i] >> SYMBOL_BITS) & (RANGE - 1))
            symbol = np.int64(postings[i] & SYMBOL_MASK)
            worth = weight * table[(symbol << LENGTH_BITS) + norms[row]]
            n = _update(acc, touched, n, row, worth, mode)
        return n
    if term[FORM] == DENSE:
        low, high = part[DENSE_LOW], part[DENSE_HIGH]
        for i in range(count):
            symbol = symbol_at(low, high, term[DOCS_AT] + i)
            worth = weight * table[(symbol << LENGTH_BITS) + norms[i]]
            n = _update(acc, touched, n, i, worth, mode)
        return n
    docs, single = u16(part[DOCS] + 2 * term[DOCS_AT]), f32(part[TABLE] + 4 * (1 << LENGTH_BITS))
    for i in range(ones):
        row = np.int64(docs[i])
        n = _update(acc, touched, n, row, weight * single[norms[row]], mode)
    low, high, codes_at = part[LOW], part[HIGH], term[CODES_AT] - ones
    for i in range(ones, count):
        row = np.int64(docs[i])
        worth = weight * table[(symbol_at(low, high, codes_at + i) << LENGTH_BITS) + norms[row]]
        n = _update(acc, touched, n, row, worth, mode)
    return n


@njit(cache=True, nogil=True)
def highest(part_at, term_at, r):  # type: ignore[no-untyped-def]
    """The most that weight 1 of a term is worth in range `r`, remembered for the next time."""
    part, term = i64(part_at), i64(term_at)
    table = f32(part[TABLE])
    if term[FORM] == SPARSE:
        return table[part[TOP]]
    ranges = (part[ROWS] + RANGE - 1) // RANGE
    common = term[FORM] == COMMON
    top = f32((part[COMMON_TOPS] if common else part[DENSE_TOPS]) + 4 * (term[PLACE] * ranges + r))
    if top[0] >= 0:
        return top[0]
    norms, docs = u8(part[NORMS] + r * RANGE), u16(part[DOCS] + 2 * term[DOCS_AT])
    low = part[LOW] if common else part[DENSE_LOW]
    high = part[HIGH] if common else part[DENSE_HIGH]
    codes_at = term[CODES_AT] - term[ONES] if common else term[DOCS_AT]
    most = np.float32(0)
    for i in range(term[COUNT]):
        row = np.int64(docs[i]) if common else i
        symbol = np.int64(1)
        if not common or i >= term[ONES]:
            symbol = symbol_at(low, high, codes_at + i)
        most = max(most, table[(symbol << LENGTH_BITS) + norms[row]])
    top[0] = most
    return most


@njit(cache=True, nogil=True)
def _seek(docs, start, end, row):  # type: ignore[no-untyped-def]
    """The place of a row among ascending rows, or -1."""
    at, n = start, end - start
    if n == 0:
        return np.int64(-1)
    while n > 1:
        half = n >> 1
        at = at + half if docs[at + half] <= row else at
        n -= half
    return at if docs[at] == row else np.int64(-1)


@njit(cache=True, nogil=True)
def _symbol_of(part_at, term_at, row):  # type: ignore[no-untyped-def]
    """What a row of the range holds of a term; 0 where it is absent."""
    part, term = i64(part_at), i64(term_at)
    if term[FORM] == DENSE:
        return symbol_at(part[DENSE_LOW], part[DENSE_HIGH], term[DOCS_AT] + row)
    if term[FORM] == SPARSE:
        postings = u32(part[SPARSE_POSTINGS] + 4 * term[DOCS_AT])
        for i in range(term[COUNT]):
            if (postings[i] >> SYMBOL_BITS) & (RANGE - 1) == row:
                return np.int64(postings[i] & SYMBOL_MASK)
        return ZERO
    docs, ones = u16(part[DOCS] + 2 * term[DOCS_AT]), term[ONES]
    if _seek(docs, ZERO, ones, row) >= 0:
        return ONE
    at = _seek(docs, ones, term[COUNT], row)
    return symbol_at(part[LOW], part[HIGH], term[CODES_AT] + at - ones) if at >= 0 else ZERO


@njit(cache=True, nogil=True)
def look_up(state, term_at, weight, n):  # type: ignore[no-untyped-def]
    """Add what a term is worth to the first n candidates."""
    s = i64(state)
    part, acc, candidates = i64(s[PART]), f32(s[ACCUMULATOR]), u16(s[CANDIDATES])
    norms, table = u8(part[NORMS] + s[FIRST]), f32(part[TABLE])
    for i in range(n):
        row = np.int64(candidates[i])
        symbol = _symbol_of(s[PART], term_at, row)
        acc[row] += weight * table[(symbol << LENGTH_BITS) + norms[row]]
