"""What encoders are given of a passage: titles, other fields, or its whole document."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.corpus import Chunker
from ragstone.errors import UsageError
from ragstone.models import BiEncoder, HashingEncoder
from ragstone.models.passage_text import (
    documents_of,
    names,
    passage_keys,
    passage_text,
    slices,
)
from ragstone.records import Passage

MakeBert = Callable[..., Path]

PASSAGE = Passage("1", "text", "Title", {"headings": ["One", "Two"], "summary": "short", "n": 3})


def chunks(text: str, words: int = 6, overlap: int = 2, title: str = "") -> list[Passage]:
    return Chunker(words, overlap).chunks(Passage("d", text, title, {"summary": "short"}))


@pytest.mark.parametrize(
    ("prepend", "expected"),
    [
        ("title", "Title One Two text"),
        ("none", "text"),
        ("summary", "short text"),
        ("title+summary", "Title One Two short text"),
        ("summary+title+n", "short Title One Two 3 text"),
        ("missing", "text"),
        ("headings", "One Two text"),
    ],
)
def test_an_encoder_says_what_comes_before_the_text(prepend: str, expected: str) -> None:
    assert passage_text(PASSAGE, prepend) == expected


@pytest.mark.parametrize("prepend", ["", "title+", None, 3])
def test_what_is_prepended_has_names(prepend: Any) -> None:
    with pytest.raises(UsageError, match=r"prepend=.*title\+summary"):
        names(prepend)
    with pytest.raises(UsageError, match="prepend="):
        BiEncoder(prepend=prepend)


WORDS = st.lists(st.sampled_from(["the", "book.", "é", "library\n", "of", "a. "]), max_size=60)


@given(WORDS, st.integers(1, 9), st.data())
def test_a_document_is_put_together_from_its_chunks(
    words: list[str], size: int, data: st.DataObject
) -> None:
    text = " ".join(words)
    made = chunks(text, size, data.draw(st.integers(0, size - 1)), "Title")
    others = [Passage("x", "other"), *made, Passage("y", "other", "", {"document": "e"})]
    first, *found, last = documents_of(others)
    assert len(found) == 1
    whole = found[0]
    assert whole.title == "Title"
    assert [whole.text[start:end] for start, end in whole.spans] == [one.text for one in made]
    assert whole.text.split() == text.split()
    assert (first.text, last.spans) == ("other", [(0, 5)])


def test_chunks_that_do_not_fit_together_are_documents_of_their_own() -> None:
    made = chunks("one two three. four five six. seven eight nine. ten", 6, 3)
    assert len(made) > 2
    assert len(documents_of(made)) == 1
    assert len(documents_of(made[::-1])) == len(made)
    metadata = [dict(one.metadata) for one in made]
    for broken in (
        {"start": "0"},
        {"start": 10**15, "end": 10**15 + 1},
        {"document": "other"},
        {"start": None},
    ):
        second = Passage("d#1", made[1].text, "", {**metadata[1], **broken})
        assert len(documents_of([made[0], second])) == 2
    changed = Passage("d#1", made[1].text.upper(), "", metadata[1])
    assert len(documents_of([made[0], changed])) == 2


def test_slices_end_where_documents_end(make_bert: MakeBert) -> None:
    made = [*chunks("one two three. four five six. seven eight nine. ten", 3, 0), PASSAGE]
    late, plain = BiEncoder(make_bert(), late_chunking=True), HashingEncoder()
    assert [len(part) for part in slices(plain, made, 2)] == [2, 2, 1]
    assert [len(part) for part in slices(late, made, 2)] == [4, 1]
    assert [len(part) for part in slices(late, [PASSAGE] * 5, 2)] == [2, 2, 1]
    assert not list(slices(late, [], 2))


def test_keys_are_what_the_encoder_asks_for(make_bert: MakeBert) -> None:
    pytest.importorskip("torch")
    folder = make_bert()
    made = chunks("the book of. the library. a book", 3, 0, "of")
    plain = BiEncoder(folder, dtype="float32")
    usual = passage_keys(plain, made)
    np.testing.assert_allclose(usual, plain.encode_passages([f"of {one.text}" for one in made]))
    bare = passage_keys(BiEncoder(folder, dtype="float32", prepend="none"), made)
    np.testing.assert_allclose(bare, plain.encode_passages([one.text for one in made]))
    late = BiEncoder(folder, dtype="float32", late_chunking=True)
    found = passage_keys(late, made)
    np.testing.assert_array_equal(found, late.encode_documents(documents_of(made)))
    assert found.shape == usual.shape
    assert not np.allclose(found, usual, atol=1e-3)
    hashed = passage_keys(HashingEncoder(), made)
    assert hashed.shape == (len(made), 256)
