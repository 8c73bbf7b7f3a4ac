"""Log-probabilities of given sequences are those of one token after another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import InputError, UsageError
from ragstone.models.decoding import score, scoring

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


def test_runs_only_what_begins_nothing_else() -> None:
    own = [(1, 2, 3), (1,), (1, 2), (4,), (1, 2, 3), (1, 3)]
    runs = {run.tokens: sorted(run.places) for run in scoring._runs(0, own)}
    assert runs == {(1, 2, 3): [0, 1, 2, 4], (1, 3): [5], (4,): [3]}


def test_a_few_logits_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random, model = np.random.default_rng(0), tiny.writer("Llama")
    prompts = [random.integers(3, 40, length) for length in (4, 9)]
    own = [[random.integers(3, 40, 1 + n % 6).tolist() for n in range(20)] for _ in prompts]
    whole = score(model, prompts, own)
    monkeypatch.setattr(scoring, "NUMBERS_AT_ONCE", 8 * tiny.VOCABULARY)
    for one, other in zip(whole, score(model, prompts, own), strict=True):
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
