"""What an English question asks for, and whether a sentence has such a thing in it.

Rules in the manner of the answer types of E. Voorhees, "The TREC-8 Question Answering Track Report"
(TREC 1999). They only add to a sentence's score: a question of no known kind is none the worse.
"""

import re
from collections.abc import Sequence

from .sentence_candidates import Sentence, TermsOf, Wording

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_NUMBERS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million"
    "|billion|half|third|quarter|twice|once|both|several|first|second"
)
_ASKED = [
    (
        "number",
        r"\bhow (?:many|much|long|far|old|tall|often|large|big|high|fast|deep|wide|heavy)\b"
        r"|\b(?:what|which) (?:percent|percentage|number|amount|distance|age|fraction|proportion)\b"
        r"|\bwhat (?:is|was) the (?:population|number|percentage|cost|price|total)\b",
    ),
    ("time", r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|decade|time|era)\b"),
    ("name", r"\bwho(?:m|se)?\b|\bwhich (?:person|player|man|woman|president|king|queen)\b"),
    (
        "name",
        r"\bwhere\b|\b(?:what|which) (?:city|country|place|state|location|region|town|continent)\b",
    ),
    ("reason", r"\bwhy\b|\b(?:what|which) (?:reason|cause)|\bwhat caused\b"),
    ("definition", r"^what(?: is| are|'s|’s) (?:an? |the )?(?:\S+ ?){1,4}$"),
    ("manner", r"\bhow\b"),
]
_KINDS = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _ASKED]
_SHOWN = {
    "number": re.compile(rf"\d|\b(?:{_NUMBERS})\b", re.IGNORECASE),
    "time": re.compile(
        rf"\b\d{{3,4}}\b|\b(?:{_MONTHS})\b|\bcentur|\bdecade|\byear|\b\d+ ?(?:AD|BC|am|pm)\b"
    ),
    "reason": re.compile(
        r"\bbecause\b|\bdue to\b|\bso that\b|\bin order to\b|\bsince\b|\bcause[ds]?\b|\breason"
        r"|\bas a result\b|\btherefore\b|\bresult",
        re.IGNORECASE,
    ),
    "manner": re.compile(r"\bby \w+ing\b|\bthrough\b|\bus(?:e|ing)\b|\bvia\b|\bwith\b", re.I),
}
_OCCASION = re.compile(
    r"\b(?:when(?:ever)?|if|after|before|once|until|as soon as|while)\b", re.IGNORECASE
)
_DEFINES = re.compile(
    r"\b(?:is|are|was|were|means?|refers? to|denotes?|defines?|describes?|consists? of)\b"
)


def kind_of(question: str) -> str:
    """ "number", "time", "name", "reason", "definition", "manner", or "" for any other."""
    plain = question.strip().rstrip("?. ")
    return next((kind for kind, pattern in _KINDS if pattern.search(plain)), "")


def shows(kind: str, asked: frozenset[int], sentence: Sentence, terms: TermsOf) -> float:
    """How far `sentence` has what a question of this kind with the terms `asked` wants: 0 to 1."""
    if kind == "name":
        return min(_new_names(asked, sentence.wording.words, terms), 2) / 2
    if kind == "definition":
        return float(_defines(asked, sentence.text, terms))
    if kind not in _SHOWN:
        return 0.0
    if _SHOWN[kind].search(sentence.text):
        return 1.0
    return 0.5 if kind == "time" and _OCCASION.search(sentence.text) else 0.0


def _new_names(asked: frozenset[int], words: Sequence[str], terms: TermsOf) -> int:
    """Capitalised words, the first one aside, that do not stand in the question."""
    capitals = [word.lower() for word in words[1:] if word[0].isupper()]
    return sum(bool(terms.get(word)) and asked.isdisjoint(terms[word]) for word in capitals)


def _defines(asked: frozenset[int], text: str, terms: TermsOf) -> bool:
    """Whether all that is asked about stands before the verb, in a subject that is not long."""
    verb = _DEFINES.search(text)
    if verb is None:
        return False
    subject = Wording.of(text[: verb.start()], terms)
    return bool(asked) and asked.issubset(subject.terms) and len(subject.words) <= len(asked) + 4
