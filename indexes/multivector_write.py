"""Writing a part of a multi-vector index: coding the tokens of a segment, and merging parts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..records import TokenVectors
from .maxsim import blocks
from .multivector_centroids import how_many, nearest, train
from .multivector_codes import (
    SAMPLE,
    Codebook,
    Contexts,
    bytes_each,
    coded,
    contexts,
    eighths,
    rests,
    spreads,
)
from .multivector_part import BLOCK, Centroids, Tokens, chosen, places

if TYPE_CHECKING:
    from ..storage import PartWriter

_CODED = 8192
"""Vectors that are coded at once."""


def write_tokens(
    writer: "PartWriter",
    offsets: NDArray[np.int64],
    vectors: NDArray[np.float16],
    bits: int,
    centroids: bool,
) -> None:
    """Write the token vectors (tokens, d) of a segment; bits: of residual codes, 0 for float16.

    centroids: whether float16 vectors get centroids too.
    """
    writer.array("offsets", offsets)
    if not bits:
        writer.array("vectors", vectors)
    if not bits and not centroids:
        return
    sample = vectors if len(vectors) else np.zeros((1, vectors.shape[1]), np.float16)
    middles = train(sample, how_many(len(vectors)))
    ids = nearest(vectors, middles)
    book = Codebook(*eighths(middles), np.empty((0, vectors.shape[1]), np.float32))
    if bits:
        added = _write_contexts(writer, offsets, vectors, ids, book)
        book = book._replace(spreads=_spreads(offsets, vectors, ids, book, added))
        with writer.stream("codes", np.uint8, bytes_each(vectors.shape[1], bits)) as stream:
            for first, last in blocks(offsets, _CODED):
                found = _rests(offsets, vectors, ids, book, added, first, last)
                stream.append(coded(found, book, bits))
    writer.array("ids", ids)
    writer.array("books", np.zeros(len(offsets) - 1, np.int32))
    _write_books(writer, np.array([0, len(book.scales)], np.int64), book, bool(bits))


def _block(
    offsets: NDArray[np.int64], vectors: NDArray[np.float16], first: int, last: int
) -> TokenVectors:
    some = offsets[first : last + 1]
    return TokenVectors(some - some[0], vectors[some[0] : some[-1]].astype(np.float32))


def _write_contexts(
    writer: "PartWriter",
    offsets: NDArray[np.int64],
    vectors: NDArray[np.float16],
    ids: NDArray[np.uint16],
    book: Codebook,
) -> Contexts:
    parts = [
        contexts(_block(offsets, vectors, first, last), ids[offsets[first] : offsets[last]], book)
        for first, last in blocks(offsets, _CODED)
    ]
    codes = [np.empty((0, vectors.shape[1]), np.int8), *(part.codes for part in parts)]
    scales = [np.empty(0, np.float32), *(part.scales for part in parts)]
    added = Contexts(np.concatenate(codes), np.concatenate(scales))
    writer.array("contexts", added.codes)
    writer.array("context-scales", added.scales)
    return added


def _rests(
    offsets: NDArray[np.int64],
    vectors: NDArray[np.float16],
    ids: NDArray[np.uint16],
    book: Codebook,
    added: Contexts,
    first: int,
    last: int,
) -> NDArray[np.float32]:
    """What is left to code of the tokens of a stretch of passages."""
    here = Contexts(added.codes[first:last], added.scales[first:last])
    some = _block(offsets, vectors, first, last)
    return rests(some, ids[offsets[first] : offsets[last]], book, here)


def _spreads(
    offsets: NDArray[np.int64],
    vectors: NDArray[np.float16],
    ids: NDArray[np.uint16],
    book: Codebook,
    added: Contexts,
) -> NDArray[np.float32]:
    """Of a sample of stretches that lie all over the passages."""
    stretches = blocks(offsets, SAMPLE // 16)
    some = stretches[:: max(1, len(stretches) // 32)]
    empty = np.zeros((int(not len(vectors)), vectors.shape[1]), np.float32)
    found = [_rests(offsets, vectors, ids, book, added, *stretch) for stretch in some]
    return spreads(np.concatenate([empty, *found]))


def _write_books(
    writer: "PartWriter", starts: NDArray[np.int64], books: Codebook, coded: bool
) -> None:
    writer.array("starts", starts)
    writer.array("centroids", books.centroids)
    writer.array("scales", books.scales)
    if coded:
        writer.array("spreads", books.spreads)


def merge_tokens(writer: "PartWriter", sources: Sequence[tuple[Tokens, NDArray[np.int64]]]) -> None:
    """Copy these rows of several parts, and of their codebooks what the rows need."""
    counts = [np.diff(chosen(tokens.offsets, rows)) for tokens, rows in sources]
    ends = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
    writer.array("offsets", ends)
    first = sources[0][0]
    form, total = (first.array.dtype, first.array.shape[1]), int(ends[-1])
    with writer.stream(first.name, *form, total) as stream:
        for tokens, rows in sources:
            for some in _stretches(tokens, rows):
                stream.append(tokens.array[places(tokens.offsets, some)])
    if first.centroids is not None:
        _merge_centroids(writer, sources, total)
    added = [(tokens.contexts, rows) for tokens, rows in sources if tokens.contexts is not None]
    if added:
        writer.array("contexts", np.concatenate([one.codes[rows] for one, rows in added]))
        writer.array("context-scales", np.concatenate([one.scales[rows] for one, rows in added]))


def _stretches(tokens: Tokens, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows, some at a time."""
    for first, last in blocks(chosen(tokens.offsets, rows), BLOCK):
        yield rows[first:last]


def _merge_centroids(
    writer: "PartWriter", sources: Sequence[tuple[Tokens, NDArray[np.int64]]], total: int
) -> None:
    kept, books, sizes = [], [], []
    before = 0
    with writer.stream("ids", np.uint16, rows=total) as stream:
        for tokens, rows in sources:
            one = tokens.centroids
            assert one is not None  # the parts of an index have the same arrays
            used = _used(tokens, one, rows)
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(used)])
            for some in _stretches(tokens, rows):
                there, starts = _numbers(tokens, one, some)
                stream.append((ends[there] - ends[starts]).astype(np.uint16))
            wanted, numbers = np.unique(one.books[rows], return_inverse=True)
            books.append((numbers + before).astype(np.int32))
            sizes.append(ends[one.starts[wanted + 1]] - ends[one.starts[wanted]])
            before += len(wanted)
            kept.append(_chosen_books(one, used, wanted))
    writer.array("books", np.concatenate(books))
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *sizes]))
    first = sources[0][0].centroids
    merged = Codebook(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)))
    _write_books(writer, starts, merged, first is not None and first.spreads is not None)


def _numbers(
    tokens: Tokens, centroids: Centroids, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each token of some rows its centroid among all of the part, and its codebook's first."""
    counts = tokens.offsets[rows + 1] - tokens.offsets[rows]
    starts = np.repeat(centroids.starts[centroids.books[rows]], counts)
    return starts + centroids.ids[places(tokens.offsets, rows)], starts


def _used(tokens: Tokens, centroids: Centroids, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which centroids some token of these rows has."""
    used = np.zeros(len(centroids.scales), np.bool_)
    for some in _stretches(tokens, rows):
        used[_numbers(tokens, centroids, some)[0]] = True
    return used


def _chosen_books(
    centroids: Centroids, used: NDArray[np.bool_], books: NDArray[np.int32]
) -> Codebook:
    """The used centroids, and the spreads of these codebooks."""
    spreads = np.zeros((0, centroids.centroids.shape[1]), np.float32)
    if centroids.spreads is not None:
        spreads = centroids.spreads[(2 * books[:, None] + np.arange(2)).reshape(-1)]
    return Codebook(centroids.centroids[used], centroids.scales[used], spreads)
