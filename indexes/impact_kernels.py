"""Kernels over impacts: ordering postings, adding them up coarsely, scoring passages exactly."""

import numpy as np
from numba import njit

from .addresses import f32, float_of, i64, u8, u16, u32
from .postings import RANGE
from .prefetch import prefetch

# An open part, as a row of an int64 table: numbers, and addresses of its arrays.
BASE, ROWS, TERMS, BITS = 0, 1, 2, 3  # first passage number, rows, terms, log2 of buckets
BLOB, ENDS, BUCKETS = 4, 5, 6
OFFSETS, WORDS, WORDS_HIGH, WEIGHTS = 7, 8, 9, 10
STARTS, DOCS, CODES = 11, 12, 13
VALUES, HALVES = 14, 15  # what codes stand for; whether weights are float16
SHARE = 16  # in billionths: what a posting is worth at least, of what its code says
FIELDS = 17

LANES = 64  # passages that lie side by side while maxima are taken
STACK = 64  # passages of which one maximum is taken
BLOCKS = RANGE // STACK
TO_FLOAT = np.float32(2.0**112)  # between the exponents of float16 and float32


@njit(cache=True, nogil=True)
def sort_impacts(counts, words, codes, terms, starts, docs, ordered):  # type: ignore[no-untyped-def]
    """Order the postings of one range by term, then by falling code, then by row.

    counts: (rows,) postings of each row; words, codes: (postings,) in row order.
    Fills starts: (terms + 1,) uint32, docs: (postings,) uint16, ordered: (postings,) uint8.
    """
    places = np.zeros(257, np.int64)
    for code in codes:
        places[256 - np.int64(code)] += 1
    for code in range(256):
        places[code + 1] += places[code]
    by_code, rows = np.empty(len(words), np.uint32), np.empty(len(words), np.uint16)
    falling = np.empty(len(words), np.uint8)
    first = 0
    for row in range(len(counts)):
        for i in range(first, first + counts[row]):
            at = places[255 - np.int64(codes[i])]
            places[255 - np.int64(codes[i])] = at + 1
            by_code[at], rows[at], falling[at] = words[i], row, codes[i]
        first += counts[row]
    next_of = np.zeros(terms + 1, np.int64)
    for word in words:
        next_of[np.int64(word) + 1] += 1
    for term in range(terms):
        next_of[term + 1] += next_of[term]
        starts[term + 1] = next_of[term + 1]
    for i in range(len(words)):
        at = next_of[by_code[i]]
        next_of[by_code[i]] = at + 1
        docs[at], ordered[at] = rows[i], falling[i]


@njit(cache=True, nogil=True)
def fill_worths(values_at, weight, unit, worths):  # type: ignore[no-untyped-def]
    """What each code of a term adds, in units and rounded up: 256 of uint16."""
    values, factor = f32(values_at)[:256], weight / unit
    worths[0] = 0
    for code in range(1, 256):
        worths[code] = np.uint16(np.ceil(values[code] * factor))


@njit(cache=True, nogil=True)
def add_postings(acc, docs_at, codes_at, count, worths):  # type: ignore[no-untyped-def]
    """Add `count` postings to the sums; four at a time, as no passage comes twice."""
    docs, codes = u16(docs_at)[:count], u8(codes_at)[:count]
    fours = len(docs) // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = docs[i], docs[i + 1], docs[i + 2], docs[i + 3]
        one, two = worths[codes[i]], worths[codes[i + 1]]
        three, four = worths[codes[i + 2]], worths[codes[i + 3]]
        acc[a] += one
        acc[b] += two
        acc[c] += three
        acc[d] += four
    for i in range(fours, len(docs)):
        acc[docs[i]] += worths[codes[i]]


@njit(cache=True, nogil=True)
def prefix_above(codes_at, count, worths, least):  # type: ignore[no-untyped-def]
    """How many of `count` postings, by falling code, add at least `least`."""
    codes, low, high = u8(codes_at), np.int64(0), count
    while low < high:
        middle = (low + high) >> 1
        if worths[codes[middle]] >= least:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def silence(acc, mask_at, size):  # type: ignore[no-untyped-def]
    """Set the sums of passages that may not be returned to zero."""
    mask, sums = u8(mask_at)[:size], acc[:size]
    for i in range(len(sums)):
        sums[i] *= mask[i]


@njit(cache=True, nogil=True)
def take_maxima(acc, size, most):  # type: ignore[no-untyped-def]
    """The highest sum of each block: passages LANES apart, so that many blocks go at once.

    Gives the number of blocks that have passages.
    """
    chunks = (size + LANES * STACK - 1) // (LANES * STACK)
    for chunk in range(chunks):
        highest = most[chunk * LANES : (chunk + 1) * LANES]
        for lane in range(LANES):
            highest[lane] = 0
        for i in range(STACK):
            at = (chunk * STACK + i) * LANES
            sums = acc[at : at + LANES]
            for lane in range(LANES):
                highest[lane] = sums[lane] if sums[lane] > highest[lane] else highest[lane]
    return chunks * LANES


@njit(cache=True, nogil=True)
def count_from(sums, count, least):  # type: ignore[no-untyped-def]
    """How many of the first `count` are at least `least`."""
    found, sums = np.int32(0), sums[:count]
    for i in range(len(sums)):
        found += np.int32(sums[i] >= least)
    return np.int64(found)


@njit(cache=True, nogil=True)
def reached_by(sums, count, k, high):  # type: ignore[no-untyped-def]
    """A value that k of the sums reach, near the highest such; 0 where fewer than k are above 0."""
    low, step = np.int64(0), np.int64(high) + 1
    while step - low > 1 and step - low > step >> 8:
        middle = (low + step) >> 1
        if count_from(sums, count, np.uint16(middle)) >= k:
            low = middle
        else:
            step = middle
    return low


@njit(cache=True, nogil=True)
def list_blocks(acc, most, blocks, low, high, rows):  # type: ignore[no-untyped-def]
    """List the passages with sums from `low` to below `high`; gives how many."""
    count = np.int64(0)
    for block in range(blocks):
        if most[block] < low:
            continue
        first = (block // LANES) * STACK * LANES + block % LANES
        for i in range(STACK):
            row = first + i * LANES
            rows[count] = row
            count += (acc[row] >= low) & (acc[row] < high)
    return count


@njit(cache=True, nogil=True)
def fetch_row(part_at, row):  # type: ignore[no-untyped-def]
    """Ask for the memory of a row that will be scored soon."""
    part = i64(part_at)
    first = i64(part[OFFSETS] + 8 * row)[0]
    words, weights = u16(part[WORDS] + 2 * first), u8(part[WEIGHTS] + (first << part[HALVES]))
    for line in range(4):
        prefetch(words, 32 * line)  # type: ignore[call-arg]
        prefetch(weights, 64 * line)


@njit(cache=True, nogil=True)
def exact_score(part_at, row, slots, held, weights, terms):  # type: ignore[no-untyped-def]
    """The score of a row: the terms of the query in their order, added up as float32.

    slots: for each term of the part its place in the query from 1 on, or 0.
    held: room for the symbols of the `terms` terms of the query, and one more.
    """
    part = i64(part_at)
    first, end = i64(part[OFFSETS] + 8 * row)[0], i64(part[OFFSETS] + 8 * row)[1]
    words, count = u16(part[WORDS] + 2 * first)[: end - first], end - first
    for j in range(terms + 1):
        held[j] = 0
    if part[WORDS_HIGH] != 0:
        high = u8(part[WORDS_HIGH] + first)
        symbols_at, size = part[WEIGHTS] + (first << part[HALVES]), part[HALVES]
        for i in range(count):
            place = slots[np.int64(words[i]) | (np.int64(high[i]) << 16)]
            held[place] = u16(symbols_at + 2 * i)[0] if size else u8(symbols_at + i)[0]
    elif part[HALVES]:
        halves = u16(part[WEIGHTS] + 2 * first)[:count]
        for i in range(len(halves)):
            held[slots[words[i]]] = halves[i]
    else:
        codes = u8(part[WEIGHTS] + first)[:count]
        for i in range(len(codes)):
            held[slots[words[i]]] = codes[i]
    return _summed(part_at, held, weights, terms)


@njit(cache=True, nogil=True)
def _summed(part_at, held, weights, terms):  # type: ignore[no-untyped-def]
    part, score = i64(part_at), np.float32(0)
    values = f32(part[VALUES])
    for j in range(terms):
        symbol = np.int64(held[j + 1])
        if symbol > 0:
            value = float_of(symbol << 13) * TO_FLOAT if part[HALVES] else values[symbol]
            score += weights[j] * value
    return score


@njit(cache=True, nogil=True)
def term_range(part_at, r, term):  # type: ignore[no-untyped-def]
    """Where the postings of a term in range `r` start, among all of the part, and how many."""
    part = i64(part_at)
    starts = u32(part[STARTS] + 4 * (r * (part[TERMS] + 1) + term))
    base = i64(part[OFFSETS] + 8 * r * RANGE)[0]
    return base + starts[0], np.int64(starts[1]) - np.int64(starts[0])
