"""Plain text, reStructuredText and Python source: the text as it is, and its headings."""

import re

from .outline import DEEPEST, Content, Heading, outlined

_DEFINITION = re.compile(r"^([ \t]*+)(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
_UNDERLINE = re.compile(r"""([!-/:-@\[-`{-~])\1+""")


def read_text(text: str) -> Content:
    """The text itself."""
    return Content(text)


def read_python(text: str) -> Content:
    """The source itself; classes and functions are its headings, four columns of indent a level."""
    headings = [
        Heading(found.start(), min(len(found[1].expandtabs(4)) // 4 + 1, DEEPEST), found[2])
        for found in _DEFINITION.finditer(text)
    ]
    return Content(text, "", outlined(headings))


def read_restructured(text: str) -> Content:
    """reStructuredText without the lines above and below its headings; all other marks stay.

    A style of underline (or of over- and underline) is a level, in the order of appearance.
    """
    lines = text.split("\n")
    styles: list[tuple[str, bool]] = []
    kept: list[str] = []
    headings: list[Heading] = []
    offset = at = 0
    while at < len(lines):
        style, used = _heading(lines, at)
        line = lines[at + 1].strip() if style and style[1] else lines[at]
        if style:
            styles += [] if style in styles else [style]
            level = min(styles.index(style) + 1, DEEPEST)
            headings.append(Heading(offset, level, line.strip()))
        kept.append(line)
        offset += len(line) + 1
        at += used
    title = headings[0].title if headings and headings[0].level == 1 else ""
    return Content("\n".join(kept), title, outlined(headings))


def _heading(lines: list[str], at: int) -> tuple[tuple[str, bool] | None, int]:
    """The style (character, overlined) of a heading that begins at this line, and its lines."""
    first, second, third = (lines[at : at + 3] + ["", ""])[:3]
    if _is_line(first) and _is_title(second) and third.rstrip() == first.rstrip():
        return (first[0], True), 3
    blank_before = at == 0 or not lines[at - 1].strip()
    fits = _is_line(second) and len(second.rstrip()) >= min(len(first.rstrip()), 4)
    if blank_before and _is_title(first) and fits and not first[0].isspace():
        return (second[0], False), 2
    return None, 1


def _is_line(line: str) -> bool:
    return _UNDERLINE.fullmatch(line.rstrip()) is not None


def _is_title(line: str) -> bool:
    return bool(line.strip()) and not _is_line(line)
