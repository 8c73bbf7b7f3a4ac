"""Static pruning against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.indexes.impact_pruning import heaviest_postings, heaviest_share, heaviest_terms
from ragstone.records import WeightedTerms

from .test_inverted import VOCABULARY, terms_of

Rows = list[dict[int, float]]
ROWS = st.lists(
    st.dictionaries(st.integers(0, 62), st.integers(1, 9).map(float), max_size=8), max_size=12
)
SHARES = st.sampled_from([0.05, 0.25, 0.5, 0.875, 1.0])


def rows_of(keys: WeightedTerms) -> Rows:
    """Back to dictionaries, in the order of the entries."""
    cuts = zip(keys.offsets, keys.offsets[1:], strict=False)
    pairs = list(zip(keys.ids.tolist(), keys.weights.tolist(), strict=True))
    return [dict(pairs[start:end]) for start, end in cuts]


def kept(row: dict[int, float], terms: list[int]) -> dict[int, float]:
    return {term: weight for term, weight in row.items() if term in terms}


@settings(max_examples=80, deadline=None)
@given(ROWS, SHARES)
def test_a_share_of_each_passage(rows: Rows, share: float) -> None:
    expected = []
    for row in rows:
        terms: list[int] = []
        for term in sorted(row, key=lambda term: -row[term]):  # stable: equal ones as they stand
            if sum(row[t] for t in terms) < share * sum(row.values()):
                terms.append(term)
        expected.append(kept(row, terms))
    pruned = heaviest_share(terms_of(rows), share)
    assert rows_of(pruned) == expected
    assert pruned.lengths.tolist() == terms_of(rows).lengths.tolist()


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 9))
def test_some_terms_of_each_passage(rows: Rows, most: int) -> None:
    expected = [kept(row, sorted(row, key=lambda term: -row[term])[:most]) for row in rows]
    assert rows_of(heaviest_terms(terms_of(rows), most)) == expected


@settings(max_examples=80, deadline=None)
@given(ROWS, SHARES)
def test_a_share_of_each_posting_list(rows: Rows, share: float) -> None:
    holders: dict[int, list[int]] = {}
    for term in range(len(VOCABULARY)):
        holds = sorted(
            (i for i, row in enumerate(rows) if term in row), key=lambda i: -rows[i][term]
        )
        holders[term] = holds[: math.ceil(share * len(holds))]
    expected = [{t: w for t, w in row.items() if i in holders[t]} for i, row in enumerate(rows)]
    assert rows_of(heaviest_postings(terms_of(rows), share)) == expected


def test_nonsense_is_refused() -> None:
    keys = terms_of([{1: 1.0}])
    for share in (0, -1, 1.5, np.nan):
        with pytest.raises(UsageError, match="share"):
            heaviest_share(keys, share)
        with pytest.raises(UsageError, match="share"):
            heaviest_postings(keys, share)
    with pytest.raises(UsageError, match="terms"):
        heaviest_terms(keys, 0)
