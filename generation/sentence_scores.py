"""How well a sentence answers a question: a sum of five terms, each between 0 and 1.

    coverage   share of the question's terms that the sentence has, weighted by their rarity
    phrase     share of neighbouring pairs of the question's words that stand close in it
    carried    coverage by what the sentence leans on alone: title, headings, sentence before
    cue        whether it has the kind of thing that is asked for (a date, a name, a reason ...)
    prior      1 / rank of its passage

The weights were fitted (softmax over the sentences of a question) on half of the articles of the
SQuAD 1.1 development set, none of whose paragraphs is in XQuAD, and then rounded; further features
(position, length, BM25 saturation, the passage's score) changed the share of answers found on the
other half by less than a point.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .question_kinds import kind_of, shows
from .sentence_candidates import Sentence, TermsOf, Wording, singular

PHRASE = CARRIED = CUE = PRIOR = 0.25
"""What each of them counts, coverage counting 1."""

LEAST = 0.2
"""Unless a sentence and what it leans on have more than this share of the question's terms, the
passages do not answer it. On SQuAD this turns away 84 % of the questions that are put to five
paragraphs of other articles at random, and 1 % of those that are put to their own."""


DERIVED = 0.6
"""What a term counts that a sentence has in another form than the question, but for plurals:
stemming takes "generally" and "generator" for the same."""


def score_sentences(question: str, sentences: Sequence[Sentence], terms: TermsOf) -> list[float]:
    """One score a sentence; 0 for one that has no term of the question.

    All are 0 where none has enough of them to answer it (LEAST).
    """
    asked = Wording.of(question, terms)
    wanted, pairs, kind = frozenset(asked.terms), asked.neighbours(terms), kind_of(question)
    if _reached(wanted, sentences) <= LEAST * len(wanted):
        return [0.0] * len(sentences)
    rarity, forms = _rarity(wanted, sentences), _forms(asked, terms)

    def score(sentence: Sentence) -> float:
        own = sentence.wording
        found = wanted.intersection(own.terms)
        if not found:
            return 0.0
        written = own.forms()
        direct = frozenset(term for term in found if not forms[term].isdisjoint(written))
        covered = _sum(rarity, direct) + DERIVED * _sum(rarity, found - direct)
        together = pairs & (own.neighbours(terms) | own.near())
        return (
            covered
            + PHRASE * len(together) / max(len(pairs), 1)
            + CARRIED * _sum(rarity, (wanted & sentence.context) - found)
            + CUE * shows(kind, wanted, sentence, terms)
            + PRIOR / (1 + sentence.place)
        )

    return [score(sentence) for sentence in sentences]


def _reached(wanted: frozenset[int], sentences: Sequence[Sentence]) -> int:
    """The most wanted terms that one sentence has with what it leans on."""
    reached = [wanted & one.context.union(one.wording.terms) for one in sentences]
    return max(map(len, reached), default=0)


def _forms(asked: Wording, terms: TermsOf) -> Mapping[int, set[str]]:
    """How each term of the question is written there."""
    forms: dict[int, set[str]] = {}
    for word in asked.words:
        for term in terms.get(word.lower(), ()):
            forms.setdefault(term, set()).add(singular(word))
    return forms


def _rarity(wanted: frozenset[int], sentences: Sequence[Sentence]) -> Mapping[int, float]:
    """BM25's inverse document frequency of each wanted term, as shares of their sum.

    A document here is a sentence with what it leans on, so that what all is about counts little. A
    term that stands nowhere has none: it tells no sentence from another.
    """
    held = Counter(
        term for one in sentences for term in wanted & one.context.union(one.wording.terms)
    )
    count = len(sentences)
    rarity = {
        term: math.log(1 + (count - number + 0.5) / (number + 0.5))
        for term, number in sorted(held.items())  # one order, so that sums are the same every time
    }
    total = sum(rarity.values())
    return {term: value / total for term, value in rarity.items()}


def _sum(rarity: Mapping[int, float], terms: Iterable[int]) -> float:
    return sum(rarity.get(term, 0.0) for term in sorted(terms))
