"""Postings: how the passages that hold a term are kept, in three forms.

Passages are numbered by row; 65,536 rows are a range. What a passage holds of a term is its symbol,
1 to 65,535: a term frequency.

    sparse   a few postings: one uint32 each, row above 6 bits of symbol
    common   for each range the rows with symbol 1, then the others, as ascending uint16 within the
             range, the others with their symbols; how many of both stands in `directory`
    dense    in more than a third of the rows: one symbol a row, 0 where the term is absent

Symbols are bytes; where one does not fit, a second array holds the upper bytes of all.
"""

import numpy as np
from numba import njit

from .addresses import ZERO, i64, u8, u16, u32

RANGE = 1 << 16
SYMBOL_BITS = 6  # of a sparse posting, which leaves 26 bits for the row
MOST_ROWS = 1 << (32 - SYMBOL_BITS)
SPARSE, COMMON, DENSE = np.int64(0), np.int64(1), np.int64(2)

# An open part, as a row of an int64 table: numbers, and addresses of its arrays.
BASE, ROWS, TERMS, BITS = 0, 1, 2, 3  # first passage number, rows, terms, log2 of buckets
BLOB, ENDS, BUCKETS, STARTS, SPARSE_POSTINGS = 4, 5, 6, 7, 8
COMMONS, COMMON_TERMS, BASES, DIRECTORY, DOCS, LOW, HIGH = 9, 10, 11, 12, 13, 14, 15
DENSES, DENSE_TERMS, DENSE_COUNTS, DENSE_LOW, DENSE_HIGH = 16, 17, 18, 19, 20
NORMS, TABLE, TOP = 21, 22, 23
DELETED, LIVE_COUNTS, COMMON_TOPS, DENSE_TOPS = 24, 25, 26, 27
FIELDS = 28

# A source of postings for a new part: a sorted range of a builder, or an open part.
ENTRIES, RANKS, FIRST_ROW, ROW_MAP = 0, 1, 2, 3
BEGINS, COUNTS, RANGE_ROWS, RANGE_LOW, RANGE_HIGH = 4, 5, 6, 7, 8
SOURCE = 9


@njit(cache=True, nogil=True)
def _index_of(terms, count, term):  # type: ignore[no-untyped-def]
    """The place of a term in ascending terms, or -1."""
    low, high = ZERO, count
    while low < high:
        middle = (low + high) >> 1
        if terms[middle] < term:
            low = middle + 1
        else:
            high = middle
    return low if low < count and terms[low] == term else np.int64(-1)


@njit(cache=True, nogil=True)
def place_of(part_at, term):  # type: ignore[no-untyped-def]
    """The form of a term, then: first and last sparse posting, or its place among its kind."""
    part = i64(part_at)
    starts = u32(part[STARTS] + 4 * term)
    start, end = starts[0], starts[1]
    if end > start:
        return SPARSE, np.int64(start), np.int64(end)
    place = _index_of(u32(part[COMMON_TERMS]), part[COMMONS], term)
    if place >= 0:
        return COMMON, place, ZERO
    return DENSE, _index_of(u32(part[DENSE_TERMS]), part[DENSES], term), ZERO


@njit(cache=True, nogil=True)
def symbol_at(low, high, i):  # type: ignore[no-untyped-def]
    """The symbol at `i` of the arrays at two addresses, the second 0 when symbols are bytes."""
    symbol = np.int64(u8(low + i)[0])
    if high != 0:
        symbol |= np.int64(u8(high + i)[0]) << 8
    return symbol


@njit(cache=True, nogil=True)
def _decode_range(part_at, docs_at, codes_at, ones, others, first, rows, symbols, n):  # type: ignore[no-untyped-def]
    """Merge the rows with symbol 1 and the others of one range."""
    part = i64(part_at)
    docs = u16(part[DOCS] + 2 * docs_at)
    i, j = 0, ones
    while i < ones or j < ones + others:
        if j == ones + others or (i < ones and docs[i] < docs[j]):
            rows[n], symbols[n] = first + docs[i], 1
            i += 1
        else:
            rows[n] = first + docs[j]
            symbols[n] = symbol_at(part[LOW], part[HIGH], codes_at + j - ones)
            j += 1
        n += 1
    return n


@njit(cache=True, nogil=True)
def decode(part_at, term, rows, symbols, n):  # type: ignore[no-untyped-def]
    """Append all postings of a term by ascending row; gives how many there are then."""
    part = i64(part_at)
    kind, a, b = place_of(part_at, term)
    if kind == SPARSE:
        for i in range(a, b):
            posting = u32(part[SPARSE_POSTINGS] + 4 * i)[0]
            rows[n], symbols[n] = posting >> SYMBOL_BITS, posting & ((1 << SYMBOL_BITS) - 1)
            n += 1
    elif kind == COMMON:
        ranges = (part[ROWS] + RANGE - 1) // RANGE
        bases = i64(part[BASES] + 16 * a)
        docs_at, codes_at = bases[0], bases[1]
        for r in range(ranges):
            sizes = u16(part[DIRECTORY] + 4 * (a * ranges + r))
            ones, others = np.int64(sizes[0]), np.int64(sizes[1])
            n = _decode_range(part_at, docs_at, codes_at, ones, others, r * RANGE, rows, symbols, n)
            docs_at, codes_at = docs_at + ones + others, codes_at + others
    elif a >= 0:
        for row in range(part[ROWS]):
            symbol = symbol_at(part[DENSE_LOW], part[DENSE_HIGH], a * part[ROWS] + row)
            if symbol > 0:
                rows[n], symbols[n] = row, symbol
                n += 1
    return n


@njit(cache=True, nogil=True)
def _mapped(source, rows, symbols, start, n):  # type: ignore[no-untyped-def]
    """Renumber decoded rows from `start` on, and drop those that are deleted."""
    kept = start
    for i in range(start, n):
        row = source[FIRST_ROW] + np.int64(rows[i])
        if source[ROW_MAP] != 0:
            row = i64(source[ROW_MAP] + 8 * np.int64(rows[i]))[0]
        if row >= 0:
            rows[kept], symbols[kept] = row, symbols[i]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def gather(sources, parts, cursors, first, last, rows, symbols, counts):  # type: ignore[no-untyped-def]
    """Collect the postings of the terms ranked `first` to `last` from all sources, in order.

    sources: (sources, SOURCE) int64, the ranks of each ascending.
    parts: (sources or 0,) addresses of the fields of open parts.
    cursors: (sources,) the next entry of each, moved on. Fills counts: (last - first,).
    """
    n = ZERO
    for rank in range(first, last):
        begin = n
        for s in range(len(sources)):
            source, entry = sources[s], cursors[s]
            if entry == source[ENTRIES] or u32(source[RANKS] + 4 * entry)[0] != rank:
                continue
            cursors[s] += 1
            if len(parts) > 0:
                n = _mapped(source, rows, symbols, n, decode(parts[s], entry, rows, symbols, n))
                continue
            at = np.int64(u32(source[BEGINS] + 4 * entry)[0])
            count = np.int64(u32(source[COUNTS] + 4 * entry)[0])
            docs = u16(source[RANGE_ROWS] + 2 * at)
            for i in range(count):
                rows[n] = source[FIRST_ROW] + docs[i]
                symbols[n] = symbol_at(source[RANGE_LOW], source[RANGE_HIGH], at + i)
                n += 1
        counts[rank - first] = n - begin
    return n


@njit(cache=True, nogil=True)
def _fills_range(rows, start, end):  # type: ignore[no-untyped-def]
    """Whether a term is in all rows of some range, more than the directory can count."""
    for i in range(start, end - RANGE + 1):
        if rows[i] & 0xFFFF == 0 and rows[i + RANGE - 1] == rows[i] + RANGE - 1:
            return True
    return False


@njit(cache=True, nogil=True)
def classify(rows, symbols, counts, total_rows, most_sparse):  # type: ignore[no-untyped-def]
    """The form of each term, and how many sparse postings, common ones, and others there are."""
    kinds = np.empty(len(counts), np.uint8)
    sparse = docs = others = n = 0
    for term in range(len(counts)):
        count, high, above = counts[term], 0, 0
        for i in range(n, n + count):
            high = max(high, symbols[i])
            above += symbols[i] != 1  # as `encode` has it: a forged part may hold a 0
        n += count
        full = count >= RANGE and _fills_range(rows, n - count, n)
        if full or (3 * count > total_rows and count > most_sparse):
            kinds[term] = DENSE
        elif count <= most_sparse and high < (1 << SYMBOL_BITS):
            kinds[term] = SPARSE
            sparse += count
        else:
            kinds[term] = COMMON
            docs, others = docs + count, others + above
    return kinds, sparse, docs, others


@njit(cache=True, nogil=True)
def encode(rows, symbols, counts, kinds, sparse, docs, codes, directory, dense):  # type: ignore[no-untyped-def]
    """Write the postings of some terms in their forms.

    sparse: uint32, docs: uint16, codes: uint16 (symbols of the others), directory: (common terms,
    ranges, 2) uint16, dense: (dense terms, rows) uint16; all of the right size and zero.
    """
    n = n_sparse = n_docs = n_codes = n_common = n_dense = 0
    for term in range(len(counts)):
        end = n + counts[term]
        if kinds[term] == SPARSE:
            for i in range(n, end):
                sparse[n_sparse] = (rows[i] << SYMBOL_BITS) | symbols[i]
                n_sparse += 1
        elif kinds[term] == DENSE:
            for i in range(n, end):
                dense[n_dense, rows[i]] = symbols[i]
            n_dense += 1
        else:
            i = n
            while i < end:
                r, start = rows[i] >> 16, i
                ones = 0
                while i < end and rows[i] >> 16 == r:
                    ones += symbols[i] == 1
                    i += 1
                first, other = n_docs, n_docs + ones
                for j in range(start, i):
                    if symbols[j] == 1:
                        docs[first] = rows[j] & 0xFFFF
                        first += 1
                    else:
                        docs[other], codes[n_codes] = rows[j] & 0xFFFF, symbols[j]
                        other, n_codes = other + 1, n_codes + 1
                n_docs += i - start
                directory[n_common, r, 0], directory[n_common, r, 1] = ones, i - start - ones
            n_common += 1
        n = end


@njit(cache=True, nogil=True)
def sort_range(terms, symbols, rows_end, distinct):  # type: ignore[no-untyped-def]
    """Order the postings of one range by term.

    terms, symbols: (postings,) in row order; rows_end: (rows,) where each row's postings end;
    distinct: terms are below it. Returns the terms present, where each ends, the rows and symbols.
    """
    places = np.zeros(distinct + 1, np.int64)
    for term in terms:
        places[term + 1] += 1
    present = np.empty(min(distinct, len(terms)), np.int32)
    ends = np.empty(len(present), np.uint32)
    n = 0
    for term in range(distinct):
        count = places[term + 1]
        places[term + 1] = places[term] + count
        if count > 0:
            present[n], ends[n] = term, places[term + 1]
            n += 1
    rows = np.empty(len(terms), np.uint16)
    sorted_symbols = np.empty(len(terms), np.uint16)
    i = 0
    for row in range(len(rows_end)):
        while i < rows_end[row]:
            place = places[terms[i]]
            rows[place], sorted_symbols[place] = row, symbols[i]
            places[terms[i]] = place + 1
            i += 1
    return present[:n].copy(), ends[:n].copy(), rows, sorted_symbols
