"""The kernels of the multi-vector index against NumPy, and the bounds that searches rely on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.indexes import multivector_centroids, multivector_exact
from ragstone.indexes.multivector_candidates import candidates
from ragstone.indexes.multivector_centroids import how_many, nearest, train
from ragstone.indexes.multivector_codes import (
    GAINS,
    Codebook,
    Contexts,
    bytes_each,
    coded,
    contexts,
    decode,
    eighths,
    rests,
    spreads,
)
from ragstone.indexes.multivector_exact import exact_scores
from ragstone.indexes.multivector_products import (
    BFloat16Product,
    Float32Product,
    has_bfloat16,
    product,
    rounding,
    widened,
)
from ragstone.indexes.multivector_trellis import coded as trellis_coded
from ragstone.indexes.multivector_trellis import levels
from ragstone.records import TokenVectors

from .test_maxsim import brute, token_vectors


@given(st.integers(0, 2**32), st.sampled_from([1, 5, 40, 130]), st.sampled_from([1e-20, 1, 1e9]),
       st.booleans())  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_scores_lie_within_the_margins(seed: int, d: int, scale: float, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    queries, passages = token_vectors(rng, [3, 1, 33], d), token_vectors(rng, [1, 7, 80, 2], d)
    for keys in (queries, passages):
        keys.vectors[:] = np.rint(keys.vectors) / 3 if whole else keys.vectors * scale
    truth = brute(queries, passages).T
    kinds = [Float32Product, BFloat16Product] if has_bfloat16() else [Float32Product]
    for kind in kinds:
        near = kind(queries).block(passages)
        assert near.scores.shape == near.margins.shape == (4, 3)
        assert (np.abs(near.scores - truth) <= near.margins).all()


def test_margins_are_no_wider_than_rounding() -> None:
    keys = token_vectors(np.random.default_rng(0), [32, 32], 128)
    keys.vectors[:] /= np.linalg.norm(keys.vectors, axis=1, keepdims=True)
    assert Float32Product(keys).block(keys).margins.max() < 32 * 4e-5
    if has_bfloat16():
        assert BFloat16Product(keys).block(keys).margins.max() < 32 * (0.006 + 2**-8)


def test_rounds_to_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32)
    values[0, :4] = 0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8  # ties go to the even one
    bits, longest, error = rounding(values)
    wanted = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(widened(bits), wanted)
    lengths = np.linalg.norm(values, axis=1), np.linalg.norm(values - wanted, axis=1)
    assert longest == pytest.approx(lengths[0].max(), rel=1e-4) and longest >= lengths[0].max()
    assert error == pytest.approx(lengths[1].max(), rel=1e-4) and error >= lengths[1].max()


def levels_of(codes: np.ndarray, d: int, bits: int) -> np.ndarray:
    """The numbers of trellis codes, bit by bit."""
    strings = np.unpackbits(codes, axis=1)
    windows = np.stack([strings[:, bits * j : bits * j + 8] for j in range(d)], axis=1)
    return levels(bits)[np.packbits(windows, axis=2)[:, :, 0]]


@pytest.mark.parametrize(("bits", "most"), [(1, 0.32), (2, 0.09), (4, 0.008)])
def test_trellis_codes_lose_little(bits: int, most: float) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    codes = trellis_coded(rows, bits)
    assert codes.shape == (300, -(-(bits * 63 + 8) // 8))
    assert ((levels_of(codes, 64, bits) - rows) ** 2).mean() < most


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_trellis_codes_are_the_best(bits: int) -> None:
    """Of all strings for three numbers."""
    rows = np.random.default_rng(1).standard_normal((70, 3)).astype(np.float32)
    strings = np.arange(1 << (8 + 2 * bits), dtype=np.uint32) << (32 - 8 - 2 * bits)
    every = levels_of(strings.astype(">u4").view(np.uint8).reshape(-1, 4), 3, bits)
    errors = ((every[None] - rows[:, None]) ** 2).sum(axis=2)
    found = ((levels_of(trellis_coded(rows, bits), 3, bits) - rows) ** 2).sum(axis=1)
    np.testing.assert_allclose(found, errors.min(axis=1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("d", [1, 5, 64, 96])
def test_codes_are_what_is_read_back(bits: int, unit: bool, d: int) -> None:
    rng = np.random.default_rng(0)
    keys = TokenVectors(np.array([0, 10, 10, 40]), rng.standard_normal((40, d)).astype(np.float32))
    middles = rng.standard_normal((3, d)).astype(np.float32)
    ids = rng.integers(0, 3, 40).astype(np.uint16)
    book = Codebook(*eighths(middles), np.empty((0, d), np.float32))
    centres = book.centroids * book.scales[:, None]
    np.testing.assert_allclose(centres, middles, atol=np.abs(middles).max() / 100)

    added = contexts(keys, ids, book)
    owners, left = np.repeat([0, 2], [10, 30]), keys.vectors - centres[ids]
    means = np.stack((left[:10].mean(axis=0), np.zeros(d), left[10:].mean(axis=0)))
    context = added.codes * added.scales[:, None]
    np.testing.assert_allclose(context, means, atol=np.abs(means).max() / 200)
    found = rests(keys, ids, book, added)
    np.testing.assert_allclose(found, left - context[owners], atol=1e-6)

    book = book._replace(spreads=spreads(found))
    codes = coded(found, book, bits)
    assert codes.shape == (40, bytes_each(d, bits))
    mean, deviation = book.spreads
    gains = np.sqrt((((found - mean) / deviation) ** 2).mean(axis=1))
    np.testing.assert_allclose(GAINS[codes[:, 0]], gains, rtol=0.025, atol=0.006)
    numbers = GAINS[codes[:, :1]] * levels_of(codes[:, 1:], d, bits)
    wanted = centres[ids] + context[owners] + mean + deviation * numbers
    if unit:
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    read, offsets, rows = np.empty_like(keys.vectors), keys.offsets, np.array([2, 1, 0])
    decode(
        rows, offsets, np.zeros(3, np.int32), np.array([0, 3]), ids, codes, book.centroids,
        book.scales, book.spreads, added.codes, added.scales, GAINS, levels(bits), bits, unit, read,
    )  # fmt: skip
    np.testing.assert_allclose(np.roll(read, 10, axis=0), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("torch", [True, False])
def test_centroids_are_near_and_the_same_again(
    torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multivector_centroids, "has_bfloat16", lambda: torch and has_bfloat16())
    monkeypatch.setattr(multivector_centroids, "WORTH_TORCH", 0)
    rng = np.random.default_rng(1)
    themes = 3 * rng.standard_normal((8, 12))
    vectors = (themes[rng.integers(0, 8, 3000)] + rng.standard_normal((3000, 12))).astype(
        np.float32
    )
    found = train(vectors, 16)
    assert found.shape == (16, 12)
    np.testing.assert_array_equal(found, train(vectors, 16))
    apart = ((vectors[:, None].astype(np.float64) - found) ** 2).sum(axis=2)
    ids = nearest(vectors, found)
    assert (ids == apart.argmin(axis=1)).mean() > 0.97
    assert apart[np.arange(3000), ids].mean() < 1.01 * apart.min(axis=1).mean() < 14
    assert [how_many(n) for n in (0, 1, 64, 128, 800_000, 10**9)] == [1, 1, 1, 2, 8192, 16384]


class Plain:
    """Tokens that are given."""

    def __init__(self, keys: TokenVectors) -> None:
        self.keys, self.offsets = keys, keys.offsets

    def read(self, rows: np.ndarray) -> TokenVectors:
        texts = [self.keys.vectors[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        ends = np.cumsum([0, *map(len, texts)])
        return TokenVectors(ends, np.concatenate([np.empty((0, 9), np.float32), *texts]))


@pytest.mark.parametrize("queries", [1, 4, 6])
def test_exact_scores_and_searches_are_brute_force(
    queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    keys, asked = token_vectors(rng, [3, 9, 1, 5] * 50, 9), token_vectors(rng, [queries, 3], 9)
    truth, rows = brute(asked, keys), np.flatnonzero(rng.random(200) < 0.7)
    for i, vectors in enumerate(np.split(asked.vectors, asked.offsets[1:-1])):
        scores = exact_scores(Plain(keys), rows[::-1], vectors)  # type: ignore[arg-type]
        np.testing.assert_allclose(scores, truth[i, rows[::-1]], rtol=1e-5)
    monkeypatch.setattr(multivector_exact, "_WINDOW", 32)
    for kind in (product, lambda asked, _: Float32Product(asked)):
        monkeypatch.setattr(multivector_exact, "product", kind)
        found = multivector_exact.search_rows(Plain(keys), rows, asked, 7)  # type: ignore[arg-type]
        order = np.argsort(-truth[:, rows], axis=1)[:, :7]
        np.testing.assert_array_equal(found.numbers, rows[order])


@pytest.mark.parametrize("with_contexts", [True, False])
def test_candidates_are_best_by_centroids(with_contexts: bool) -> None:
    """Two codebooks, and more query vectors than one table has."""
    rng = np.random.default_rng(3)

    class Held:
        ids = rng.integers(0, 20, 900).astype(np.uint16)
        books = (np.arange(150) >= 70).astype(np.int32)
        starts = np.array([0, 20, 45])
        centroids = rng.integers(-127, 128, (45, 10)).astype(np.int8)
        scales = rng.random(45, dtype=np.float32) / 100

    offsets = np.arange(0, 901, 6)
    query = rng.standard_normal((40, 10)).astype(np.float32)
    vectors = (Held.centroids * Held.scales[:, None])[
        np.repeat(Held.starts[Held.books], 6) + Held.ids
    ]
    added = None
    if with_contexts:
        added = Contexts(*eighths(rng.standard_normal((150, 10)).astype(np.float32) / 3))
        vectors = vectors + np.repeat(added.codes * added.scales[:, None], 6, axis=0)
    truth = brute(TokenVectors(np.array([0, 40]), query), TokenVectors(offsets, vectors))[0]
    rows = np.flatnonzero(rng.random(150) < 0.8)
    found = candidates(Held, offsets, rows, query, 30, added)  # type: ignore[arg-type]
    assert (np.diff(found) > 0).all() and np.isin(found, rows).all() and len(found) == 30
    best = rows[np.argsort(-truth[rows])]
    assert np.isin(best[:20], found).all() and np.isin(found, best[:40]).all()
    np.testing.assert_array_equal(
        candidates(Held, offsets, rows, query, 200),
        rows,  # type: ignore[arg-type]
    )
