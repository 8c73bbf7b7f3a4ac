"""What a step of constrained beam search costs beside the model: the constraint, and the loop.

The model is a random sequence-to-sequence model with the vocabulary of BART that prefers frequent
tokens as a trained one does; the corpus is random text with the frequencies of Zipf's law, in an
n-gram index. A search of the same size by transformers' own `generate`, which asks the same index
through its prefix function, runs beside it.

    python benchmarks/decoding.py [--queries 20] [--beam 15] [--tokens 1000000] [--width 64]
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import transformers

from ragstone.indexes.ngram.family import Ngram
from ragstone.indexes.ngram.texts import TokenText
from ragstone.models.decoding import BeamSettings, LanguageModel, beams, score
from ragstone.models.decoding import candidates as candidates_of
from ragstone.models.decoding.writing import Writing

VOCABULARY = 50_265
LENGTH = 10
PASSAGE = 100


def model_of(width: int, frequencies: np.ndarray) -> LanguageModel:
    """A random BART whose first choice follows the frequencies."""
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=width // 16,
        decoder_attention_heads=width // 16,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        init_std=1 / np.sqrt(width),
    )
    model: Any = transformers.BartForConditionalGeneration(config)
    model.final_logits_bias.copy_(torch.from_numpy(np.log(frequencies + 1e-9)))
    return LanguageModel(model)


def corpus_of(tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, and how frequent each is."""
    random = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, VOCABULARY - 3)
    frequencies = np.append(np.zeros(4), weights / weights.sum())
    return random.choice(VOCABULARY, tokens, p=frequencies), frequencies


class Timed:
    """Seconds of this process inside methods, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def watch(self, owner: Any, method: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, method)

        def watched(*given: Any, **named: Any) -> Any:
            begin = time.process_time()
            try:
                return inner(*given, **named)
            finally:
                self.seconds[name] += time.process_time() - begin
                self.calls[name] += 1

        setattr(owner, method, watched)


def slow_generate(model: LanguageModel, prompts: list[Any], index: Any, beam: int) -> None:
    """What transformers brings: beam search with a function that is asked beam by beam."""

    def follow(_: int, ids: Any) -> list[int]:
        tokens = index.continuations(ids[1:].numpy()[None]).tokens
        return tokens[tokens < VOCABULARY].tolist() or [2]

    model.model.generate(
        input_ids=torch.from_numpy(np.array(prompts)),
        num_beams=beam,
        max_new_tokens=LENGTH,
        min_new_tokens=LENGTH,
        prefix_allowed_tokens_fn=follow,
        forced_eos_token_id=None,
        early_stopping=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--beam", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)

    text, frequencies = corpus_of(options.tokens)
    index = Ngram(vocabulary=VOCABULARY).open([])
    ends = np.arange(0, len(text) + 1, PASSAGE)
    index.add(np.arange(len(ends) - 1), TokenText(ends, text.astype(np.int32)))
    model = model_of(options.width, frequencies)
    random = np.random.default_rng(1)
    prompts = [random.integers(4, VOCABULARY, 12) for _ in range(options.queries)]
    how = BeamSettings(beam=options.beam, max_length=LENGTH, batch=options.queries)

    beams(model, prompts, [index] * len(prompts), how)  # compiles the kernels
    watch = Timed()
    for method in ("counts", "continuations", "allowed"):
        watch.watch(index, method, "constraint")
    for method in ("extend", "select", "__init__"):
        watch.watch(Writing, method, "model")
    watch.watch(candidates_of, "normalisers", "log-sum")
    whole, slow = [], []
    for _ in range(options.rounds):
        begin = time.process_time()
        found = beams(model, prompts, [index] * len(prompts), how)
        whole.append(time.process_time() - begin)
    inside = {name: watch.seconds[name] / options.rounds for name in watch.seconds}
    for _ in range(options.rounds):
        begin = time.process_time()
        slow_generate(model, prompts, index, options.beam)
        slow.append(time.process_time() - begin)
    total = statistics.median(whole)
    rest = total - sum(inside.values())
    print(f"{options.queries} queries, {options.beam} beams, {LENGTH} steps, {total:.2f} s CPU")
    for name, seconds in {**inside, "search": rest}.items():
        print(f"  {name:10} {1000 * seconds / LENGTH:8.2f} ms a step")
    print(f"  prefixes   {sum(map(len, found)) / len(found):8.1f} a query")
    print(
        f"generate, prefix_allowed_tokens_fn: {statistics.median(slow) / total:.1f} times as long"
    )

    keys = [[prefix.tokens for prefix in prefixes] for prefixes in found]
    begin = time.process_time()
    score(model, prompts, keys)
    print(f"score of {sum(map(len, keys))} prefixes: {time.process_time() - begin:.2f} s CPU")


if __name__ == "__main__":
    main()
