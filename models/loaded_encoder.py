"""Any text encoder that sentence-transformers can load, for folders that are no plain BERT."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtra, UsageError
from .matryoshka import keep_layers
from .model_folder import ModelFolder
from .plain_bert import AT_ONCE
from .token_spans import TokenSpans, spans_by

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import device, dtype
    from torch.nn import Module


CHARACTERS = 4
"""In a token of common text, about: only the sizes of batches depend on it."""


class LoadedEncoder:
    """A SentenceTransformer, asked in batches that are sorted and cut by their caller."""

    def __init__(
        self,
        model: ModelFolder,
        max_length: int | None,
        number_type: "dtype",
        target: "device",
        layers: int | None = None,
    ) -> None:
        self._model: SentenceTransformer = load(model, number_type, target)
        if max_length is not None:
            self._model.max_seq_length = max_length
        if layers is not None:
            keep_layers(self._transformer(model.name), layers, model.name)

    def _transformer(self, name: str) -> "Module":
        found: Any = getattr(self._model[0], "auto_model", None)
        if found is None:
            raise UsageError(f"{name!r} has no layers", remedy="Leave out the option 'layers'")
        transformer: Module = found
        return transformer

    @property
    def dimensions(self) -> int:
        found = self._model.get_embedding_dimension()
        return int(found) if found else self.encode([""], "", is_query=True).shape[1]

    def lengths(
        self, texts: Sequence[str], prompts: Sequence[str]
    ) -> tuple[NDArray[np.int64], int]:
        """Tokens of each text as the model reads it, and how many texts are cut."""
        limit = self._model.max_seq_length
        tokenizer = self._model.tokenizer
        if not callable(tokenizer):  # static embeddings bring a bare tokenizer without a limit
            return np.array([1 + len(text) // CHARACTERS for text in texts]), 0
        whole: list[int] = []
        for start in range(0, len(texts), AT_ONCE):
            slice_ = slice(start, start + AT_ONCE)
            prompted = [a + b for a, b in zip(prompts[slice_], texts[slice_], strict=True)]
            found = tokenizer(prompted, truncation=False, verbose=False)["input_ids"]
            whole += [len(ids) for ids in found]
        lengths = np.array(whole, dtype=np.int64)
        if limit is None:
            return lengths, 0
        return np.minimum(lengths, limit), int((lengths > limit).sum())

    def encode_each(
        self, texts: Sequence[str], prompts: Sequence[str], *, is_query: bool
    ) -> NDArray[np.float32]:
        """(texts, d) vectors, every text after its own prompt."""
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for prompt in dict.fromkeys(prompts):
            own = [place for place, other in enumerate(prompts) if other == prompt]
            batch = [texts[place] for place in own]
            vectors[own] = self.encode(batch, prompt, is_query=is_query)
        return vectors

    def encode(self, texts: Sequence[str], prompt: str, *, is_query: bool) -> NDArray[np.float32]:
        """(texts, d) vectors as the model's own modules give them."""
        encode = self._model.encode_query if is_query else self._model.encode_document
        plain = partial(encode, show_progress_bar=False, convert_to_tensor=True)
        vectors: Any = plain(list(texts), prompt=prompt, batch_size=len(texts))
        return np.asarray(vectors.float().numpy(force=True))

    def token_spans(self, texts: Sequence[str]) -> list[TokenSpans]:
        """The tokens of each whole text and the characters they stand for."""
        return spans_by(self._model.tokenizer, texts)

    def token_vectors(self, tokens: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """(tokens, d) vectors of the last layer, one text after the other, not normalised."""
        import torch

        lengths = torch.tensor([len(text) for text in tokens])
        kept = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.zeros(kept.shape, dtype=torch.int64)
        ids[kept] = torch.from_numpy(np.concatenate(tokens).astype(np.int64))
        target = self._model.device
        features = {"input_ids": ids.to(target), "attention_mask": kept.long().to(target)}
        with torch.inference_mode():
            found: Any = self._model[0](features)["token_embeddings"]
            return np.asarray(found[kept.to(target)].float().numpy(force=True))


def load(
    model: ModelFolder, number_type: "dtype", target: "device", kind: str = "SentenceTransformer"
) -> Any:
    """From the folder alone: no network, no code of the model's own, no pickled weights.

    kind: the class of sentence-transformers that loads it.
    """
    with loading(model):
        import sentence_transformers

        found = getattr(sentence_transformers, kind)(
            str(model.folder),
            device=str(target),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": number_type, "use_safetensors": True},
        ).eval()
    tokenizer = found.tokenizer
    if getattr(tokenizer, "pad_token", "") is None:  # as decoders have it; any token does, unseen
        tokenizer.pad_token = tokenizer.eos_token
    return found


@contextmanager
def loading(model: ModelFolder) -> Iterator[None]:
    """A model is loaded here: silently, and whatever goes wrong names its folder."""
    # transformers tokenizes in parallel threads, and warns when the process forks later
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not (find_spec("transformers") and find_spec("sentence_transformers")):
        raise MissingExtra("sentence-transformers", "dense")
    try:
        with no_progress_bars():
            yield
    except Exception as error:  # loading reads foreign configuration: any error may come of it
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the model cannot be loaded ({reason})",
            where=str(model.folder),
            remedy="Check that the folder is complete, or use another model",
        ) from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Without the bars that transformers draws while it loads weights."""
    from transformers.utils import logging

    switches: Any = logging  # carries no types
    shown = logging.is_progress_bar_enabled()
    switches.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            switches.enable_progress_bar()


@contextmanager
def no_load_report(*unless: str) -> Iterator[None]:
    """Without transformers' report of weights it lacked or did not read, `unless` it says so."""

    def telling(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return "LOAD REPORT" not in text or any(word in text for word in unless)

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(telling)
    try:
        yield
    finally:
        logger.removeFilter(telling)
