"""Passages that no query will want, left out before they are indexed.

A passage's quality is an estimate of whether any query could find it relevant, made without one.
What costs most, encoding and storing, is then done for the better passages alone.

Chang, Mishra, Macdonald and MacAvaney, Neural Passage Quality Estimation for Static Pruning, SIGIR
2024; its statistical estimators are from Zhou and Croft, Document Quality Models for Web Ad Hoc
Retrieval, CIKM 2005.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..records import WeightedTerms
from ..stages import Encoder
from .bi_encoder import BUDGET, BUDGET_CUDA, check_texts
from .loaded_encoder import loading
from .model_folder import find_model
from .processor import choose_device, choose_number_type
from .text_batches import by_length

Qualities: TypeAlias = NDArray[np.float32]
Quality: TypeAlias = Callable[[Sequence[str]], Qualities]
"""Texts to (texts,) float32, higher = better; any function will do."""

Terms: TypeAlias = Encoder[WeightedTerms, WeightedTerms]

SMOOTHING = 0.5
"""The share of the collection in the language model of a passage."""


def kept(qualities: Qualities, prune: float) -> NDArray[np.bool_]:
    """(texts,) bool: all but the share `prune` of lowest quality; of equal ones the first stay.

    Raises UsageError for a share outside [0, 1), InputError for a quality that is not a number.
    """
    if not 0 <= prune < 1:
        raise UsageError(f"prune={prune}", remedy="Use a share from 0 up to, but not, 1, as 0.25")
    if np.isnan(qualities).any():
        what = f"the quality of text {int(np.isnan(qualities).argmax())} is not a number"
        raise InputError(what, remedy="Give a finite number for every text")
    stay = np.ones(len(qualities), np.bool_)
    order = np.argsort(-qualities, kind="stable")
    stay[order[len(order) - int(prune * len(order)) :]] = False
    return stay


class InformationToNoise:
    """Distinct terms of a passage, as a share of all its terms; 0 for none.

    terms: an encoder whose weights are term frequencies, such as `Analyzer`.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def __call__(self, texts: Sequence[str]) -> Qualities:
        keys = self._terms.encode_passages(texts)
        counts = np.diff(keys.offsets)
        return np.asarray(counts / np.maximum(_totals(keys), 1), np.float32)


class CollectionDistance:
    """Minus the divergence of the collection's words from those of a passage.

    A passage that speaks as the collection does is better than a list of odd words.

    terms: an encoder whose weights are term frequencies.  collection: texts that the word
    frequencies are counted in, all of them or a sample.
    """

    def __init__(self, terms: Terms, collection: Sequence[str]) -> None:
        self._terms = terms
        keys = terms.encode_passages(collection)
        counts = np.bincount(keys.ids, keys.weights, minlength=len(keys.vocabulary))
        shares = counts / max(counts.sum(), 1)
        self._shares = dict(zip(keys.vocabulary, shares.tolist(), strict=True))

    def __call__(self, texts: Sequence[str]) -> Qualities:
        keys = self._terms.encode_passages(texts)
        shares = np.array([self._shares.get(term, 0.0) for term in keys.vocabulary])[keys.ids]
        rows = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
        own = keys.weights / _totals(keys)[rows]
        # A word that the passage lacks adds share * log(1 / SMOOTHING): taken off where it has it.
        mixed = (1 - SMOOTHING) * own + SMOOTHING * shares
        tiny = np.finfo(np.float64).tiny  # a word that the collection lacks adds nothing
        gains = shares * np.log(SMOOTHING * np.maximum(shares, tiny) / mixed)
        near = np.bincount(rows, gains, minlength=len(keys))
        return np.asarray(np.log(SMOOTHING) - near, np.float32)


class ModelQuality:
    """The first score of a sequence classifier that reads the passage alone.

    model: a Hugging Face name or a local folder; trained to tell relevant passages from others
    without a query, as the paper's, or to score any quality.  label: which of its outputs.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        label: int = 0,
        max_length: int = 512,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        self._model = find_model(str(model))
        self._label, self._max_length = label, max_length
        self._dtype, self._device = dtype, device

    def __call__(self, texts: Sequence[str]) -> Qualities:
        check_texts(texts)
        import torch

        tokenizer, network = self._loaded
        options = {"truncation": True, "max_length": self._max_length}
        ids = tokenizer(list(texts), **options)["input_ids"] if texts else []
        qualities = np.zeros(len(texts), np.float32)
        budget = BUDGET if network.device.type == "cpu" else BUDGET_CUDA
        for chosen in by_length(np.array([len(one) for one in ids], np.int64), budget):
            some = [texts[place] for place in chosen]
            batch = tokenizer(some, padding=True, return_tensors="pt", **options)
            with torch.inference_mode():
                scores = network(**batch.to(network.device)).logits[:, self._label]
            qualities[chosen] = scores.float().numpy(force=True)
        return qualities

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        target = choose_device(self._device)
        with loading(self._model):
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(self._model.folder, **options)
            options |= {"dtype": choose_number_type(self._dtype, target)}
            options |= {"use_safetensors": True, "output_loading_info": True}
            load: Any = AutoModelForSequenceClassification.from_pretrained
            network, found = load(self._model.folder, **options)
            if found["missing_keys"]:
                raise ValueError(f"it has no weights for {min(found['missing_keys'])}")
        return tokenizer, network.to(target).eval()


def _totals(keys: WeightedTerms) -> NDArray[np.float64]:
    """(texts,) terms of each text, repeated ones included."""
    rows = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    return np.bincount(rows, keys.weights, minlength=len(keys)).astype(np.float64)
