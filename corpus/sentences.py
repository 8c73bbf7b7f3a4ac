"""Where sentences begin and end: rules in the manner of Grefenstette & Tapanainen (1994), linear.

A sentence ends at . ! ? … (or 。！？) with closing quotes and brackets, if white space follows and
then no lower-case letter; at a blank line; and before a list item. A full stop does not end one
after an abbreviation, an initial, or the number of a list item; after an abbreviation that may
well stand last ("etc.", "Inc.", "U.S.") it does if a frequent first word follows.
What it does not do: languages that write no end marks (Thai), and abbreviations it does not list.

Paper: "What is a word, what is a sentence? Problems of tokenization", COMPLEX 1994.
"""

import re

# Each pattern either always succeeds from its first character on or gives up after a run that no
# other match begins in (possessive quantifiers): the time is linear whatever the text.
_BREAK = re.compile(r"\n(?:[^\S\n]*+\n|[ \t]*+(?:[-*•‣]|\d{1,3}[.)])[ \t])")
_END = re.compile(r"([.!?…]++|[。！？]++)[\"'”’»)\]」』）]*+")
_NEXT = re.compile(r"\s*+[\"'“‘«(\[„]*+(\w{0,12})")

_NEVER_LAST = frozenset(
    "mr mrs ms messrs dr prof st vs e.g i.e cf viz fig figs eq eqs gen col sgt capt lt cmdr rev hon"
    " pres gov sen rep approx resp dept univ mt ft bzw z.b d.h u.a ca incl ibid".split()
)
_BEFORE_NUMBERS = frozenset(
    "no nos nr vol vols p pp sec secs ch chap art ed eds op al par"
    " jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_MAYBE_LAST = frozenset("etc inc ltd co corp jr sr bros al ed eds esq usw".split())
_FIRST_WORDS = frozenset(
    "The A An It He She They We You I This That These Those There Here In On At As But And Or If"
    " When While After Before For From To With However Its His Her Their Our My Some Many Most All"
    " One Two What Who How Why Where Which By Since Although"
    " Der Die Das Ein Eine Es Er Sie Wir".split()
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) in characters, in order, without white space at their ends.

    Disjoint, none empty, and every character outside them is white space.
    """
    cuts = [found.start() for found in _BREAK.finditer(text)]
    cuts += [found.end() for found in _END.finditer(text) if _ends(text, found)]
    cuts.sort()
    spans, start = [], 0
    for cut in (*cuts, len(text)):
        piece = text[start:cut]
        if stripped := piece.strip():
            first = start + len(piece) - len(piece.lstrip())
            spans.append((first, first + len(stripped)))
        start = cut
    return spans


def _ends(text: str, found: re.Match[str]) -> bool:
    mark = found.group(1)
    if mark[0] in "。！？":
        return True
    end = found.end()
    if end < len(text) and not text[end].isspace():
        return False
    following = _NEXT.match(text, end)
    word = following.group(1) if following else ""
    if word[:1].islower():
        return False
    return mark != "." or not _abbreviated(text, found.start(), word)


def _abbreviated(text: str, stop: int, following: str) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    before = text[max(0, stop - 24) : stop]
    if not before or before[-1].isspace():
        return False
    word = before.split()[-1].lstrip("\"'“‘«([")
    lower = word.lower()
    if lower in _NEVER_LAST:
        return True
    if lower in _BEFORE_NUMBERS and following[:1].isdigit():
        return True
    if word.isdigit():
        return _begins_line(before, word)
    may_end = lower in _MAYBE_LAST or _initials(word)
    return may_end and following not in _FIRST_WORDS


def _initials(word: str) -> bool:
    """ "J", "U.S", "Ph.D", "a.m": letters, one to three at a time."""
    if len(word) == 1:
        return word.isupper()
    parts = word.split(".")
    return len(parts) > 1 and all(part.isalpha() and len(part) <= 3 for part in parts)


def _begins_line(before: str, number: str) -> bool:
    return len(number) <= 3 and not before.removesuffix(number).rpartition("\n")[2].strip()
