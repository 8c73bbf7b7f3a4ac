"""Sentences end where a reader would end them, and leave out nothing but white space."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.corpus import sentences


def split(text):
    return [text[start:end] for start, end in sentences(text)]


# A bar stands where a sentence must end.
EXAMPLES = {
    "plain": "It rains.| We stay.| Do you?| Yes!",
    "titles": "Dr. Smith met Mrs. Jones and Prof. Dr. Lee.| They left.",
    "initials": "J. R. R. Tolkien wrote it.| Then W. H. Auden read it.",
    "initial at the end": "We took vitamin C.| The dose was small.",
    "I": "He is taller than I.| But she is not.",
    "abbreviations": "Fruit, e.g. Apples, i.e. Pomes, cf. Fig. 3 and Eq. 4.| Next.",
    "before numbers": "See No. 7 and vol. 3, pp. 10 on Jan. 5.| Then stop.",
    "not before numbers": "Say no.| Then go.",
    "may end": "We sell nuts, bolts, etc.| The shop closes at 5 p.m.| It opens at 9 a.m. Mondays.",
    "company": "Apple Inc. announced it.| He works at Apple Inc.| They sell phones.",
    "country": "The U.S. Government agreed.| He lives in the U.S.| She does not.",
    "et al.": "Smith et al. Showed this.| Lee et al. (2019) did not.",
    "decimals": "It costs 3.14 or $.50 each.| Version 2.0.1 is out.",
    "number at the end": "He scored 3.| Then 4.",
    "names with points": "Visit example.com.| Bring tea.| Yahoo! is a name.",
    "ellipsis": "Wait... what?| He left...| Then silence… and more.",
    "quotes": '"Stop!" he said.| "Why?"| She left.| (He did not.)| End.',
    "curly quotes": "“Stop.”| “No.”| ‘Yes.’| End.",
    "several marks": "What?!| No way!!!| Fine.",
    "list numbers": "Steps:|\n1. Open it.|\n2. Close it.|\n10) Done.",
    "bullets": "We need|\n- nuts|\n- bolts.| And|\n• tea",
    "blank lines": "A heading|\n\nA paragraph\nover two lines.|\n \t\nAnother",
    "broken lines": "A line\nthat goes on\nand ends.| New.",
    "Chinese": "我们走。|你好吗？|好！|他说：「走吧。」|完",
    "German": "Das kostet z.B. Geld, d.h. viel.| Er zahlt bzw. Sie zahlt.| Ende.",
    "no end": "no end at all",
    "lower case": "it rains. we stay",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    pieces = [piece.strip() for piece in EXAMPLES[name].split("|")]
    assert split("".join(EXAMPLES[name].split("|"))) == pieces


def test_nothing():
    assert sentences("") == sentences(" \n\t ") == []


ANY = st.text(max_size=200) | st.text(" \n.!?…。\"')aAbB1-\u2028\x1c", max_size=80)


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_sentences_hold_everything_but_white_space(text):
    spans = sentences(text)
    at = 0
    for start, end in spans:
        assert at <= start < end
        assert not text[at:start].strip()
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not text[at:].strip()
