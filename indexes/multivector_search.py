"""Search in one part of a multi-vector index: candidates, then their exact scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, Neighbours, TokenVectors
from .family import OpenPart
from .fixed_encoding import FixedEncoding
from .multivector_candidates import candidates
from .multivector_exact import exact_scores, search_rows, single
from .multivector_fixed import fixed_candidates
from .multivector_part import Tokens, chosen, places
from .multivector_prefetch import will_need
from .vector_exact import Coded
from .vector_part import live_rows

QUERIES = 32
"""Queries that tokens are read back for at once."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenPart:
    """A part that is open; fixed: the encodings of its passages, if it has any."""

    opened: OpenPart
    tokens: Tokens
    fixed: Coded | None


def search_part(
    part: TokenPart,
    queries: TokenVectors,
    k: int,
    depth: int,
    most: int,
    allowed: Bitmap | None,
    encoding: FixedEncoding | None,
) -> Neighbours:
    """The k best live passages of a part for each query, among `depth` >= k candidates.

    With no more than `most` >= depth rows to search in there are no candidates: all are scored.
    """
    numbers = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = _live(part, allowed)
    asked = np.flatnonzero(np.diff(queries.offsets))
    exactly = len(rows) <= most
    size = QUERIES if exactly else 1
    for first in range(0, len(asked) if len(rows) else 0, size):
        some = asked[first : first + size]
        batch = picked(queries, some)
        near = rows
        if not exactly:
            near = _near(part, rows, batch, depth, encoding)
            will_need(part.tokens.array, part.tokens.offsets, near)
        found = search_rows(part.tokens, near, batch, k)
        numbers[some], scores[some] = found.numbers, found.scores
    return Neighbours(np.where(numbers >= 0, numbers + part.opened.base, -1), scores)


def _live(part: TokenPart, allowed: Bitmap | None) -> NDArray[np.int64]:
    """The rows that may be found: live, allowed, and with a vector."""
    live, some = live_rows(part.opened, allowed), np.diff(part.tokens.offsets) > 0
    return np.flatnonzero(some if live is None else some & live)


def _near(
    part: TokenPart,
    rows: NDArray[np.int64],
    query: TokenVectors,
    depth: int,
    encoding: FixedEncoding | None,
) -> NDArray[np.int64]:
    """The candidates for one query."""
    tokens = part.tokens
    if encoding is not None and part.fixed is not None:
        live = np.zeros(part.opened.rows, np.bool_)
        live[rows] = True
        return fixed_candidates(part.fixed, live, encoding.encode_queries(query), depth)[0]
    assert tokens.centroids is not None  # nothing but an exact search does without them
    some = query.vectors
    return candidates(tokens.centroids, tokens.offsets, rows, some, depth, tokens.contexts)


def picked(texts: TokenVectors, some: NDArray[np.int64]) -> TokenVectors:
    """Some of the texts."""
    return TokenVectors(chosen(texts.offsets, some), texts.vectors[places(texts.offsets, some)])


def score_numbers(
    parts: Sequence[TokenPart], queries: TokenVectors, numbers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(queries, depth) exact scores of passage numbers; -inf where there is none."""
    scores = np.full(numbers.shape, -np.inf, np.float32)
    for i, query in enumerate(single(queries)):
        for part in parts:
            here = numbers[i] - part.opened.base
            inside = (here >= 0) & (here < part.opened.rows) & (numbers[i] >= 0)
            if part.opened.deleted is not None:
                inside[inside] = ~part.opened.deleted[here[inside]]
            if inside.any():
                scores[i, inside] = exact_scores(part.tokens, here[inside], query)
    return scores
