"""Late chunking: a document is read whole, and its token vectors are pooled chunk by chunk.

A chunk that says "the city" is encoded among the tokens that say which city. Documents longer than
the model reads are cut into windows that overlap; a token's vector is taken from the window in
which it stands farther from the edge.

Günther et al., Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models,
2024 (algorithms 1 and 2).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .model_folder import ModelFolder
from .text_batches import by_length, check_texts
from .token_spans import TokenSpans

Vectors = NDArray[np.float32]
Span = tuple[int, int]

OVERLAP = 4
"""A window shares one part in this many with the window before it."""

AT_ONCE = 64
"""Documents that are tokenized together."""


@dataclass(frozen=True, slots=True)
class ChunkedText:
    """A document and where its chunks are: ``text[start:end]`` for each of the spans.

    title: read before the text as context, up to half of what the model reads; in no chunk.
    """

    text: str
    spans: Sequence[Span]
    title: str = ""


class TokenReader(Protocol):
    """What tokenizes texts, and gives a vector for each token."""

    @property
    def dimensions(self) -> int: ...

    def token_spans(self, texts: Sequence[str]) -> list[TokenSpans]: ...

    def token_vectors(self, tokens: Sequence[NDArray[np.int32]]) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document as the model reads it.

    tokens: what is read.  first: the place in the document of its token at `skipped`; the `owned`
    tokens from there on give their vectors to the chunks.
    """

    document: int
    tokens: NDArray[np.int32]
    skipped: int
    first: int
    owned: int


def late_vectors(
    documents: Sequence[ChunkedText],
    prompt: str,
    reader: TokenReader,
    limit: int,
    budget: int,
    progress: Callable[[int], None] | None = None,
) -> Vectors:
    """(chunks, d) means of the token vectors of every chunk, in order; not normalised.

    limit: tokens of a window.  budget: tokens that are read together.
    A chunk without a token of its own gets the mean over its whole document.
    """
    check_texts([text for one in documents for text in (one.title, one.text)])
    parts = [np.empty((0, reader.dimensions), dtype=np.float32)]
    for start in range(0, len(documents), AT_ONCE):
        batch = documents[start : start + AT_ONCE]
        parts += _pooled(batch, prompt, reader, limit, budget)
        if progress:
            progress(sum(len(document.spans) for document in batch))
    return np.concatenate(parts)


def _pooled(
    documents: Sequence[ChunkedText], prompt: str, reader: TokenReader, limit: int, budget: int
) -> list[Vectors]:
    heads = [prompt + (f"{one.title} " if one.title else "") for one in documents]
    texts = [head + one.text for head, one in zip(heads, documents, strict=True)]
    tokens = reader.token_spans(texts)
    columns = zip(documents, map(len, heads), tokens, strict=True)
    sums = [_Sums(*column, reader.dimensions) for column in columns]
    windows = [
        window
        for number, (head, spans) in enumerate(zip(heads, tokens, strict=True))
        for window in _windows(number, spans, len(head), limit)
    ]
    lengths = np.array([len(window.tokens) for window in windows], dtype=np.int64)
    for chosen in by_length(lengths, budget):
        batch = [windows[place] for place in chosen]
        vectors = reader.token_vectors([window.tokens for window in batch])
        ends = np.cumsum(lengths[chosen])
        for window, found in zip(batch, np.split(vectors, ends[:-1]), strict=True):
            sums[window.document].add(window, found)
    return [one.means() for one in sums]


def _windows(document: int, spans: TokenSpans, head: int, limit: int) -> Iterator[Window]:
    """The windows of one document: what stands before it, a stretch of it, and the closing."""
    body = spans.within(head, 2**62)
    first, last = (body[0], body[-1] + 1) if len(body) else (len(spans.ids), len(spans.ids))
    before, after = spans.ids[:first][: limit // 2], spans.ids[last:]
    room = max(1, limit - len(before) - len(after))
    for start, end, lower, upper in stretches(last - first, room):
        inner = spans.ids[first + start : first + end]
        yield Window(
            document,
            np.concatenate([before, inner, after]),
            len(before) + lower - start,
            int(first) + lower,
            upper - lower,
        )


def stretches(tokens: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, lower, upper) of windows of at most `room` tokens over `tokens`.

    ``lower:upper`` is what a window owns: to the middle of what it shares with its neighbours.
    The last window is as long as the others; all of no tokens is one empty window.
    """
    step = max(1, room - room // OVERLAP)
    starts = [*range(0, max(1, tokens - room), step)]
    if tokens > room:
        starts.append(tokens - room)
    ends = [min(start + room, tokens) for start in starts]
    edges = [(end + start) // 2 for end, start in zip(ends[:-1], starts[1:], strict=True)]
    yield from zip(starts, ends, [0, *edges], [*edges, tokens], strict=True)


class _Sums:
    """Sums of token vectors: of the chunks of one document, and of all that was read of it."""

    def __init__(
        self, document: ChunkedText, head: int, tokens: TokenSpans, dimensions: int
    ) -> None:
        found = [tokens.within(start + head, end + head) for start, end in document.spans]
        edges = [(one[0], one[-1] + 1) if len(one) else (0, 0) for one in found]
        self._firsts, self._lasts = np.array(edges, dtype=np.int64).reshape(-1, 2).T
        self._chunks = np.zeros((len(found), dimensions))
        self._whole = np.zeros(dimensions)
        self._read = 0

    def add(self, window: Window, vectors: Vectors) -> None:
        self._whole += vectors.sum(0, dtype=np.float64)
        self._read += len(vectors)
        own = vectors[window.skipped : window.skipped + window.owned]
        lower = np.clip(self._firsts - window.first, 0, len(own))
        upper = np.clip(self._lasts - window.first, 0, len(own))
        for chunk in np.flatnonzero(lower < upper):
            self._chunks[chunk] += own[lower[chunk] : upper[chunk]].sum(0, dtype=np.float64)

    def means(self) -> Vectors:
        """(chunks, d)."""
        counts = self._lasts - self._firsts
        means = self._chunks / np.maximum(counts, 1)[:, None]
        means[counts == 0] = self._whole / max(self._read, 1)
        return np.asarray(means, dtype=np.float32)


def check_asked(late_chunking: bool) -> None:
    """Raise UsageError when documents come to an encoder of passages."""
    if not late_chunking:
        remedy = "Make the encoder with late_chunking=True: its index has to know"
        raise UsageError("documents for an encoder of passages", remedy=remedy)


def check_late(model: ModelFolder) -> None:
    """Raise UsageError for a model whose vectors are no means over the tokens of a text."""
    stages = [str(stage.get("type")).rsplit(".", 1)[-1] for stage in model.modules]
    others = set(stages) - {"Transformer", "Pooling", "Normalize"}
    if others or model.pooling != "mean":
        why = f"pools by {model.pooling!r}" if not others else f"has a stage {sorted(others)[0]}"
        raise UsageError(
            f"late_chunking=True, but {model.name!r} {why}",
            remedy="Use a model that takes the mean of its token vectors",
        )
