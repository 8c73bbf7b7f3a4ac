"""TILDE: the words that a passage is likely to be asked for with, from one look at the passage.

A BERT that was trained to give, at its first position, the likelihood of every token of the
vocabulary given the passage. Its likeliest tokens are added to the passage before it is indexed.

Zhuang and Zuccon, TILDE: Term Independent Likelihood moDEl for Passage Re-ranking, SIGIR 2021.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from .model_folder import ModelFolder
from .packed_bert import PackedBert
from .plain_bert import Floats, PlainBert, gelu
from .sparse_lookup import read_tokenizer
from .stop_words import ENGLISH, passed_over
from .text_batches import by_length

if TYPE_CHECKING:
    from torch import device, dtype

PASSAGE = 128
"""Tokens of a passage that are read before it is expanded, the first and the last included."""

INDICATOR = 1
"""The token in place of [CLS] that says that a passage follows."""

HEAD = "cls.predictions.transform"
DECODER = (
    ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)
"""Tensors of the last product, and what stands for them where they are tied."""


class Expander:
    """Likely tokens of passages by a folder of BertLMHeadModel or BertForMaskedLM."""

    def __init__(self, model: ModelFolder, number_type: "dtype", target: "device") -> None:
        self._bert = PlainBert(model)
        self._packed = PackedBert(self._bert, number_type, target)

    def expand(
        self, passages: Sequence[Sequence[int]], most: int, budget: int
    ) -> list[Sequence[int]]:
        """Tokens to add to each passage, ascending: its `most` likeliest without those that it has
        and those that say nothing.

        passages: their tokens without special ones.  budget: tokens in a batch.
        """
        last = self._tokenizer.token_to_id("[SEP]")
        tokens = [np.array([INDICATOR, *one, last], np.int32) for one in passages]
        added: list[Sequence[int]] = [()] * len(passages)
        for chosen in by_length(np.array([len(one) for one in tokens]), budget):
            logits = self._logits([tokens[place] for place in chosen])
            for place, own in zip(chosen.tolist(), logits, strict=True):
                likely = np.argsort(-own, kind="stable")[:most]
                new = np.setdiff1d(likely, tokens[place])
                added[place] = new[~self._passed_over[new]].tolist()
        return added

    def _logits(self, tokens: Sequence[NDArray[np.int32]]) -> Floats:
        """(texts, vocabulary) at the first position of each text."""
        starts = np.cumsum([0, *(len(one) for one in tokens[:-1])])
        first = self._packed.token_vectors(tokens)[starts]
        weight, weights = self._bert.weight, self._bert.weights
        x = gelu(first @ weight(f"{HEAD}.dense.weight").T + weight(f"{HEAD}.dense.bias"))
        x -= x.mean(1, keepdims=True)
        x /= np.sqrt((x * x).mean(1, keepdims=True) + np.float32(self._bert.epsilon))
        x = x * weight(f"{HEAD}.LayerNorm.weight") + weight(f"{HEAD}.LayerNorm.bias")
        words, bias = (weight(one if one in weights else tied) for one, tied in DECODER)
        return np.asarray(x @ words.T + bias)

    @cached_property
    def _tokenizer(self) -> Any:
        return read_tokenizer(self._bert.model.folder)

    @cached_property
    def _passed_over(self) -> NDArray[np.bool_]:
        size = int(self._bert.config["vocab_size"])
        return passed_over(self._tokenizer, size, ENGLISH | {"definition"})


def check_expander(model: ModelFolder, most: int) -> None:
    """Refuse a folder that cannot expand, and a number of tokens that is none."""
    if type(most) is not int or most < 1:
        raise UsageError(f"expanded={most!r}", remedy="Use a whole number from 1, such as 200")
    bert = PlainBert(model)
    wanted = (f"{HEAD}.dense.weight", f"{HEAD}.LayerNorm.weight", "cls.predictions.bias")
    fits = (model.folder / "model.safetensors").exists() and bert.config.get("model_type") == "bert"
    if not (fits and bert.weights_complete() and all(one in bert.weights for one in wanted)):
        raise InputError(
            "this is no TILDE: a BERT with its language model head, in one model.safetensors",
            where=str(model.folder),
            remedy="Use a checkpoint such as ielab/TILDE, saved as safetensors",
        )
