"""Exact top-k over the postings of all segments: one compiled call for a batch of queries."""

import numpy as np
from numba import njit

from .addresses import ZERO, float_of, i64, u16
from .inverted_locate import locate_all
from .inverted_range import eligible, search_range
from .postings import RANGE, ROWS
from .scoring import (
    ALLOWED,
    BAR,
    FEW,
    FEW_ROWS,
    FIRST,
    FORM,
    FOUND,
    KEYS,
    PART,
    QUERY_TERMS,
    REST,
    SIZE,
    TERM_ROWS,
    TRIAL,
    WEIGHTS,
    K,
)
from .topk import LOWER, select, sort_keys

FEW_MOST = 2048  # allowed passages of a range up to which they are listed


@njit(cache=True, nogil=True, inline="always")
def by_weight(entries, weights):  # type: ignore[no-untyped-def]
    """Sort a query's entries by descending weight, equal ones as they stand (Shell's method)."""
    gap = len(entries) // 2
    while gap > 0:
        for i in range(gap, len(entries)):
            entry, weight, j = entries[i], weights[i], i
            while j >= gap and (
                weights[j - gap] < weight
                or (weights[j - gap] == weight and entries[j - gap] > entry)
            ):
                entries[j], weights[j] = entries[j - gap], weights[j - gap]
                j -= gap
            entries[j], weights[j] = entry, weight
        gap //= 2


@njit(cache=True, nogil=True)
def _list_allowed(part_at, allowed, first, rows_at):  # type: ignore[no-untyped-def]
    """List the rows of a range that may be returned; gives how many, -1 when they are many."""
    part, rows, n = i64(part_at), u16(rows_at), ZERO
    for row in range(first, min(first + RANGE, part[ROWS])):
        if eligible(part_at, allowed, row):
            if n == FEW_MOST:
                return np.int64(-1)
            rows[n] = row - first
            n += 1
    return n


@njit(
    "void(int64[::1], int64[:,::1], Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1],"
    "int32[::1], float32[::1], int64, int64[::1], int64[:,::1], float32[:,::1])",
    cache=True,
    nogil=True,
)
def search(parts, fields, text, ends, offsets, ids, weights, passages, s, numbers, scores):  # type: ignore[no-untyped-def]
    """Search for a batch of queries; numbers and scores come filled with -1 and -inf.

    parts: addresses of the rows of fields: (parts, FIELDS); text, ends: the terms of the batch;
    offsets, ids, weights: the queries' terms as WeightedTerms has them; s: (STATE,) with an
    accumulator that is zero.
    """
    state, most = s.ctypes.data, ZERO
    for q in range(len(offsets) - 1):
        most = max(most, offsets[q + 1] - offsets[q])
    places, worth = np.empty((len(ends), len(parts), 8), np.int64), np.empty(len(ends), np.float32)
    locate_all(parts, text, ends, passages, places, worth)
    ranges = ZERO
    for p in range(len(parts)):
        ranges += (fields[p, ROWS] + RANGE - 1) // RANGE
    filtered = s[ALLOWED] != 0
    few = np.empty(ranges, np.int64)
    few_rows = np.empty(ranges * FEW_MOST if filtered else 0, np.uint16)
    g = ZERO
    for p in range(len(parts)):
        for first in range(0, fields[p, ROWS], RANGE):
            rows_at = few_rows.ctypes.data + 2 * FEW_MOST * g
            few[g] = _list_allowed(parts[p], s[ALLOWED], first, rows_at) if filtered else -1
            g += 1
    entries, own = np.empty(most, np.int64), np.empty(most, np.float32)
    terms, rest = np.empty((most, 8), np.int64), np.empty(most + 1, np.float32)
    used = np.empty(most, np.float32)
    s[TERM_ROWS], s[WEIGHTS], s[REST] = terms.ctypes.data, used.ctypes.data, rest.ctypes.data
    for q in range(len(offsets) - 1):
        n = ZERO
        for i in range(offsets[q], offsets[q + 1]):
            weight = weights[i] * worth[ids[i]]
            if weight > 0:
                entries[n], own[n] = i, weight
                n += 1
        by_weight(entries[:n], own[:n])
        s[FOUND] = s[BAR] = g = ZERO
        for p in range(len(parts)):
            m = ZERO
            for i in range(n):
                t = ids[entries[i]]
                if places[t, p, FORM] >= 0:
                    for field in range(8):
                        terms[m, field] = places[t, p, field]
                    used[m] = own[i]
                    m += 1
            s[PART], s[QUERY_TERMS] = parts[p], m
            for first in range(0, fields[p, ROWS], RANGE):
                s[FIRST], s[SIZE] = first, min(RANGE, fields[p, ROWS] - first)
                s[FEW], s[FEW_ROWS] = few[g], few_rows.ctypes.data + 2 * FEW_MOST * g
                g += 1
                if m > 0:
                    search_range(state)
        found, keys = s[FOUND], i64(s[KEYS])
        if found > s[K]:
            select(keys, found, s[K])
            found = s[K]
        sort_keys(keys, found, i64(s[TRIAL]))
        for i in range(found):
            numbers[q, i] = LOWER - (keys[i] & LOWER)
            scores[q, i] = float_of(keys[i] >> 32)
    s[TERM_ROWS] = terms[:0].size + used[:0].size + rest[:0].size + few_rows[:0].size  # still alive
