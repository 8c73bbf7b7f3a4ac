"""Token vectors from any model that sentence-transformers can load.

A multi-vector model (ColBERT, PyLate, or sentence-transformers' own kind) reads queries and
passages as it was trained to: its marker tokens stand before a text, short queries are filled up
with mask tokens, and its skip list takes passages' punctuation away. From any other encoder come
the vectors of its last layer.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020.
Santhanam et al., ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction,
NAACL 2022.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import TokenVectors
from .loaded_encoder import load, no_load_report
from .model_folder import ModelFolder
from .plain_bert import AT_ONCE
from .whole_words import Ids, Pieces

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")
STANFORD = "HF_ColBERT"
ANY_LENGTH = 1 << 31


def is_multi_vector(model: ModelFolder) -> bool:
    """Whether the model was made for late interaction."""
    kind = model.json("config_sentence_transformers.json").get("model_type")
    return kind in MODEL_TYPES or STANFORD in (model.json("config.json").get("architectures") or ())


class LoadedTokens:
    """A MultiVectorEncoder or SentenceTransformer, asked in batches that its caller cuts."""

    def __init__(
        self, model: ModelFolder, max_length: int | None, number_type: "dtype", target: "device"
    ) -> None:
        self._where = str(model.folder)
        self._made_for_it = is_multi_vector(model)
        kind = "MultiVectorEncoder" if self._made_for_it else "SentenceTransformer"
        with no_load_report("MISSING", "MISMATCH"):  # unread: Stanford's projection is there too
            self._model = load(model, number_type, target, kind)
        if max_length is not None:
            self._model.max_seq_length = max_length
            if self._made_for_it:
                self._model[0].document_length = max_length

    @cached_property
    def dimensions(self) -> int:
        _, keys = self.encode(["a"], None, is_query=False)
        return int(keys.vectors.shape[1])

    @property
    def normalizes(self) -> bool:
        """Whether vectors should have length 1: not where a multi-vector model leaves them."""
        stages = [type(stage).__name__ for stage in self._model]
        return not self._made_for_it or "Normalize" in stages

    @cached_property
    def pieces(self) -> Pieces:
        """What the model's tokens are parts of."""
        tokenizer = self._model.tokenizer
        unknown = tokenizer.unk_token_id
        own = sorted(set(tokenizer.all_special_ids) - {unknown})
        return Pieces(tokenizer.backend_tokenizer, own, unknown)

    def prompt(self, *, is_query: bool) -> str | None:
        """What the model itself puts before a text."""
        names = ("query",) if is_query else ("document", "passage", "corpus")
        prompts = self._model.prompts
        return next((str(prompts[name]) for name in names if prompts.get(name)), None)

    def lengths(
        self, texts: Sequence[str], prompt: str | None, *, is_query: bool
    ) -> tuple[Ids, int]:
        """Tokens of each text as the model reads it, and how many texts are cut."""
        whole: list[int] = []
        for start in range(0, len(texts), AT_ONCE):
            prompted = [(prompt or "") + text for text in texts[start : start + AT_ONCE]]
            found = self._model.tokenizer(prompted, truncation=False, verbose=False)["input_ids"]
            whole += [len(ids) for ids in found]
        least, most = self._bounds(is_query)
        lengths = np.array(whole, dtype=np.int64)
        return np.clip(lengths, least, most), int((lengths > most).sum())

    def _bounds(self, is_query: bool) -> tuple[int, int]:
        """The fewest and the most tokens that the model makes of a text."""
        first = self._model[0]
        own = getattr(first, "query_length" if is_query else "document_length", None)
        most = own or self._model.max_seq_length or ANY_LENGTH
        expansion = getattr(first, "query_expansion", None) if is_query else None
        if not expansion:
            return 1, most
        least = int(expansion["length"])
        return least, least if expansion["strategy"] == "fixed" else max(least, most)

    def encode(
        self, texts: Sequence[str], prompt: str | None, *, is_query: bool
    ) -> tuple[Ids | None, TokenVectors]:
        """The tokens that the model scores, (vectors,), and their vectors.

        No tokens where the model itself pools several into one vector.
        """
        ids, offsets, vectors = self.states(texts, prompt, is_query=is_query)
        return ids, TokenVectors(offsets, vectors.float().numpy(force=True))

    def states(
        self, texts: Sequence[str], prompt: str | None, *, is_query: bool
    ) -> "tuple[Ids | None, NDArray[np.int64], Tensor]":
        """The tokens, the offsets of the texts, and the vectors as they lie on the device."""
        import torch
        from sentence_transformers.util import batch_to_device

        task = "query" if is_query else "document"
        features = self._model.preprocess(list(texts), prompt=prompt, task=task)
        with torch.inference_mode():
            features = self._model(batch_to_device(features, self._model.device), task=task)
            self._check(features)
            scored = features["attention_mask"].bool()
            vectors = features["token_embeddings"][scored]
        counts = scored.sum(1).numpy(force=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = features["input_ids"]
        known = ids[scored].numpy(force=True) if ids.shape == scored.shape else None
        return known, offsets, vectors

    def _check(self, features: dict[str, Any]) -> None:
        if not {"token_embeddings", "attention_mask", "input_ids"} <= features.keys():
            raise InputError(
                "the model gives no vectors of tokens",
                where=self._where,
                remedy="Use a transformer, or a model made for late interaction",
            )
