"""Writing a part of postings term by term, from a builder or from the parts that it replaces."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged
from .addresses import address_of
from .bm25 import norms
from .inverted_check import PLACE
from .inverted_part import InvertedPart
from .postings import (
    COMMON,
    DENSE,
    MOST_ROWS,
    RANGE,
    SPARSE,
    classify,
    encode,
    gather,
)
from .stored import rising
from .vocabulary import RankedTerms, buckets, ranked

if TYPE_CHECKING:
    from ..storage import PartWriter
    from ..storage.part import Stream

AT_ONCE = 1 << 20  # postings that are written in one go
SPARSE_A_RANGE = 8  # postings for each range up to which a term is kept in the sparse form


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """Where postings come from. frequencies: (terms,) at most how many each term has, by rank."""

    sources: NDArray[np.int64]
    parts: NDArray[np.int64]
    frequencies: NDArray[np.int64]

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Rows, symbols and, for each term, their number; some terms at a time."""
        cursors = np.zeros(len(self.sources), np.int64)
        totals = np.concatenate([[0], np.cumsum(self.frequencies)])
        first = 0
        while first < len(self.frequencies):
            last = int(np.searchsorted(totals, totals[first] + AT_ONCE, side="right")) - 1
            last = max(last, first + 1)
            most = int(totals[last] - totals[first])
            rows, symbols = np.empty(most, np.uint32), np.empty(most, np.uint16)
            counts = np.empty(last - first, np.int64)
            n = gather(self.sources, self.parts, cursors, first, last, rows, symbols, counts)
            yield rows[:n], symbols[:n], counts
            first = last


@dataclass(slots=True, eq=False)
class _Places:
    """Where the terms written so far are: what becomes the small arrays of a part."""

    kept: list[NDArray[np.bool_]] = field(default_factory=list)
    kinds: list[NDArray[np.uint8]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    directory: list[NDArray[np.uint16]] = field(default_factory=list)
    highest: int = 0

    def write(self, writer: "PartWriter", ranges: int) -> None:
        kinds = np.concatenate([np.zeros(0, np.uint8), *self.kinds])
        counts = np.concatenate([np.zeros(0, np.int64), *self.counts])
        starts = np.concatenate([[0], np.cumsum(np.where(kinds == SPARSE, counts, 0))])
        empty = np.zeros((0, ranges, 2), np.uint16)
        directory = np.concatenate([empty, *self.directory])
        sizes = directory.sum(axis=1, dtype=np.int64)  # (common terms, 2): ones, others
        sizes[:, 0] += sizes[:, 1]
        bases = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(sizes, axis=0)])
        writer.array("starts", starts.astype(np.uint32))
        writer.array("common", np.flatnonzero(kinds == COMMON).astype(np.uint32))
        writer.array("bases", bases)
        writer.array("directory", directory.reshape(-1))
        writer.array("dense_terms", np.flatnonzero(kinds == DENSE).astype(np.uint32))
        writer.array("dense_counts", counts[kinds == DENSE].astype(np.uint32))


class _Streams:
    """The large arrays of a part, written as they come."""

    def __init__(self, writer: "PartWriter", stack: ExitStack, wide: bool) -> None:
        names = {"sparse": "u4", "docs": "u2", "codes": "u1", "dense": "u1"}
        if wide:
            names |= {"codes_high": "u1", "dense_high": "u1"}
        self._streams: dict[str, Stream] = {
            name: stack.enter_context(writer.stream(name, "<" + dtype if dtype != "u1" else dtype))
            for name, dtype in names.items()
        }

    def append(self, name: str, values: NDArray[Any]) -> None:
        self._streams[name].append(values)

    def append_symbols(self, name: str, symbols: NDArray[np.uint16]) -> None:
        """Lower bytes, and upper bytes where they are kept."""
        self._streams[name].append(symbols.astype(np.uint8))
        if f"{name}_high" in self._streams:
            self._streams[f"{name}_high"].append((symbols >> 8).astype(np.uint8))


def write_part(
    writer: "PartWriter",
    postings: Postings,
    terms: RankedTerms,
    lengths: NDArray[np.uint32],
    *,
    wide: bool,
) -> None:
    """Write all arrays of a part of ``len(lengths)`` rows. Terms without postings are left out.

    wide: whether a symbol may be above 255.
    """
    ranges, places = -(-len(lengths) // RANGE), _Places()
    with ExitStack() as stack:
        streams = _Streams(writer, stack, wide)
        most_sparse = SPARSE_A_RANGE * (ranges + 1) if len(lengths) <= MOST_ROWS else 0
        for chunk in postings:
            _write_terms(streams, places, chunk, len(lengths), most_sparse)
    places.write(writer, ranges)
    kept = np.concatenate([np.zeros(0, np.bool_), *places.kept])
    blob, ends = terms.written(kept)
    writer.blob("terms", blob.tobytes())
    writer.array("ends", ends)
    writer.array("buckets", buckets(terms.codes[terms.first[kept]]))
    writer.array("norms", norms(lengths))
    writer.array("lengths", lengths.astype(np.min_scalar_type(lengths.max(initial=0))))
    writer.facts({"terms": int(kept.sum()), "highest": places.highest})


def _write_terms(
    streams: _Streams,
    places: _Places,
    chunk: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    total_rows: int,
    most_sparse: int,
) -> None:
    rows, symbols, counts = chunk
    places.kept.append(counts > 0)
    counts = counts[counts > 0]
    kinds, n_sparse, n_docs, n_codes = classify(rows, symbols, counts, total_rows, most_sparse)
    sparse, docs = np.zeros(n_sparse, np.uint32), np.zeros(n_docs, np.uint16)
    codes = np.zeros(n_codes, np.uint16)
    ranges = -(-total_rows // RANGE)
    directory = np.zeros((int((kinds == COMMON).sum()), ranges, 2), np.uint16)
    dense = np.zeros((int((kinds == DENSE).sum()), total_rows), np.uint16)
    encode(rows, symbols, counts, kinds, sparse, docs, codes, directory, dense)
    streams.append("sparse", sparse)
    streams.append("docs", docs)
    streams.append_symbols("codes", codes)
    streams.append_symbols("dense", dense.reshape(-1))
    places.kinds.append(kinds)
    places.counts.append(counts)
    places.directory.append(directory)
    places.highest = max(places.highest, int(symbols.max(initial=0)))


def merge_parts(parts: Sequence[InvertedPart], writer: "PartWriter") -> None:
    """Write the live rows of several parts, in order, as one part."""
    terms = ranked([(part.terms, part.arrays["ends"]) for part in parts])
    frequencies = np.zeros(terms.distinct, np.int64)
    sources, lengths, maps, first = [], [np.zeros(0, np.uint32)], [], 0
    at = np.cumsum([0, *(part.facts["terms"] for part in parts)])
    for i, part in enumerate(parts):
        ranks = terms.ranks[at[i] : at[i + 1]]
        if not rising(ranks, terms.distinct):
            raise Damaged("the terms are not in their order", where=PLACE)
        frequencies[ranks] += part.frequencies()
        kept = np.ones(part.rows, np.bool_) if part.deleted is None else ~part.deleted
        row_map = None
        if part.deleted is not None:
            row_map = np.where(kept, first + np.cumsum(kept) - 1, -1)
        maps.append((ranks, row_map))
        sources.append([len(ranks), address_of(ranks), first, address_of(row_map), *[0] * 5])
        lengths.append(part.arrays["lengths"][kept].astype(np.uint32))
        first += int(kept.sum())
    fields = np.array([part.fields for part in parts], np.int64)
    at = address_of(fields) + fields.strides[0] * np.arange(len(parts))
    postings = Postings(np.array(sources, np.int64), at, frequencies)
    wide = any("codes_high" in part.arrays for part in parts)
    write_part(writer, postings, terms, np.concatenate(lengths), wide=wide)
