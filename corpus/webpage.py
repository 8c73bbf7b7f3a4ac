"""HTML files as text: headings, paragraphs, list items and tables; no scripts, styles or menus.

A tokenizer after chapter 13.2.5 of the HTML standard, without a tree: only the names of tags
matter here. Python's own parser takes time quadratic in the length of hostile pages (half a
minute for 180 kB of unclosed tags), and a tree takes a kilobyte of memory a tag.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator

from .outline import Blocks, Content

_DROPPED = frozenset(
    "nav noscript template svg math object button select dialog canvas audio video".split()
)
# Their content is characters, not tags: it ends at their own end tag alone.
_RAW = frozenset("script style title textarea iframe xmp noembed noframes".split())
_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr frame".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd details dialog div dl dt fieldset"
    " figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section"
    " summary table tbody tfoot thead tr ul".split()
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))

# Possessive, and an attribute's quote is skipped over only if it is closed: each character is
# looked at a bounded number of times, whatever the page.
_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)[^>=]*+(?:=\s*+(?:"[^"]*+"|'[^']*+')?+[^>=]*+)*+>""")
_RAW_END = {name: re.compile(rf"</{name}[\s/>]", re.IGNORECASE) for name in _RAW}
_SPACE = re.compile(r"\s+")


def read(text: str) -> Content:
    """The text of a page; its title is <title>, or else its first heading of level 1."""
    page = _Page()
    for name, opens, string in _tokens(text):
        if name:
            page.tag(name, opens, string)
        else:
            page.characters(string)
    return page.content()


class _Page:
    """Blocks as they come about: what is open, and the pieces of the block in work."""

    def __init__(self) -> None:
        self._blocks, self._title = Blocks(), ""
        self._inline: list[str] = []
        self._open: list[str] = []
        self._count: Counter[str] = Counter()
        self._dropped = 0  # how many of the open elements are left out
        self._level, self._gap, self._bullet = 0, "\n\n", ""

    def content(self) -> Content:
        """The whole, at the end of the page; what is open there is closed."""
        self._dropped = 0
        self._end_block()
        return self._blocks.content(self._title)

    def characters(self, string: str) -> None:
        """Text between two tags."""
        if not self._dropped:
            self._inline.append(string)

    def tag(self, name: str, opens: bool, raw: str) -> None:
        """An opening or closing tag; `raw` is what an element without tags inside holds."""
        if name == "title" and not self._title and not self._dropped:
            self._title = _SPACE.sub(" ", _unescaped(raw)).strip()
        if name in _BLOCKS:
            self._block(name, opens)
        elif name in ("td", "th"):
            self.characters(" ")
        if name in _RAW or name in _VOID:
            return
        if opens:
            self._push(name)
        elif self._count[name]:
            while self._pop() != name:
                pass

    def _push(self, name: str) -> None:
        self._dropped += name in _DROPPED
        self._count[name] += 1
        self._open.append(name)

    def _pop(self) -> str:
        name = self._open.pop()
        self._count[name] -= 1
        self._dropped -= name in _DROPPED
        return name

    def _block(self, name: str, opens: bool) -> None:
        if self._dropped:
            return
        if name == "br" and self._level:
            self.characters(" ")
            return
        self._end_block()
        if not self._bullet or name == "li":  # a paragraph that begins a list item is the item
            self._gap = "\n" if name in ("li", "tr", "br") else "\n\n"
        self._level = int(name[1]) if opens and name in _HEADINGS else 0
        if name == "li":
            self._bullet = "- " if opens else ""

    def _end_block(self) -> None:
        text = _unescaped("".join(self._inline))
        verbatim = self._count["pre"] > 0
        if block := text.strip("\n") if verbatim else _SPACE.sub(" ", text).strip():
            self._blocks.add(self._bullet + block, level=self._level, gap=self._gap)
            self._bullet = ""
        self._inline.clear()


def _tokens(text: str) -> Iterator[tuple[str, bool, str]]:
    """("", _, characters), (name, True, raw content) of an opening tag, (name, False, "")."""
    at = 0
    while (start := text.find("<", at)) >= 0:
        yield "", False, text[at:start]
        at = _markup_end(text, start)
        if at > start:
            continue
        found = _TAG.match(text, start)
        if found is None:  # "a < b", or a tag that the file ends in
            letter = text[start + 1 : start + 3].lstrip("/")[:1].isalpha()
            at = len(text) if letter else start + 1
            yield "", False, text[start:at]
            continue
        name, opens = found[2].lower(), not found[1]
        at = _raw_end(text, name, found.end()) if opens else found.end()
        yield name, opens, text[found.end() : at]
        if opens and name in ("svg", "math") and text[found.end() - 2] == "/":
            yield name, False, ""
    yield "", False, text[at:]


def _markup_end(text: str, start: int) -> int:
    """Where a comment, a declaration or a broken end tag ends; `start` if there is none."""
    if text.startswith("<!--", start):
        end = text.find("-->", start + 2)
        after = 3
    elif text.startswith(("<!", "<?"), start) or re.match("</[^a-zA-Z]", text[start : start + 3]):
        end = text.find(">", start)
        after = 1
    else:
        return start
    return end + after if end >= 0 else len(text)


def _raw_end(text: str, name: str, at: int) -> int:
    if name not in _RAW:
        return at
    found = _RAW_END[name].search(text, at)
    return found.start() if found else len(text)


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character number of more than 4,300 digits
        return text
