"""The best passages of one range: terms added up until the rest cannot bring a new one (MaxScore).

The terms of a query come by descending weight, so that a passage's score is always the same sum in
the same order, however the passages are divided into segments. Scores are added up in an
accumulator that fits the second-level cache. Once k passages are known to score more than what the
remaining terms can add, only passages found so far can come among the first k: the remaining,
frequent terms are then looked up for those few.

H. Turtle and J. Flood, "Query Evaluation: Strategies and Optimizations", Information Processing &
Management 31(6), 1995.
"""

import numpy as np
from numba import njit

from .addresses import ZERO, bits_of, f32, float_of, i32, i64, u8, u16
from .postings import BASE, DELETED, DENSE, RANGE, ROWS
from .scoring import (
    ACCUMULATOR,
    ALLOWED,
    BAR,
    CANDIDATES,
    CAPACITY,
    COUNT,
    EVERY,
    FEW,
    FEW_ROWS,
    FIRST,
    FORM,
    FOUND,
    KEYS,
    KNOWN,
    LISTED,
    PART,
    QUERY_TERMS,
    REST,
    SIZE,
    TERM_BYTES,
    TERM_ROWS,
    TOUCHED,
    TRIAL,
    WEIGHTS,
    K,
    accumulate,
    enter_range,
    highest,
    look_up,
)
from .topk import key_of, select

BLOCK = 64  # passages whose highest score is compared at once
LIST_MOST = RANGE // 4  # postings up to which the touched passages are listed
LOOK_UP = 56  # what looking up a passage costs, in postings added
TRIES = 6  # how often a range is searched for a better bound
HALVINGS = 8  # how closely
MANY = 64  # results from which it is worth finding out first how good they have to be


@njit(cache=True, nogil=True)
def eligible(part_at, allowed, row):  # type: ignore[no-untyped-def]
    """Whether a row may be returned."""
    part = i64(part_at)
    if row >= part[ROWS] or (part[DELETED] != 0 and u8(part[DELETED])[row] != 0):
        return False
    return allowed == 0 or u8(allowed)[part[BASE] + row] != 0


@njit(cache=True, nogil=True, inline="always")
def _offer(s, row, bits, keys, n, bar):  # type: ignore[no-untyped-def]
    """Take a passage among the best if it is one; gives how many keys there are and the bar."""
    part = i64(s[PART])
    key = key_of(bits, part[BASE] + s[FIRST] + row)
    if key > bar and eligible(s[PART], s[ALLOWED], s[FIRST] + row):
        keys[n] = key
        n += 1
        if n == s[CAPACITY]:
            bar, n = select(keys, n, s[K]), s[K]
    return n, bar


@njit(cache=True, nogil=True)
def _offer_listed(state, rows_at, count, n, bar):  # type: ignore[no-untyped-def]
    """Offer the first `count` rows."""
    s, rows = i64(state), u16(rows_at)
    keys, scores = i64(s[KEYS]), i32(s[ACCUMULATOR])
    for i in range(count):
        row = np.int64(rows[i])
        bits = np.int64(scores[row])
        if bits > 0 and bits >= bar >> 32:
            n, bar = _offer(s, row, bits, keys, n, bar)
    return n, bar


@njit(cache=True, nogil=True)
def _offer_all(state, n, bar):  # type: ignore[no-untyped-def]
    """Offer all passages of a range that score, block by block."""
    s = i64(state)
    keys = i64(s[KEYS])
    for start in range(0, s[SIZE], BLOCK):
        scores = i32(s[ACCUMULATOR] + 4 * start)
        most = np.int32(0)
        for i in range(BLOCK):
            most = max(most, scores[i])
        if most > 0 and most >= bar >> 32:
            for i in range(BLOCK):
                bits = np.int64(scores[i])
                if bits > 0 and bits >= bar >> 32:
                    n, bar = _offer(s, start + i, bits, keys, n, bar)
    return n, bar


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _count_above(scores_at, n, score):  # type: ignore[no-untyped-def]
    """How many of n scores are above one. Counted in floats, 16 at a time; exact to 2^24."""
    scores, count = f32(scores_at), np.float32(0)
    for i in range(n):
        count += np.float32(1) if scores[i] > score else np.float32(0)
    return count


@njit(cache=True, nogil=True)
def _eligible_scores(state, rows_at, n):  # type: ignore[no-untyped-def]
    """Copy the scores of those of n rows that may be returned; gives how many."""
    s, count = i64(state), ZERO
    acc, rows, copied = f32(s[ACCUMULATOR]), u16(rows_at), f32(s[TRIAL])
    free = s[ALLOWED] == 0 and i64(s[PART])[DELETED] == 0
    for i in range(n):
        row = np.int64(rows[i]) if rows_at != 0 else i
        copied[count] = acc[row]
        count += free or eligible(s[PART], s[ALLOWED], s[FIRST] + row)
    return count


@njit(cache=True, nogil=True)
def _bound_so_far(state, rows_at, n, low, high):  # type: ignore[no-untyped-def]
    """A score between two that k of n rows exceed already, or -1. rows_at 0: of all rows."""
    s = i64(state)
    scores_at, k = s[ACCUMULATOR], s[K]
    if rows_at != 0 or s[ALLOWED] != 0 or i64(s[PART])[DELETED] != 0:
        scores_at, n = s[TRIAL], _eligible_scores(state, rows_at, n)
    if n < k or _count_above(scores_at, n, low) < k:
        return np.float32(-1)
    for _ in range(HALVINGS):
        middle = (low + high) * np.float32(0.5)
        if _count_above(scores_at, n, middle) >= k:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _keep(state, rows_at, n, floor):  # type: ignore[no-untyped-def]
    """Leave the candidates that score more than `floor`; gives how many."""
    s = i64(state)
    acc, rows, kept = f32(s[ACCUMULATOR]), u16(rows_at), u16(s[CANDIDATES])
    count = ZERO
    for i in range(n):
        row = rows[i]
        kept[count] = row
        count += acc[row] > floor
    return count


@njit(cache=True, nogil=True)
def _keep_scored(state, floor):  # type: ignore[no-untyped-def]
    """List all passages of the range that score more than `floor`; gives how many."""
    s = i64(state)
    acc, kept = f32(s[ACCUMULATOR]), u16(s[CANDIDATES])
    count, floor = ZERO, max(floor, np.float32(0))
    for row in range(s[SIZE]):
        kept[count] = row
        count += acc[row] > floor
    return count


@njit(cache=True, nogil=True)
def _floor(bound, rest, terms):  # type: ignore[no-untyped-def]
    """The score that has to be exceeded for `rest` to lift it above the bound, less rounding."""
    return bound - rest - (bound + rest) * np.float32(5e-7) * (terms - 1)


@njit(cache=True, nogil=True, inline="always")
def _enter(state):  # type: ignore[no-untyped-def]
    """Move all terms on to the range; gives how many postings they have there.

    ``rest[j]`` is then the most that the terms from j on can add to a score.
    """
    s = i64(state)
    weights, rest, r, total = f32(s[WEIGHTS]), f32(s[REST]), s[FIRST] // RANGE, ZERO
    rest[s[QUERY_TERMS]] = 0
    for j in range(s[QUERY_TERMS] - 1, -1, -1):
        term_at = s[TERM_ROWS] + TERM_BYTES * j
        enter_range(s[PART], term_at, r)
        count = i64(term_at)[COUNT]
        rest[j] = rest[j + 1]
        if count > 0:
            total += count
            rest[j] += weights[j] * highest(s[PART], term_at, r)
    return total


@njit(cache=True, nogil=True)
def _add_up(state, bound, slack, total):  # type: ignore[no-untyped-def]
    """Add up terms until the rest cannot bring a new passage among the best.

    Gives the next term, how many passages are touched, whether they are listed, and the bound.
    """
    s = i64(state)
    weights, rest = f32(s[WEIGHTS]), f32(s[REST])
    added, n, tries, listing, j = ZERO, ZERO, ZERO, s[K] > 0, ZERO
    while j < s[QUERY_TERMS] and rest[j] * slack > bound:
        term_at = s[TERM_ROWS] + TERM_BYTES * j
        count = i64(term_at)[COUNT]
        effort = n if listing else RANGE // 4
        useful = added >= s[K] and total - added > 2 * effort + 256 and count > 128
        if tries < TRIES and useful and rest[j] < rest[0] - rest[j]:
            tries += 1
            low, high = max(rest[j] * slack, bound), rest[0] - rest[j]
            rows_at, rows = (s[TOUCHED], n) if listing else (ZERO, s[SIZE])
            bound = max(bound, _bound_so_far(state, rows_at, rows, low, high))
            if rest[j] * slack <= bound:
                break
        if count > 0:
            listing = listing and added + count <= LIST_MOST
            n = accumulate(state, term_at, weights[j], n, LISTED if listing else EVERY)
            added += count
        j += 1
    return j, n, listing, bound


@njit(cache=True, nogil=True)
def _complete(state, bound, j, n, look):  # type: ignore[no-untyped-def]
    """Add the terms from `j` on to the n candidates, dropping those that fall behind."""
    s = i64(state)
    weights, rest = f32(s[WEIGHTS]), f32(s[REST])
    while j < s[QUERY_TERMS] and n > 0:
        term_at = s[TERM_ROWS] + TERM_BYTES * j
        term = i64(term_at)
        if term[COUNT] > 0:
            cost = 1 if term[FORM] == DENSE else LOOK_UP
            if look or n * cost < term[COUNT]:
                look_up(state, term_at, weights[j], n)
            else:
                accumulate(state, term_at, weights[j], ZERO, KNOWN)
        j += 1
        if j < s[QUERY_TERMS]:
            n = _keep(state, s[CANDIDATES], n, _floor(bound, rest[j], s[QUERY_TERMS]))
    return n


@njit(cache=True, nogil=True)
def _raise_bar(state, rows_at, n, bound):  # type: ignore[no-untyped-def]
    """Where many passages are wanted: a bar that k of n rows pass and few others."""
    s = i64(state)
    if s[K] < MANY or n < 2 * s[K]:
        return s[BAR]
    bound = _bound_so_far(state, rows_at, n, bound, f32(s[REST])[0])
    return max(s[BAR], key_of(bits_of(bound), 0)) if bound > 0 else s[BAR]


@njit(cache=True, nogil=True)
def _clear(state, rows_at, count, listing):  # type: ignore[no-untyped-def]
    """Set the accumulator back to zero."""
    s = i64(state)
    acc, rows = f32(s[ACCUMULATOR]), u16(rows_at)
    if listing:
        for i in range(count):
            acc[rows[i]] = 0
    else:
        for row in range(s[SIZE]):
            acc[row] = 0


@njit(cache=True, nogil=True, inline="always")
def search_range(state):  # type: ignore[no-untyped-def]
    """Offer the passages of one range."""
    s = i64(state)
    total, rest = _enter(state), f32(s[REST])
    bound, slack = float_of(s[BAR] >> 32), np.float32(1 + (s[QUERY_TERMS] - 1) * 5e-7)
    if total == 0 or s[FEW] == 0 or rest[0] * slack <= bound:
        return
    j, n, listing, rows_at = ZERO, s[FEW], s[K] > 0, s[FEW_ROWS]
    look = s[FEW] >= 0 and s[FEW] * s[QUERY_TERMS] * LOOK_UP < total
    if not look:
        rows_at = s[TOUCHED]
        j, n, listing, bound = _add_up(state, bound, slack, total)
    offered_at, m = (rows_at, n) if listing else (ZERO, s[SIZE])
    if look or j < s[QUERY_TERMS]:
        floor = np.float32(-1) if look else _floor(bound, rest[j], s[QUERY_TERMS])
        offered_at = s[CANDIDATES]
        m = _keep(state, rows_at, n, floor) if listing else _keep_scored(state, floor)
        m = _complete(state, bound, j, m, look)
    found, bar = s[FOUND], _raise_bar(state, offered_at, m, bound)
    if offered_at != 0:
        found, bar = _offer_listed(state, offered_at, m, found, bar)
    else:
        found, bar = _offer_all(state, found, bar)
    _clear(state, rows_at, n, listing)
    if 4 * found > 5 * s[K]:
        bar, found = select(i64(s[KEYS]), found, s[K]), s[K]
    s[FOUND], s[BAR] = found, bar
