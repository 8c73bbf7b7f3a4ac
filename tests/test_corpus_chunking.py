"""Chunks are exact spans of their document, hold all of it, and keep to their limits."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.corpus import Chunker, markdown, open_source
from ragstone.errors import UsageError
from ragstone.records import Passage


def words(number, start=0):
    return " ".join(f"w{at}" for at in range(start, start + number))


def chunk(text, words=10, overlap=0, **metadata):
    return Chunker(words, overlap).chunks(Passage("d", text, "T", metadata))


def test_a_document_that_fits_keeps_its_id():
    (passage,) = chunk("  One sentence. Two.  ", lang="en")
    assert passage == Passage(
        "d",
        "One sentence. Two.",
        "T",
        {"lang": "en", "document": "d", "headings": [], "start": 2, "end": 20},
    )


def test_pieces_are_numbered_and_know_their_document():
    text = "One two three. Four five six. Seven eight nine. Ten."
    found = chunk(text, words=7)
    assert [passage.id for passage in found] == ["d#0", "d#1"]
    assert [passage.text for passage in found] == [
        "One two three. Four five six.",
        "Seven eight nine. Ten.",
    ]
    assert {passage.metadata["document"] for passage in found} == {"d"}
    assert {passage.title for passage in found} == {"T"}


def test_whole_sentences_overlap():
    text = "A a a. B b b. C c c. D d d. E e e."
    found = [passage.text for passage in chunk(text, words=9, overlap=4)]
    assert found == ["A a a. B b b. C c c.", "C c c. D d d. E e e."]
    found = [passage.text for passage in chunk("Aa. Bb. Cc. Dd. E e e.", words=5, overlap=4)]
    assert found == ["Aa. Bb. Cc. Dd.", "Cc. Dd. E e e."]  # as much as leaves room for the next
    found = [passage.text for passage in chunk(text, words=6, overlap=2)]
    assert found == ["A a a. B b b.", "C c c. D d d.", "E e e."]  # no sentence of 2 words


def test_a_long_sentence_is_cut_at_words_and_overlaps_too():
    found = chunk(words(25), words=10, overlap=2)
    assert [len(passage.text.split()) for passage in found] == [10, 10, 9]
    assert found[1].text.split()[:2] == found[0].text.split()[-2:]


def test_a_long_sentence_of_lines_is_cut_at_lines():
    table = "\n".join(f"row {at} of the table" for at in range(6))
    found = [passage.text for passage in chunk(table, words=12)]
    assert all(re.fullmatch(r"(row \d of the table\n?)+", text) for text in found)


def test_a_giant_word_is_cut():
    found = chunk("x" * 1000, words=10)
    assert "".join(passage.text for passage in found) == "x" * 1000
    assert max(len(passage.text) for passage in found) <= 240


def test_texts_without_spaces_count_characters():
    found = chunk("我们今天去图书馆看书学习很多东西。" * 5, words=20)
    assert len(found) >= 4 and max(len(passage.text) for passage in found) <= 24


def test_a_title_alone_is_a_passage():
    (passage,) = Chunker().chunks(Passage("d", "", "Only a title"))
    assert (passage.id, passage.text, passage.title) == ("d", "", "Only a title")
    assert (passage.metadata["start"], passage.metadata["end"]) == (0, 0)


def outlined(text):
    """The document that a Markdown file is."""
    content = markdown.read(text)
    return Passage("d", content.text, content.title, content.metadata)


DOCUMENT = f"""# Handbook

Intro one. Intro two.

## Rooms

{words(8)}.

### Library

{words(8, 20)}. {words(6, 40)}.

## Hours

{words(8, 60)}.
"""


def test_headings_begin_passages_and_name_them():
    found = Chunker(12, 3).chunks(outlined(DOCUMENT))
    assert [passage.metadata["headings"] for passage in found] == [
        ["Handbook"],
        ["Handbook", "Rooms"],
        ["Handbook", "Rooms", "Library"],
        ["Handbook", "Rooms", "Library"],
        ["Handbook", "Hours"],
    ]
    assert found[1].text.startswith("Rooms\n\nw0 ")
    assert "outline" not in found[0].metadata


def test_small_sections_share_a_passage():
    text = "\n\n".join(f"## H{at}\n\nshort text." for at in range(8))
    found = Chunker(40, 0).chunks(outlined(text))
    assert [len(passage.text.split()) for passage in found] == [12, 12]
    (whole,) = Chunker(200, 0).chunks(outlined(text))
    assert whole.metadata["headings"] == ["H0"]


def test_no_passage_ends_in_a_heading():
    text = f"{words(8)}.\n\n## Head\n\n{words(9, 20)}."
    found = Chunker(10, 0).chunks(outlined(text))
    assert [passage.text.split()[0] for passage in found] == ["w0", "Head"]
    small = f"{words(20)}.\n\n## Head\n\n{words(85, 20)}."  # too small a section for its own
    assert [passage.text.split()[-1] for passage in Chunker(100, 4).chunks(outlined(small))] == [
        "w19.",
        "w104.",
    ]
    tight = Chunker(9, 0).chunks(outlined(text))  # the heading does not fit before its text
    assert max(len(passage.text.split()) for passage in tight) <= 9


def test_headings_stay_together():
    text = f"## {words(5)}\n\n### Inner\n\nText."
    assert len(Chunker(12, 0).chunks(outlined(text))) == 1


def test_white_space_is_no_passage():
    found = chunk("Aa." + " " * 5000 + "Bb.", words=10)
    assert [passage.text for passage in found] == ["Aa.", "Bb."]


def test_overlap_does_not_cross_headings():
    text = f"## A\n\n{words(6)}. X y.\n\n## B\n\n{words(8, 20)}. {words(6, 40)}."
    found = Chunker(10, 4).chunks(outlined(text))
    assert not any(passage.text.startswith("X y") for passage in found)
    # The heading moves on with its text, and the end of the section before it does not.
    text = f"{words(20)}. X y.\n\n## Head\n\n{words(85, 20)}."
    found = Chunker(100, 4).chunks(outlined(text))
    assert [passage.text.split()[0] for passage in found] == ["w0", "Head"]


def test_pages_of_a_pdf():
    text = "One two.\n\n\n\nThree four."
    found = chunk(text, words=2, pages=[0, 10, 12])
    assert [passage.metadata["page"] for passage in found] == [1, 3]
    assert "pages" not in found[0].metadata


@pytest.mark.parametrize(
    "outline",
    [
        "text",
        5,
        [[0]],
        [[0, 1, 2]],
        [[0, 0, "a"]],
        [[99, 1, "a"]],
        [[-1, 1, "a"]],
        [[0, 1, "a"]] * 2,
    ],
)
def test_an_outline_of_other_people_is_no_outline(outline):
    (passage,) = chunk("Some text.", outline=outline)
    assert passage.metadata["headings"] == []


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (10, 10), (10, -1)])
def test_sizes_that_make_no_sense(size, overlap):
    with pytest.raises(UsageError):
        Chunker(size, overlap)


SPACE = " \n\t\u2028\x1c"
PIECES = st.text(SPACE + '.!?aAbB1-。中"()', max_size=120) | st.text(max_size=120)


@settings(max_examples=500, deadline=None)
@given(PIECES, st.integers(1, 12), st.integers(0, 11), st.data())
def test_chunks_are_exact_and_hold_everything(text, size, overlap, data):
    offsets = data.draw(st.sets(st.integers(0, max(0, len(text) - 1)), max_size=4))
    outline = [[at, data.draw(st.integers(1, 3)), "h"] for at in sorted(offsets) if text]
    document = Passage("d", text, "", {"outline": outline})
    found = Chunker(size, min(overlap, size - 1)).chunks(document)
    at, before = 0, -1
    for number, passage in enumerate(found):
        start, end = passage.metadata["start"], passage.metadata["end"]
        assert text[start:end] == passage.text
        assert passage.text == passage.text.strip()
        assert before < start and (
            at < end or not text.strip()
        )  # each begins and ends after the one before
        assert not text[at:start].strip()
        assert len(passage.text.split()) <= size
        assert passage.id == ("d" if len(found) == 1 else f"d#{number}")
        json.dumps(passage.metadata)
        before, at = start, end
    assert not text[at:].strip()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 20), st.integers(0, 19))
def test_sentences_keep_to_the_limits(lengths, size, overlap):
    overlap = min(overlap, size - 1)
    text = " ".join("Ww " * (length - 1) + "Ww." for length in lengths)
    found = Chunker(size, overlap).chunks(Passage("d", text))
    for before, after in zip([None, *found], found, strict=False):
        assert len(after.text.split()) <= size
        if before is not None:
            shared = text[after.metadata["start"] : before.metadata["end"]]
            assert len(shared.split()) <= overlap


def test_a_folder_becomes_passages(tmp_path):
    (tmp_path / "handbook.md").write_text(DOCUMENT * 3)
    source = open_source(tmp_path)
    found = [
        passage for document, _ in source.documents() for passage in Chunker().chunks(document)
    ]
    assert [passage.id for passage in found] == [f"handbook.md#{n}" for n in range(len(found))]
    assert all(passage.metadata["source"].endswith("handbook.md") for passage in found)
    assert all(passage.title == "Handbook" for passage in found)
