"""The forward pass that the encoders of one model share: each batch of texts is run once.

A pass computes every output that some encoder was made for. What it gives is kept until each of
them has taken its own, or until KEPT other batches have been encoded.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import TokenVectors
from .bi_encoder import BUDGET, BUDGET_CUDA, WINDOW, Progress, Vectors
from .fingerprint import files_digest
from .loaded_tokens import LoadedTokens
from .model_folder import ModelFolder
from .processor import choose_device, choose_number_type
from .sparse_terms import Row, token_bytes, weighted_terms
from .text_batches import by_length
from .whole_words import Ids

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

OUTPUTS = ("dense", "sparse", "multi")
HEADS = {"sparse": "sparse_linear", "multi": "colbert_linear"}
"""The outputs that have a linear layer of their own, and its file."""


KEPT = 8
"""Batches of which something is kept that was not taken: an encoder may be several ahead."""


@dataclass(slots=True)
class Pass:
    """What a pass gave and nobody took yet, by output, and how many texts it cut."""

    keys: dict[str, Any]
    truncated: int


class OnePass:
    """A model, the outputs that are `wanted` of it, and what its last passes gave."""

    def __init__(
        self, model: ModelFolder, max_length: int | None, number_type: str, device: str
    ) -> None:
        self.wanted: set[str] = set()
        self.passes = 0
        self._model, self._max_length = model, max_length
        self._dtype, self._device = number_type, device
        self._lock = Lock()
        self._heads: dict[str, tuple[Tensor, Tensor]] = {}
        self._untaken: dict[tuple[str, ...], Pass] = {}

    @cached_property
    def files(self) -> str:
        """The digest of the model's files."""
        return files_digest(self._model)

    def take(
        self, output: str, texts: tuple[str, ...], progress: Progress | None
    ) -> tuple[Any, int]:
        """The keys of an output, and how many texts were cut; kept keys are handed out once."""
        with self._lock:
            found = self._untaken.pop(texts, None)
            if found is None or output not in found.keys:
                while len(self._untaken) >= KEPT:
                    del self._untaken[next(iter(self._untaken))]
                found = self._run(texts, progress)
            elif progress and texts:
                progress(len(texts))
            keys = found.keys.pop(output)
            if found.keys:
                self._untaken[texts] = found
            return keys, found.truncated

    def _run(self, texts: tuple[str, ...], progress: Progress | None) -> Pass:
        self.passes += 1
        truncated = 0
        found: dict[str, list[Any]] = {output: [None] * len(texts) for output in self.wanted}
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            lengths, cut = self._loaded.lengths(window, None, is_query=False)
            truncated += cut
            for places in by_length(lengths, self._budget):
                rows = self._batch([window[place] for place in places], found)
                for output, own in found.items():
                    for place, row in zip(places.tolist(), rows[output], strict=True):
                        own[start + place] = row
                if progress:
                    progress(len(places))
        return Pass({name: self._joined(name, rows) for name, rows in found.items()}, truncated)

    def _batch(self, texts: list[str], outputs: Iterable[str]) -> dict[str, list[Any]]:
        """What each output makes of each text."""
        import torch

        ids, offsets, states = self._loaded.states(texts, None, is_query=False)
        if ids is None:
            raise InputError(
                "the model pools its tokens itself",
                where=str(self._model.folder),
                remedy="Use a model in the layout of BGE-M3",
            )
        compute: dict[str, Callable[[Ids, Ids, Tensor], list[Any]]]
        compute = {"dense": self._dense, "sparse": self._sparse, "multi": self._multi}
        with torch.inference_mode():
            return {output: compute[output](ids, offsets, states) for output in outputs}

    def _dense(self, ids: Ids, offsets: Ids, states: "Tensor") -> list[Vectors]:
        from torch.nn.functional import normalize

        first = normalize(states[offsets[:-1].tolist()].float(), dim=-1)
        return list(first.numpy(force=True))

    def _sparse(self, ids: Ids, offsets: Ids, states: "Tensor") -> list[Row]:
        from torch.nn.functional import linear

        weights = linear(states, *self._head("sparse")).relu()[:, 0].float().numpy(force=True)
        weights = np.where(self._unweighted[ids], np.float32(0), weights)
        pairs = zip(np.split(ids, offsets[1:-1]), np.split(weights, offsets[1:-1]), strict=True)
        return [_greatest(*pair) for pair in pairs]

    def _multi(self, ids: Ids, offsets: Ids, states: "Tensor") -> list[Vectors]:
        from torch.nn.functional import linear, normalize

        vectors = normalize(linear(states, *self._head("multi")).float(), dim=-1)
        texts = np.split(vectors.numpy(force=True), offsets[1:-1])
        return [text[1:] for text in texts]

    def _joined(self, output: str, rows: list[Any]) -> Any:
        """One batch of keys from what each text has."""
        if output == "sparse":
            return weighted_terms(rows, self._tokens)
        if output == "dense":
            nothing = np.empty((0, self._loaded.dimensions), np.float32)
            return np.stack(rows) if rows else nothing
        nothing = np.empty((0, len(self._head("multi")[1])), np.float32)
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return TokenVectors(offsets, np.concatenate([nothing, *rows]))

    def _head(self, output: str) -> "tuple[Tensor, Tensor]":
        """Weight (d', d) and bias (d',) of the output's linear layer."""
        if output not in self._heads:
            number_type, target = self._types
            weight, bias = read_head(self._model, output, self._loaded.dimensions)
            self._heads[output] = weight.to(target, number_type), bias.to(target, number_type)
        return self._heads[output]

    @cached_property
    def _loaded(self) -> LoadedTokens:
        return LoadedTokens(self._model, self._max_length, *self._types)

    @cached_property
    def _types(self) -> "tuple[dtype, device]":
        target = choose_device(self._device)
        return choose_number_type(self._dtype, target), target

    @cached_property
    def _tokens(self) -> list[bytes]:
        tokenizer = self._loaded.pieces.tokenizer
        return token_bytes(tokenizer, tokenizer.get_vocab_size())

    @cached_property
    def _unweighted(self) -> NDArray[np.bool_]:
        """(tokens,) the special ones, and the one for whatever the tokenizer lacks."""
        pieces = self._loaded.pieces
        return np.asarray(pieces.special | (np.arange(len(pieces.special)) == pieces.unknown))

    @property
    def _budget(self) -> int:
        return BUDGET if self._types[1].type == "cpu" else BUDGET_CUDA


_LOADED: WeakValueDictionary[tuple[Path, int | None, str, str], OnePass] = WeakValueDictionary()
_LOADED_LOCK = Lock()


def one_pass(model: ModelFolder, max_length: int | None, number_type: str, device: str) -> OnePass:
    """The pass of this model that some encoder holds already, or a new one."""
    key = (model.folder, max_length, number_type, device)
    with _LOADED_LOCK:
        found = _LOADED.get(key) or OnePass(model, max_length, number_type, device)
        _LOADED[key] = found
        return found


def check_head(model: ModelFolder, output: str) -> None:
    """InputError where the model has no layer for this output, or has it as a pickle only."""
    name = HEADS.get(output)
    if name is None or (model.folder / f"{name}.safetensors").is_file():
        return
    if (model.folder / f"{name}.pt").is_file():
        raise InputError(
            f"the layer for {output} keys is a pickle, which is never read",
            where=str(model.folder / f"{name}.pt"),
            remedy=f"If you trust it, write its tensors to {name}.safetensors beside it once "
            "(the lines for that are in the documentation of ragstone.models.three_outputs)",
        )
    raise InputError(
        f"the model has no layer for {output} keys ({name}.safetensors)",
        where=str(model.folder),
        remedy="Use a model in the layout of BGE-M3",
    )


def read_head(model: ModelFolder, output: str, width: int) -> "tuple[Tensor, Tensor]":
    """Weight (d', width) and bias (d',); InputError for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = model.folder / f"{HEADS[output]}.safetensors"
    try:
        tensors = load_file(path)
        weight, bias = tensors["weight"], tensors["bias"]
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(
            f"no linear layer ({error})", where=str(path), remedy="Write it again"
        ) from None
    outputs = 1 if output == "sparse" else len(bias)
    if weight.shape != (outputs, width) or bias.shape != (outputs,):
        shapes = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        raise InputError(
            f"a layer of the shapes {shapes} on vectors of {width} dimensions",
            where=str(path),
            remedy=f"Store weight ({outputs}, {width}) and bias ({outputs},)",
        )
    return weight, bias


def _greatest(ids: Ids, weights: Vectors) -> Row:
    """The distinct tokens of a text, ascending, each with its greatest weight, if above 0."""
    tokens, places = np.unique(ids, return_inverse=True)
    greatest = np.zeros(len(tokens), dtype=np.float32)
    np.maximum.at(greatest, places, weights)
    return tokens[greatest > 0], greatest[greatest > 0]
