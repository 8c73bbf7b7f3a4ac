"""Building postings in memory: one range of passages after the other, each ordered by term."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..records import WeightedTerms
from .addresses import address_of
from .inverted_writer import Postings, write_part
from .postings import RANGE, SOURCE, sort_range
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..storage import PartWriter

Sorted: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
SymbolsOf: TypeAlias = Callable[[WeightedTerms], NDArray[np.uint16]]


class InvertedBuilder:
    """The postings of one segment, in memory until `write`.

    Postings wait in the order of the passages until a range is full; then they are ordered by term,
    three or four bytes each. symbols_of: turns weights into symbols, or refuses them.
    """

    def __init__(self, symbols_of: SymbolsOf) -> None:
        self._symbols_of = symbols_of
        self._vocabulary = Vocabulary()
        self._ranges: list[Sorted] = []
        self._lengths: list[NDArray[np.uint32]] = []
        self._waiting = _Waiting()

    @property
    def nbytes(self) -> int:
        """Memory held, vocabulary and unsorted postings included."""
        held = sum(array.nbytes for arrays in self._ranges for array in arrays)
        held += sum(lengths.nbytes for lengths in self._lengths)
        return held + self._vocabulary.nbytes + self._waiting.nbytes

    def add(self, keys: WeightedTerms) -> None:
        """Append passages."""
        symbols, offsets = self._symbols_of(keys), keys.offsets
        terms = self._vocabulary.number(keys.vocabulary)[keys.ids]
        self._lengths.append(keys.lengths.astype(np.uint32))
        done = 0
        while done < len(keys):
            take = min(len(keys) - done, RANGE - self._waiting.rows)
            ends = offsets[done : done + take + 1]
            part = slice(ends[0], ends[-1])
            self._waiting.append(terms[part], symbols[part], ends[1:] - ends[0])
            done += take
            if self._waiting.rows == RANGE:
                self._sort()

    def _sort(self) -> None:
        """Order the waiting postings by term and keep them."""
        if self._waiting.rows:
            self._ranges.append(self._waiting.sorted(self._vocabulary.count))
            self._waiting = _Waiting()

    def write(self, writer: "PartWriter") -> None:
        """Write the part; nothing may be added afterwards."""
        self._sort()
        terms = self._vocabulary.ranked()
        frequencies = np.zeros(terms.distinct, np.int64)
        sources = [_Source(arrays, terms.ranks, frequencies) for arrays in self._ranges]
        table = np.array([source.row(i) for i, source in enumerate(sources)], np.int64)
        postings = Postings(table.reshape(-1, SOURCE), np.zeros(0, np.int64), frequencies)
        lengths = np.concatenate([np.zeros(0, np.uint32), *self._lengths])
        wide = any(len(arrays[4]) for arrays in self._ranges)
        write_part(writer, postings, terms, lengths, wide=wide)


class _Source:
    """One sorted range, its terms by rank."""

    def __init__(
        self, arrays: Sorted, ranks: NDArray[np.uint32], frequencies: NDArray[np.int64]
    ) -> None:
        present, ends, self._rows, self._low, self._high = arrays
        order = np.argsort(ranks[present])
        counts = np.diff(ends, prepend=np.uint32(0))
        self._ranks = ranks[present][order]
        self._begins, self._counts = (ends - counts)[order], counts[order]
        frequencies[self._ranks] += self._counts

    def row(self, number: int) -> list[int]:
        """Its row in the table of sources."""
        arrays = (self._begins, self._counts, self._rows, self._low)
        high = address_of(self._high) if len(self._high) else 0
        addresses = [address_of(array) for array in arrays]
        return [len(self._ranks), address_of(self._ranks), number * RANGE, 0, *addresses, high]


class _Waiting:
    """Postings of the range that is not full yet, in the order of the passages."""

    def __init__(self) -> None:
        self.rows = self.count = 0
        self.terms, self.symbols = np.empty(1 << 12, np.int32), np.empty(1 << 12, np.uint16)
        self.ends: list[NDArray[np.int64]] = []

    @property
    def nbytes(self) -> int:
        return self.terms.nbytes + self.symbols.nbytes + 8 * self.rows

    def append(
        self, terms: NDArray[np.int32], symbols: NDArray[np.uint16], ends: NDArray[np.int64]
    ) -> None:
        stop = self.count + len(terms)
        if stop > len(self.terms):
            size = max(stop, 2 * len(self.terms))
            self.terms.resize(size, refcheck=False)
            self.symbols.resize(size, refcheck=False)
        self.terms[self.count : stop], self.symbols[self.count : stop] = terms, symbols
        self.ends.append(ends + self.count)
        self.count, self.rows = stop, self.rows + len(ends)

    def sorted(self, distinct: int) -> Sorted:
        """Terms present, where each ends, rows, lower and (if any) upper bytes of symbols."""
        ends = np.concatenate(self.ends)
        present, stops, rows, symbols = sort_range(
            self.terms[: self.count], self.symbols[: self.count], ends, distinct
        )
        wide = bool(self.count) and int(symbols.max()) > 255
        high = (symbols >> 8).astype(np.uint8) if wide else np.empty(0, np.uint8)
        return present, stops, rows, symbols.astype(np.uint8), high
