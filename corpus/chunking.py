"""Documents cut into passages: by words, with overlap, at the ends of sentences and headings."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UsageError
from ..records import JSON, Passage
from .outline import Heading, headings_of, page_of
from .sentences import sentences

# What counts as a word: a Chinese or Japanese character, or up to 24 characters without white
# space (so that no passage can be endless: a longer "word" counts, and is cut, as several).
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]{{1,24}}")

_REACH = 32
"""Characters a word may take with the white space after it, on average over a passage."""


class Unit(NamedTuple):
    """A span that is not cut: a sentence, a heading, or a piece of too long a one."""

    start: int
    end: int
    words: int
    heading: bool


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts documents into passages of at most `words` words, which share up to `overlap` words.

    The defaults are made for encoders that read 256 word pieces, as the default one does: English
    has 1.3 (encyclopedia) to 1.6 (biomedicine) pieces a word, so 150 words and their title fit.
    One fifth of overlap repeats about two sentences, so that a sentence meets its neighbour.
    """

    words: int = 150
    overlap: int = 30

    def __post_init__(self) -> None:
        if self.words < 1:
            raise UsageError(f"chunks of {self.words} words", remedy="Give at least 1 word")
        if not 0 <= self.overlap < self.words:
            raise UsageError(
                f"an overlap of {self.overlap} words in chunks of {self.words}",
                remedy="Give an overlap of 0 or more that is smaller than the chunks",
            )

    def chunks(self, document: Passage) -> list[Passage]:
        """The passages of one document, in order; together they hold every word of it.

        Ids: "ID#0", "ID#1", ...; a document that is one passage keeps its id. Metadata: that of
        the document and "document" (its id), "headings" (titles above the first character, from
        the outermost), "start" and "end" (``document.text[start:end]`` is the text) and, from a
        PDF, "page". A new heading begins a new passage, unless the one before it would have
        less than a quarter of the words.
        """
        headings = headings_of(document.metadata, len(document.text))
        spans = _pack(_units(document.text, headings, self.words), self.words, self.overlap)
        paths = _paths(headings, [start for start, _ in spans])
        return [
            _chunk(document, document.id if len(spans) == 1 else f"{document.id}#{n}", *span, path)
            for n, (span, path) in enumerate(zip(spans, paths, strict=True))
        ]


def _chunk(document: Passage, id: str, start: int, end: int, path: list[str]) -> Passage:
    own: dict[str, JSON] = {"document": document.id, "headings": path, "start": start, "end": end}
    kept = {key: document.metadata[key] for key in document.metadata.keys() - {"outline", "pages"}}
    metadata = {**kept, **own, **page_of(document.metadata, start)}
    return Passage(id, document.text[start:end], document.title, metadata)


def _units(text: str, headings: Sequence[Heading], words: int) -> list[Unit]:
    """The text as units of at most `words` words."""
    units: list[Unit] = []
    starts = [heading.offset for heading in headings]
    for number, (start, end) in enumerate(zip([0, *starts], [*starts, len(text)], strict=True)):
        if number:  # the first line of every stretch but the first is its heading
            line_end = text.find("\n", start, end)
            first, start = start, end if line_end < 0 else line_end
            units += _fitting(text, *_trimmed(text, first, start), words, heading=True)
        for first, last in sentences(text[start:end]):
            units += _fitting(text, start + first, start + last, words)
    return units


def _fitting(text: str, start: int, end: int, words: int, *, heading: bool = False) -> list[Unit]:
    count = len(_WORD.findall(text, start, end))
    if count <= words and end - start <= words * _REACH:
        return [Unit(start, end, count, heading)] if count else []
    return list(_cut(text, start, end, words, heading=heading))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    line = text[start:end]
    return start + len(line) - len(line.lstrip()), end - len(line) + len(line.rstrip())


def _cut(text: str, start: int, end: int, words: int, *, heading: bool) -> Iterator[Unit]:
    """Too long a sentence (a table, code, or a text without full stops): by lines, then words."""
    while start < end:
        line_end = text.find("\n", start, end) + 1 or end
        found = [word.span() for word in _WORD.finditer(text, start, line_end)]
        most = words if len(found) <= words else max(1, words // 5)  # small, so that they overlap
        for at in range(0, len(found), most):
            piece = found[at : at + most]
            yield Unit(piece[0][0], piece[-1][1], len(piece), heading)
        start = line_end


def _pack(units: Sequence[Unit], words: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of as many units as fit; (0, 0) for no unit at all, a document that is only a title."""
    spans, first, held = [], 0, 0
    for at, unit in enumerate(units):
        turn = unit.heading and held >= max(1, words // 4) and not units[at - 1].heading
        far = unit.end - units[first].start > words * _REACH
        if at > first and (turn or far or held + unit.words > words):
            last = at if turn else _before_headings(units, first, at, words)
            spans.append((units[first].start, units[last - 1].end))
            left = min(overlap, words - _words(units, last, at + 1))
            first = last if turn else _back(units, first, last, left)
            held = _words(units, first, at)
        held += unit.words
    spans.append((units[first].start, units[-1].end) if units else (0, 0))
    return spans


def _words(units: Sequence[Unit], first: int, last: int) -> int:
    return sum(unit.words for unit in units[first:last])


def _before_headings(units: Sequence[Unit], first: int, last: int, words: int) -> int:
    """Where a passage `first` to `last` ends so that no heading is its end.

    Headings move on to the next passage, with the unit `last`; `last` where they do not fit there
    or there is nothing else here.
    """
    end = last
    while end > first and units[end - 1].heading:
        end -= 1
    return end if end > first and _words(units, end, last + 1) <= words else last


def _back(units: Sequence[Unit], first: int, last: int, words: int) -> int:
    """Where the passage after `last` begins if it repeats up to `words` words of its section."""
    while last > first + 1 and not units[last].heading and units[last - 1].words <= words:
        last -= 1
        words -= units[last].words
    return last


def _paths(headings: Sequence[Heading], offsets: Sequence[int]) -> list[list[str]]:
    """The headings in force at each of the ascending `offsets`."""
    paths: list[list[str]] = []
    stack: list[Heading] = []
    left = iter(headings)
    following = next(left, None)
    for offset in offsets:
        while following is not None and following.offset <= offset:
            level = following.level
            stack = [*(heading for heading in stack if heading.level < level), following]
            following = next(left, None)
        paths.append([heading.title for heading in stack])
    return paths
