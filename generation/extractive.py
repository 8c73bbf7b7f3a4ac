"""Answers made of quotes: the best sentences of the best passages, with citations to the character.

It needs no language model, invents nothing, and says where every word comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..models.analyzer import Analyzer
from ..records import JSON, Answer, Citation, Passage, Query, Ranking, WeightedTerms
from ..stages import Encoder, Passages
from .sentence_candidates import Sentence, candidates, heading_of, learn_terms
from .sentence_scores import score_sentences

NO_ANSWER = "None of the passages answers this question."
NOTE = "no language model configured"

SHARE = 0.4
"""A further sentence is quoted if it scores this share of the best."""
ALIKE = 0.9
"""Two sentences say the same if this share of the shorter one's terms stands in the other."""


@dataclass(frozen=True, slots=True)
class ExtractiveReader:
    """Quotes at most `sentences` sentences of the first `depth` passages of each ranking.

    The text of an answer is the quotes, each followed by the number of its citation: "... [1] ...
    [2]". Sentences of a passage come in the order of the passage, passages in the order of their
    best sentence. Citations give the exact characters; in the text, line breaks inside a quote
    become blanks. A sentence has at most `longest` characters, a longer one is quoted in part.
    Code, tables and headings are quoted only if no prose shares a term with the question; if
    nothing does, the text is NO_ANSWER. The rules for kinds of questions are for English.

    UsageError: a number below 1.
    """

    passages: Passages
    sentences: int = 3
    depth: int = 10
    longest: int = 600
    analyzer: Encoder[Any, WeightedTerms] = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        for name in ("sentences", "depth", "longest"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="Use 1 or more")

    def read(self, rankings: Sequence[Ranking]) -> list[Answer]:
        """One answer a ranking.

        Its trace: "reader", "note", "passages" (ids looked at) and "sentences" (those quoted, in
        the order of the citations, with their scores).
        """
        ids = list(dict.fromkeys(id for one in rankings for id in one.ids[: self.depth]))
        found = dict(zip(ids, self.passages.fetch(ids), strict=True))
        return [
            self._answer(one.query, [found[id] for id in one.ids[: self.depth]]) for one in rankings
        ]

    def _answer(self, query: Query, passages: Sequence[Passage]) -> Answer:
        texts = [part for one in passages for part in (heading_of(one), one.text)]
        terms = learn_terms(self.analyzer, [query.text, *texts])
        quoted: list[tuple[float, Sentence]] = []
        for kind in candidates(passages, terms, longest=self.longest):
            scores = score_sentences(query.text, kind, terms)
            quoted = quoted or choose(kind, scores, self.sentences)
        quotes = [
            f"{' '.join(sentence.text.split())} [{number}]"
            for number, (_, sentence) in enumerate(quoted, 1)
        ]
        citations = [Citation(one.passage.id, one.start, one.end) for _, one in quoted]
        text = " ".join(quotes) or NO_ANSWER
        return Answer(query, text, tuple(citations), _trace(passages, quoted))


def choose(
    sentences: Sequence[Sentence], scores: Sequence[float], most: int
) -> list[tuple[float, Sentence]]:
    """The best sentences that differ, at most `most`, with scores, in the order of quoting."""
    order = sorted(range(len(sentences)), key=lambda i: (-scores[i], i))
    floor = SHARE * max(scores, default=0.0)
    chosen: list[int] = []
    for i in order:
        if len(chosen) == most or scores[i] <= 0 or scores[i] < floor:
            break
        if not any(_alike(sentences[i], sentences[other]) for other in chosen):
            chosen.append(i)
    first: dict[int, int] = {}
    for position, i in enumerate(chosen):
        first.setdefault(sentences[i].place, position)
    chosen.sort(key=lambda i: (first[sentences[i].place], sentences[i].start))
    return [(scores[i], sentences[i]) for i in chosen]


def _alike(one: Sentence, other: Sentence) -> bool:
    first, second = set(one.wording.terms), set(other.wording.terms)
    return len(first & second) >= ALIKE * min(len(first), len(second))


def _trace(
    passages: Sequence[Passage], quoted: Sequence[tuple[float, Sentence]]
) -> dict[str, JSON]:
    return {
        "reader": "extractive",
        "note": NOTE,
        "passages": [one.id for one in passages],
        "sentences": [
            {"id": one.passage.id, "start": one.start, "end": one.end, "score": round(score, 4)}
            for score, one in quoted
        ],
    }
