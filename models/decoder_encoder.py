"""Dense vectors by a decoder language model: Llama, Mistral, Qwen, Gemma and their like.

Any such model is an encoder once its hidden states are pooled; one that was trained to be one says
how. Models whose folder says it itself (modules.json) are for `BiEncoder`.

Muennighoff, SGPT: GPT Sentence Embeddings for Semantic Search, 2022 (weighted mean).
Wang et al., Improving Text Embeddings with Large Language Models, ACL 2024 (last token).
BehnamGhader et al., LLM2Vec, COLM 2024 (attention in both directions, mean of the text's tokens).
Fu et al., Token Prepending, ACL 2025.
Springer et al., Repetition Improves Language Model Embeddings, ICLR 2025.
Thennal et al., Large Language Models Are Overparameterized Text Encoders, 2024 (first layers).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Fingerprint
from .bi_encoder import (
    BUDGET,
    BUDGET_CUDA,
    WINDOW,
    check_number_type,
    length_limit,
    stated_name,
)
from .decoder_model import DecoderModel, Pass
from .decoder_text import TEXT, Prompted, Reading, check_template, query_template
from .fingerprint import files_digest, fingerprint_of
from .instructions import one_each
from .late_chunking import ChunkedText, check_asked, late_vectors
from .matryoshka import check_layers, first_dimensions, unit
from .model_folder import find_model
from .passage_text import names
from .processor import choose_device, choose_number_type
from .text_batches import by_length, check_texts
from .token_spans import TokenSpans, spans_by

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]

POOLINGS = ("last", "mean", "weighted-mean")
LONGEST = 4096
"""Tokens of a text unless asked otherwise: many decoders read more than anyone can pay for."""


class DecoderEncoder:
    """Texts to vectors of length 1 by the decoder of a Hugging Face name or a local folder.

    pooling: "last", the hidden state of the last token; "mean"; or "weighted-mean", by which the
        i-th token counts i times. Means are taken over the tokens of the text itself, unless
        pool_template says that those of its template and the special ones count too.
    bidirectional: tokens see those after them (LLM2Vec); best with models trained for it.
    query_template, passage_template: hold "{text}", twice to have it repeated (echo: only the
        second is pooled), and for queries "{instruction}".
    instruction: what queries ask for; "Instruct: ...\\nQuery: ..." without a template.
    eos: append the model's end-of-sequence token, which "last" then reads.
    prepend_layers: after that many of the first layers the last token's hidden state is what a
        placeholder before the text shows to the text (Token Prepending); the paper uses about 7.
    layers: the first ones alone. final_norm: whether the model's last normalisation follows them.
    dimensions: the first ones alone.  late_chunking: see `encode_documents`; needs "mean".
    prepend, normalize, max_length, dtype, device: as in `BiEncoder`; 4,096 tokens at most
        unless asked for.

    Raises InputError when there is no such model, or its weights are not safetensors.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        pooling: str = "last",
        pool_template: bool = False,
        bidirectional: bool = False,
        query_template: str | None = None,
        passage_template: str = TEXT,
        instruction: str = "",
        eos: bool = False,
        prepend_layers: int = 0,
        layers: int | None = None,
        final_norm: bool = True,
        dimensions: int | None = None,
        late_chunking: bool = False,
        prepend: str = "title",
        normalize: bool = True,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        _check(pooling, query_template, passage_template)
        if late_chunking:
            _check_late(pooling, passage_template, prepend_layers)
        check_number_type(dtype)
        names(prepend)
        self._model = found = find_model(str(model))
        check_layers(layers, found)
        limit = length_limit(max_length, found) or LONGEST
        self.max_length = limit if max_length else min(limit, LONGEST)
        self.pooling, self.pool_template = pooling, pool_template
        self.query_template, self.passage_template = query_template, passage_template
        self.instruction, self.prepend, self.eos = instruction, prepend, eos
        self.normalize, self.late_chunking = normalize, late_chunking
        self._pass = Pass(bidirectional, prepend_layers, final_norm)
        self._layers, self._dimensions = layers, dimensions
        self._dtype, self._device = dtype, device
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = signature(cls).parameters.keys() - {"model", "device"}
        return cls(settings["model"], **{name: settings[name] for name in kept})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its vectors."""
        settings: dict[str, JSON] = {
            "class": "decoder-encoder",
            "model": stated_name(self._model),
            "files": files_digest(self._model),
            "pooling": self.pooling,
            "pool_template": self.pool_template,
            "bidirectional": self._pass.bidirectional,
            "query_template": self.query_template,
            "passage_template": self.passage_template,
            "instruction": self.instruction,
            "eos": self.eos,
            "prepend_layers": self._pass.prepend_layers,
            "layers": self._layers,
            "final_norm": self._pass.final_norm,
            "dimensions": self._dimensions,
            "late_chunking": self.late_chunking,
            "prepend": self.prepend,
            "normalize": self.normalize,
            "max_length": self.max_length,
            "dtype": self._dtype,
        }
        return fingerprint_of(Path(self._model.name).name, settings)

    @property
    def dimensions(self) -> int:
        return first_dimensions(self._decoder.dimensions, self._dimensions, self._model.name)

    @property
    def number_type(self) -> str:
        """What `dtype` comes to on this device: "float32", "bfloat16" or "float16"."""
        return str(self._types[0]).removeprefix("torch.")

    def encode_passages(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """(texts, d) float32 in the order of the texts.

        progress: called with the number of texts done since it was called last.
        """
        if self.late_chunking:
            check_texts(texts)
            whole = [ChunkedText(text, [(0, len(text))]) for text in texts]
            return self.encode_documents(whole, progress=progress)
        return self._encode(texts, [self.passage_template] * len(texts), progress)

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        instructions: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """(texts, d) float32 in the order of the texts.

        instructions: one for each query instead of the encoder's own.
        """
        given = one_each(self.instruction, instructions, len(texts))
        templates = [query_template(self.query_template, one) for one in given]
        return self._encode(texts, templates, progress)

    def encode_documents(
        self, documents: Sequence[ChunkedText], *, progress: Progress | None = None
    ) -> Vectors:
        """(chunks, d) float32: the chunks of all documents in order, each read in its document.

        Raises UsageError unless the encoder was made for it.
        """
        check_asked(self.late_chunking)
        prompt = self.passage_template.removesuffix(TEXT)
        vectors = late_vectors(documents, prompt, self, self.max_length, self._budget, progress)
        self.encoded += len(vectors)
        return self._finished(vectors)

    def token_spans(self, texts: Sequence[str]) -> list[TokenSpans]:
        """The tokens of each whole text and the characters they stand for."""
        return spans_by(self._decoder.tokenizer, texts)

    def token_vectors(self, tokens: Sequence[NDArray[np.int32]]) -> Vectors:
        """(tokens, d) hidden states, one text after the other, not normalised."""
        states = self._decoder.hidden(tokens, None, self._pass)
        rows = [states[row, : len(text)] for row, text in enumerate(tokens)]
        return np.concatenate([row.numpy(force=True) for row in rows])

    def _encode(
        self, texts: Sequence[str], templates: Sequence[str], progress: Progress | None
    ) -> Vectors:
        check_texts(texts)
        vectors = np.empty((len(texts), self._decoder.dimensions), dtype=np.float32)
        for start in range(0, len(texts), WINDOW):
            window = slice(start, start + WINDOW)
            prompted, cut = self._reading.read(texts[window], templates[window])
            self.truncated += cut
            lengths = np.array([len(one.ids) for one in prompted], dtype=np.int64)
            for chosen in by_length(lengths, self._budget):
                vectors[start + chosen] = self._pooled([prompted[place] for place in chosen])
                if progress:
                    progress(len(chosen))
        self.encoded += len(texts)
        return self._finished(vectors)

    def _finished(self, vectors: Vectors) -> Vectors:
        kept = vectors[:, : self.dimensions]
        return unit(kept) if self.normalize else kept

    def _pooled(self, batch: Sequence[Prompted]) -> Vectors:
        """(texts, d): the hidden states of each text, weighted."""
        import torch

        places = [one.placeholder for one in batch if one.placeholder is not None]
        states = self._decoder.hidden([one.ids for one in batch], places or None, self._pass)
        shares = np.zeros(states.shape[:2], dtype=np.float32)
        for row, one in enumerate(batch):
            pooled, weights = token_weights(one, self.pooling, self.pool_template)
            shares[row, pooled] = weights
        weighted = torch.from_numpy(shares).to(states.device)[:, None]
        with torch.inference_mode():
            return np.asarray(torch.bmm(weighted, states)[:, 0].numpy(force=True))

    @cached_property
    def _decoder(self) -> DecoderModel:
        number_type, target = self._types
        decoder = DecoderModel(self._model, number_type, target, self._layers)
        decoder.check(self._pass)
        return decoder

    @cached_property
    def _reading(self) -> Reading:
        tokenizer = self._decoder.tokenizer
        if self.eos and tokenizer.eos_token_id is None:
            remedy = "Leave the option out"
            raise UsageError(f"{self._model.name!r} has no end-of-sequence token", remedy=remedy)
        eos = tokenizer.eos_token_id if self.eos else None
        return Reading(tokenizer, self.max_length, eos, self._pass.prepend_layers > 0)

    @cached_property
    def _types(self) -> Any:
        target = choose_device(self._device)
        return choose_number_type(self._dtype, target), target

    @property
    def _budget(self) -> int:
        return BUDGET if self._types[1].type == "cpu" else BUDGET_CUDA


def token_weights(
    text: Prompted, pooling: str, whole: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The places that are pooled and their weights, which sum to one.

    whole: the template's tokens count too; so they do where the text has none of its own.
    """
    if pooling == "last":
        return np.array([len(text.ids) - 1]), np.ones(1, dtype=np.float32)
    everything = np.arange(len(text.ids))
    if text.placeholder is not None:
        everything = np.delete(everything, text.placeholder)
    places = everything if whole or not len(text.own) else text.own
    weights = np.ones(len(places)) if pooling == "mean" else np.arange(1.0, len(places) + 1)
    return places, (weights / weights.sum()).astype(np.float32)


def _check(pooling: str, query: str | None, passage: str) -> None:
    if pooling not in POOLINGS:
        raise UsageError(f"pooling={pooling!r}", remedy=f"Use one of {', '.join(POOLINGS)}")
    check_template("passage_template", passage)
    if query is not None:
        check_template("query_template", query)


def _check_late(pooling: str, passage: str, prepend_layers: int) -> None:
    if pooling != "mean" or passage.count(TEXT) > 1 or not passage.endswith(TEXT) or prepend_layers:
        raise UsageError(
            f"late_chunking=True with pooling={pooling!r}, passage_template={passage!r} and "
            f"prepend_layers={prepend_layers}",
            remedy=f"Use pooling='mean', a template that ends with one {TEXT}, and no prepending",
        )
