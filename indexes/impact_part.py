"""One segment's impacts: how they are written, and how they are opened.

terms, ends, buckets   the vocabulary, see vocabulary
offsets                where each row starts: (rows + 1,) int64
words, weights         the terms of each row and their weights, as float16 bits or codes;
                       words_high has the upper byte where there are above 65,536 terms
starts                 for each range of 65,536 rows where the postings of each term start
                       among those of the range: (ranges * (terms + 1),) uint32
docs, codes            postings: rows within the range and codes of weights, by falling code
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, UsageError
from .addresses import address_of
from .impact_kernels import (
    BASE,
    BITS,
    BLOB,
    BUCKETS,
    CODES,
    DOCS,
    ENDS,
    FIELDS,
    HALVES,
    OFFSETS,
    ROWS,
    SHARE,
    STARTS,
    TERMS,
    VALUES,
    WEIGHTS,
    WORDS,
    WORDS_HIGH,
    sort_impacts,
)
from .impact_weights import MOST, Weights, codes_of, least_share, values
from .inverted_check import ascends, check_vocabulary, fact, require
from .postings import RANGE
from .stored import stored
from .vocabulary import RankedTerms, buckets

if TYPE_CHECKING:
    from ..storage import PartWriter
    from .family import OpenPart

PLACE = "part of impacts"
MOST_WORDS = 1 << 24
Rows: TypeAlias = tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint16]]
"""Some passages: terms of each (rows,), then numbers and symbols of all terms (entries,)."""

ARRAYS = {
    "ends": (ENDS, "u4"),
    "buckets": (BUCKETS, "u4"),
    "offsets": (OFFSETS, "i8"),
    "words": (WORDS, "u2"),
    "words_high": (WORDS_HIGH, "u1"),
    "weights": (WEIGHTS, "u2"),
    "starts": (STARTS, "u4"),
    "docs": (DOCS, "u2"),
    "codes": (CODES, "u1"),
}
"""The arrays of a part: where their addresses go, and their number types."""


class ImpactPart:
    """The arrays of an OpenPart, checked, and a row of addresses for the kernels."""

    def __init__(self, opened: "OpenPart", kind: Weights) -> None:
        self.opened, self.rows, self.kind = opened, opened.rows, kind
        self.ranges = -(-self.rows // RANGE)
        self.words = fact(opened.part.facts, "terms")
        self.top = _top(opened.part.facts)
        types = {name: dtype for name, (_, dtype) in ARRAYS.items()}
        types["weights"] = "u2" if kind == "float16" else "u1"
        if "words_high" not in opened.part:
            del types["words_high"]
        self.arrays = {
            name: stored(opened.part, name, np.dtype(dtype).name, PLACE, 1)
            for name, dtype in types.items()
        }
        self.text = np.asarray(opened.part.blob("terms"))
        self._check()
        self.values = values(kind, self.top)
        self.mask = None if opened.deleted is None else np.ascontiguousarray(~opened.deleted)
        if self.mask is not None and self.mask.all():
            self.mask = None
        self.fields = self._row()

    def _check(self) -> None:
        """Raise Damaged unless every number that kernels follow stays inside its array."""
        a, rows, terms = self.arrays, self.rows, self.words
        check_vocabulary(a, self.text, terms)
        entries = len(a["words"])
        require(len(a["offsets"]) == rows + 1 and a["offsets"][0] == 0, "offsets")
        require(ascends(a["offsets"], entries), "offsets")
        require(all(len(a[name]) == entries for name in ("weights", "docs", "codes")), "postings")
        high = a.get("words_high")
        require(high is None or len(high) == entries, "words_high")
        require(_highest(a["words"], high) < terms or not entries, "words")
        if self.kind == "float16":
            require(not entries or int(a["weights"].max()) < 0x7C00, "weights")
        self._check_starts()

    def _check_starts(self) -> None:
        a, width = self.arrays, self.words + 1
        require(len(a["starts"]) == self.ranges * width, "starts")
        bounds = a["offsets"][np.minimum(np.arange(self.ranges + 1) * RANGE, self.rows)]
        for r, size in enumerate(np.diff(bounds).tolist()):
            starts = a["starts"][r * width : (r + 1) * width]
            require(starts[0] == 0 and ascends(starts, size), "starts")
        if self.ranges:
            last = a["docs"][bounds[-2] :]
            require(int(last.max(initial=0)) < self.rows - (self.ranges - 1) * RANGE, "docs")

    def _row(self) -> NDArray[np.int64]:
        fields = np.zeros(FIELDS, np.int64)
        for name, array in self.arrays.items():
            fields[ARRAYS[name][0]] = address_of(array)
        fields[BLOB], fields[VALUES] = address_of(self.text), address_of(self.values)
        fields[BASE], fields[ROWS], fields[TERMS] = self.opened.base, self.rows, self.words
        fields[BITS] = (len(self.arrays["buckets"]) - 1).bit_length() - 1
        fields[HALVES], fields[SHARE] = self.kind == "float16", int(1e9 * least_share(self.kind))
        return fields

    def live(self) -> Iterator[Rows]:
        """The rows that are not deleted, a range at a time."""
        a = self.arrays
        for first in range(0, self.rows, RANGE):
            last = min(first + RANGE, self.rows)
            counts = np.diff(a["offsets"][first : last + 1])
            part = slice(a["offsets"][first], a["offsets"][last])
            words, symbols = a["words"][part].astype(np.uint32), a["weights"][part]
            if "words_high" in a:
                words |= a["words_high"][part].astype(np.uint32) << 16
            if self.mask is not None:
                kept = self.mask[first:last]
                held = np.repeat(kept, counts)
                counts, words, symbols = counts[kept], words[held], symbols[held]
            yield counts, words, symbols.astype(np.uint16)


def _top(facts: Mapping[str, Any]) -> float:
    top = facts.get("top")
    if type(top) is not float or not 0 < top <= max(MOST.values()):
        raise Damaged(f"the fact 'top' is {top!r}", where=PLACE, remedy="Rebuild the index")
    return top


def _highest(words: NDArray[np.uint16], high: NDArray[np.uint8] | None) -> int:
    if high is None:
        return int(words.max(initial=0))
    most = int(high.max(initial=0))
    return (most << 16) + int(words.max(initial=0, where=high == most))


def write_impacts(
    writer: "PartWriter",
    rows: Iterator[Rows],
    terms: RankedTerms,
    kept: NDArray[np.bool_],
    top: float,
    kind: Weights,
) -> None:
    """Write a part. rows: the passages with terms numbered by rank; kept: which ranks they use."""
    numbers = (np.cumsum(kept) - 1).astype(np.uint32)
    count, codes = int(kept.sum()), codes_of(kind, top)
    if count > MOST_WORDS:
        raise UsageError(f"{count:,} terms in one segment; {MOST_WORDS:,} are the most")
    types = {name: dtype for name, (_, dtype) in ARRAYS.items() if name not in ("ends", "buckets")}
    types["weights"] = "u2" if kind == "float16" else "u1"
    if count <= RANGE:
        del types["words_high"]
    with ExitStack() as stack:
        streams = {
            name: stack.enter_context(writer.stream(name, np.dtype(dtype).str))
            for name, dtype in types.items()
        }
        streams["offsets"].append(np.zeros(1, np.int64))
        end = 0
        for counts, ranks, symbols in in_ranges(rows):
            words = numbers[ranks]
            streams["offsets"].append(end + np.cumsum(counts))
            end += len(words)
            streams["words"].append(words.astype(np.uint16))
            if "words_high" in streams:
                streams["words_high"].append((words >> 16).astype(np.uint8))
            streams["weights"].append(symbols.astype(types["weights"]))
            starts = np.zeros(count + 1, np.uint32)
            docs, ordered = np.empty(len(words), np.uint16), np.empty(len(words), np.uint8)
            sort_impacts(counts, words, codes[symbols], count, starts, docs, ordered)
            for name, array in (("starts", starts), ("docs", docs), ("codes", ordered)):
                streams[name].append(array)
    blob, ends = terms.written(kept)
    writer.blob("terms", blob.tobytes())
    writer.array("ends", ends)
    writer.array("buckets", buckets(terms.codes[terms.first[kept]]))
    writer.facts({"terms": count, "top": top})


def in_ranges(rows: Iterator[Rows]) -> Iterator[Rows]:
    """The same passages, RANGE of them at a time."""
    waiting: list[Rows] = []
    held = 0
    for counts, words, symbols in rows:
        first, at = 0, 0
        while first < len(counts):
            take = min(len(counts) - first, RANGE - held)
            stop = at + int(counts[first : first + take].sum())
            waiting.append((counts[first : first + take], words[at:stop], symbols[at:stop]))
            first, at, held = first + take, stop, held + take
            if held == RANGE:
                yield _joined(waiting)
                waiting, held = [], 0
    if held:
        yield _joined(waiting)


def _joined(pieces: Sequence[Rows]) -> Rows:
    counts, words, symbols = zip(*pieces, strict=True)
    return np.concatenate(counts), np.concatenate(words), np.concatenate(symbols)
