"""Exact search over the codes of the parts of a vector index, with filters inside."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .vector_codes import query_terms
from .vector_products import QUERIES, Product, product
from .vector_topk import TopK, begin, open_part, ranked, scan, settle

_DENSE = 0.5
"""The share of live rows above which codes are read where they lie, rather than gathered."""

_HEAP = 1 << 21
"""Hits kept for a batch of queries, at most: a large k makes smaller batches."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """The rows of a part: `vectors` (n, d) float32 or float16, and their codes.

    codes: (n, d) int8.  ranges: (n, 3) float32.  centre: (d,) float32; see vector_codes.
    base: the first passage number.
    """

    vectors: NDArray[Any]
    codes: NDArray[np.int8]
    ranges: NDArray[np.float32]
    centre: NDArray[np.float32]
    base: int


Block = tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64], Bitmap]
"""Codes (n, d), ranges (n, 3), row numbers (n,) and which of them are live (n,)."""


def search_exactly(
    parts: Sequence[tuple[Coded, Bitmap | None]],
    queries: NDArray[np.float32],
    k: int,
    multiplied_by: Callable[[NDArray[np.float32], int], Product] = product,
) -> Neighbours:
    """The k live rows with the greatest products with each query (n, d), by the stored numbers.

    Each part comes with its live rows, None meaning all.
    """
    size = max(1, min(QUERIES, _HEAP // k))
    batches = [queries[first : first + size] for first in range(0, len(queries), size)]
    found = [_search_batch(parts, batch, k, multiplied_by) for batch in batches]
    return Neighbours(
        np.concatenate([one.numbers for one in found] or [np.empty((0, k), np.int64)]),
        np.concatenate([one.scores for one in found] or [np.empty((0, k), np.float32)]),
    )


def _search_batch(
    parts: Sequence[tuple[Coded, Bitmap | None]],
    queries: NDArray[np.float32],
    k: int,
    multiplied_by: Callable[[NDArray[np.float32], int], Product],
) -> Neighbours:
    top = begin(len(queries), k)
    products = multiplied_by(queries, sum(len(coded.codes) for coded, _ in parts))
    for coded, live in parts:
        _search_part(coded, live, queries, products, top)
    return ranked(top)


def _search_part(
    coded: Coded, live: Bitmap | None, queries: NDArray[np.float32], products: Product, top: TopK
) -> None:
    terms = query_terms(queries, coded.centre, products.steps, products.rests)
    open_part(top, terms)
    for codes, ranges, rows, alive in _blocks(coded, live, products.rows):
        values = products.block(codes)
        resume = scan(values, ranges, rows, alive, terms, top, 0)
        while resume >= 0:
            settle(top, terms, coded.vectors, queries, coded.base)
            resume = scan(values, ranges, rows, alive, terms, top, resume)
    settle(top, terms, coded.vectors, queries, coded.base)


def _blocks(coded: Coded, live: Bitmap | None, size: int) -> Iterator[Block]:
    """The rows in blocks; where few are live, only those, gathered."""
    if live is not None and int(live.sum()) < _DENSE * len(live):
        yield from _gathered(coded, np.flatnonzero(live), size)
        return
    everything, numbers = np.ones(size, np.bool_), np.arange(size)
    for first in range(0, len(coded.codes), size):
        codes = coded.codes[first : first + size]
        block = slice(first, first + len(codes))
        alive = everything[: len(codes)] if live is None else live[block]
        yield codes, coded.ranges[block], numbers[: len(codes)] + first, alive


def _gathered(coded: Coded, rows: NDArray[np.int64], size: int) -> Iterator[Block]:
    everything = np.ones(size, np.bool_)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        yield coded.codes[some], coded.ranges[some], some, everything[: len(some)]
