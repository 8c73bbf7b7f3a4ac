"""The documents that passages were cut from, put together again from the passages alone."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..records import Passage


class Place(NamedTuple):
    """Where a chunk stood: ``text[start:end]`` of its document."""

    document: str
    start: int
    end: int


def documents(passages: Sequence[Passage]) -> list[Sequence[Passage]]:
    """The passages, grouped by document; those of a document stand together, in order."""
    cuts = [at for at in range(1, len(passages)) if not follows(passages[at - 1], passages[at])]
    edges = [0, *cuts, len(passages)]
    return [passages[start:end] for start, end in pairwise(edges) if start < end]


def follows(first: Passage, second: Passage) -> bool:
    """Whether the second is the next chunk of the document of the first.

    It has to say so, and where both say that they share text, they have to share it.
    """
    one, two = place_of(first), place_of(second)
    if one is None or two is None or one.document != two.document:
        return False
    shared = max(0, one.end - two.start)
    same = first.text[len(first.text) - shared :] == second.text[:shared]
    return one.start <= two.start and one.end <= two.end and same


def place_of(passage: Passage) -> Place | None:
    """What the metadata of a chunk say, if it is that of a chunk and fits the text."""
    found = passage.metadata
    document, start, end = (found.get(name) for name in ("document", "start", "end"))
    if type(document) is not str or type(start) is not int or type(end) is not int:
        return None
    return Place(document, start, end) if end - start == len(passage.text) else None


def text_of(chunks: Sequence[Passage]) -> tuple[str, list[tuple[int, int]]]:
    """The text of a document from its chunks, one space between those apart, and their places."""
    text, spans = chunks[0].text, [(0, len(chunks[0].text))]
    pieces, length = [text], len(text)
    for first, second in pairwise(chunks):
        one, two = place_of(first), place_of(second)
        if one is None or two is None:
            continue  # `documents` joins none such
        shared = max(0, one.end - two.start)
        apart = " " * (two.start > one.end)
        start = length + len(apart) - shared
        pieces += [apart, second.text[shared:]]
        length = start + len(second.text)
        spans.append((start, length))
    return "".join(pieces), spans
