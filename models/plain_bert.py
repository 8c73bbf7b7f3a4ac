"""A BERT text encoder read straight from its folder, with its forward pass in NumPy.

Most small bi-encoders are a BERT, a mean over its token vectors and a normalisation. Such a folder
needs neither transformers nor torch: the weights are memory-mapped, and a query is encoded within
milliseconds of the start of a process. For many texts `packed_bert` does the same in torch;
folders of any other kind are loaded by sentence-transformers.

Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019.
Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtra
from .model_folder import ModelFolder
from .token_spans import TokenSpans, token_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Floats = NDArray[np.float32]
Tokens = NDArray[np.int32]
"""The token numbers of one text, special tokens included."""

AT_ONCE = 256
"""Texts given to the tokenizer together: what it returns is many times the size of the tokens."""

STORED = {"F32": "<f4", "F16": "<f2"}
TRANSFORMER_OPTIONS = {
    "max_seq_length",
    "do_lower_case",
    "transformer_task",
    "modality_config",
    "module_output_name",
}


def read_plain_bert(model: ModelFolder, layers: int | None = None) -> "PlainBert | None":
    """The encoder, or None where the forward pass below would not be the model's own.

    layers: how many of the first ones are computed; all of them unless given.
    """
    bert = PlainBert(model, layers)
    return bert if _is_plain(model) and bert.weights_complete() else None


def _is_plain(model: ModelFolder) -> bool:
    """Anything unusual says False."""
    config, options = model.json("config.json"), model.json("sentence_bert_config.json")
    stages = [str(stage["type"]).rsplit(".", 1)[-1] for stage in model.modules]
    files = ("model.safetensors", "tokenizer.json", "adapter_config.json")
    return (
        stages in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and model.modules[0]["path"] == ""
        and model.json(f"{model.modules[1]['path']}/config.json").get("include_prompt", True)
        and model.pooling in ("mean", "cls")
        and config.get("model_type") == "bert"
        and model.max_length is not None
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and options.keys() <= TRANSFORMER_OPTIONS
        and not options.get("do_lower_case")
        and options.get("transformer_task", "feature-extraction") == "feature-extraction"
        and [(model.folder / file).exists() for file in files] == [True, True, False]
    )


@dataclass(frozen=True)
class PlainBert:
    """The weights and the tokenizer of a plain BERT folder; `kept` layers are computed, or all."""

    model: ModelFolder
    kept: int | None = None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return dict(self.model.json("config.json"))

    @property
    def dimensions(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def heads(self) -> int:
        return int(self.config["num_attention_heads"])

    @property
    def layers(self) -> int:
        return self.kept or int(self.config["num_hidden_layers"])

    @property
    def epsilon(self) -> float:
        return float(self.config.get("layer_norm_eps", 1e-12))

    @cached_property
    def weights(self) -> Mapping[str, NDArray[Any]]:
        """Tensors by name, memory-mapped; the prefix "bert." of some checkpoints is cut off."""
        tensors = read_safetensors(self.model.folder / "model.safetensors")
        return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}

    def weights_complete(self) -> bool:
        """False where a tensor is missing or is kept in a number type that NumPy lacks."""
        last = f"encoder.layer.{self.layers - 1}.output.LayerNorm.bias"
        wanted = ("embeddings.word_embeddings.weight", "embeddings.LayerNorm.bias", last)
        return all(name in self.weights for name in wanted)

    def weight(self, name: str) -> Floats:
        return self.weights[name].astype(np.float32, copy=False)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("tokenizers", "dense") from None
        tokenizer = Tokenizer.from_file(str(self.model.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()  # texts are cut by `tokenize`, which counts them
        return tokenizer

    def tokenize(self, texts: Sequence[str], max_length: int) -> tuple[list[Tokens], int]:
        """The tokens of each text, at most `max_length`, and how many texts were cut."""
        tokens: list[Tokens] = []
        for start in range(0, len(texts), AT_ONCE):
            slice_ = list(texts[start : start + AT_ONCE])
            encodings = self.tokenizer.encode_batch_fast(slice_)
            tokens += [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        truncated = sum(len(text) > max_length for text in tokens)
        return [_cut(text, max_length) for text in tokens], truncated

    def token_spans(self, texts: Sequence[str]) -> list[TokenSpans]:
        """The tokens of each whole text and the characters they stand for."""
        found = self.tokenizer.encode_batch(list(texts))
        return [token_spans(one.ids, one.offsets, one.special_tokens_mask) for one in found]

    def embeddings(self, tokens: Sequence[Tokens]) -> Floats:
        """Sums of word, position and segment embeddings, before normalisation: (tokens, d)."""
        words = self.weights["embeddings.word_embeddings.weight"][np.concatenate(tokens)]
        positions = np.concatenate([np.arange(len(text)) for text in tokens])
        shared = self.weight("embeddings.position_embeddings.weight")[positions]
        shared += self.weight("embeddings.token_type_embeddings.weight")[0]
        return np.asarray(words + shared)

    def encode(self, tokens: Sequence[Tokens]) -> Floats:
        """(texts, d) pooled vectors, not normalised; computed in float32 without torch.

        The texts are packed end to end, so that every weight is read once; inside, a token is a
        column: with few tokens BLAS is fastest when the large matrix stands on the left.
        """
        spans = _spans(tokens)
        x = self._last_layer(tokens, spans)
        pooled = [x[:, span][:, 0] if self._first else x[:, span].mean(1) for span in spans]
        return np.stack(pooled)

    def token_vectors(self, tokens: Sequence[Tokens]) -> Floats:
        """(tokens, d) vectors of the last layer, one text after the other, not normalised."""
        return np.ascontiguousarray(self._last_layer(tokens, _spans(tokens)).T)

    def _last_layer(self, tokens: Sequence[Tokens], spans: Sequence[slice]) -> Floats:
        """(d, tokens)."""
        x = self._normalised(self.embeddings(tokens).T, "embeddings.LayerNorm")
        for number in range(self.layers):
            x = self._layer(f"encoder.layer.{number}", x, spans)
        return x

    @property
    def _first(self) -> bool:
        return self.model.pooling == "cls"

    def _layer(self, layer: str, x: Floats, spans: Sequence[slice]) -> Floats:
        attended = self._attention(layer, x, spans)
        attended = self._linear(f"{layer}.attention.output.dense", attended)
        x = self._normalised(x + attended, f"{layer}.attention.output.LayerNorm")
        hidden = gelu(self._linear(f"{layer}.intermediate.dense", x))
        hidden = self._linear(f"{layer}.output.dense", hidden)
        return self._normalised(x + hidden, f"{layer}.output.LayerNorm")

    def _attention(self, layer: str, x: Floats, spans: Sequence[slice]) -> Floats:
        names = (f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))
        query, key, value = (
            self._linear(name, x).reshape(self.heads, -1, x.shape[1]) for name in names
        )
        query /= np.float32(np.sqrt(query.shape[1]))
        attended = np.empty_like(value)
        for span in spans:
            scores = query[:, :, span].transpose(0, 2, 1) @ key[:, :, span]
            shares = softmax(scores).transpose(0, 2, 1)
            attended[:, :, span] = value[:, :, span] @ shares
        return attended.reshape(x.shape)

    def _linear(self, name: str, x: Floats) -> Floats:
        y: Floats = self.weight(f"{name}.weight") @ x
        y += self.weight(f"{name}.bias")[:, None]
        return y

    def _normalised(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(0)
        x /= np.sqrt((x * x).mean(0) + np.float32(self.epsilon))
        x *= self.weight(f"{name}.weight")[:, None]
        x += self.weight(f"{name}.bias")[:, None]
        return x


def _spans(tokens: Sequence[Tokens]) -> list[slice]:
    """Where each text lies when they are packed end to end."""
    ends = np.cumsum([len(text) for text in tokens])
    return [slice(end - len(text), end) for end, text in zip(ends, tokens, strict=True)]


def _cut(tokens: Tokens, max_length: int) -> Tokens:
    """The first tokens and the closing one."""
    if len(tokens) <= max_length:
        return tokens
    return np.concatenate([tokens[: max_length - 1], tokens[-1:]])


def softmax(scores: Floats) -> Floats:
    """Over the last axis, in place."""
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def gelu(x: Floats) -> Floats:
    """x times the normal distribution function of x.

    The error function is 7.1.26 of Abramowitz and Stegun, right to 1.5e-7: as close as float32.
    """
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    tail = series * np.exp(-z * z) / 2  # the share of the distribution beyond |x|
    return np.asarray(x * np.where(x >= 0, 1 - tail, tail))


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The float32 and float16 tensors of a file, memory-mapped; others are left out."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, path.stat().st_size)))
        content = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {
            name: _tensor(content, entry)
            for name, entry in entries.items()
            if entry["dtype"] in STORED
        }
    except (ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"not a safetensors file ({error})", where=str(path), remedy="Fetch the model again"
        ) from None


def _tensor(content: NDArray[np.uint8], entry: Mapping[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    return np.asarray(content)[start:end].view(STORED[entry["dtype"]]).reshape(entry["shape"])
