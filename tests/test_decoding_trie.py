"""The trie answers like the list of sequences that it was made from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import InputError
from ragstone.models.decoding import TrieConstraint

from .tiny_writers import Corpus

END = 9
tokens = st.integers(0, 5)
lists = st.lists(st.lists(tokens, min_size=1, max_size=5), max_size=20)
prefixes = st.integers(0, 4).flatmap(
    lambda length: st.lists(
        st.lists(
            st.sampled_from([0, 1, 2, 3, 4, 5, END, -1, 70]), min_size=length, max_size=length
        ),
        min_size=1,
        max_size=8,
    )
)


class Titles(Corpus):
    """Sequences that are followed from their beginning alone."""

    def followers(self, prefix: list[int]) -> list[int]:  # type: ignore[override]
        n = len(prefix)
        return [t[n] for t in self._texts if len(t) > n and t[:n] == tuple(prefix)]

    def counts(self, asked: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        rows = [tuple(row) for row in asked.tolist()]
        return np.array([sum(t[: len(row)] == row for t in self._texts) for row in rows])


@given(lists, prefixes)
def test_equals_looking_through_the_list(given_: list[list[int]], asked: list[list[int]]) -> None:
    trie, titles = TrieConstraint(given_, END), Titles([[*title, END] for title in given_])
    rows = np.array(asked, dtype=np.int64).reshape(len(asked), -1)
    assert trie.counts(rows).tolist() == titles.counts(rows).tolist()
    for found, wanted in zip(trie.continuations(rows), titles.continuations(rows), strict=True):
        assert found.tolist() == wanted.tolist()
    candidates = np.tile([0, 3, END, -1, 71, 5], (len(rows), 1))
    assert (trie.allowed(rows, candidates) == titles.allowed(rows, candidates)).all()


def test_what_no_trie_can_hold() -> None:
    with pytest.raises(InputError, match="sequence 1 of the trie is empty"):
        TrieConstraint([[1], []], END)
    for sequences, end in (([[1, END]], END), ([[-3]], END), ([[2**31]], END), ([[1]], -1)):
        with pytest.raises(InputError, match="in a trie that ends with"):
            TrieConstraint(sequences, end)
