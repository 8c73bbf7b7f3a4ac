"""The terms of a segment: numbered by their hash, found through buckets of a few terms each.

On disk: `terms` (the bytes of all terms, by ascending hash, equal hashes by their bytes), `ends`
(uint32, where each term ends) and `buckets` (uint32, the first term whose hash begins with each
prefix). A look-up touches one bucket and the bytes of the terms in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .addresses import ZERO, address_of, u8, u32

Number = TypeVar("Number", np.uint8, np.int64, np.uint64)
IN_BUCKET = 4  # terms in a bucket on average


@njit(cache=True, nogil=True)
def hash_bytes(text, start, end):  # type: ignore[no-untyped-def]
    """64 bits, the upper ones as good as the lower: FNV-1a and the finisher of MurmurHash3."""
    code = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        code = (code ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    code = (code ^ (code >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    code = (code ^ (code >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return code ^ (code >> np.uint64(33))


@njit(cache=True, nogil=True)
def _same(text, start, end, other, at):  # type: ignore[no-untyped-def]
    for i in range(end - start):
        if text[start + i] != other[at + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _bounds(ends, term):  # type: ignore[no-untyped-def]
    """Where a term starts and ends, by the uint32 ends at an address."""
    start = np.int64(u32(ends + 4 * (term - 1))[0]) if term > 0 else 0
    return start, np.int64(u32(ends + 4 * term)[0])


@njit(cache=True, nogil=True)
def find_term(text, start, end, code, terms, ends, buckets, bits):  # type: ignore[no-untyped-def]
    """The number of a term among a segment's, or -1. The last three before `bits`: addresses."""
    bucket = np.int64(code >> np.uint64(64 - bits)) if bits > 0 else 0
    bounds = u32(buckets + 4 * bucket)
    for term in range(bounds[0], bounds[1]):
        at, stop = _bounds(ends, np.int64(term))
        if stop - at == end - start and _same(text, start, end, u8(terms + at), ZERO):
            return np.int64(term)
    return np.int64(-1)


@njit(cache=True, nogil=True)
def hash_terms(blob, ends, codes):  # type: ignore[no-untyped-def]
    """Fill in the hash of every term of the blob and ends at two addresses."""
    for term in range(len(codes)):
        start, end = _bounds(ends, term)
        codes[term] = hash_bytes(u8(blob), start, end)


@njit(cache=True, nogil=True)
def _compare(blobs, a, b, sources, terms):  # type: ignore[no-untyped-def]
    """Order two terms by their bytes: below, at or above 0."""
    at, a_end = _bounds(blobs[sources[a], 1], terms[a])
    other, b_end = _bounds(blobs[sources[b], 1], terms[b])
    first, second = u8(blobs[sources[a], 0]), u8(blobs[sources[b], 0])
    while at < a_end and other < b_end:
        if first[at] != second[other]:
            return np.int64(first[at]) - np.int64(second[other])
        at, other = at + 1, other + 1
    return (a_end - at) - (b_end - other)


@njit(cache=True, nogil=True)
def rank_terms(order, codes, blobs, sources, terms, ranks):  # type: ignore[no-untyped-def]
    """Number the distinct terms by hash, then bytes; gives how many there are.

    order: (n,) entries by ascending hash, put right among equal hashes.  blobs: (sources, 2)
    addresses of bytes and uint32 ends.  sources, terms: (n,) which term an entry is.
    ranks: (n,) filled in for each entry.
    """
    distinct = 0
    for i in range(len(order)):
        j = i
        while j > 0 and codes[order[j - 1]] == codes[order[j]]:
            if _compare(blobs, order[j - 1], order[j], sources, terms) <= 0:
                break
            order[j - 1], order[j] = order[j], order[j - 1]
            j -= 1
    for i in range(len(order)):
        same = i > 0 and codes[order[i - 1]] == codes[order[i]]
        if not same or _compare(blobs, order[i - 1], order[i], sources, terms) != 0:
            distinct += 1
        ranks[order[i]] = distinct - 1
    return distinct


@njit(cache=True, nogil=True)
def copy_terms(entries, blobs, sources, terms, blob, ends):  # type: ignore[no-untyped-def]
    """Put the bytes of some entries one after the other; a blob of no bytes only counts them."""
    n = 0
    for i in range(len(entries)):
        source = sources[entries[i]]
        start, end = _bounds(blobs[source, 1], terms[entries[i]])
        if len(blob) > 0:
            copied = u8(blobs[source, 0] + start)
            for j in range(end - start):
                blob[n + j] = copied[j]
        n += end - start
        ends[i] = n
    return n


@njit(cache=True, nogil=True)
def _intern(blob, ends, slots, own, own_ends, codes, numbers, first, count):  # type: ignore[no-untyped-def]
    """Number the terms of a batch from the `first` on, until a table is full: (next, count)."""
    mask = np.uint64(len(slots) - 1)
    for term in range(first, len(ends)):
        start, end = np.int64(ends[term - 1]) if term > 0 else 0, np.int64(ends[term])
        code = hash_bytes(blob, start, end)
        slot = code & mask
        number = np.int64(-1)
        while slots[slot] != 0:
            other = np.int64(slots[slot]) - 1
            at = own_ends[other - 1] if other > 0 else 0
            if codes[other] == code and own_ends[other] - at == end - start:
                if _same(blob, start, end, own, at):
                    number = other
                    break
            slot = (slot + np.uint64(1)) & mask
        if number < 0:
            at = own_ends[count - 1] if count > 0 else 0
            if at + end - start > len(own) or count == len(codes):
                return term, count
            for i in range(start, end):
                own[at + i - start] = blob[i]
            own_ends[count], codes[count], number = at + end - start, code, count
            slots[slot] = count + 1
            count += 1
        numbers[term] = number
    return len(ends), count


class Packed(Protocol):
    """A vocabulary that is kept as its bytes and where each term ends."""

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...


def packed(terms: Sequence[bytes] | Packed) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Terms one after the other, and where each ends; a `Packed` vocabulary has them ready."""
    if hasattr(terms, "packed"):
        return terms.packed()
    ends = np.cumsum(np.fromiter(map(len, terms), np.int64, len(terms)))
    return np.frombuffer(b"".join(terms), np.uint8), ends


def _longer(array: NDArray[Number], size: int) -> NDArray[Number]:
    longer = np.zeros(size, array.dtype)
    longer[: len(array)] = array
    return longer


class Vocabulary:
    """Terms numbered in the order in which they come, in memory."""

    def __init__(self) -> None:
        self.count = 0
        self.blob = np.zeros(1 << 12, np.uint8)
        self.ends = np.zeros(1 << 9, np.int64)
        self.codes = np.zeros(1 << 9, np.uint64)
        self._slots = np.zeros(1 << 10, np.int32)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.blob, self.ends, self.codes, self._slots))

    def number(self, terms: Sequence[bytes]) -> NDArray[np.int32]:
        """The number of each term; new terms get the next ones."""
        blob, ends = packed(terms)
        numbers = np.empty(len(ends), np.int32)
        done = 0
        while True:
            own = self._slots, self.blob, self.ends, self.codes
            done, self.count = _intern(blob, ends, *own, numbers, done, self.count)
            if done == len(ends):
                return numbers
            self._grow(int(ends[done]) - int(ends[done - 1] if done else 0))

    def ranked(self) -> "RankedTerms":
        """The terms by hash."""
        size = int(self.ends[self.count - 1]) if self.count else 0
        return ranked([(self.blob[:size], self.ends[: self.count].astype(np.uint32))])

    def _grow(self, room: int) -> None:
        """Twice the room, and at least that for one more term."""
        self.blob = _longer(self.blob, max(2 * len(self.blob), len(self.blob) + room))
        self.ends = _longer(self.ends, 2 * len(self.ends))
        self.codes = _longer(self.codes, 2 * len(self.codes))
        self._slots = np.zeros(2 * len(self.codes), np.int32)
        _fill(self._slots, self.codes, self.count)


@njit(cache=True, nogil=True)
def _fill(slots, codes, count):  # type: ignore[no-untyped-def]
    """Enter the terms into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for term in range(count):
        slot = codes[term] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = term + 1


def buckets(codes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The first term of each bucket: (a power of two + 1,), for ascending hashes."""
    bits = max(len(codes) // IN_BUCKET, 1).bit_length() - 1
    if bits == 0:
        return np.array([0, len(codes)], np.uint32)
    prefixes = (codes >> np.uint64(64 - bits)).astype(np.int64)
    return np.searchsorted(prefixes, np.arange((1 << bits) + 1)).astype(np.uint32)


@dataclass(frozen=True, slots=True, eq=False)
class RankedTerms:
    """The distinct terms of one or several vocabularies, by hash and bytes.

    ranks: (entries,) uint32, of each term of each vocabulary.  first: (distinct,) an entry of each.
    """

    ranks: NDArray[np.uint32]
    first: NDArray[np.int64]
    codes: NDArray[np.uint64]
    blobs: NDArray[np.int64]
    sources: NDArray[np.int64]
    terms: NDArray[np.int64]
    alive: Sequence[NDArray[Any]]  # the arrays behind the addresses

    @property
    def distinct(self) -> int:
        return len(self.first)

    def written(self, kept: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Bytes and ends of the terms to keep."""
        entries = self.first[kept]
        ends = np.zeros(len(entries), np.uint32)
        source = entries, self.blobs, self.sources, self.terms
        blob = np.empty(copy_terms(*source, np.empty(0, np.uint8), ends), np.uint8)
        if len(blob):
            copy_terms(*source, blob, ends)
        return blob, ends


def ranked(vocabularies: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint32]]]) -> RankedTerms:
    """Rank the terms of vocabularies given as bytes and ends."""
    sizes = [len(ends) for _, ends in vocabularies]
    blobs = np.array([[address_of(blob), address_of(ends)] for blob, ends in vocabularies], "i8")
    blobs = blobs.reshape(-1, 2)
    codes = np.empty(sum(sizes), np.uint64)
    for (blob, ends), piece in zip(blobs, np.split(codes, np.cumsum(sizes)[:-1]), strict=True):
        hash_terms(blob, ends, piece)
    sources = np.repeat(np.arange(len(sizes)), sizes)
    terms = np.concatenate([np.arange(0), *(np.arange(size) for size in sizes)])
    order, ranks = np.argsort(codes, kind="stable"), np.empty(len(codes), np.uint32)
    distinct = rank_terms(order, codes, blobs, sources, terms, ranks)
    first = np.zeros(distinct, np.int64)
    first[ranks[order]] = order
    alive = [array for pair in vocabularies for array in pair]
    return RankedTerms(ranks, first, codes, blobs, sources, terms, alive)
