"""The suffix array, the wavelet matrix, and what is found by them, against NumPy."""

import importlib.util
from itertools import pairwise

import numpy as np
import pytest

from ragstone.indexes.ngram import suffix_sort, suffixes, wavelet

from .ngrams import (
    index_of,
    python_source,
)


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


# the wavelet matrix


@pytest.mark.parametrize(("codes", "size"), [(1, 1), (2, 447), (3, 448), (9, 449), (300, 5000)])
def test_codes_are_counted_in_any_stretch(codes, size) -> None:
    rng = np.random.default_rng(codes)
    text = np.concatenate((np.arange(codes), rng.integers(0, codes, size))).astype(np.uint16)
    depth, n = max(1, (codes - 1).bit_length()), len(text)
    planes = wavelet.wavelet(text, depth)
    firsts = np.append(0, np.cumsum(np.bincount(text, minlength=codes)))
    zeros = np.array([n - wavelet.rank(plane, n) for plane in planes])
    places = wavelet.first_places(firsts, depth)
    assert wavelet.counts_right(planes, n) and wavelet.has_codes(planes, zeros, places, firsts, n)
    for low, high in np.sort(rng.integers(0, n + 1, (40, 2)), axis=1):
        code = int(rng.integers(0, codes))
        before = [int((text[:end] == code).sum()) for end in (low, high)]
        found = wavelet.narrowed(planes, zeros, places, code, low, high)
        assert found == (tuple(before) if before[0] < before[1] else (0, 0))
        if low < high:
            stack, out = np.empty((2 * depth + 2, 4), np.int64), np.empty((2, codes), np.int64)
            k = wavelet.enumerate_codes(planes, zeros, low, high, stack, *out, 0)
            some, counts = np.unique(text[low:high], return_counts=True)
            assert out[0, :k].tolist() == some.tolist() and out[1, :k].tolist() == counts.tolist()
    for place in rng.integers(0, n, 40):
        found = wavelet.code_at(planes, zeros, places, place)
        assert found == (text[place], (text[:place] == text[place]).sum())


def test_planes_with_another_bit_are_seen() -> None:
    text = np.arange(1000).astype(np.uint16) % 7
    planes = wavelet.wavelet(text, 3)
    firsts = np.append(0, np.cumsum(np.bincount(text)))
    places = wavelet.first_places(firsts, 3)
    for word in range(planes.shape[1]):
        forged = planes.copy()
        forged[1, word] ^= np.uint64(1 << 40)
        zeros = np.array([1000 - wavelet.rank(plane, 1000) for plane in forged])
        counted = wavelet.counts_right(forged, 1000)
        assert not (counted and wavelet.has_codes(forged, zeros, places, firsts, 1000))


# candidates


def test_followers_of_frequent_tokens_are_noted_and_are_the_same(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    texts = [(rng.random(50) ** 4 * 300).astype(int).tolist() for _ in range(400)]
    ids = np.arange(-1, 317)
    prefixes, candidates = ids[:, None], np.tile(rng.permutation(ids), (len(ids), 1))
    answers = []
    for frequent, _few in ((10**9, 128), (1, 128), (50, 0), (10**9, 0), (10**9, 10**9)):
        monkeypatch.setattr(suffixes, "_FREQUENT", frequent)
        index = index_of(texts, "suffixes", vocabulary=300)
        answers.append(index.allowed(prefixes, candidates))
    pairs = {pair for text in texts for pair in pairwise([300, *text, 300])}
    truth = [[(a, b) in pairs for b in candidates[0]] for a in ids]
    assert all((answer == truth).all() for answer in answers)


def test_more_candidates_than_are_sorted_quickly_are_tested() -> None:
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 5000, 3000).tolist() + [7, 8] * 100 for _ in range(3)]
    index = index_of(texts, "suffixes", vocabulary=5000)
    candidates = rng.permutation(5000)[None]
    follow = index.continuations(np.array([[7]])).tokens
    assert (index.allowed(np.array([[7]]), candidates)[0] == np.isin(candidates[0], follow)).all()
