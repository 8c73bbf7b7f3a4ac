"""A query to a ranking through one index: encode, search, name the passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import Bitmap, Filter, Neighbours, Query, Ranking
from ..stages import Encoder, Index
from .ordering import ranked

PassageKeys = TypeVar("PassageKeys")
QueryKeys = TypeVar("QueryKeys")


class NumberedPassages(Protocol):
    """What a retriever asks of the passages: names for numbers, and numbers for a filter."""

    def ids(self, numbers: NDArray[np.int64]) -> list[str]: ...

    def select(self, filter: Filter) -> Bitmap: ...


@dataclass(frozen=True, slots=True)
class IndexRetriever(Generic[PassageKeys, QueryKeys]):
    """Any encoder over any index of its family; the type checker refuses a mismatched pair.

    Passages of equal score come by ascending id. Where a tie runs across the k-th place, the index
    has decided which of the tied ones come (those with the lowest numbers). A query without text is
    encoded like any other: a lexical index finds nothing for it, a dense one finds something.
    """

    encoder: Encoder[PassageKeys, QueryKeys]
    index: Index[PassageKeys, QueryKeys]
    passages: NumberedPassages

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` passages a query, only of those that `filter` lets through.

        UsageError: k < 1.  InputError: a filter that cannot be read.
        """
        require_positive("k", k)
        if not queries:
            return []
        allowed = None if filter is None else self.passages.select(filter)
        keys = self.encoder.encode_queries([query.text for query in queries])
        return self._named(queries, self.index.search(keys, k, allowed=allowed))

    def _named(self, queries: Sequence[Query], neighbours: Neighbours) -> list[Ranking]:
        found = neighbours.numbers >= 0  # the padding of -1 never reaches a lookup
        ids = self.passages.ids(neighbours.numbers[found])
        ends = np.cumsum(found.sum(axis=1)).tolist()
        starts = [0, *ends[:-1]]
        return [
            ranked(query, ids[start:end], row[real], end - start)
            for query, row, real, start, end in zip(
                queries, neighbours.scores, found, starts, ends, strict=True
            )
        ]


def require_positive(name: str, value: int) -> None:
    """UsageError when `value` is below 1."""
    if value < 1:
        raise UsageError(f"{name} is {value}", remedy=f"Ask for {name} >= 1")
