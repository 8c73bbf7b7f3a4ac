"""Beam search inside a constraint: the bounded one is the one that masks the whole vocabulary."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from ragstone.errors import InputError, UsageError
from ragstone.models.decoding import BeamSettings, ScoredPrefix, Spelling, TrieConstraint, beams
from ragstone.models.decoding.candidates import Candidates
from ragstone.models.decoding.selection import best_of_each, rank_within, times_chosen
from ragstone.models.decoding.writing import Writing

from . import tiny_writers as tiny
from .plain_beams import Found, PlainBeams

SEPARATOR, TITLE_END = 50, 51
"""Outside the vocabulary of the models."""


def random_texts(seed: int, texts: int = 12, length: int = 14) -> list[list[int]]:
    """Titles and bodies between separators, of few different tokens so that n-grams come again."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 38)
    found = []
    for _ in range(texts):
        tokens = random.choice(np.arange(3, 40), length, p=weights / weights.sum()).tolist()
        found.append([SEPARATOR, *tokens[:3], TITLE_END, *tokens[3:]])
    return [*found, [SEPARATOR]]


def prompts_of(seed: int, lengths: tuple[int, ...] = (5, 2, 9)) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    return [random.integers(3, tiny.VOCABULARY, length) for length in lengths]


def as_found(prefixes: list[ScoredPrefix]) -> Found:
    return {(p.tokens, p.complete): (p.logprob, p.count) for p in prefixes}


def same(found: Found, wanted: Found) -> None:
    assert found.keys() == wanted.keys()
    for key, (logprob, count) in wanted.items():
        assert found[key][0] == pytest.approx(logprob, abs=2e-5)
        assert found[key][1] == count


ways = st.builds(
    BeamSettings,
    beam=st.sampled_from([2, 4]),
    max_length=st.integers(2, 5),
    min_length=st.integers(0, 2),
    begin=st.sampled_from([(), (), (3,), (4, 3)]),
    score_begin=st.booleans(),
    stop_at_count=st.sampled_from([0, 0, 1, 3]),
    groups=st.sampled_from([1, 1, 2]),
    diversity=st.sampled_from([0.0, 0.3, 5.0]),
    tested=st.sampled_from([1, 5, 256]),
    enumerated=st.sampled_from([0, 3, 4096]),
    batch=st.sampled_from([1, 2, 16]),
    spelling=st.sampled_from(
        [
            Spelling(),
            Spelling(eos=2, end=TITLE_END),
            Spelling(start=(SEPARATOR,), eos=2, end=TITLE_END),
            Spelling(eos=3),
            Spelling(eos=3, end=TITLE_END),
            Spelling(eos=4, end=5),
            Spelling(vocabulary=9),
            Spelling(eos=2, end=8, vocabulary=7),
        ]
    ),
)


@examples(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(tiny.CAUSAL + tiny.APART), st.integers(0, 10_000), ways)
def test_equals_masking_the_whole_vocabulary(family: str, seed: int, how: BeamSettings) -> None:
    assume(len(how.begin) < how.max_length and how.spelling.eos not in how.begin)
    model, corpus = tiny.writer(family, seed), tiny.Corpus(random_texts(seed))
    prompts = prompts_of(seed)
    found = beams(model, prompts, [corpus] * 3, how)
    for prompt, prefixes in zip(prompts, found, strict=True):
        same(as_found(prefixes), PlainBeams(model, prompt, corpus.followers, how).run())


@pytest.mark.parametrize("family", tiny.CAUSAL + tiny.APART)
def test_does_not_depend_on_the_rest_of_the_batch(family: str) -> None:
    model, corpus = tiny.writer(family), tiny.Corpus(random_texts(1))
    prompts = prompts_of(3, (11, 2, 5, 17, 1))
    how = BeamSettings(beam=4, max_length=5)
    together = beams(model, prompts, [corpus] * 5, how)
    for prompt, prefixes in zip(prompts, together, strict=True):
        same(as_found(prefixes), as_found(beams(model, [prompt], [corpus], how)[0]))


def test_nothing_leaves_the_corpus_and_more_is_kept_than_beams() -> None:
    model, corpus = tiny.writer("Bart"), tiny.Corpus(random_texts(5, texts=60))
    (found,) = beams(model, prompts_of(5, (4,)), [corpus], BeamSettings(beam=3, max_length=6))
    assert {len(prefix.tokens) for prefix in found} == set(range(1, 7))
    assert len(found) > 3 * 6
    for prefix in found:
        assert prefix.count == corpus.counts(np.array([prefix.tokens]))[0] > 0


def test_each_query_can_have_a_constraint_of_its_own() -> None:
    model, prompts, how = tiny.writer("Llama"), prompts_of(2), BeamSettings(beam=3, max_length=4)
    one, other = (tiny.Corpus(random_texts(seed, texts=2)) for seed in (7, 8))
    mixed = beams(model, prompts, [one, other, one], how)
    for prompt, constraint, found in zip(prompts, [one, other, one], mixed, strict=True):
        same(as_found(found), as_found(beams(model, [prompt], [constraint], how)[0]))


def test_titles_are_completed_and_nothing_else_is() -> None:
    titles = [[5, 6, 7], [5, 6], [8], [5, 9, 9, 9]]
    trie = TrieConstraint(titles, end=2)
    how = BeamSettings(beam=4, max_length=5, spelling=Spelling(eos=2))
    (found,) = beams(tiny.writer("T5"), prompts_of(0, (4,)), [trie], how)
    assert {p.tokens for p in found if p.complete} == {tuple(title) for title in titles}
    assert all(p.count == 1 for p in found if p.complete)
    (short,) = beams(
        tiny.writer("T5"),
        prompts_of(0, (4,)),
        [trie],
        BeamSettings(beam=4, max_length=5, min_length=3, spelling=Spelling(eos=2)),
    )
    assert {p.tokens for p in short if p.complete} == {(5, 6, 7), (5, 9, 9, 9)}


def test_a_query_without_anything_to_write_is_no_obstacle_to_others() -> None:
    model, prompts, how = tiny.writer("GPT2"), prompts_of(4), BeamSettings(beam=2, max_length=4)
    empty, ends, corpus = tiny.Corpus([]), tiny.Corpus([[4, 5]]), tiny.Corpus(random_texts(4))
    found = beams(model, prompts, [empty, ends, corpus], how)
    assert found[0] == []
    assert {p.tokens for p in found[1]} == {(4,), (5,), (4, 5)}
    same(as_found(found[2]), as_found(beams(model, prompts[2:], [corpus], how)[0]))
    assert beams(model, [], [], how) == []


def test_best_first_by_the_length_penalty() -> None:
    corpus, model = tiny.Corpus(random_texts(6)), tiny.writer("Qwen2")
    for penalty in (0.0, 1.0):
        how = BeamSettings(beam=3, max_length=4, length_penalty=penalty)
        (found,) = beams(model, prompts_of(6, (3,)), [corpus], how)
        scores = [p.logprob / len(p.tokens) ** penalty for p in found]
        assert scores == sorted(scores, reverse=True)


def test_groups_that_pay_for_what_others_took_differ() -> None:
    model, corpus = tiny.writer("Bart", 3), tiny.Corpus(random_texts(9))
    prompt = prompts_of(9, (4,))
    alike = BeamSettings(beam=4, groups=4, diversity=0.0, max_length=3)
    apart = BeamSettings(beam=4, groups=4, diversity=100.0, max_length=3)
    few, many = (beams(model, prompt, [corpus], how)[0] for how in (alike, apart))
    assert len({p.tokens[0] for p in few}) == 2  # every group the best, and one more is scored
    assert len({p.tokens[0] for p in many}) >= 4


@pytest.mark.parametrize("family", ["Llama", "Bart"])
def test_a_prompt_is_read_once_and_then_a_token_a_row(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, corpus = tiny.writer(family), tiny.Corpus(random_texts(2, texts=150))
    name = "decoder_input_ids" if model.reads_apart else "input_ids"
    forward, seen = type(model.model).forward, []

    def watched(self: Any, **given: Any) -> Any:
        seen.append(tuple(given[name].shape))
        return forward(self, **given)

    watched.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(model.model), "forward", watched)
    beams(model, prompts_of(2), [corpus] * 3, BeamSettings(beam=4, max_length=5))
    assert seen[:2] == [(3, 1 if model.reads_apart else 9), (12, 1)]
    assert len(seen) == 5
    assert all(rows <= 12 and columns == 1 for rows, columns in seen[1:])


def test_no_gradients_are_kept() -> None:
    writing = Writing(tiny.writer("Bart"), prompts_of(0), (2,))
    assert not writing.extend(np.array([[4], [5], [6]])).requires_grad
    assert writing._read is not None and not writing._read.requires_grad


def test_number_types() -> None:
    import torch

    model, corpus = tiny.writer("Llama"), tiny.Corpus(random_texts(2))
    how, prompts = BeamSettings(beam=4, max_length=3), prompts_of(2)
    exact = as_found(beams(model, prompts, [corpus] * 3, how)[0])
    model.model.to(torch.bfloat16)
    rough = as_found(beams(model, prompts, [corpus] * 3, how)[0])
    both = exact.keys() & rough.keys()
    assert len(both) > len(exact) / 2
    assert all(rough[key][0] == pytest.approx(exact[key][0], abs=0.5) for key in both)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam": 0},
        {"max_length": 0},
        {"beam": 4, "groups": 3},
        {"begin": (1, 2, 3), "max_length": 3},
        {"batch": 0},
        {"begin": (2,), "spelling": Spelling(eos=2)},
        {"stop_at_count": -1},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        beams(tiny.writer("GPT2"), [], [], BeamSettings(**wrong))


def test_prompts_that_cannot_be_read() -> None:
    model, corpus, how = tiny.writer("Llama"), tiny.Corpus([[4, 5]]), BeamSettings(max_length=5)
    for tokens, said in (([], "empty"), ([40], "token 40"), ([3] * 60, "65 tokens")):
        with pytest.raises(InputError, match=said):
            beams(model, [np.array(tokens, dtype=np.int64)], [corpus], how)
    with pytest.raises(UsageError, match="one constraint for each"):
        beams(model, prompts_of(0), [corpus], how)
    with pytest.raises(InputError, match="token 99"):
        beams(model, prompts_of(0, (3,)), [corpus], BeamSettings(begin=(99,)))
    with pytest.raises(InputError, match="completing token: token 40"):
        beams(model, prompts_of(0, (3,)), [corpus], BeamSettings(spelling=Spelling(eos=40)))
    with pytest.raises(UsageError, match="nothing for the decoder"):
        beams(tiny.writer("T5"), prompts_of(0, (3,)), [corpus], BeamSettings(decoder_start=()))


small = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=30)


@given(small, st.integers(1, 5))
def test_the_best_of_each_query_with_equal_scores(pairs: list[tuple[int, int]], k: int) -> None:
    queries, scores = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    tokens = np.arange(len(pairs))[::-1]
    found = Candidates(np.zeros(len(pairs), dtype=np.int64), tokens, scores.astype(float))
    best = best_of_each(found, queries, scores.astype(float), k).tolist()
    wanted = []
    for query in range(4):
        own = [at for at in range(len(pairs)) if queries[at] == query]
        wanted += sorted(own, key=lambda at: (-scores[at], tokens[at]))[:k]
    assert best == wanted


@given(small, small)
def test_times_chosen(asked: list[tuple[int, int]], chosen: list[tuple[int, int]]) -> None:
    columns = (np.array(pairs, dtype=np.int64).reshape(-1, 2).T for pairs in (asked, chosen))
    (queries, tokens), (chosen_for, chosen_tokens) = columns
    found = times_chosen(tokens, queries, chosen_tokens, chosen_for).tolist()
    assert found == [chosen.count(pair) for pair in asked]


def test_rank_within() -> None:
    assert rank_within(np.array([0, 0, 2, 2, 2, 5])).tolist() == [0, 1, 0, 1, 2, 0]
    assert rank_within(np.zeros(0, dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("how", [{"enumerated": 0, "tested": 3}, {}, {"groups": 2}])
def test_an_open_ngram_index_is_a_constraint(how: dict[str, Any]) -> None:
    from ragstone.indexes.ngram.family import Ngram
    from ragstone.indexes.ngram.texts import flat

    texts = [text[1:] for text in random_texts(11)[:-1]]
    family = Ngram(vocabulary=tiny.VOCABULARY)
    separator, title_end = tiny.VOCABULARY, tiny.VOCABULARY + 5
    bodies = [[title_end if token == TITLE_END else token for token in text] for text in texts]
    index = family.open([])
    index.add(np.arange(5), flat(bodies[:5]))
    index.add(np.arange(5, 12), flat(bodies[5:]))
    plain = tiny.Corpus([[separator, *body, separator] for body in bodies])
    for spelling in (Spelling(), Spelling(start=(separator,), eos=2, end=title_end)):
        settings = BeamSettings(beam=4, max_length=5, spelling=spelling, **how)
        model, prompts = tiny.writer("Bart", 11), prompts_of(11)
        found = beams(model, prompts, [index] * 3, settings)
        for one, other in zip(found, beams(model, prompts, [plain] * 3, settings), strict=True):
            same(as_found(one), as_found(other))
            assert one
