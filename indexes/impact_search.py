"""Top-k by impacts: heavy postings add up coarsely, then the passages that may win are scored.

The postings of a term in a range of 65,536 passages stand by falling impact. A query reads those of
each term that add at least some amount, in whole units that are rounded up, so that a passage's sum
plus what the unread postings could add (the rest) is never below its score. The amount falls until
few passages are left whose sum plus the rest reaches the k-th best score so far; those few are
scored exactly from their own terms. That is exact. The approximate search leaves out passages that
would need more than a share of the rest, the margin: hardly a passage has its terms just where all
lists were left.

J. Mackenzie, A. Mallia, A. Moffat, M. Petri, "Accelerating Learned Sparse Indexes Via Term Impact
Decomposition", Findings of EMNLP 2022.  J. Lin and A. Trotman, "Anytime Ranking for Impact-Ordered
Indexes", ICTIR 2015.
"""

import numpy as np
from numba import njit

from .addresses import ZERO, bits_of, f32, float_of, i64, u8
from .impact_kernels import (
    BASE,
    BITS,
    BLOB,
    BLOCKS,
    BUCKETS,
    CODES,
    DOCS,
    ENDS,
    ROWS,
    SHARE,
    VALUES,
    add_postings,
    count_from,
    exact_score,
    fetch_row,
    fill_worths,
    list_blocks,
    prefix_above,
    reached_by,
    silence,
    take_maxima,
    term_range,
)
from .inverted_search import by_weight
from .postings import RANGE
from .topk import LOWER, key_of, select, sort_keys
from .vocabulary import find_term, hash_bytes

UNITS = np.float32(60_000)  # the most that all terms add up to, less rounding up
MOST_TERMS = 4096  # of a query, so that rounding up cannot make a sum pass 65,535
SCORING = 300  # what scoring a passage costs, in postings added
NEAR = 1e-5  # more than float32 sums are off by
FIRST_CUT = 20  # the heaviest postings are those that add a 20th of the bar or more
ALL = 1000  # the margin, in thousandths, that allows for all that the unread postings could add
CUT = 4  # by how much the amount falls
AHEAD = 4  # passages whose memory is asked for

# The state of a search: numbers of int64.
K, CAPACITY, FOUND, BAR = 0, 1, 2, 3  # wanted, room for keys, keys so far, the k-th best key
PART, FIRST, SIZE, TOTAL = 4, 5, 6, 7  # of the range at hand: part, first row, rows, query terms
MASK, MARGIN, REST, LEFT = 8, 9, 10, 11  # eligible rows or 0, in thousandths; what is not read
AMOUNT = 12  # postings that add at least this have been read
STATE = 13


@njit(cache=True, nogil=True)
def _offer(s, keys, row, score):  # type: ignore[no-untyped-def]
    """Take a row of the part among the best if it is one."""
    if not score > 0:
        return
    key = key_of(bits_of(score), i64(s[PART])[BASE] + row)
    if key > s[BAR]:
        keys[s[FOUND]] = key
        s[FOUND] += 1
        if s[FOUND] == s[CAPACITY]:
            _settle(s, keys)


@njit(cache=True, nogil=True)
def _settle(s, keys):  # type: ignore[no-untyped-def]
    """Leave the k best keys, and know the k-th."""
    if s[FOUND] >= s[K]:
        s[BAR], s[FOUND] = select(keys, s[FOUND], s[K]), s[K]


@njit(cache=True, nogil=True)
def _score_listed(s, rows, count, keys, acc, floor, unit, slots, held, weights):  # type: ignore[no-untyped-def]
    """Score the listed rows, as long as their sums are not below what the bar asks for."""
    s_part, first = s[PART], s[FIRST]
    for i in range(min(AHEAD, count)):
        fetch_row(s_part, first + rows[i])
    for i in range(count):
        if i + AHEAD < count:
            fetch_row(s_part, first + rows[i + AHEAD])
        if acc[rows[i]] < floor:
            continue
        bar = s[BAR]
        row = first + np.int64(rows[i])
        _offer(s, keys, row, exact_score(s_part, row, slots, held, weights, s[TOTAL]))
        if s[BAR] != bar:
            floor = max(floor, _floor(s, _asked(s, unit)))


@njit(cache=True, nogil=True)
def _asked(s, unit):  # type: ignore[no-untyped-def]
    """The bar in units, rounded down."""
    return max(np.int64(float_of(s[BAR] >> 32) / unit * (1 - NEAR)) - 1, ZERO)


@njit(cache=True, nogil=True)
def _floor(s, asked):  # type: ignore[no-untyped-def]
    """The sum that a passage needs to come among the best with what the margin leaves it."""
    return max(asked - s[REST] * s[MARGIN] // ALL, np.int64(1))


@njit(cache=True, nogil=True)
def _read_on(s, acc, terms, lists, worths):  # type: ignore[no-untyped-def]
    """Read the postings that add at least the amount, and say what the others could add."""
    part = i64(s[PART])
    s[REST] = s[LEFT] = 0
    for j in range(s[TOTAL]):
        at, count = lists[j, 0], lists[j, 1]
        if count > 0 and worths[j, u8(part[CODES] + at)[0]] >= s[AMOUNT]:
            take = prefix_above(part[CODES] + at, count, worths[j], s[AMOUNT])
            add_postings(acc, part[DOCS] + 2 * at, part[CODES] + at, take, worths[j])
            at, count = at + take, count - take
            lists[j, 0], lists[j, 1] = at, count
        if count > 0:
            s[REST] += np.int64(worths[j, u8(part[CODES] + at)[0]])
            s[LEFT] += count


@njit(cache=True, nogil=True)
def _reached(s, acc, most, blocks, worths):  # type: ignore[no-untyped-def]
    """A score in units that k passages of the range exceed for sure; the sum that says so."""
    sums, count = (most, blocks) if 4 * s[K] <= blocks else (acc, s[SIZE])
    sum_ = reached_by(sums, count, s[K], UNITS)
    excess = s[TOTAL]
    for j in range(s[TOTAL]):
        excess += np.int64(worths[j, 1])
    share = np.float64(i64(s[PART])[SHARE]) * 1e-9
    return max(np.int64((sum_ - excess) * share * (1 - NEAR)), ZERO), sum_


@njit(cache=True, nogil=True)
def _search_range(s, unit, acc, most, rows, keys, terms, lists, worths, slots, held, weights):  # type: ignore[no-untyped-def]
    """Offer the passages of one range that may come among the best."""
    known = s[FOUND] >= s[K] and s[BAR] > 0
    asked, sum_, blocks, floor = _asked(s, unit) if known else ZERO, ZERO, ZERO, ZERO
    s[AMOUNT] = 1  # all at once: with the whole margin stopping early costs more than it saves
    if s[MARGIN] < ALL:
        s[AMOUNT] = max((asked if known else np.int64(UNITS)) // FIRST_CUT, 1)
    while True:
        _read_on(s, acc, terms, lists, worths)
        all_read = s[LEFT] == 0 or s[AMOUNT] == 1  # what adds nothing, in forged parts, stays
        if not all_read and known and asked < s[REST] * s[MARGIN] // ALL:
            s[AMOUNT] = max(s[AMOUNT] // CUT, 1)
            continue
        if s[MASK] != 0:
            silence(acc, s[MASK] + s[FIRST], s[SIZE])
        blocks = take_maxima(acc, s[SIZE], most)
        if not known:
            asked, sum_ = _reached(s, acc, most, blocks, worths)
        floor = _floor(s, asked)
        settled = asked >= s[REST] * s[MARGIN] // ALL
        if all_read or (settled and SCORING * count_from(most, blocks, floor) < s[LEFT]):
            break
        s[AMOUNT] = max(s[AMOUNT] // CUT, 1)
    high = np.int64(1 << 16)
    if not known and sum_ > floor:
        n = list_blocks(acc, most, blocks, sum_, high, rows)
        _score_listed(s, rows, n, keys, acc, sum_, unit, slots, held, weights)
        _settle(s, keys)
        high, floor = sum_, max(floor, _floor(s, _asked(s, unit)))
    n = list_blocks(acc, most, blocks, floor, high, rows)
    _score_listed(s, rows, n, keys, acc, floor, unit, slots, held, weights)
    _settle(s, keys)
    for i in range(len(acc)):
        acc[i] = 0


@njit(cache=True, nogil=True)
def _score_all(s, keys, slots, held, weights):  # type: ignore[no-untyped-def]
    """Offer every passage of the range that may be returned."""
    mask = u8(s[MASK] + s[FIRST])
    for i in range(s[SIZE]):
        if s[MASK] == 0 or mask[i] != 0:
            row = s[FIRST] + i
            _offer(s, keys, row, exact_score(s[PART], row, slots, held, weights, s[TOTAL]))
    _settle(s, keys)


@njit(cache=True, nogil=True)
def _tops(s, terms, weights, ranges):  # type: ignore[no-untyped-def]
    """The most that a passage of any range can score, by the first posting of every term."""
    part, highest = i64(s[PART]), np.float32(0)
    values = f32(part[VALUES])
    for r in range(ranges):
        total = np.float32(0)
        for j in range(s[TOTAL]):
            at, count = term_range(s[PART], r, terms[j])
            if count > 0:
                total += weights[j] * values[u8(part[CODES] + at)[0]]
        highest = max(highest, total)
    return highest


@njit(cache=True, nogil=True)
def _search_part(s, eligible, acc, most, rows, keys, terms, lists, worths, slots, held, weights):  # type: ignore[no-untyped-def]
    """Offer the passages of one part. eligible: how many rows of each range may be returned."""
    part = i64(s[PART])
    ranges = (part[ROWS] + RANGE - 1) // RANGE
    direct = s[TOTAL] > MOST_TERMS
    unit = _tops(s, terms, weights, ranges) / UNITS
    direct = direct or not 1e-30 < unit < 1e30
    if not direct:
        for j in range(s[TOTAL]):
            fill_worths(part[VALUES], weights[j], unit, worths[j])
    for j in range(s[TOTAL]):
        slots[terms[j]] = j + 1
    for r in range(ranges):
        s[FIRST], s[SIZE] = r * RANGE, min(RANGE, part[ROWS] - r * RANGE)
        total = top = ZERO
        if not direct:
            for j in range(s[TOTAL]):
                lists[j, 0], lists[j, 1] = term_range(s[PART], r, terms[j])
                total += lists[j, 1]
                if lists[j, 1] > 0:
                    top += np.int64(worths[j, u8(part[CODES] + lists[j, 0])[0]])
        if eligible[r] == 0 or (not direct and (total == 0 or top < _asked(s, unit))):
            continue
        if direct or eligible[r] * SCORING < total:
            _score_all(s, keys, slots, held, weights)
        else:
            _search_range(
                s, unit, acc, most, rows, keys, terms, lists, worths, slots, held, weights
            )
    for j in range(s[TOTAL]):
        slots[terms[j]] = 0


@njit(cache=True, nogil=True)
def _number_of(part_at, text, start, end):  # type: ignore[no-untyped-def]
    part, code = i64(part_at), hash_bytes(text, start, end)
    return find_term(text, start, end, code, part[BLOB], part[ENDS], part[BUCKETS], part[BITS])


@njit(cache=True, nogil=True)
def _locate(parts, text, ends, t, numbers):  # type: ignore[no-untyped-def]
    """Look a term up in all parts, unless that was done before."""
    if numbers[t, 0] == -2:
        start = ends[t - 1] if t > 0 else ZERO
        for p in range(len(parts)):
            numbers[t, p] = _number_of(parts[p], text, start, ends[t])


@njit(
    "void(int64[::1], Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], int32[::1],"
    "float32[::1], int32[:,::1], int64[::1], int64[::1], int64[::1], uint16[::1], int64[:,::1],"
    "uint16[::1], int64[:,::1], float32[:,::1])",
    cache=True,
    nogil=True,
)
def search_impacts(  # type: ignore[no-untyped-def]
    parts, text, ends, offsets, ids, weights, located, masks, eligible, s, acc, keys, slots,
    numbers, scores,
):  # fmt: skip
    """Search for a batch of queries; numbers and scores come filled with -1 and -inf.

    parts: addresses of the fields of the parts; text, ends: the terms of the batch; offsets, ids,
    weights: the queries as WeightedTerms has them.  located: (terms, parts) filled with -2.
    masks: for each part the address of one bool a row, or 0.  eligible: for each range of each part
    how many rows may be returned.  s: (STATE,) with K, CAPACITY and MARGIN.
    acc: (RANGE,) zero; keys: (2, CAPACITY); slots: zero, one a term of the largest part.
    """
    longest = ZERO
    for q in range(len(offsets) - 1):
        if offsets[q + 1] - offsets[q] > longest:
            longest = offsets[q + 1] - offsets[q]
    entries, own = np.empty(longest, np.int64), np.empty(longest, np.float32)
    terms, used = np.empty(longest, np.int64), np.empty(longest, np.float32)
    lists, held = np.empty((longest, 2), np.int64), np.empty(longest + 1, np.uint16)
    worths = np.empty((longest, 256), np.uint16)
    most, rows = np.empty(BLOCKS, np.uint16), np.empty(RANGE + 1, np.uint16)
    for q in range(len(offsets) - 1):
        n = ZERO
        for i in range(offsets[q], offsets[q + 1]):
            if weights[i] > 0:
                entries[n], own[n] = i, weights[i]
                n += 1
        by_weight(entries[:n], own[:n])
        s[FOUND] = s[BAR] = ranges = ZERO
        for p in range(len(parts)):
            m = ZERO
            for i in range(n):
                t = np.int64(ids[entries[i]])
                _locate(parts, text, ends, t, located)
                if located[t, p] >= 0:
                    terms[m], used[m] = located[t, p], own[i]
                    m += 1
            s[PART], s[MASK], s[TOTAL] = parts[p], masks[p], m
            if m > 0:
                _search_part(
                    s, eligible[ranges:], acc, most, rows, keys[0], terms, lists, worths, slots,
                    held, used,
                )  # fmt: skip
            ranges += (i64(parts[p])[ROWS] + RANGE - 1) // RANGE
        found = min(s[FOUND], s[K])
        sort_keys(keys[0], found, keys[1])
        for i in range(found):
            numbers[q, i] = LOWER - (keys[0, i] & LOWER)
            scores[q, i] = float_of(keys[0, i] >> 32)
