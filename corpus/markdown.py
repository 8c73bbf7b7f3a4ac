"""Markdown files as plain text with their headings, through markdown-it (CommonMark and tables)."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import webpage
from .outline import Blocks, Content

if TYPE_CHECKING:
    from markdown_it.token import Token

# Settings before the text, between lines of three dashes, as static site generators use them.
_FRONT = re.compile(r"---[ \t]*\n(?:.*\n){0,100}?(?:---|\.\.\.)[ \t]*(?:\n|$)")
_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)


def read(text: str) -> Content:
    """The text without its marks: links keep their words, images their description."""
    from markdown_it import MarkdownIt  # here: only sources with Markdown wait for its import

    title = ""
    if front := _FRONT.match(text):
        found = _TITLE.search(front.group())
        title = found.group(1).strip().strip("\"'") if found else ""
        text = text[front.end() :]
    blocks = Blocks()
    for block, level, gap in _blocks(MarkdownIt("commonmark").enable("table").parse(text)):
        blocks.add(block, level=level, gap=gap)
    return blocks.content(title)


def _blocks(tokens: Sequence["Token"]) -> Iterator[tuple[str, int, str]]:
    """(text, level of heading or 0, what comes before it), in reading order."""
    level, bullet, in_cell = 0, "", False
    row: list[str] = []
    for token in tokens:
        match token.type:
            case "heading_open":
                level = int(token.tag[1])
            case "list_item_open":
                bullet = f"{token.info}{token.markup} " if token.info else "- "
            case "th_open" | "td_open" | "th_close" | "td_close":
                in_cell = token.nesting == 1
            case "inline" if in_cell:
                row.append(_inline(token))
            case "tr_close":
                yield " | ".join(row), 0, "\n"
                row.clear()
            case "inline":
                yield bullet + _inline(token), level, "\n" if bullet else "\n\n"
                level, bullet = 0, ""
            case "fence" | "code_block":
                yield token.content, 0, "\n\n"
            case "html_block":
                yield webpage.read(token.content).text, 0, "\n\n"


def _inline(token: "Token") -> str:
    """The words of a line; line breaks stay, HTML tags go."""
    parts: list[str] = []
    for child in token.children or ():
        match child.type:
            case "text" | "code_inline" | "text_special":
                parts.append(child.content)
            case "softbreak" | "hardbreak":
                parts.append("\n")
            case "image":
                parts.append(_inline(child))
    return "".join(parts).strip()
