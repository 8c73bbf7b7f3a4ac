"""The n-gram index against brute force over the texts, and its scores against worked examples."""

import importlib.util
import sysconfig
import tokenize
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, UsageError
from ragstone.indexes.family import BadKey, OpenPart, load_family
from ragstone.indexes.ngram import suffix_sort
from ragstone.indexes.ngram.family import Ngram
from ragstone.indexes.ngram.index import NgramIndex
from ragstone.indexes.ngram.scoring import Scoring, corpus_weights
from ragstone.indexes.ngram.texts import Marks, TokenText, WeightedNgrams, flat, texts_of
from ragstone.storage import MemoryPart

from .ngrams import (
    MARKS,
    VOCABULARY,
    few_tokens,
    intersective,
    ngram_scores,
    places,
    random_text,
    rows_of,
)  # fmt: skip

LAYOUTS = ("suffixes", "fm")


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Any:
    return request.param


def index_of(texts: list[list[int]], layout: str, pieces: int = 1, **settings: Any) -> NgramIndex:
    """An index of these texts in so many segments."""
    family = Ngram(**{"vocabulary": VOCABULARY, "layout": layout, **settings})
    index = family.open([])
    for rows in np.array_split(np.arange(len(texts)), pieces):
        index.add(rows, flat([texts[row] for row in rows]))
    return index


def text_with_edges(text: list[int]) -> list[int]:
    return [MARKS.separator, *text, MARKS.separator]


def random_texts(seed: int, n: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [random_text(rng) for _ in range(n)]


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


# scores


def test_weights_are_those_of_the_paper() -> None:
    cases = [(-2, 10, 9.252864), (-9, 10, 2.107574), (-0.05, 1, 14.994378), (-12, 1, 0.023756)]
    for logprob, hits, wanted in [*cases, (-3, 50_000, 0), (-2, 0, 0)]:
        found = corpus_weights(np.array([float(logprob)]), np.array([hits]), 10**6)
        assert found.dtype == np.float32 and found == pytest.approx([wanted], abs=2e-6)
    assert np.isfinite(corpus_weights(np.array([0.0, -800.0]), np.array([1, 1]), 1)).all()


def ask(weighted: dict[tuple[int, ...], float], singles: dict[int, float] | None = None) -> Any:
    weights = np.array(list(weighted.values()), np.float32)
    keys = WeightedNgrams(np.array([0, len(weighted)]), flat(list(weighted)), weights)
    if not singles:
        return keys
    given = flat([list(singles)]), np.array(list(singles.values()), np.float32)
    return WeightedNgrams(keys.queries, keys.ngrams, keys.weights, *given)


A, B, C, D, E, X = range(1, 7)


def test_the_worked_example(layout) -> None:
    """abc covers the b and c of bcd, which is dropped; the a of ae counts a fifth."""
    index = index_of([[A, B, C, D, X, A, E], [A, B, C, A, B, C], [X, X]], layout, alpha=1.0)
    keys = ask({(A, B, C): 16.0, (B, C, D): 9.0, (A, E): 4.0})
    found = index.search(keys, 3)
    assert found.numbers.tolist() == [[0, 1, -1]]
    assert found.scores[0, :2].tolist() == pytest.approx([18.4, 16.0])
    [told] = index.explain(keys, 0)
    assert [(one.ngram, one.places, one.count) for one in told] == [
        ((A, B, C), (0,), 3), ((A, E), (5,), 1)
    ]  # fmt: skip
    assert [one.cover for one in told] == pytest.approx([1.0, 0.6])
    assert index.explain(keys, 2) == [[]]


def test_scoring_settings_change_what_they_say(layout) -> None:
    index = index_of([[A, B, C, D]], layout)
    keys = ask({(A, B): 3.0, (B, C): 2.0}, {D: 0.5, A: 9.0, X: 7.0})

    def score(**settings: Any) -> float:
        return float(index.search(keys, 1, scoring=Scoring(**settings)).scores[0, 0])

    assert score() == pytest.approx(9 + 0.5)
    assert score(alpha=1) == pytest.approx(3 + 0.5)
    assert score(unigram_alpha=2) == pytest.approx(9 + 0.25)
    assert score(single=1) == pytest.approx(9)
    assert score(single=0.5) == pytest.approx(0.5 * 9.5 + 0.5 * 9)
    assert score(overlaps=True) == pytest.approx(9 + 4 * (0.2 + 0.8 / 2) + 0.5)
    assert score(overlaps=True, beta=0) == pytest.approx(9 + 4 + 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_naive_ones_and_what_is_explained(layout, seed) -> None:
    rng = np.random.default_rng(seed)
    how = [
        {}, {"beta": 0.0, "alpha": 1.0}, {"single": 0.4}, {"overlaps": True},
        {"unigram_alpha": 2.0, "beta": 1.0}, {"single": 1.0, "alpha": 3.0},
    ][seed]  # fmt: skip
    keys, queries = few_tokens(rng, 700), few_tokens(rng, 12)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout, 2, **how)
    truth = ngram_scores(keys, queries, **how)
    for k in (1, 5, 700):
        found = index.search(queries, k)
        for query, (numbers, scores) in enumerate(zip(found.numbers, found.scores, strict=True)):
            exact = truth[query].astype(np.float32)
            order = np.lexsort((np.arange(700), -exact))[:k]
            order = order[~np.isneginf(exact[order])]
            np.testing.assert_allclose(scores[: len(order)], exact[order], rtol=1e-5)
            assert (scores[len(order) :] == -np.inf).all() and (numbers[len(order) :] == -1).all()
    for number in (0, 350, 699):
        for query, told in enumerate(index.explain(queries, number)):
            total = sum(one.worth * one.cover for one in told)
            best = max((one.worth for one in told if len(one.ngram) > 1), default=0.0)
            if not how.get("single") and told:
                assert total == pytest.approx(truth[query, number])
            assert bool(told) == (truth[query, number] > -np.inf) and best >= 0
            text = text_with_edges(index.tokens(number).tolist())
            for one in told:
                assert [place + 1 for place in one.places] == places(text, one.ngram)


def test_limits_leave_out_passages_and_no_scores(layout) -> None:
    rng = np.random.default_rng(1)
    keys, queries = few_tokens(rng, 600), few_tokens(rng, 8)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout)
    truth = ngram_scores(keys, queries)
    for limit in ({"most_hits": 40}, {"depth": 30}):
        found = index.search(queries, 50, scoring=Scoring(**limit))
        for row, numbers in enumerate(found.numbers):
            hits = numbers >= 0
            exact = truth[row][numbers[hits]]
            np.testing.assert_allclose(found.scores[row][hits], exact, rtol=1e-5)
        if "depth" in limit:
            assert ((found.numbers >= 0).sum(axis=1) <= 30).all()


def test_many_hits_end_the_search_early_with_the_same_result(layout, monkeypatch) -> None:
    from ragstone.indexes.ngram import search

    rng = np.random.default_rng(2)
    keys, queries = few_tokens(rng, 600), few_tokens(rng, 20)
    index = index_of(rows_of(TokenText(keys.offsets, keys.tokens)), layout)
    truth = index.search(queries, 10)
    for name, value in (("FEW_HITS", 1), ("FEW_HITS", 10**9), ("FEW_ROWS", 1), ("FEW_ROWS", 600)):
        monkeypatch.setattr(search, name, value)
        again = index.search(queries, 10)
        assert (again.numbers == truth.numbers).all() and (again.scores == truth.scores).all()


def test_a_text_score_by_hand() -> None:
    """The naive score itself."""
    edged = text_with_edges([A, B, C, D, X, A, E])
    weighted = [((A, B, C), 16.0), ((B, C, D), 9.0), ((A, E), 4.0)]
    assert intersective(edged, weighted, {}, alpha=1.0) == pytest.approx(18.4)


# the suffix array


def naive_suffixes(text: np.ndarray) -> list[int]:
    raw = text.astype(">u4").tobytes()
    return sorted(range(len(text)), key=lambda i: raw[4 * i :])


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_suffixes_are_in_the_order_of_their_tokens(dtype) -> None:
    rng = np.random.default_rng(0)
    for codes in (1, 2, 5, 300):
        for _ in range(40):
            text = rng.integers(0, codes, rng.integers(1, 60)).astype(dtype)
            text = np.tile(text, rng.integers(1, 6))
            assert suffix_sort.by_doubling(text, codes).tolist() == naive_suffixes(text)


def test_long_repeats_and_large_groups_are_sorted() -> None:
    rng = np.random.default_rng(1)
    text = np.tile(rng.integers(0, 2, 3000), 4).astype(np.uint16)
    order = suffix_sort.by_doubling(text, 2)
    assert order.tolist() == naive_suffixes(text)
    same = np.zeros(5000, np.uint16)
    assert suffix_sort.by_doubling(same, 1).tolist() == list(range(4999, -1, -1))


def test_numbers_are_sorted_by_both_ways() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 17, 1000, 2048, 2049, 20_000):
        for most in (2**20, 2**63):
            keys = rng.choice(most // 2, n, replace=False) if most < 2**30 else rng.integers(
                0, most, n, dtype=np.int64
            )  # fmt: skip
            keys = np.unique(keys)[::-1].copy()
            wanted = np.sort(keys)
            suffix_sort.sort_keys(keys, np.empty_like(keys), len(keys))
            assert (keys == wanted).all()


def python_source(most: int) -> np.ndarray:
    """Names, numbers and signs of the standard library's own source as codes."""
    numbers: dict[str, int] = {}
    codes: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        with path.open("rb") as file:
            codes += [
                numbers.setdefault(one.string, len(numbers))
                for one in tokenize.tokenize(file.readline)
            ]
        if len(codes) > most:
            break
    return np.array(codes[:most])


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


@pytest.mark.skipif(importlib.util.find_spec("pydivsufsort") is None, reason="no pydivsufsort")
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_both_builders_give_the_same_order(dtype) -> None:
    rng = np.random.default_rng(3)
    for codes in (1, 2, 200, 300, 60_000):
        text = np.tile(rng.integers(0, codes, 5000), 3).astype(dtype)
        assert (suffix_sort.by_divsufsort(text) == suffix_sort.by_doubling(text, codes)).all()
    source = python_source(100_000).astype(dtype)
    both = suffix_sort.by_divsufsort(source), suffix_sort.by_doubling(source, source.max() + 1)
    assert (both[0] == both[1]).all()


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
