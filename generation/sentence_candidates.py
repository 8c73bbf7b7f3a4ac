"""The sentences that an extractive answer may quote, with the terms that they are judged by."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, TypeAlias

from ..corpus.sentences import sentences
from ..records import Passage, WeightedTerms
from ..stages import Encoder

TermsOf: TypeAlias = Mapping[str, tuple[int, ...]]
"""From a word in lower case to its terms; none for a word that says nothing."""

Pair: TypeAlias = tuple[tuple[int, ...] | str, tuple[int, ...] | str]
"""Two words that stand together: the terms of each, or the word itself if it has none."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_EMPTY_WORDS = frozenset(
    "what who whom whose which when where why how do does did done can could would should has have"
    " had were been am i me my you your we our us he she his her its from about many much also"
    " than so happen happens happened".split()
)
"""Frequent words that the analyzer keeps: they say how something is asked, not what about."""

_LEANING_WORDS = frozenset(
    "it he she they this these that those its his her their such here there".split()
)


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as its words; `terms` are theirs, in order."""

    words: tuple[str, ...]
    terms: tuple[int, ...]

    @classmethod
    def of(cls, text: str, terms: TermsOf) -> "Wording":
        """The wording of a text whose words have been learned."""
        words = words_of(text)
        return cls(words, tuple(term for word in words for term in terms.get(word.lower(), ())))

    def forms(self) -> frozenset[str]:
        """The words in lower case, without the ending of a plural or a possessive."""
        return frozenset(map(singular, self.words))

    def neighbours(self, terms: TermsOf) -> frozenset[Pair]:
        """Pairs of neighbouring words of which one at least has terms: "with statement"."""
        keys = [terms.get(word.lower()) or word.lower() for word in self.words]
        return frozenset(
            (one, other)
            for one, other in pairwise(keys)
            if isinstance(one, tuple) or isinstance(other, tuple)
        )

    def near(self) -> frozenset[Pair]:
        """Pairs of terms with at most one other between them."""
        pairs = chain(pairwise(self.terms), zip(self.terms, self.terms[2:], strict=False))
        return frozenset(((one,), (other,)) for one, other in pairs)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Characters `start` to `end` of the text of a passage, the `place`-th of a ranking (from 0).

    context: terms of what it leans on, that is the title, the headings and, where it begins with a
    pronoun, the sentence before it.
    """

    passage: Passage
    place: int
    start: int
    end: int
    wording: Wording
    context: frozenset[int]

    @property
    def text(self) -> str:
        """The quoted characters."""
        return self.passage.text[self.start : self.end]


def words_of(text: str) -> tuple[str, ...]:
    """Words as written: letters, digits and underscores, with apostrophes inside."""
    return tuple(_WORD.findall(text))


def singular(word: str) -> str:
    """A word in lower case without the commonest endings of plurals and possessives."""
    plain = word.lower().removesuffix("'s").removesuffix("’s")
    if len(plain) > 4 and plain.endswith("ies"):
        return plain[:-3] + "y"
    return plain[:-1] if len(plain) > 3 and plain[-1] == "s" != plain[-2] else plain


def learn_terms(analyzer: Encoder[Any, WeightedTerms], texts: Iterable[str]) -> TermsOf:
    """The terms of every word in `texts`, numbered alike for all of them."""
    distinct = {word.lower() for text in texts for word in words_of(text)}
    words = sorted(distinct - _EMPTY_WORDS)
    encoded = analyzer.encode_queries(words)
    ids, offsets = encoded.ids.tolist(), encoded.offsets.tolist()
    return {word: tuple(ids[offsets[i] : offsets[i + 1]]) for i, word in enumerate(words)}


def heading_of(passage: Passage) -> str:
    """The title of a passage and the headings that it stands under, in one line."""
    headings = passage.metadata.get("headings")
    path = headings if isinstance(headings, list | tuple) else ()
    return " ".join([passage.title, *map(str, path)])


def candidates(
    passages: Sequence[Passage], terms: TermsOf, *, longest: int
) -> tuple[list[Sentence], list[Sentence]]:
    """All sentences of `passages`, best passage first: those in prose, and the rest.

    The rest is code, tables and headings. None has more than `longest` characters: a longer one is
    cut between words.
    """
    prose: list[Sentence] = []
    rest: list[Sentence] = []
    for place, passage in enumerate(passages):
        about = frozenset(Wording.of(heading_of(passage), terms).terms)
        previous: tuple[int, ...] = ()
        for start, end in _pieces(passage.text, longest):
            piece = passage.text[start:end]
            wording = Wording.of(piece, terms)
            leans = wording.words[:1] and wording.words[0].lower() in _LEANING_WORDS
            context = about.union(previous) if leans else about
            kept = prose if is_prose(piece, _indent(passage.text, start)) else rest
            kept.append(Sentence(passage, place, start, end, wording, context))
            previous = wording.terms
    return prose, rest


_MARKER = re.compile(r"(?:[*•‣–-]|\d{1,3}[.)]|\[\d{1,3}\])\s+(?=\S)")


def _pieces(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """Sentences without the marks of a list or a footnote before them, cut where too long."""
    for start, end in sentences(text):
        if marker := _MARKER.match(text, start, end):
            start = marker.end()
        while end - start > longest:
            cut = max(text.rfind(white, start, start + longest) for white in " \n")
            cut = cut if cut > start else start + longest
            yield start, start + len(text[start:cut].rstrip())
            start = cut
            while text[start].isspace():
                start += 1
        yield start, end


_CODE = re.compile(r"::=|```|>>>|[|+][-=|+]{2,}|[\u2500-\u257f]|^\s*(?:#|\$ |def |class |@\w)")
_SIGNS = re.compile(r"(?!\(\))[=<>{}\[\]()|*/\\+~^;#@$%&](?<!\(\))")
_GAP = re.compile(r"\S {3,}\S.* {3,}\S|\S\t")
_INDENT = re.compile(r"\n( +)\S")
_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]」』）*_]*$")
FEW_WORDS = 8
"""A line without a full stop is a sentence if it has this many words, else a heading."""


def is_prose(piece: str, indent: int = 0) -> bool:
    """Whether a piece of text reads as a sentence rather than as code, a table or a heading.

    Judged by its signs, its letters, its end, by gaps, and by lines set in further than the one
    that it begins in, which has its first word after `indent` characters.
    """
    letters, dense = sum(map(str.isalpha, piece)), len("".join(piece.split()))
    if _CODE.search(piece) or _GAP.search(piece) or letters < 0.6 * dense:
        return False
    if len(_SIGNS.findall(piece)) > 0.06 * len(piece):
        return False
    if any(len(blanks) >= indent + 4 for blanks in _INDENT.findall(piece)):
        return False
    return bool(_ENDS.search(piece)) or len(words_of(piece)) >= FEW_WORDS


def _indent(text: str, place: int) -> int:
    """Characters before the words of the line in which `place` stands: blanks, mark of a list."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    blanks = len(line) - len(line.lstrip())
    marker = _MARKER.match(line + "x", blanks)
    return marker.end() if marker else blanks
