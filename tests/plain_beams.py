"""Beam search restated without caches, batches or short cuts: the whole vocabulary is masked."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragstone.models.decoding import BeamSettings, LanguageModel

Found = dict[tuple[tuple[int, ...], bool], tuple[float, int]]
"""Tokens and whether they are complete, with the log-probability and the count."""


def next_logprobs(
    model: LanguageModel, prompt: Sequence[int], written: Sequence[int]
) -> NDArray[np.float64]:
    """(vocabulary,) of what follows, from one pass over everything."""
    import torch

    with torch.inference_mode():
        if model.reads_apart:
            start = [*model.decoder_start(), *written]
            given: dict[str, Any] = {"decoder_input_ids": torch.tensor([start])}
            given["input_ids"] = torch.tensor([list(map(int, prompt))])
        else:
            given = {"input_ids": torch.tensor([[*map(int, prompt), *written]])}
        logits = model.model(**given, use_cache=False).logits[0, -1].float()
    found: NDArray[np.float64] = logits.log_softmax(-1).double().numpy()
    return found


class PlainBeams:
    """One query's search; followers: what the constraint has after a prefix, with repetitions."""

    def __init__(
        self,
        model: LanguageModel,
        prompt: Sequence[int],
        followers: Callable[[Sequence[int]], list[int]],
        settings: BeamSettings,
    ) -> None:
        self.model, self.prompt, self.followers, self.how = model, prompt, followers, settings
        spelling = settings.spelling
        self.end = spelling.eos if spelling.end is None else spelling.end

    def run(self) -> Found:
        found: Found = {}
        start = sum(
            next_logprobs(self.model, self.prompt, self.how.begin[:at])[token]
            for at, token in enumerate(self.how.begin)
        )
        first = (self.how.begin, float(start) if self.how.score_begin else 0.0)
        groups = [[first] for _ in range(self.how.groups)]
        while (
            any(groups) and len(next(live for live in groups if live)[0][0]) < self.how.max_length
        ):
            used: Counter[int] = Counter()
            groups = [self._step(live, used, found) for live in groups]
        return found

    def _step(
        self, live: list[tuple[tuple[int, ...], float]], used: Counter[int], found: Found
    ) -> list[tuple[tuple[int, ...], float]]:
        """The group's next prefixes; what it scores goes into `found`, its tokens into `used`."""
        beam = self.how.beam // self.how.groups
        options = [
            option for row, prefix in enumerate(live) for option in self._options(row, prefix)
        ]
        options.sort(
            key=lambda option: (-(option[0] - self.how.diversity * used[option[2]]), option[1:3])
        )
        going = []
        for logprob, _, token, tokens, count in options[: 2 * beam]:
            complete = token == self.how.spelling.eos
            found[(tokens[:-1] if complete else tokens), complete] = (logprob, count)
            if not complete and count > self.how.stop_at_count:
                going.append((tokens, logprob))
        for tokens, _ in going[:beam]:
            used[tokens[-1]] += 1
        return going[:beam]

    def _options(self, row: int, prefix: tuple[tuple[int, ...], float]) -> list[Any]:
        tokens, logprob = prefix
        logprobs = next_logprobs(self.model, self.prompt, tokens)
        options = []
        for token, count in Counter(self.followers((*self.how.spelling.start, *tokens))).items():
            own = self.how.spelling.eos if token == self.end else token
            known = self.how.spelling.vocabulary or len(logprobs)
            meant = own is not None and (own < known or token == self.end)
            if not meant or (own == self.how.spelling.eos and token != self.end):
                continue
            if own == self.how.spelling.eos and len(tokens) < self.how.min_length:
                continue
            options.append((logprob + logprobs[own], row, own, (*tokens, own), count))
        return options
