"""One segment's postings, open: arrays checked against each other, and their addresses in a row."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .addresses import address_of
from .bm25 import Statistics
from .inverted_check import check_postings, fact, postings_arrays
from .postings import (
    BASE,
    BASES,
    BITS,
    BLOB,
    BUCKETS,
    COMMON_TERMS,
    COMMONS,
    DELETED,
    DENSE_COUNTS,
    DENSE_HIGH,
    DENSE_LOW,
    DENSE_TERMS,
    DENSES,
    DIRECTORY,
    DOCS,
    ENDS,
    FIELDS,
    HIGH,
    LIVE_COUNTS,
    LOW,
    NORMS,
    RANGE,
    ROWS,
    SPARSE_POSTINGS,
    STARTS,
    TERMS,
)

if TYPE_CHECKING:
    from .family import OpenPart

ARRAYS = {
    "ends": (ENDS, "u4"),
    "buckets": (BUCKETS, "u4"),
    "starts": (STARTS, "u4"),
    "sparse": (SPARSE_POSTINGS, "u4"),
    "common": (COMMON_TERMS, "u4"),
    "bases": (BASES, "i8"),
    "directory": (DIRECTORY, "u2"),
    "docs": (DOCS, "u2"),
    "codes": (LOW, "u1"),
    "codes_high": (HIGH, "u1"),
    "dense_terms": (DENSE_TERMS, "u4"),
    "dense_counts": (DENSE_COUNTS, "u4"),
    "dense": (DENSE_LOW, "u1"),
    "dense_high": (DENSE_HIGH, "u1"),
    "norms": (NORMS, "u1"),
    "lengths": (-1, "u4"),
}
"""The arrays of a part: where their addresses go, and their number types (lengths: at most)."""


class InvertedPart:
    """The arrays of an OpenPart and a row of addresses for the kernels.

    fields: (FIELDS,) int64, without what depends on the statistics of all parts.
    """

    def __init__(self, opened: "OpenPart") -> None:
        self.rows, self.base = opened.rows, opened.base
        self.deleted = (
            opened.deleted if opened.deleted is not None and opened.deleted.any() else None
        )
        self.facts = {name: fact(opened.part.facts, name) for name in ("terms", "highest")}
        self.nbytes = opened.part.nbytes
        self.ranges = -(-self.rows // RANGE)
        self.arrays = postings_arrays(
            opened.part, {name: kind for name, (_, kind) in ARRAYS.items()}
        )
        self.terms = np.asarray(opened.part.blob("terms"))
        check_postings(self.arrays, self.terms, self.rows, self.facts)
        self.norms = np.zeros(self.ranges * RANGE, np.uint8)  # so that every uint16 stays inside
        self.norms[: self.rows] = self.arrays["norms"]
        self.live_counts = np.full(self.facts["terms"] if self.deleted is not None else 0, -1, "i8")
        self.fields = self._row()

    def _row(self) -> NDArray[np.int64]:
        fields = np.zeros(FIELDS, np.int64)
        for name, array in self.arrays.items():
            fields[ARRAYS[name][0]] = address_of(array)
        fields[BLOB], fields[NORMS] = address_of(self.terms), address_of(self.norms)
        fields[BASE], fields[ROWS], fields[TERMS] = self.base, self.rows, self.facts["terms"]
        fields[BITS] = (len(self.arrays["buckets"]) - 1).bit_length() - 1
        fields[COMMONS], fields[DENSES] = (
            len(self.arrays["common"]),
            len(self.arrays["dense_terms"]),
        )
        if self.deleted is not None:
            fields[DELETED] = address_of(self.deleted)
            fields[LIVE_COUNTS] = address_of(self.live_counts)
        return fields

    @property
    def tops(self) -> int:
        """In how many pairs of a common or dense term and a range a highest worth is kept."""
        return (len(self.arrays["common"]) + len(self.arrays["dense_terms"])) * self.ranges

    def statistics(self) -> Statistics:
        """Of the live rows."""
        lengths = self.arrays["lengths"]
        if self.deleted is not None:
            lengths = lengths[~self.deleted]
        return Statistics(int(np.count_nonzero(lengths)), int(lengths.sum(dtype=np.int64)))

    def frequencies(self) -> NDArray[np.int64]:
        """How many rows hold each term, the deleted ones included."""
        starts = self.arrays["starts"].astype(np.int64)
        counts = starts[1:] - starts[:-1]
        sizes = self.arrays["directory"].reshape(-1, 2 * max(self.ranges, 1))
        counts[self.arrays["common"]] = sizes.sum(axis=1, dtype=np.int64)
        counts[self.arrays["dense_terms"]] = self.arrays["dense_counts"]
        return counts
