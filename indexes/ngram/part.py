"""One part of an n-gram index: what every layout has, how it is written, opened and checked.

vocabulary (codes,) int32     the ids that occur, ascending: a token is stored as its place there
firsts (codes + 1,) int64     how many tokens of the text have a lower code
starts (rows + 1,) int64      where each passage begins in the text; a separator stands before it
and the text as the layout keeps it: see suffixes and compressed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import Damaged, UsageError
from ..family import OpenPart
from ..stored import rising, stored
from .texts import RESERVED, TokenText

if TYPE_CHECKING:
    from ...storage import PartWriter

PLACE = "part of n-grams"
MOST_TOKENS = 2**31 - 1
STRIDE = 7
"""Every 2^STRIDE positions the passage that is there is looked up beforehand."""


class Stretches(NamedTuple):
    """Passages with the separators around them: ``codes[begins[i]:ends[i]]``."""

    codes: NDArray[Any]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


class Layout(Protocol):
    """How a text is kept. A range is two numbers, of which the second less the first is a count."""

    def ranges(self, offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) for the n n-grams ``ids[offsets[i]:offsets[i + 1]]``, each of a token at least."""
        ...

    def allowed(
        self, ranges: NDArray[np.int64], length: int, candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n, m) whether each of (n, m) ids follows the n-grams of `length` in the ranges."""
        ...

    def continuations(
        self, ranges: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Offsets (n + 1,), codes and counts of what follows the n-grams in the ranges."""
        ...

    def located(
        self, ranges: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Positions, and the (n, 2) stretches of them that are those of each range."""
        ...

    def stretches(self, rows: NDArray[np.int64]) -> Stretches: ...


@dataclass(frozen=True)
class Tokens:
    """What every layout of a part has. vocabulary: of the model; separator: its code here."""

    ids: NDArray[np.int32]
    firsts: NDArray[np.int64]
    starts: NDArray[np.int64]
    vocabulary: int

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """Tokens of the text, all separators included."""
        return int(self.starts[-1])

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The number type of codes."""
        return np.uint16 if len(self.ids) <= 1 << 16 else np.uint32

    @cached_property
    def codes(self) -> NDArray[np.int32]:
        """(vocabulary + reserved,) the code of each id, -1 for one that does not occur."""
        codes = np.full(self.vocabulary + RESERVED, -1, np.int32)
        codes[self.ids] = np.arange(len(self.ids), dtype=np.int32)
        return codes

    @cached_property
    def separator(self) -> int:
        return int(self.codes[self.vocabulary])

    @cached_property
    def directory(self) -> NDArray[np.int32]:
        """The passage at every 128th position of the text; the first one before it."""
        places = np.arange(0, self.size, 1 << STRIDE)
        found = np.searchsorted(self.starts, places, "right") - 1
        return np.clip(found, 0, max(self.rows - 1, 0)).astype(np.int32)

    @cached_property
    def unigrams(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids that passages have, and how often; a separator counts where a field ends."""
        counts = np.diff(self.firsts)
        counts[self.separator] -= 1
        occur = np.flatnonzero(counts)
        return self.ids[occur].astype(np.int64), counts[occur]

    def occur(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether passages have these ids; a separator, where there is a field."""
        known = (ids >= 0) & (ids < len(self.codes))
        found: NDArray[np.bool_] = known & self._occurs[np.where(known, ids, 0)]
        return found

    @cached_property
    def _occurs(self) -> NDArray[np.bool_]:
        occurs = self.codes >= 0
        occurs[self.vocabulary] = self.rows > 0
        return occurs


def open_tokens(opened: OpenPart, vocabulary: int) -> Tokens:
    """Raises Damaged unless the arrays fit each other and the vocabulary."""
    part = opened.part
    ids = stored(part, "vocabulary", "int32", PLACE)
    firsts = stored(part, "firsts", "int64", PLACE)
    starts = stored(part, "starts", "int64", PLACE)
    require(rising(ids, vocabulary + RESERVED) and len(ids) > 0, "vocabulary")
    require(len(firsts) == len(ids) + 1 and firsts[0] == 0, "firsts")
    require(bool((np.diff(firsts) > 0).all()), "firsts")
    require(len(starts) == opened.rows + 1 and starts[0] == 1, "starts")
    require(bool((np.diff(starts) > 0).all()), "starts")
    require(starts[-1] == firsts[-1] <= MOST_TOKENS, "starts")
    tokens = Tokens(ids, firsts, starts, vocabulary)
    require(tokens.separator >= 0, "vocabulary")
    return tokens


def require(fits: bool | np.bool_, name: str) -> None:
    """Raise Damaged, naming the arrays, unless they fit."""
    if not fits:
        raise Damaged(f"the {name} do not fit together", where=PLACE, remedy="Rebuild the index")


class Coded(NamedTuple):
    """The text of a part to be written."""

    tokens: Tokens
    text: NDArray[Any]


def coded(batches: Sequence[TokenText], vocabulary: int) -> Coded:
    """Texts as one text of codes with separators around them.

    Takes up to 10 bytes a token. Raises UsageError for more tokens than a part can have.
    """
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(one.offsets) for one in batches)])
    starts = np.ones(len(lengths) + 1, np.int64)
    starts[1:] += np.cumsum(lengths + 1)
    if starts[-1] > MOST_TOKENS:
        raise UsageError(
            f"{starts[-1]:,} tokens in one segment; {MOST_TOKENS:,} are the most",
            remedy="Commit more often, or make several collections",
        )
    text = np.full(int(starts[-1]), vocabulary, np.int32)
    row = 0
    for one in batches:
        begin = starts[row]
        row += len(one)
        within = np.ones(int(starts[row] - begin), np.bool_)
        within[starts[row - len(one) + 1 : row + 1] - 1 - begin] = False
        text[begin : starts[row]][within] = one.tokens[one.offsets[0] : one.offsets[-1]]
    counts = np.bincount(text, minlength=vocabulary + RESERVED)
    ids = np.flatnonzero(counts).astype(np.int32)
    firsts = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(counts[ids], out=firsts[1:])
    tokens = Tokens(ids, firsts, starts, vocabulary)
    return Coded(tokens, tokens.codes.astype(tokens.dtype)[text])


def write_tokens(writer: "PartWriter", tokens: Tokens) -> None:
    """What every layout has."""
    writer.array("vocabulary", tokens.ids)
    writer.array("firsts", tokens.firsts)
    writer.array("starts", tokens.starts)
    writer.facts({"rows": tokens.rows, "tokens": tokens.size})


class NgramPart(NamedTuple):
    """A part that is open."""

    opened: OpenPart
    tokens: Tokens
    layout: Layout


BLOCK = 8192
"""Passages that are read at once."""


def live_texts(part: NgramPart) -> list[TokenText]:
    """The passages of a part that are not deleted."""
    deleted = part.opened.deleted
    rows = np.arange(part.opened.rows) if deleted is None else np.flatnonzero(~deleted)
    return [texts_at(part, rows[at : at + BLOCK]) for at in range(0, len(rows), BLOCK)]


def texts_at(part: NgramPart, rows: NDArray[np.int64]) -> TokenText:
    """The tokens of passages, without the separators around them."""
    codes, begins, ends = part.layout.stretches(rows)
    pieces = [codes[a + 1 : b - 1] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(ends - begins - 2, out=offsets[1:])
    return TokenText(offsets, part.tokens.ids[np.concatenate(pieces)])
