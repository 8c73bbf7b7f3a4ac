"""Pooling and pruning of token vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, ward

from ragstone.errors import UsageError
from ragstone.indexes.multivector_pooling import pooled
from ragstone.indexes.multivector_pruning import early, lengths, pruned
from ragstone.records import TokenVectors

from .test_maxsim import texts, token_vectors


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_pools_as_the_clusters_of_ward(count: int, factor: int, seed: int) -> None:
    keys = token_vectors(np.random.default_rng(seed), [count], 5)
    found = pooled(keys, factor).vectors
    groups = fcluster(ward(keys.vectors), -(-count // factor), "maxclust")
    means = [keys.vectors[groups == group].mean(axis=0) for group in np.unique(groups)]
    order = np.argsort([np.flatnonzero(groups == group)[0] for group in np.unique(groups)])
    np.testing.assert_allclose(found, np.array(means)[order], rtol=1e-5, atol=1e-6)


def test_pools_each_passage_and_protects_the_first() -> None:
    keys = token_vectors(np.random.default_rng(0), [7, 0, 1, 4])
    found = pooled(keys, 2, protected=1)
    np.testing.assert_array_equal(np.diff(found.offsets), [4, 0, 1, 3])
    np.testing.assert_array_equal(found.vectors[found.offsets[3]], keys.vectors[8])
    assert found.vectors.dtype == np.float32
    for before, after in zip(texts(keys), texts(pooled(keys, 1)), strict=True):
        np.testing.assert_array_equal(before, after)
    twins = TokenVectors(np.array([0, 4]), np.eye(2, dtype=np.float32)[[0, 1, 0, 1]])
    np.testing.assert_array_equal(pooled(twins, 2).vectors, np.eye(2))
    with pytest.raises(UsageError, match="factor=0"):
        pooled(keys, 0)


@given(st.lists(st.integers(0, 9), max_size=6), st.sampled_from([0.01, 0.5, 0.7, 1.0]),
       st.integers(0, 2**32))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_prunes_what_weighs_least(counts: list[int], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = token_vectors(rng, [2, *counts])
    later = TokenVectors(keys.offsets[1:], keys.vectors)
    weights = rng.integers(0, 4, len(keys.vectors)).astype(np.float32)
    found = pruned(later, weights, share)
    for i, count in enumerate(counts):
        first = later.offsets[i]
        here = weights[first : first + count]
        best = np.argsort(-here, kind="stable")[: int(np.ceil(count * share))]
        kept = np.sort(best[here[best] > 0] if here.any() else best[:1])
        np.testing.assert_array_equal(texts(found)[i], keys.vectors[first + kept])


def test_weights_by_position_and_by_length() -> None:
    keys = token_vectors(np.random.default_rng(0), [3, 4, 0, 2])
    halves = pruned(keys, early(keys), 0.5)
    np.testing.assert_array_equal(halves.vectors, keys.vectors[[0, 1, 3, 4, 7]])
    np.testing.assert_array_equal(halves.offsets, [0, 2, 4, 4, 5])
    longest = pruned(keys, lengths(keys), 0.01).vectors
    assert len(longest) == 3
    assert np.linalg.norm(longest[0]) == np.linalg.norm(keys.vectors[:3], axis=1).max()
    with pytest.raises(UsageError, match="weights"):
        pruned(keys, early(keys)[1:], 0.5)
    with pytest.raises(UsageError, match="share"):
        pruned(keys, early(keys), 0)
