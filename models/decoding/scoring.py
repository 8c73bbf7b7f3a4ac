"""The log-probabilities of many given sequences after each of many prompts.

A prompt is read once, and its cache serves all its sequences. A sequence that begins another is
read off on the way, so that of nested n-grams only the longest is run; the first tokens of all cost
nothing beyond the reading.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, UsageError
from .beams import batches
from .candidates import logprobs_of, normalisers
from .language_model import LanguageModel
from .writing import Writing

if TYPE_CHECKING:
    from torch import Tensor

Sequences = Sequence[Sequence[int]]

NUMBERS_AT_ONCE = 2**26
"""Logits that are there together: 256 MB of them."""


class SequenceScores(NamedTuple):
    """What a model thinks of sequences after one prompt; natural logarithms, float64.

    logprobs: (sequences,) of each as a whole, not normalised by length.  tokens, token_logprobs:
    the most probable single tokens, best first, as many as were asked for.
    """

    logprobs: NDArray[np.float64]
    tokens: NDArray[np.int64]
    token_logprobs: NDArray[np.float64]


class _Run(NamedTuple):
    """A sequence to run: for which query of the batch, and the places of those read off it."""

    query: int
    tokens: tuple[int, ...]
    places: list[int]


def score(
    model: LanguageModel,
    prompts: Sequence[NDArray[np.int64]],
    sequences: Sequence[Sequences],
    *,
    best_tokens: int = 0,
    decoder_start: tuple[int, ...] | None = None,
    batch: int = 16,
) -> list[SequenceScores]:
    """Teacher-forced log-probabilities of each prompt's own sequences, and of single tokens.

    best_tokens: how many of the most probable first tokens to give as well.  decoder_start: what
    the decoder after an encoder is begun with, None: what the model says.  batch: prompts at once.
    Raises InputError for a prompt or a sequence that is empty, unknown or too long.
    """
    if len(prompts) != len(sequences) or batch < 1:
        raise UsageError(
            f"{len(prompts)} prompts, {len(sequences)} lists of sequences, batch={batch}",
            remedy="Give one list of sequences for each prompt, and at least one prompt at once",
        )
    start = model.decoder_start() if decoder_start is None else decoder_start
    _check(model, prompts, sequences, start)
    found: dict[int, SequenceScores] = {}
    for numbers in batches([len(prompt) for prompt in prompts], batch):
        writing = Writing(model, [prompts[number] for number in numbers], start)
        own = [sequences[number] for number in numbers]
        single = zip(*_best(writing.first[:, -1], best_tokens), strict=True)
        for number, sums, (tokens, logprobs) in zip(
            numbers, _scored(model, writing, own), single, strict=True
        ):
            found[number] = SequenceScores(sums, tokens, logprobs)
    return [found[number] for number in range(len(prompts))]


def _check(
    model: LanguageModel,
    prompts: Sequence[NDArray[np.int64]],
    sequences: Sequence[Sequences],
    start: tuple[int, ...],
) -> None:
    for number, (prompt, own) in enumerate(zip(prompts, sequences, strict=True)):
        if not all(len(sequence) for sequence in own):
            raise InputError(
                f"a sequence for prompt {number} is empty", remedy="Give at least one token"
            )
        longest = max((len(sequence) for sequence in own), default=0)
        model.check([prompt], start, longest)
        model.check_known([token for sequence in own for token in sequence], f"prompt {number}")


def _best(logits: "Tensor", k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(queries, k) the most probable tokens and their log-probabilities."""
    values, tokens = logits.topk(min(k, logits.shape[1]), dim=1)
    logprobs = (values - normalisers(logits)[:, None]).double()
    return tokens.numpy(force=True), logprobs.numpy(force=True)


def _scored(
    model: LanguageModel, writing: Writing, sequences: Sequence[Sequences]
) -> list[NDArray[np.float64]]:
    """The sums for each query of a batch that was read."""
    sums = [np.zeros(len(own)) for own in sequences]
    runs = [run for query, own in enumerate(sequences) for run in _runs(query, own)]
    runs.sort(key=lambda run: (-len(run.tokens), run.query))
    for part in _parts(runs, NUMBERS_AT_ONCE // model.vocabulary):
        for run, reached in zip(part, _run(writing, part), strict=True):
            for place in run.places:
                length = len(sequences[run.query][place])
                sums[run.query][place] = reached[length - 1]
    return sums


def _runs(query: int, sequences: Sequences) -> Iterator[_Run]:
    """The sequences that begin no other one, with the places of all that begin each."""
    order = sorted((tuple(sequence), place) for place, sequence in enumerate(sequences))
    places: list[int] = []
    for (tokens, place), (after, _) in zip_longest(order, order[1:], fillvalue=((), -1)):
        places.append(place)
        if after[: len(tokens)] != tokens:
            yield _Run(query, tokens, places)
            places = []


def _parts(runs: list[_Run], numbers: int) -> Iterator[list[_Run]]:
    """Runs by falling length, so many together that `numbers` tokens are not exceeded."""
    at = 0
    while at < len(runs):
        size = max(1, numbers // len(runs[at].tokens))
        yield runs[at : at + size]
        at += size


def _run(writing: Writing, runs: list[_Run]) -> NDArray[np.float64]:
    """(runs, longest) the log-probability of each run up to each of its tokens."""
    longest = len(runs[0].tokens)
    padded = np.zeros((len(runs), longest), dtype=np.int64)
    for row, run in enumerate(runs):
        padded[row, : len(run.tokens)] = run.tokens
    queries = np.array([run.query for run in runs], dtype=np.int64)
    first = logprobs_of(writing.first[:, -1], queries, padded[:, 0])
    if longest == 1:
        return first[:, None]
    logits = writing.selected(queries).extend(padded[:, :-1]).flatten(0, 1)
    later = logprobs_of(logits, np.arange(len(logits)), padded[:, 1:].ravel())
    reached: NDArray[np.float64] = np.column_stack([first, later.reshape(len(runs), -1)])
    return reached.cumsum(axis=1)
