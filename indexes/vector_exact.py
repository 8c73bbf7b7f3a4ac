"""Exact search over the codes of the parts of a vector index, with filters inside."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours
from .vector_codes import query_terms
from .vector_products import QUERIES, Product, product
from .vector_topk import TopK, begin, open_part, ranked, reached_in, scale, scan, settle

_DENSE = 0.5
"""The share of live rows above which codes are read where they lie, rather than gathered."""

_STRIDE = 32
"""Of so many rows one is looked at to guess a limit."""

_GUESS_K, _GUESS_QUERIES, _GUESS_ROWS = 32, 8, 20
"""From which k, how many queries and how many rows for each result on limits are guessed first."""

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


Parts = Sequence[tuple[Coded, Bitmap | None]]
"""Parts with their live rows, None meaning all."""

Multiplied = Callable[[NDArray[np.float32], int], Product]
"""Gives the product for a batch of queries against so many rows."""

Block = tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64], Bitmap]
"""Codes (n, d), ranges (n, 3), row numbers (n,) and which of them are live (n,)."""


def search_exactly(
    parts: Parts, queries: NDArray[np.float32], k: int, multiplied_by: Multiplied = product
) -> Neighbours:
    """The k live rows with the greatest products with each query (n, d), by the stored numbers.

    Each part comes with its live rows, None meaning all.
    """
    size = max(1, min(QUERIES, _HEAP // k))
    batches = [queries[first : first + size] for first in range(0, len(queries), size)]
    search = _search_guessing if _worth_guessing(parts, len(queries), k) else _search_batch
    found = [search(parts, batch, k, multiplied_by) for batch in batches]
    return Neighbours(
        np.concatenate([one.numbers for one in found] or [np.empty((0, k), np.int64)]),
        np.concatenate([one.scores for one in found] or [np.empty((0, k), np.float32)]),
    )


def _search_batch(
    parts: Parts,
    queries: NDArray[np.float32],
    k: int,
    multiplied_by: Multiplied,
    guesses: NDArray[np.float64] | None = None,
) -> Neighbours:
    """guesses: (queries,) scores; what is below them is left out."""
    top = begin(len(queries), k)
    if guesses is not None:
        top.limits[:], top.turns[:] = guesses, top.rows.shape[1]
    products = multiplied_by(queries, sum(len(coded.codes) for coded, _ in parts))
    for coded, live in parts:
        _search_part(coded, live, queries, products, top)
    return ranked(top)


def _worth_guessing(parts: Parts, queries: int, k: int) -> bool:
    rows = sum(len(coded.codes) if live is None else int(live.sum()) for coded, live in parts)
    return queries >= _GUESS_QUERIES and k >= _GUESS_K and rows >= _GUESS_ROWS * k


def _search_guessing(
    parts: Parts, queries: NDArray[np.float32], k: int, multiplied_by: Multiplied
) -> Neighbours:
    """The same from limits that are guessed, by which far fewer rows become candidates.

    A row is left out only if its score is below the guess; so if k scores reach the guess, none of
    the k best was left out. Queries for which they do not are searched again without a guess.
    """
    guesses = _guess(parts, queries, k, multiplied_by)
    found = _search_batch(parts, queries, k, multiplied_by, guesses)
    wrong = np.flatnonzero(~(found.scores[:, -1] >= guesses))
    if len(wrong):
        again = _search_batch(parts, queries[wrong], k, multiplied_by)
        found.numbers[wrong], found.scores[wrong] = again.numbers, again.scores
    return found


def _guess(
    parts: Parts, queries: NDArray[np.float32], k: int, multiplied_by: Multiplied
) -> NDArray[np.float64]:
    """(queries,) scores that more than k rows seem to reach, by the products of a sample of rows.

    About k / _STRIDE of the k best are in the sample; hardly ever are there four deviations more.
    """
    products = multiplied_by(queries, sum(len(coded.codes) for coded, _ in parts))
    samples = [
        (coded, (np.arange(len(coded.codes)) if live is None else np.flatnonzero(live))[::_STRIDE])
        for coded, live in parts
    ]
    seen, at = np.empty((len(queries), sum(len(rows) for _, rows in samples)), np.float32), 0
    for coded, some in samples:
        terms = query_terms(queries, coded.centre, products.steps, products.rests)
        for codes, ranges, rows, _ in _gathered(coded, some, products.rows):
            scale(products.block(codes), ranges, terms, at, seen)
            at += len(rows)
    place = math.ceil(k / _STRIDE + 4 * math.sqrt(k / _STRIDE))
    reached: NDArray[np.float64] = reached_in(seen, place)
    return reached


def _search_part(
    coded: Coded, live: Bitmap | None, queries: NDArray[np.float32], products: Product, top: TopK
) -> None:
    terms = query_terms(queries, coded.centre, products.steps, products.rests)
    open_part(top, terms)
    for codes, ranges, rows, alive in _blocks(coded, live, products.rows):
        values = products.block(codes)
        resume = scan(values, ranges, rows, alive, terms, top, 0)
        while resume >= 0:
            settle(top, terms, coded.vectors, queries, coded.base, resume % len(queries))
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
