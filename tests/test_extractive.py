"""The extractive reader: quotes to the character, the right sentences, and how often on XQuAD."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.generation import NO_ANSWER, ExtractiveReader
from ragstone.generation.question_kinds import kind_of
from ragstone.generation.sentence_candidates import is_prose
from ragstone.records import Answer, Passage, Query, Ranking


class Store:
    """Passages in memory, fetched as any store fetches them: one for one, in the order asked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = {passage.id: passage for passage in passages}

    def fetch(self, ids: Sequence[str]) -> list[Passage]:
        return [self.passages[id] for id in ids]


def ranking(question: str, ids: Sequence[str]) -> Ranking:
    return Ranking(Query("q", question), tuple(ids), np.ones(len(ids), np.float32))


def ask(question: str, *texts: str, **options) -> Answer:
    """The answer from `texts`, ranked as they come; their ids are p0, p1, ..."""
    store = Store([Passage(f"p{i}", text) for i, text in enumerate(texts)])
    return ExtractiveReader(store, **options).read([ranking(question, store.passages)])[0]


def quotes(answer: Answer, *texts: str) -> list[str]:
    return [texts[int(one.passage_id[1:])][one.start : one.end] for one in answer.citations]


LYNX = (
    "The lynx is a wild cat of medium size. It hunts hares at night. Its ears have black tufts.\n"
    "The Iberian lynx nearly died out in 2002. By then 94 animals were left in Spain."
)


def test_the_answer_is_quoted_and_cited_to_the_character() -> None:
    answer = ask("When did the Iberian lynx nearly die out?", LYNX, sentences=1)
    assert answer.text == "The Iberian lynx nearly died out in 2002. [1]"
    assert quotes(answer, LYNX) == ["The Iberian lynx nearly died out in 2002."]
    assert answer.query == Query("q", "When did the Iberian lynx nearly die out?")


def test_the_trace_says_how_it_came_about() -> None:
    answer = ask("What does the lynx hunt?", LYNX, "Trains run late.", sentences=2)
    trace = json.loads(json.dumps(answer.trace))
    assert trace["reader"] == "extractive"
    assert trace["note"] == "no language model configured"
    assert trace["passages"] == ["p0", "p1"]
    spans = [(one["id"], one["start"], one["end"]) for one in trace["sentences"]]
    assert spans == [(one.passage_id, one.start, one.end) for one in answer.citations]
    assert all(one["score"] > 0 for one in trace["sentences"])


def test_sentences_of_a_passage_come_in_reading_order_and_the_best_passage_first() -> None:
    other = "Foxes hunt mice by day."
    answer = ask("What does the lynx hunt at night?", other, LYNX)
    assert [one.passage_id for one in answer.citations] == ["p1", "p1", "p0"]
    starts = [one.start for one in answer.citations if one.passage_id == "p1"]
    assert starts == sorted(starts)
    assert re.findall(r"\[(\d)\]", answer.text) == ["1", "2", "3"]


@pytest.mark.parametrize("texts", [(), ("",), (LYNX,), ("###", "\n\n")])
def test_no_match_is_said_in_fixed_words(texts: tuple[str, ...]) -> None:
    answer = ask("Who invented the telephone?", *texts)
    assert answer.text == NO_ANSWER and answer.citations == ()
    assert answer.trace["sentences"] == []


def test_one_word_in_common_is_no_answer_to_a_long_question() -> None:
    question = "Which German city hosted the animals of the travelling circus Krone in 1928?"
    assert ask(question, LYNX).text == NO_ANSWER


def test_question_without_content_words() -> None:
    assert ask("what is it?", LYNX).text == NO_ANSWER
    assert ask("", LYNX).text == NO_ANSWER


def test_batches_equal_single_readings() -> None:
    store = Store([Passage("a", LYNX), Passage("b", "Foxes hunt mice.")])
    reader = ExtractiveReader(store)
    asked = [ranking("what hunts mice?", "ba"), ranking("lynx ears", "a"), ranking("lynx", "")]
    assert reader.read(asked) == [reader.read([one])[0] for one in asked]
    assert reader.read([]) == []


def test_sentences_that_say_the_same_are_quoted_once() -> None:
    """Chunks overlap, so the same sentence stands in two of them."""
    answer = ask("What does the lynx hunt?", LYNX, "It hunts hares at night. Then it sleeps.")
    found = quotes(answer, LYNX, "It hunts hares at night. Then it sleeps.")
    assert found.count("It hunts hares at night.") == 1


def test_weak_sentences_are_left_out() -> None:
    answer = ask(
        "How many animals of the Iberian lynx were left in Spain?",
        "By 2002 only 94 animals of the Iberian lynx were left in Spain.",
        "Spain has good trains.",
    )
    assert len(answer.citations) == 1


def test_depth_and_number_of_sentences_are_honoured() -> None:
    texts = [f"Lynx number {name} hunts {name} hares." for name in ("one", "two", "ten", "six")]
    assert len(ask("What do lynx hunt?", *texts, sentences=4).citations) == 4
    assert len(ask("What do lynx hunt?", *texts, sentences=2).citations) == 2
    looked = ask("What do lynx hunt?", *texts, sentences=4, depth=2)
    assert looked.trace["passages"] == ["p0", "p1"] and len(looked.citations) == 2


CODE = """The "with" statement wraps the execution of a block.

   with open("lynx.txt") as stream:
       for hunt in stream: print(hunt)

   lynx_stmt ::= "lynx" hunt ("," hunt)* [":"]

+--------+-------+
| lynx   | hunt  |
+--------+-------+

Hunting lynx

A lynx can hunt in the dark.
"""


def test_prose_is_preferred_to_code_tables_and_headings() -> None:
    answer = ask("lynx hunt", CODE)
    assert quotes(answer, CODE) == ["A lynx can hunt in the dark."]


def test_code_is_quoted_where_there_is_nothing_else() -> None:
    code = 'lynx_stmt ::= "lynx" hunt'
    assert quotes(ask("lynx hunt", code), code) == [code]


@pytest.mark.parametrize(
    ("piece", "prose"),
    [
        ("A lynx can hunt in the dark.", True),
        ("“Why?”, he asked.", True),
        ('The "else" clause (if present) is executed, and the loop ends.', True),
        ("one two three four five six seven eight nine words and no full stop", True),
        ("山猫は夜に狩りをする。", True),
        ("The method `__enter__()` (or `__exit__()`) is called by the statement.", True),
        ("Hunting lynx", False),
        ("# Hunting lynx is forbidden by the law of this country.", False),
        ("if x: return [y for y in z if y]", False),
        ("1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5", False),
        ("name    size    weight    colour of the coat of the animal", False),
        (">>> lynx.hunt() and then it will print what was found.", False),
        ("```", False),
    ],
)
def test_what_counts_as_prose(piece: str, prose: bool) -> None:
    assert is_prose(piece) is prose


def test_lines_set_in_are_code_unless_they_go_on_with_a_list() -> None:
    listed = "1. The lynx hunts\n    hares in the snow."
    assert quotes(ask("lynx", listed), listed) == ["The lynx hunts\n    hares in the snow."]
    assert not is_prose("while lynx hunts hares then\n    the hares all die out.")
    assert is_prose("The lynx hunts\n    hares in the snow.", 4)


def test_marks_of_lists_and_footnotes_are_not_quoted() -> None:
    text = "1. The lynx hunts hares.\n2. The fox hunts mice.\n[3] The owl hunts both of them."
    assert quotes(ask("hunts", text), text) == [
        "The lynx hunts hares.",
        "The fox hunts mice.",
        "The owl hunts both of them.",
    ]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many lynx are left?", "number"),
        ("What year did it begin?", "time"),
        ("Who counted them?", "name"),
        ("In which country do they live?", "name"),
        ("Why are they rare?", "reason"),
        ("What is a lynx?", "definition"),
        ("How do they hunt?", "manner"),
        ("Do they hunt?", ""),
    ],
)
def test_kinds_of_questions(question: str, kind: str) -> None:
    assert kind_of(question) == kind


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("When was the park opened?", "The park was opened in May 1969.", "The park was opened."),
        ("Who opened the park?", "The park was opened by Juan Carlos.", "So the park was opened."),
        ("How many lynx live there?", "Here live 94 lynx.", "There live lynx, and live well."),
        (
            "Why is the lynx rare?",
            "The lynx is rare because of roads.",
            "Ah, the lynx is rare.",
        ),
        ("What is a lynx?", "A lynx is a cat.", "The cat looked like a lynx."),
        ("When does the lynx sleep?", "The lynx sleeps after it eats.", "The lynx sleeps badly."),
        (
            "What is the lynx reserve?",
            "The lynx reserve.1 is a park.",
            "In reserve, a lynx is fed.",
        ),
        ("What is a generator?", "Generators make power.", "Generally, it does not work."),
    ],
)
def test_the_right_sentence_of_two(question: str, right: str, wrong: str) -> None:
    for texts in ((right, wrong), (wrong, right)):
        both = " ".join(texts)
        assert quotes(ask(question, both, sentences=1), both) == [right]


def test_a_sentence_leans_on_the_one_before_it_and_on_its_title() -> None:
    text = "The Iberian lynx lives in Spain. It feeds by day. A heron feeds by day."
    found = quotes(ask("When does the lynx feed?", text, sentences=2), text)
    assert "It feeds by day." in found and "A heron feeds by day." not in found
    titled = [
        Passage("heron", "They feed by day.", title="The heron"),
        Passage("lynx", "They feed by night.", metadata={"headings": ["Cats", "The lynx"]}),
    ]
    (answer,) = ExtractiveReader(Store(titled), sentences=1).read(
        [ranking("When does the lynx feed?", ["heron", "lynx"])]
    )
    assert answer.citations[0].passage_id == "lynx"


def test_long_sentences_are_cut_between_words() -> None:
    text = "the lynx hunts " * 100
    answer = ask("lynx", text, sentences=2, longest=50)
    for quote in quotes(answer, text):
        assert len(quote) <= 50 and quote == quote.strip() and quote.split()[0] in text.split()
    gaps = "lynx lynx  \n lynx"
    assert quotes(ask("lynx", gaps, longest=12), gaps)[0] == "lynx lynx"
    unbroken = "lynx" * 100
    assert all(len(q) <= 50 for q in quotes(ask(unbroken[:50], unbroken, longest=50), unbroken))


@pytest.mark.parametrize("name", ["sentences", "depth", "longest"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0"):
        ExtractiveReader(Store([]), **{name: 0})


WORDS = st.sampled_from(
    "lynx hunts It the. A what? night! 94 (hares) “cat” a.m. Dr. - * 1. | == \n \n\n \t 山猫。 é"
    " don't é́ 𝒳".split(" ")
)
TEXTS = st.lists(WORDS, max_size=40).map(" ".join)


@settings(max_examples=150, deadline=None)
@example(question="lynx", texts=["lynx lynx  \n lynx"], longest=12)
@given(question=TEXTS, texts=st.lists(TEXTS, max_size=4), longest=st.integers(1, 60))
def test_every_quote_is_verbatim(question: str, texts: list[str], longest: int) -> None:
    answer = ask(question, *texts, longest=longest)
    found = quotes(answer, *texts)
    assert all(quote and quote == quote.strip() and len(quote) <= longest for quote in found)
    numbered = [f"{' '.join(quote.split())} [{n}]" for n, quote in enumerate(found, 1)]
    assert answer.text == (" ".join(numbered) or NO_ANSWER)
    assert len({(one.passage_id, one.start) for one in answer.citations}) == len(found) <= 3


@pytest.fixture(scope="module")
def xquad() -> tuple[Store, list[Ranking], list[list[str]]]:
    """The 1,190 questions of XQuAD, each with its own paragraph (5 sentences on average)."""
    if "RAGSTONE_DATA" not in os.environ:
        pytest.skip("RAGSTONE_DATA is not set")
    file = Path(os.environ["RAGSTONE_DATA"]) / "xquad-en" / "xquad.en.json"
    store, asked, answers = Store([]), [], []
    for article in json.loads(file.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            passage = Passage(str(len(store.passages)), paragraph["context"], article["title"])
            store.passages[passage.id] = passage
            for question in paragraph["qas"]:
                asked.append(ranking(question["question"], [passage.id]))
                answers.append([answer["text"] for answer in question["answers"]])
    return store, asked, answers


@pytest.mark.parametrize(("sentences", "floor"), [(1, 0.82), (3, 0.92)])
def test_on_xquad_the_answer_is_in_the_quotes(xquad, sentences: int, floor: float) -> None:
    store, asked, answers = xquad
    found = 0
    read = ExtractiveReader(store, sentences=sentences).read(asked)
    for answer, wanted in zip(read, answers, strict=True):
        texts = [store.passages[one.passage_id].text for one in answer.citations]
        quoted = [t[c.start : c.end] for t, c in zip(texts, answer.citations, strict=True)]
        found += any(want in quote for want in wanted for quote in quoted)
    assert found / len(asked) >= floor, found / len(asked)
