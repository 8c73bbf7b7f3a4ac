"""Log-probabilities of given sequences are those of one token after another."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ragstone.errors import InputError, UsageError
from ragstone.models.decoding import score
from ragstone.models.decoding.writing import Writing

from . import tiny_writers as tiny
from .plain_beams import next_logprobs

tokens = st.integers(3, tiny.VOCABULARY - 1)
sequences = st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=5), max_size=12)
queries = st.lists(st.tuples(st.lists(tokens, min_size=1, max_size=8), sequences), max_size=3)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(tiny.CAUSAL + tiny.APART), queries, st.sampled_from([1, 2, 16]))
def test_equals_one_token_after_another(
    family: str, asked: list[tuple[list[int], list[list[int]]]], batch: int
) -> None:
    model = tiny.writer(family, len(asked))
    prompts = [np.array(prompt) for prompt, _ in asked]
    found = score(model, prompts, [own for _, own in asked], batch=batch)
    for (prompt, own), scores in zip(asked, found, strict=True):
        wanted = [
            sum(next_logprobs(model, prompt, text[:at])[text[at]] for at in range(len(text)))
            for text in own
        ]
        assert scores.logprobs == pytest.approx(np.array(wanted), abs=1e-5)


def test_the_model_runs_once_where_sequences_begin_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny.writer("Llama"), []
    extend = Writing.extend

    def watched(self: Writing, given_: NDArray[np.int64]) -> Any:
        seen.append(given_.ravel().tolist())
        return extend(self, given_)

    monkeypatch.setattr(Writing, "extend", watched)
    own = [[3, 4, 5], [3], [3, 4], [6], [3, 4, 5], [3, 7], [8, 4, 3, 3]]
    score(model, [np.array([9, 9])], [own])
    assert seen == [[3, 8], [4, 4], [3]]


def test_a_few_sequences_at_a_time_change_nothing() -> None:
    random, model = np.random.default_rng(0), tiny.writer("Llama")
    prompts = [random.integers(3, 40, length) for length in (4, 9)]
    own = [[random.integers(3, 40, 1 + n % 6).tolist() for n in range(20)] for _ in prompts]
    for one, other in zip(
        score(model, prompts, own), score(model, prompts, own, rows=3), strict=True
    ):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("family", ["GPT2", "T5"])
def test_the_most_probable_first_tokens_come_for_nothing(family: str) -> None:
    model, prompt = tiny.writer(family), np.array([7, 8, 9])
    (found,) = score(model, [prompt], [[]], best_tokens=5)
    logprobs = next_logprobs(model, prompt.tolist(), [])
    assert found.tokens.tolist() == np.argsort(-logprobs)[:5].tolist()
    assert found.token_logprobs == pytest.approx(np.sort(logprobs)[::-1][:5], abs=1e-5)
    (everything,) = score(model, [prompt], [[[5]]], best_tokens=10**6)
    assert len(everything.tokens) == tiny.VOCABULARY
    assert everything.logprobs[0] == everything.token_logprobs[everything.tokens == 5][0]


def test_what_cannot_be_scored() -> None:
    model, prompt = tiny.writer("Llama"), np.array([5])
    for own, said in (([[]], "empty"), ([[40]], "token 40"), ([[3] * 64], "65 tokens")):
        with pytest.raises(InputError, match=said):
            score(model, [prompt], [own])
    with pytest.raises(UsageError, match="one list of sequences"):
        score(model, [prompt], [])
    with pytest.raises(UsageError, match="rows=0"):
        score(model, [prompt], [[]], rows=0)
