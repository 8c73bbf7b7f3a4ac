"""The kernels of the inverted index against plain NumPy and Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.indexes.addresses import address_of, bits_of, float_of
from ragstone.indexes.bm25 import EXACT, LENGTHS, Statistics, norms, saturation
from ragstone.indexes.postings import COMMON, DENSE, RANGE, SPARSE, classify, encode, sort_range
from ragstone.indexes.topk import LOWER, key_of, select, sort_keys
from ragstone.indexes.vocabulary import Vocabulary, buckets, find_term, hash_bytes, packed, ranked

DISTINCT = {"min_size": 1, "max_size": 200, "unique": True}
KEYS = st.lists(st.integers(0, 1 << 62) | st.integers(0, 400), **DISTINCT)


@settings(max_examples=80, deadline=None)
@given(KEYS, st.data())
def test_select_moves_the_largest_to_the_front(values: list[int], data: st.DataObject) -> None:
    keys = np.array(values, np.int64)
    k = data.draw(st.integers(1, len(keys)))
    smallest = select(keys, len(keys), k)
    assert sorted(keys[:k], reverse=True) == sorted(values, reverse=True)[:k]
    assert smallest == keys[:k].min() and sorted(keys) == sorted(values)


@settings(max_examples=80, deadline=None)
@given(KEYS)
def test_keys_are_sorted_downwards(values: list[int]) -> None:
    keys = np.array(values, np.int64)
    sort_keys(keys, len(keys), np.empty(len(keys), np.int64))
    assert keys.tolist() == sorted(values, reverse=True)


def test_keys_order_by_score_then_by_lower_number() -> None:
    scores = np.array([0.5, 1.5, 1.5, 3e-39, 2.5], np.float32)
    numbers = [7, 9, 2, 1, LOWER]
    keys = [key_of(int(s.view(np.int32)), n) for s, n in zip(scores, numbers, strict=True)]
    assert np.argsort(keys)[::-1].tolist() == [4, 2, 1, 0, 3]
    for score in scores:
        assert bits_of(score) == int(score.view(np.int32)) and float_of(bits_of(score)) == score


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 9), st.integers(1, 300), max_size=5), max_size=20))
def test_a_range_is_ordered_by_term(rows: list[dict[int, int]]) -> None:
    terms = np.array([t for row in rows for t in row], np.int32)
    symbols = np.array([s for row in rows for s in row.values()], np.uint16)
    ends = np.cumsum([len(row) for row in rows]).astype(np.int64)
    present, stops, places, ordered = sort_range(terms, symbols, ends, 10)
    expected = [[(r, row[t]) for r, row in enumerate(rows) if t in row] for t in range(10)]
    assert present.tolist() == [t for t in range(10) if expected[t]]
    starts = [0, *stops.tolist()]
    for i, term in enumerate(present):
        here = slice(starts[i], starts[i + 1])
        assert list(zip(places[here], ordered[here], strict=True)) == expected[term]


def test_forms_of_postings() -> None:
    """Few: sparse. Many: dense. Between, or with a high symbol, or in every row of a range: common
    or dense."""
    rows = [np.array(r, np.uint32) for r in (range(8), range(9), range(40), [5], range(30))]
    symbols = np.concatenate([np.ones(len(r), np.uint16) for r in rows])
    symbols[57] = 64  # that of the fourth term
    counts = np.array([len(r) for r in rows])
    kinds, *sizes = classify(np.concatenate(rows), symbols, counts, 100, 8)
    assert kinds.tolist() == [SPARSE, COMMON, DENSE, COMMON, COMMON]
    assert sizes == [8, 9 + 1 + 30, 1]
    full = np.arange(RANGE, 2 * RANGE, dtype=np.uint32)
    kinds, *_ = classify(full, np.ones(RANGE, np.uint16), np.array([RANGE]), 100 * RANGE, 8)
    assert kinds.tolist() == [DENSE]


def test_forged_symbols_of_zero_have_room() -> None:
    """No builder writes them, but a forged part may hold them, and a merge then encodes them."""
    rows, symbols = np.arange(20, dtype=np.uint32), np.zeros(20, np.uint16)
    _, _, docs, others = classify(rows, symbols, np.array([20]), 1000, 8)
    assert (docs, others) == (20, 20)


def test_common_postings_list_those_with_symbol_one_first() -> None:
    rows = np.array([3, 4, 9, RANGE + 1, RANGE + 2, 5], np.uint32)
    symbols = np.array([1, 7, 1, 300, 1, 2], np.uint16)
    counts, kinds = np.array([5, 1]), np.array([COMMON, SPARSE], np.uint8)
    sparse, docs, codes = np.zeros(1, np.uint32), np.zeros(5, np.uint16), np.zeros(2, np.uint16)
    directory = np.zeros((1, 2, 2), np.uint16)
    encode(rows, symbols, counts, kinds, sparse, docs, codes, directory, np.zeros((0, 0), "u2"))
    assert docs.tolist() == [3, 9, 4, 2, 1] and codes.tolist() == [7, 300]
    assert directory.tolist() == [[[2, 1], [1, 1]]] and sparse.tolist() == [5 << 6 | 2]


TERMS = st.lists(st.binary(max_size=9), unique=True, max_size=120)


@settings(max_examples=60, deadline=None)
@given(TERMS, TERMS)
def test_terms_are_found_by_their_bytes(known: list[bytes], asked: list[bytes]) -> None:
    vocabulary = Vocabulary()
    numbers = vocabulary.number(known)
    assert numbers.tolist() == list(range(len(known)))
    again = vocabulary.number(asked + known)
    assert again[len(asked) :].tolist() == numbers.tolist()
    terms = vocabulary.ranked()
    blob, ends = terms.written(np.ones(terms.distinct, np.bool_))
    starts = [0, *ends.tolist()]
    stored = [blob[i:j].tobytes() for i, j in zip(starts, ends.tolist(), strict=False)]
    assert sorted(stored) == sorted({*known, *asked})
    firsts = buckets(terms.codes[terms.first])
    bits = (len(firsts) - 1).bit_length() - 1
    addresses = [address_of(array) for array in (blob, ends, firsts)]
    text, stops = packed([*stored, b"absent term"])
    found, start = [], 0
    for stop in stops:
        code = np.uint64(hash_bytes(text, start, stop))
        found.append(find_term(text, start, stop, code, *addresses, bits))
        start = stop
    assert found == [*range(len(stored)), -1]


def test_terms_with_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two vocabularies whose terms are all given one hash are ranked by their bytes."""
    from ragstone.indexes import vocabulary as module

    def all_equal(blob: np.ndarray, ends: np.ndarray, codes: np.ndarray) -> None:
        codes[:] = 7

    monkeypatch.setattr(module, "hash_terms", all_equal)
    first, second = [b"b", b"", b"abc", b"ab"], [b"c", b"ab", b"b"]
    sources = [(blob, ends.astype(np.uint32)) for blob, ends in map(packed, (first, second))]
    terms = ranked(sources)
    order = sorted({*first, *second})
    assert terms.ranks.tolist() == [order.index(term) for term in first + second]


def lucene_byte(length: int) -> int:
    """SmallFloat.intToByte4: 24 exact values, then four significant bits."""
    if length < 24:
        return length
    rest = length - 24
    shift = max(rest.bit_length() - 4, 0)
    return 24 + (rest if rest.bit_length() < 4 else (rest >> shift) & 7 | (shift + 1) << 3)


def test_lengths_are_rounded_as_lucene_rounds_them() -> None:
    lengths = np.array([*range(3000), 10**5, 10**6, 2**31 - 1])
    assert norms(lengths).tolist() == [lucene_byte(int(length)) for length in lengths]
    assert LENGTHS[norms(np.arange(40))].tolist() == list(range(40)) and EXACT == 24
    assert (LENGTHS[norms(lengths)] <= lengths).all() and (np.diff(LENGTHS) > 0).all()


def test_saturation_is_the_formula() -> None:
    table = saturation(5, Statistics(4, 34) + Statistics(6, 66), 0.9, 0.4)
    assert table.shape == (6, 256) and not table[0].any()
    for frequency in (1, 5):
        factor = 0.9 * (1 - 0.4 + 0.4 * LENGTHS / 10)
        np.testing.assert_allclose(table[frequency], frequency / (frequency + factor), rtol=1e-7)
