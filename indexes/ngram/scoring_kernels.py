"""The document stage of the intersective score, over the tokens of passages: see scoring.

The n-grams of a query are sorted by their codes, so that those that begin at a position are found
by walking along the text, each token narrowing the range of n-grams that it can still be. Most
positions are passed by after a look at whether any n-gram may begin with their two tokens.
"""

import numpy as np
from numba import njit

from .part import STRIDE
from .suffix_sort import sort_keys

PAIRS = 1 << 14
"""Places for pairs of codes; a pair may share its place with another."""


@njit(cache=True, nogil=True)
def pair_place(first, second):  # type: ignore[no-untyped-def]
    """Where it is noted whether an n-gram begins with two codes."""
    return (first * 5077 + second) & (PAIRS - 1)


@njit(cache=True, nogil=True)
def note_beginnings(offsets, codes, table, pairs):  # type: ignore[no-untyped-def]
    """Fill the table (codes, 2), from where to where n-grams begin with a code, and the pairs.

    A code that is an n-gram of its own goes with every code.
    """
    for ngram in range(len(offsets) - 1):
        begin, code = offsets[ngram], codes[offsets[ngram]]
        if table[code, 1] == 0:
            table[code, 0] = ngram
        table[code, 1] = ngram + 1
        if offsets[ngram + 1] - begin == 1:
            pairs[:] = True
        else:
            pairs[pair_place(code, codes[begin + 1])] = True


@njit(cache=True, nogil=True)
def row_of(position, starts, directory):  # type: ignore[no-untyped-def]
    """The passage at a position of the text, -1 for none."""
    if position < 1 or position >= starts[-1]:
        return np.int64(-1)
    row = np.int64(directory[position >> STRIDE])
    while starts[row + 1] <= position:
        row += 1
    return row


@njit(cache=True, nogil=True)
def tally(positions, stretches, shifts, worths, first, starts, directory, worth, last, rows, n):  # type: ignore[no-untyped-def]
    """Add to the `worth` of each passage what the n-grams that occur in it are worth, each once.

    last: (rows,) the n-gram that was added last, counted from `first` + 1.  rows: those that have
    something, n so far; gives how many then.
    """
    for ngram in range(len(stretches)):
        for i in range(stretches[ngram, 0], stretches[ngram, 1]):
            row = row_of(np.int64(positions[i]) + shifts[ngram], starts, directory)
            if row < 0 or last[row] == first + ngram + 1:
                continue
            if last[row] == 0:
                rows[n] = row
                n += 1
            last[row] = first + ngram + 1
            worth[row] += worths[ngram]
    return n


@njit(cache=True, nogil=True)
def _first_from(offsets, codes, low, high, depth, wanted):  # type: ignore[no-untyped-def]
    """The first n-gram from `low` to `high` whose code at a depth is `wanted` or more."""
    while low < high:
        middle = (low + high) >> 1
        if codes[offsets[middle] + depth] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def match(text, begin, end, table, pairs, offsets, codes, ranks, found, spare):  # type: ignore[no-untyped-def]
    """All occurrences of n-grams in a stretch, as rank << 32 | place, sorted.

    table, pairs: see note_beginnings.  Gives how many there are, and the buffers, which may have
    grown.
    """
    n = 0
    for place in range(begin, end - 1):  # nothing begins at the last separator
        first, last = np.int64(table[text[place], 0]), np.int64(table[text[place], 1])
        if last == 0 or not pairs[pair_place(np.int64(text[place]), np.int64(text[place + 1]))]:
            continue
        depth = 1
        while True:
            while first < last and offsets[first + 1] - offsets[first] == depth:
                if n == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                    spare = np.empty_like(found)
                found[n] = (ranks[first] << 32) | (place - begin)
                n, first = n + 1, first + 1
            if first >= last or place + depth >= end:
                break
            code = np.int64(text[place + depth])
            first = _first_from(offsets, codes, first, last, depth, code)
            last = _first_from(offsets, codes, first, last, depth, code + 1)
            depth += 1
    sort_keys(found, spare, n)
    return n, found, spare


@njit(cache=True, nogil=True)
def _is_free(found, first, last, length, covered):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        place, free = found[i] & 0xFFFFFFFF, True
        for at in range(place, place + length):
            free = free and not covered[at]
        if free:
            return True
    return False


@njit(cache=True, nogil=True)
def _count_new(codes, first, last, in_counted, stamp):  # type: ignore[no-untyped-def]
    """The different codes of an n-gram, and how many of them are in none that counted."""
    new, different = 0, 0
    for i in range(first, last):
        again = False
        for j in range(first, i):
            again = again or codes[j] == codes[i]
        different += not again
        new += not again and in_counted[codes[i]] != stamp
    return new, different


@njit(cache=True, nogil=True)
def count_ngrams(  # type: ignore[no-untyped-def]
    found, n, by_rank, offsets, codes, worths, beta, overlaps, covered, in_counted, stamp, counted,
    shares,
):  # fmt: skip
    """The sum over the n-grams that count, and their number; `counted` and `shares` list them."""
    total, hits, i = 0.0, 0, 0
    while i < n:
        rank, first = found[i] >> 32, i
        while i < n and found[i] >> 32 == rank:
            i += 1
        ngram = by_rank[rank]
        begin, end = offsets[ngram], offsets[ngram + 1]
        if not overlaps and not _is_free(found, first, i, end - begin, covered):
            continue
        new, different = _count_new(codes, begin, end, in_counted, stamp)
        share = 1 - beta + beta * new / different
        total += worths[ngram] * share
        counted[hits], shares[hits] = ngram, share
        hits += 1
        for j in range(first, i):
            place = found[j] & 0xFFFFFFFF
            covered[place : place + end - begin] = True
        for j in range(begin, end):
            in_counted[codes[j]] = stamp
    return total, hits


@njit(cache=True, nogil=True)
def count_unigrams(text, begin, end, worths, beta, covered, in_counted, stamp, counted, shares):  # type: ignore[no-untyped-def]
    """The same for single tokens outside of all occurrences, each once; their numbers are codes.

    A token that was counted is stamped with the complement of the stamp.
    """
    total, hits = 0.0, 0
    for place in range(begin, end):
        code = np.int64(text[place])
        if covered[place - begin] or worths[code] <= 0 or in_counted[code] == -stamp:
            continue
        share = 1 - beta if in_counted[code] == stamp else 1.0
        total += worths[code] * share
        counted[hits], shares[hits] = code, share
        hits += 1
        in_counted[code] = -stamp
    return total, hits


@njit(cache=True, nogil=True)
def score_stretches(  # type: ignore[no-untyped-def]
    text, begins, ends, table, pairs, offsets, codes, ranks, by_rank, worths, unigrams, beta,
    single, overlaps, scores,
):  # fmt: skip
    """The score of each stretch of a text, -inf where no n-gram is."""
    longest = (ends - begins).max()
    covered = np.empty(longest, np.bool_)
    in_counted = np.zeros(len(table), np.int64)
    size = max(len(ranks), longest)
    counted, shares = np.empty(size, np.int64), np.empty(size, np.float64)
    found = np.empty(4096, np.int64)
    spare = np.empty_like(found)
    for i in range(len(begins)):
        begin, end = begins[i], ends[i]
        n, found, spare = match(text, begin, end, table, pairs, offsets, codes, ranks, found, spare)
        scores[i] = -np.inf
        if n == 0:
            continue
        covered[: end - begin] = False
        total, hits = count_ngrams(
            found, n, by_rank, offsets, codes, worths, beta, overlaps, covered, in_counted, i + 1,
            counted, shares,
        )  # fmt: skip
        best = 0.0
        for j in range(hits):
            best = max(best, worths[counted[j]])
        more, _ = count_unigrams(
            text, begin, end, unigrams, beta, covered, in_counted, i + 1, counted, shares
        )
        scores[i] = (1 - single) * (total + more) + single * best
