"""The n-gram index against brute force over the texts."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, UsageError
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.ngram.family import Ngram
from ragstone.indexes.ngram.texts import Marks, TokenText, flat, texts_of
from ragstone.storage import MemoryPart

from .ngrams import (
    LAYOUTS,
    MARKS,
    VOCABULARY,
    ask,
    index_of,
    places,
    python_source,
    random_texts,
    rows_of,
    text_with_edges,
)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Any:
    return request.param


def all_ngrams(texts: list[list[int]], length: int) -> list[tuple[int, ...]]:
    """N-grams of texts with their separators, and some that occur nowhere."""
    edged = [text_with_edges(text) for text in texts]
    found = {tuple(text[i : i + length]) for text in edged for i in range(len(text) - length + 1)}
    rng = np.random.default_rng(length)
    found |= {tuple(rng.integers(-2, VOCABULARY + 20, length).tolist()) for _ in range(20)}
    return sorted(found)


def count(texts: list[list[int]], ngram: tuple[int, ...]) -> int:
    return sum(len(places(text_with_edges(text), ngram)) for text in texts)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_counts_continuations_and_places_equal_brute_force(layout, pieces, length) -> None:
    texts = random_texts(length, 40)
    index = index_of(texts, layout, pieces)
    ngrams = all_ngrams(texts, length)
    prefixes = np.array(ngrams)
    truth = [count(texts, ngram) for ngram in ngrams]
    assert index.counts(prefixes).tolist() == truth
    ids = np.arange(-1, VOCABULARY + 18)
    follow = np.array([[count(texts, (*ngram, id)) for id in ids] for ngram in ngrams])
    candidates = np.tile(ids, (len(ngrams), 1))
    assert (index.allowed(prefixes, candidates) == (follow > 0)).all()
    found = index.continuations(prefixes)
    for row, (first, last) in enumerate(pairwise(found.offsets)):
        assert found.tokens[first:last].tolist() == ids[follow[row] > 0].tolist()
        assert found.counts[first:last].tolist() == follow[row][follow[row] > 0].tolist()
    for ngram in ngrams[:: max(1, len(ngrams) // 60)]:
        where = index.occurrences(ngram)
        pairs = list(zip(where.numbers.tolist(), where.places.tolist(), strict=True))
        assert pairs == [
            (number, place - 1)
            for number, text in enumerate(texts)
            for place in places(text_with_edges(text), ngram)
        ]


@pytest.mark.parametrize("pieces", [1, 3])
def test_before_the_first_token_everything_that_occurs_may_follow(layout, pieces) -> None:
    texts = random_texts(9, 30)
    index = index_of(texts, layout, pieces)
    nothing = np.empty((2, 0), np.int64)
    found = index.continuations(nothing)
    tokens = Counter(token for text in texts for token in [*text, MARKS.separator])
    assert found.offsets.tolist() == [0, len(tokens), 2 * len(tokens)]
    both = dict(zip(found.tokens[: len(tokens)], found.counts[: len(tokens)], strict=True))
    assert both == tokens and index.counts(nothing).tolist() == [tokens.total()] * 2
    assert index.size == tokens.total()
    ids = np.arange(-1, VOCABULARY + 18)
    assert index.allowed(nothing, np.stack((ids, ids)))[1].tolist() == [i in tokens for i in ids]


def test_what_follows_is_counted_as_often_as_what_it_follows(layout) -> None:
    texts = random_texts(3, 50)
    index = index_of(texts, layout, 2)
    prefixes = np.array([n for n in all_ngrams(texts, 2) if MARKS.separator != n[-1]])
    found = index.continuations(prefixes)
    sums = np.add.reduceat(np.append(found.counts, 0), found.offsets[:-1])
    sums[np.diff(found.offsets) == 0] = 0
    assert (sums == index.counts(prefixes)).all()


def test_passages_come_back_and_deleted_ones_are_not_found(layout) -> None:
    texts = [*random_texts(5, 20), [], [1, 2, 3]]
    family = Ngram(VOCABULARY, layout)
    part = MemoryPart()
    builder = family.builder()
    builder.add(flat(texts[:15]))
    builder.add(flat(texts[15:]))
    builder.write(part)
    deleted = np.arange(22) % 3 == 0
    index = family.open([OpenPart(part, 0, 22, deleted)])
    assert [index.tokens(i).tolist() for i in range(22)] == texts
    where = index.occurrences([1])
    assert set(where.numbers.tolist()) == {
        i for i, text in enumerate(texts) if 1 in text and not deleted[i]
    }
    only = np.zeros(22, np.bool_)
    only[[1, 3]] = True
    assert set(index.occurrences([MARKS.separator], allowed=only).numbers.tolist()) == {1}
    assert index.counts(np.array([[1]]))[0] == count(texts, (1,))  # until it is compacted
    merged = MemoryPart()
    family.merge([OpenPart(part, 0, 22, deleted)], merged)
    compacted = family.open([OpenPart(merged, 0, 14)])
    kept = [text for text, gone in zip(texts, deleted, strict=True) if not gone]
    assert [compacted.tokens(i).tolist() for i in range(14)] == kept
    assert compacted.counts(np.array([[1]]))[0] == count(kept, (1,))
    assert len(index.occurrences([1], most=3).numbers) <= 3


def test_fields_begin_with_their_marks_and_end_with_the_separator(layout) -> None:
    texts = rows_of(
        texts_of(
            [[[MARKS.title, 1, 2], [MARKS.body, 2, 3]], [[MARKS.title, 1], [MARKS.query, 3]]],
            MARKS.separator,
        )
    )
    index = index_of(texts, layout)
    titles = index.continuations(np.array([[MARKS.title, 1]]))
    assert titles.tokens.tolist() == [2, MARKS.separator]
    ended = np.array([[MARKS.title, 1, MARKS.separator]])
    assert index.counts(ended) == 1 and not len(index.continuations(ended).tokens)
    begun = index.continuations(np.array([[MARKS.separator]]))
    assert begun.tokens.tolist() == [MARKS.title, MARKS.body, MARKS.query]
    assert begun.counts.tolist() == [2, 1, 1]
    assert Marks.of(VOCABULARY).title == VOCABULARY + 1


def test_python_source_equals_brute_force(layout) -> None:
    """Real text with long repeats: counts of all its n-grams, and what follows them."""
    codes = python_source(60_000)
    ids = int(codes.max()) + 1
    texts = [part.tolist() for part in np.array_split(codes, 300)]
    index = index_of(texts, layout, vocabulary=ids)
    for length in (1, 2, 4, 8):
        counts = Counter(
            tuple(text[i : i + length]) for text in texts for i in range(len(text) - length + 1)
        )
        ngrams = np.array(list(counts))
        assert index.counts(ngrams).tolist() == list(counts.values())
    follow: dict[tuple[int, ...], Counter[int]] = {}
    for text in texts:
        for i in range(len(text) - 1):
            after = text[i + 2] if i + 2 < len(text) else ids
            follow.setdefault(tuple(text[i : i + 2]), Counter())[after] += 1
    found = index.continuations(np.array(list(follow)))
    for (first, last), wanted in zip(pairwise(found.offsets), follow.values(), strict=True):
        pairs = zip(found.tokens[first:last], found.counts[first:last], strict=True)
        assert dict(pairs) == wanted


# what is refused


def test_a_wide_vocabulary_is_stored_in_four_bytes(layout) -> None:
    texts = [np.arange(start, start + 70).tolist() for start in range(0, 70_000, 70)]
    index = index_of(texts, layout, vocabulary=70_000)
    assert index.counts(np.array([[69_998, 69_999], [69_999, 70_000]])).tolist() == [1, 1]
    assert index.tokens(999).tolist() == texts[999]
    assert index.allowed(np.array([[12, 13]]), np.array([[14, 15, -1, 80_000]])).tolist() == [
        [True, False, False, False]
    ]


def test_what_cannot_be_stored_or_asked_is_refused(layout) -> None:
    index = index_of([[1, 2], [3]], layout)
    with pytest.raises(BadKey, match="row 1.*token 99"):
        index.add(np.array([2, 3]), flat([[1], [99]]))
    with pytest.raises(UsageError, match="not the next ones"):
        index.add(np.array([0]), flat([[1]]))
    with pytest.raises(UsageError, match="no token"):
        index.occurrences([])
    assert index.counts_of(flat([[], [1, 2], [9]])).tolist() == [0, 1, 2]
    with pytest.raises(BadKey, match="offsets"):
        index.counts_of(TokenText(np.array([0, 9]), np.array([1, 2], np.int32)))
    with pytest.raises(UsageError, match="no passage 2"):
        index.tokens(2)
    with pytest.raises(UsageError, match="k=0"):
        index.search(ask({(1,): 1.0}), 0)
    for wrong in (ask({(1,): -1.0}), ask({(1,): np.nan}), ask({(): 1.0})):
        with pytest.raises(BadKey, match="row 0"):
            index.search(wrong, 1)
    for settings in (
        {"vocabulary": 0}, {"vocabulary": 2**23}, {"layout": "trie"}, {"tokenizer": 1},
        {"alpha": -1.0}, {"beta": 1.5}, {"overlaps": 1}, {"depth": 0},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            load_family("ngram", {"vocabulary": 9, **settings})


def test_a_part_that_does_not_fit_is_damaged(layout) -> None:
    family, part = Ngram(VOCABULARY, layout), MemoryPart()
    builder = family.builder()
    builder.add(flat(random_texts(0, 10)))
    builder.write(part)
    names = [name for name in part._arrays]
    for name in names:
        for change in (lambda a: a[:-1], lambda a: a.astype(np.float32)):
            forged = MemoryPart()
            for other in names:
                array = part.array(other)
                forged.array(other, change(array) if other == name else array)
            with pytest.raises(Damaged):
                family.open([OpenPart(forged, 0, 10)])
    with pytest.raises(Damaged):
        family.open([OpenPart(part, 0, 11)])
