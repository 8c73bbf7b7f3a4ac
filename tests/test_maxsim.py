"""MaxSim of float vectors against its formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import InputError
from ragstone.indexes.maxsim import blocks, maxsim, rows_for
from ragstone.records import TokenVectors


def token_vectors(rng: np.random.Generator, lengths: list[int], d: int = 7) -> TokenVectors:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenVectors(offsets, rng.standard_normal((int(offsets[-1]), d)).astype(np.float32))


def texts(keys: TokenVectors) -> list[np.ndarray]:
    return [
        keys.vectors[a:b].astype(np.float64)
        for a, b in zip(keys.offsets[:-1], keys.offsets[1:], strict=True)
    ]


def brute(queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
    return np.array(
        [
            [(q @ p.T).max(axis=1).sum() if len(q) and len(p) else -np.inf for p in texts(passages)]
            for q in texts(queries)
        ]
    ).reshape(len(queries), len(passages))


lengths = st.lists(st.integers(0, 9), max_size=12)


@given(lengths, lengths, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_is_the_sum_of_maxima(asked: list[int], held: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, passages = token_vectors(rng, asked), token_vectors(rng, held)
    scores = maxsim(queries, passages)
    assert scores.dtype == np.float32 and scores.shape == (len(asked), len(held))
    np.testing.assert_allclose(scores, brute(queries, passages), rtol=1e-5, atol=1e-5)


def test_offsets_need_not_begin_at_zero_and_blocks_are_many() -> None:
    rng = np.random.default_rng(1)
    queries, passages = token_vectors(rng, [5, 300]), token_vectors(rng, [0, 9000, 3, 0] * 3)
    assert len(blocks(passages.offsets, rows_for(305))) > 2
    wanted = brute(queries, passages)
    np.testing.assert_allclose(maxsim(queries, passages), wanted, rtol=1e-4)
    later = TokenVectors(passages.offsets[1:], passages.vectors)
    np.testing.assert_allclose(maxsim(queries, later), wanted[:, 1:], rtol=1e-4)


def test_other_dimensions_are_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(InputError, match="differ in their dimensions"):
        maxsim(token_vectors(rng, [2], 7), token_vectors(rng, [2], 8))
