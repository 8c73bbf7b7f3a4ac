"""Fixed dimensional encodings against their definition."""

import numpy as np
import pytest

from ragstone.indexes.fixed_encoding import FixedEncoding
from ragstone.records import TokenVectors

from .test_maxsim import brute, texts, token_vectors


def slowly(one: FixedEncoding, vectors: np.ndarray, query: bool) -> np.ndarray:
    """The definition, a cell at a time."""
    planes, signs = one._matrices
    found = np.zeros((one.repetitions, 1 << one.bits, one.width))
    for repetition in range(one.repetitions if len(vectors) else 0):
        some = slice(repetition * one.bits, (repetition + 1) * one.bits)
        above = vectors @ planes[:, some] > 0
        reduced = vectors @ signs[:, repetition * one.width : (repetition + 1) * one.width]
        for cell in range(1 << one.bits):
            wanted = np.array([cell >> bit & 1 for bit in range(one.bits)], bool)
            apart = (above != wanted).sum(axis=1)
            inside = apart == 0
            if query:
                found[repetition, cell] = reduced[inside].sum(axis=0)
            else:
                near = inside if inside.any() else np.arange(len(apart)) == apart.argmin()
                found[repetition, cell] = reduced[near].mean(axis=0)
    return found.reshape(-1)


@pytest.mark.parametrize("bits", [1, 3])
def test_is_what_the_definition_says(bits: int) -> None:
    keys = token_vectors(np.random.default_rng(0), [5, 0, 1, 30], 6)
    one = FixedEncoding(6, repetitions=3, bits=bits, width=4, final=0)
    for query, encoded in ((True, one.encode_queries(keys)), (False, one.encode_passages(keys))):
        assert encoded.shape == (4, one.length) and encoded.dtype == np.float32
        wanted = [slowly(one, vectors, query) for vectors in texts(keys)]
        np.testing.assert_allclose(encoded, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("final", [0, 512])
def test_products_follow_maxsim(final: int) -> None:
    rng = np.random.default_rng(1)
    themes = rng.standard_normal((40, 16))
    held = themes[rng.integers(0, 40, 2000)] + 0.3 * rng.standard_normal((2000, 16))
    unit = (held / np.linalg.norm(held, axis=1, keepdims=True)).astype(np.float32)
    passages = TokenVectors(np.arange(0, 1801, 10), unit[:1800])
    queries = TokenVectors(np.arange(0, 201, 10), unit[1800:])
    one = FixedEncoding(16, 20, 3, 16, final)
    products = one.encode_queries(queries) @ one.encode_passages(passages).T / 20
    truth = brute(queries, passages)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(products, truth, strict=True)]
    assert np.mean(alike) > (0.7 if final else 0.8)
