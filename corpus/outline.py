"""Where the headings of a text stand: written by the readers of files, read by the chunker.

It travels in the metadata of a document as "outline": [[offset, level, title], ...], with offsets
in characters, ascending, and levels from 1; "pages" is the list of the offsets where the pages
of a PDF begin. Chunks carry "headings" and "page" in their stead.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..records import JSON

DEEPEST, LONGEST = 99, 200
"""Levels of headings, and characters of a title: every passage below a heading repeats it."""


class Heading(NamedTuple):
    """A heading line that begins at character `offset`; level 1 is the highest."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a file says: the text, a title ("" for none) and metadata such as its outline."""

    text: str
    title: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)


class Blocks:
    """Joins paragraphs, list items and headings into one text, a blank line between any two."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self.headings: list[Heading] = []

    def add(self, block: str, *, level: int = 0, gap: str = "\n\n") -> None:
        """Appends a block; `level` above 0 makes it a heading; an empty one is left out."""
        block = block.strip("\n") if level == 0 else " ".join(block.split())
        if not block.strip():
            return
        if self._parts:
            block = gap + block
        if level:
            title = block.strip()
            self.headings.append(Heading(self._length + len(block) - len(title), level, title))
        self._parts.append(block)
        self._length += len(block)

    def content(self, title: str = "") -> Content:
        """The whole; without a title, the first heading is the title if it is of level 1."""
        if not title and self.headings and self.headings[0].level == 1:
            title = self.headings[0].title
        return Content("".join(self._parts), title[:LONGEST], outlined(self.headings))


def outlined(headings: Sequence[Heading]) -> dict[str, JSON]:
    """The metadata that says where the headings stand; none for none."""
    return {"outline": [list(heading) for heading in headings]} if headings else {}


def headings_of(metadata: Mapping[str, JSON], length: int) -> list[Heading]:
    """The headings of a text of `length` characters; none where "outline" means something else."""
    found = metadata.get("outline")
    if not isinstance(found, list):
        return []
    headings = [heading for entry in found if (heading := _heading(entry)) is not None]
    offsets = [heading.offset for heading in headings]
    inside = all(0 <= offset < length for offset in offsets)
    sound = len(headings) == len(found) and inside and offsets == sorted(set(offsets))
    return headings if sound else []


def _heading(entry: JSON) -> Heading | None:
    match entry:
        case [int(offset), int(level), str(title)] if 1 <= level <= DEEPEST:
            return Heading(offset, level, title[:LONGEST])
    return None


def page_of(metadata: Mapping[str, JSON], offset: int) -> dict[str, JSON]:
    """{"page": the page of that character, from 1}; nothing where there are no pages."""
    pages = metadata.get("pages")
    if not isinstance(pages, list) or any(type(page) is not int for page in pages):
        return {}
    return {"page": bisect_right(pages, offset)} if pages else {}
