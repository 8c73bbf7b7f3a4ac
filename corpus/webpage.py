"""HTML files as text: headings, paragraphs, list items and tables; no scripts, styles or menus."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .outline import Blocks, Content
from .problems import Problem

if TYPE_CHECKING:
    from bs4.element import PageElement, Tag

MOST_TAGS = 200_000
"""The parsed tree takes about a kilobyte of memory a tag."""

_DROPPED = frozenset(
    "script style nav noscript template head svg math iframe object button select textarea"
    " dialog canvas audio video".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd details div dl dt fieldset figcaption"
    " figure footer h1 h2 h3 h4 h5 h6 header hr html li main ol p pre section summary table tbody"
    " tfoot thead tr ul".split()
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_SPACE = re.compile(r"\s+")


def read(text: str) -> Content:
    """The text of a page; its title is <title>, or else its first heading of level 1.

    Raises Problem where a page has more than 200,000 tags.
    """
    from bs4 import BeautifulSoup  # here: only sources with HTML wait for its import

    if text.count("<") > MOST_TAGS:
        raise Problem("too-large", f"more than {MOST_TAGS:,} tags", remedy="Split the page")
    page = BeautifulSoup(text, "html.parser")
    title = _SPACE.sub(" ", page.title.get_text()).strip() if page.title else ""
    blocks = Blocks()
    for block, level, gap in _blocks(page):
        blocks.add(block, level=level, gap=gap)
    return blocks.content(title)


def _blocks(page: "Tag") -> Iterator[tuple[str, int, str]]:
    """(text, level of heading or 0, what comes before it), in reading order."""
    inline: list[str] = []
    level, gap, bullet, verbatim = 0, "\n\n", "", 0
    for tag, opens, string in _walk(page):
        if tag is None:
            inline.append(string)
        elif tag in _BLOCKS:
            if block := _joined(inline, verbatim > 0):
                yield bullet + block, level, gap
                bullet = ""
            inline.clear()
            gap = "\n" if tag in ("li", "tr", "br") else "\n\n"
            level = int(tag[1]) if opens and tag in _HEADINGS else 0
            bullet = ("- " if opens else "") if tag == "li" else bullet
            verbatim += (1 if opens else -1) if tag == "pre" else 0
        elif tag in ("td", "th"):
            inline.append(" ")
    yield bullet + _joined(inline, verbatim > 0), level, gap


def _joined(inline: list[str], verbatim: bool) -> str:
    text = "".join(inline)
    return text.strip("\n") if verbatim else _SPACE.sub(" ", text).strip()


def _walk(page: "Tag") -> Iterator[tuple[str | None, bool, str]]:
    """(name, True, "") where a tag opens, (name, False, "") where it closes, (None, _, string).

    With a stack of its own: hostile pages nest deeper than Python does.
    """
    from bs4.element import CData, NavigableString, Tag

    stack: list[tuple[str, Iterator[PageElement]]] = [("", iter(page.contents))]
    while stack:
        name, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            yield name, False, ""
        elif isinstance(child, Tag):
            if child.name not in _DROPPED:
                yield child.name, True, ""
                stack.append((child.name, iter(child.contents)))
        elif type(child) in (NavigableString, CData):  # not a comment or a declaration
            yield None, False, str(child)
