"""The log-probabilities of many given sequences after each of many prompts.

A prompt is read once, and its cache serves all its sequences. These go through the model token by
token like the branches of a tree: where sequences begin alike the model runs once, and one that
begins another costs nothing. The first tokens of all come with the reading.
"""

from collections.abc import Sequence
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


class SequenceScores(NamedTuple):
    """What a model thinks of sequences after one prompt; natural logarithms, float64.

    logprobs: (sequences,) of each as a whole, not normalised by length.  tokens, token_logprobs:
    the most probable single tokens, best first, as many as were asked for.
    """

    logprobs: NDArray[np.float64]
    tokens: NDArray[np.int64]
    token_logprobs: NDArray[np.float64]


def score(
    model: LanguageModel,
    prompts: Sequence[NDArray[np.int64]],
    sequences: Sequence[Sequences],
    *,
    best_tokens: int = 0,
    decoder_start: tuple[int, ...] | None = None,
    batch: int = 16,
    rows: int = 256,
) -> list[SequenceScores]:
    """Teacher-forced log-probabilities of each prompt's own sequences, and of single tokens.

    best_tokens: how many of the most probable first tokens to give as well.  decoder_start: what
    the decoder after an encoder is begun with, None: what the model says.  batch, rows: prompts and
    sequences at once.
    Raises InputError for a prompt or a sequence that is empty, unknown or too long.
    """
    if len(prompts) != len(sequences) or min(batch, rows) < 1:
        raise UsageError(
            f"{len(prompts)} prompts, {len(sequences)} lists of sequences, {batch=}, {rows=}",
            remedy="Give one list of sequences for each prompt, and run at least one at once",
        )
    start = model.decoder_start() if decoder_start is None else decoder_start
    _check(model, prompts, sequences, start)
    found: dict[int, SequenceScores] = {}
    for numbers in batches([len(prompt) for prompt in prompts], batch):
        writing = Writing(model, [prompts[number] for number in numbers], start)
        own = [sequences[number] for number in numbers]
        single = zip(*_best(writing.first[:, -1], best_tokens), strict=True)
        for number, sums, (tokens, logprobs) in zip(
            numbers, _scored(writing, own, rows), single, strict=True
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
    writing: Writing, sequences: Sequence[Sequences], rows: int
) -> list[NDArray[np.float64]]:
    """The sums for each query of a batch that was read; those that begin alike side by side."""
    sums = [np.zeros(len(own)) for own in sequences]
    order = sorted(
        (query, tuple(sequence), place)
        for query, own in enumerate(sequences)
        for place, sequence in enumerate(own)
    )
    for at in range(0, len(order), rows):
        queries, some, places = zip(*order[at : at + rows], strict=True)
        found = _run(writing, np.array(queries, dtype=np.int64), some)
        for query, place, logprob in zip(queries, places, found.tolist(), strict=True):
            sums[query][place] = logprob
    return sums


def _run(writing: Writing, at: NDArray[np.int64], sequences: Sequences) -> NDArray[np.float64]:
    """(sequences,) the log-probability of each after the row of `writing` that it is `at`."""
    lengths = np.array([len(sequence) for sequence in sequences])
    tokens = np.zeros((len(sequences), lengths.max()), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
    sums = logprobs_of(writing.first[:, -1], at, tokens[:, 0])
    branches = writing.selected(np.unique(at))
    at = np.unique(at, return_inverse=True)[1]
    for depth in range(1, tokens.shape[1]):
        live = np.flatnonzero(lengths > depth)
        pairs = at[live] << 32 | tokens[live, depth - 1]
        different, at[live] = np.unique(pairs, return_inverse=True)
        branches.select(different >> 32)
        logits = branches.extend((different & 0xFFFFFFFF)[:, None])[:, -1]
        sums[live] += logprobs_of(logits, at[live], tokens[live, depth])
    return sums
