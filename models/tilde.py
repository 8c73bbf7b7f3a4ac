"""TILDEv2: each token of a passage, read in its context, gets one weight; queries are tokens alone.

A score is the sum over the query's tokens of the weight that the same token has in the passage,
the largest where it stands several times. Words that a passage lacks can be found because it is
expanded before it is read (`tilde_expansion`), once, when it is indexed.

Zhuang and Zuccon, Fast Passage Re-ranking with Contextualized Exact Term Matching and Efficient
Passage Expansion, 2021.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import JSON, Fingerprint, WeightedTerms
from .bi_encoder import (
    BUDGET,
    BUDGET_CUDA,
    WINDOW,
    check_number_type,
    check_texts,
    length_limit,
    stated_name,
)
from .fingerprint import files_digest, fingerprint_of
from .model_folder import ModelFolder, find_model
from .packed_bert import PackedBert
from .plain_bert import PlainBert
from .processor import choose_device, choose_number_type
from .sparse_lookup import read_tokenizer, token_ids
from .sparse_terms import NOTHING, Row, token_bytes, weighted_terms
from .stop_words import ENGLISH, QUESTIONS, passed_over
from .text_batches import by_length
from .tilde_expansion import PASSAGE, Expander, check_expander

Progress = Callable[[int], None]

LENGTH = 192
"""Tokens of an expanded passage that the published model reads."""


class TildeEncoder:
    """Texts to weighted tokens by a BERT with a linear layer `tok_proj` of one output.

    Keys for ``Inverted(scoring="impact")``, of every passage or of candidates to be reranked.

    expander: a TILDE model, whose `expanded` likeliest tokens are added to each passage, those
        left out that it has already and stop words; without one, passages are read as they are.
    max_length: tokens of an expanded passage that are read; `truncated` of the `encoded` passages
        so far were cut.  dtype, device: as for `BiEncoder`.

    Raises InputError when there is no such model, or it is no TILDEv2 in safetensors.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        expander: str | None = None,
        expanded: int = 200,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        self._model = find_model(str(model))
        self._bert = _read(self._model)
        self._expander = find_model(expander) if expander else None
        if self._expander is not None:
            check_expander(self._expander, expanded)
        self.expanded = expanded if expander else 0
        limit = length_limit(max_length, self._model) or LENGTH
        self.max_length = limit if max_length else min(limit, LENGTH)
        self._dtype, self._device = dtype, device
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = ("expander", "expanded", "max_length", "dtype")
        return cls(settings["model"], **{name: settings[name] for name in kept})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the files of both models and every setting that changes the weights."""
        expander = self._expander
        settings: dict[str, JSON] = {
            "class": "tilde",
            "model": stated_name(self._model),
            "files": files_digest(self._model),
            "expander files": files_digest(expander) if expander else None,
            "expanded": self.expanded,
            "max_length": self.max_length,
            "dtype": self._dtype,
        }
        found = fingerprint_of(Path(self._model.name).name, settings)
        where = stated_name(expander) if expander else None
        return replace(found, settings={**settings, "expander": where})

    def encode_passages(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> WeightedTerms:
        """The weights of each text's tokens, stop words and special tokens left out.

        progress: called with the number of texts done since it was called last.
        """
        check_texts(texts)
        rows: list[Row] = [NOTHING] * len(texts)
        full = [place for place, text in enumerate(texts) if text.strip()]
        for start in range(0, len(full), WINDOW):
            window = full[start : start + WINDOW]
            tokens = self._sequences([texts[place] for place in window])
            lengths = np.array([len(one) for one in tokens])
            for chosen in by_length(lengths, self._budget):
                found = self._weighed([tokens[place] for place in chosen])
                for place, row in zip(chosen.tolist(), found, strict=True):
                    rows[window[place]] = row
                if progress:
                    progress(len(chosen))
        self.encoded += len(texts)
        return weighted_terms(rows, self._names)

    def encode_queries(self, texts: Sequence[str]) -> WeightedTerms:
        """The tokens of each text but stop words, each as often as it occurs. Needs no torch."""
        check_texts(texts)
        rows = []
        for ids in token_ids(self._tokenizer, texts):
            tokens, counts = np.unique(np.array(ids, np.int64), return_counts=True)
            kept = ~self._passed_over[tokens]
            rows.append((tokens[kept], counts[kept].astype(np.float32)))
        return weighted_terms(rows, self._names)

    def _sequences(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """What the model reads of each text: [CLS] passage [SEP], or [CLS] passage [SEP] added
        tokens [SEP].
        """
        first, last = special_ids(self._tokenizer)
        ids = token_ids(self._tokenizer, texts)
        whole = ids
        if self._expander is not None:
            whole = [one[: PASSAGE - 2] for one in ids]
            added = self._expand(whole)
            whole = [[*one, last, *more] for one, more in zip(whole, added, strict=True)]
        room = self.max_length - 2
        read = min(room, PASSAGE - 2) if self._expander is not None else room
        self.truncated += sum(len(one) > read for one in ids)
        return [np.array([first, *one[:room], last], np.int32) for one in whole]

    def _expand(self, passages: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        assert self._expander is not None
        return self._expansion.expand(passages, self.expanded, self._budget)

    def _weighed(self, tokens: Sequence[NDArray[np.int32]]) -> list[Row]:
        """The row of each text: for every token the largest of its weights above 0."""
        vectors = self._packed.token_vectors(tokens)
        weight, bias = self._bert.weight("tok_proj.weight"), self._bert.weight("tok_proj.bias")
        weights = np.maximum(vectors @ weight[0] + bias[0], 0)
        ends = np.cumsum([len(text) for text in tokens])
        parts = np.split(weights, ends[:-1])
        return [self._row(text, own) for text, own in zip(tokens, parts, strict=True)]

    def _row(self, tokens: NDArray[np.int32], weights: NDArray[np.float32]) -> Row:
        kept = (weights > 0) & ~self._passed_over[tokens]
        distinct, places = np.unique(tokens[kept], return_inverse=True)
        largest = np.zeros(len(distinct), np.float32)
        np.maximum.at(largest, places, weights[kept])
        return distinct.astype(np.int64), largest

    @cached_property
    def _tokenizer(self) -> Any:
        return read_tokenizer(self._model.folder)

    @cached_property
    def _names(self) -> list[bytes]:
        return token_bytes(self._tokenizer, len(self._passed_over))

    @cached_property
    def _passed_over(self) -> NDArray[np.bool_]:
        """(vocabulary,) which tokens are neither indexed nor asked for."""
        size = int(self._bert.config["vocab_size"])
        return passed_over(self._tokenizer, size, ENGLISH - QUESTIONS)

    @cached_property
    def _packed(self) -> PackedBert:
        target = choose_device(self._device)
        return PackedBert(self._bert, choose_number_type(self._dtype, target), target)

    @cached_property
    def _expansion(self) -> Expander:
        assert self._expander is not None
        target = choose_device(self._device)
        return Expander(self._expander, choose_number_type(self._dtype, target), target)

    @property
    def _budget(self) -> int:
        return BUDGET if choose_device(self._device).type == "cpu" else BUDGET_CUDA


def _read(model: ModelFolder) -> PlainBert:
    """The weights of a TILDEv2 folder."""
    bert = PlainBert(model)
    fits = (model.folder / "model.safetensors").exists() and bert.config.get("model_type") == "bert"
    if not (fits and bert.weights_complete() and "tok_proj.weight" in bert.weights):
        raise InputError(
            "this is no TILDEv2: a BERT with a layer tok_proj, in one model.safetensors",
            where=str(model.folder),
            remedy="Use a checkpoint such as ielab/TILDEv2-TILDE200-exp, saved as safetensors",
        )
    return bert


def special_ids(tokenizer: Any) -> tuple[int, int]:
    """The numbers of [CLS] and [SEP]."""
    found = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if None in found:
        raise InputError(
            "the tokenizer has no [CLS] and [SEP]", remedy="Use the tokenizer of a BERT model"
        )
    return found
