"""One model, three outputs: dense, sparse and multi-vector keys from one forward pass.

A folder in the layout of BGE-M3: a transformer, and beside its files two linear heads over the
vectors of its tokens, `sparse_linear.safetensors` (to one number) and `colbert_linear.safetensors`
(to the vectors of late interaction). A text is encoded as

    dense   the vector of its first token, of length 1
    sparse  the head's positive part for each token; of a token that occurs again, the greatest
    multi   the head's vector for each token but the first, of length 1

Encoders of one model share it, and its last passes: asked for the same batches, each of them after
all of another's, they take one pass a batch.

The heads of BGE-M3 are published as pickles, which are never read. Whoever trusts them turns them
into safetensors once, inside the folder:

    import torch
    from safetensors.torch import save_file
    for name in ("sparse_linear", "colbert_linear"):
        save_file(torch.load(f"{name}.pt", weights_only=True), f"{name}.safetensors")

Chen et al., M3-Embedding: Multi-Linguality, Multi-Functionality, Multi-Granularity Text Embeddings
Through Self-Knowledge Distillation, ACL Findings 2024, https://arxiv.org/abs/2402.03216
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from ..records import JSON, Fingerprint, TokenVectors, WeightedTerms
from .bi_encoder import (
    Progress,
    Vectors,
    check_number_type,
    check_texts,
    length_limit,
    stated_name,
)
from .fingerprint import fingerprint_of
from .model_folder import find_model
from .one_pass import check_head, one_pass

Keys = TypeVar("Keys")


class _Output(Generic[Keys]):
    """Texts to the keys of one output; queries and passages are encoded alike.

    model: a Hugging Face name or a local folder. max_length: tokens of a text that are read, the
        model's own unless given; `truncated` of the `encoded` texts were cut. dtype, device: as
        for BiEncoder.

    Raises InputError when there is no such model, or the head of the output is not there.
    """

    output: ClassVar[str]

    def __init__(
        self,
        model: str | Path,
        *,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        self._model = found = find_model(str(model))
        check_head(found, self.output)
        self.max_length = length_limit(max_length, found)
        self._dtype = dtype
        self._shared = one_pass(found, self.max_length, dtype, device)
        self._shared.wanted.add(self.output)
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = ("max_length", "dtype")
        return cls(settings["model"], **{name: settings[name] for name in kept})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its keys."""
        settings: dict[str, JSON] = {
            "class": f"three-outputs-{self.output}",
            "model": stated_name(self._model),
            "files": self._shared.files,
            "max_length": self.max_length,
            "dtype": self._dtype,
        }
        return fingerprint_of(Path(self._model.name).name, settings)

    def encode_passages(self, texts: Sequence[str], *, progress: Progress | None = None) -> Keys:
        """The keys of the texts, in their order.

        progress: called with the number of texts done since it was called last.
        """
        check_texts(texts)
        keys, truncated = self._shared.take(self.output, tuple(texts), progress)
        self.encoded += len(texts)
        self.truncated += truncated
        found: Keys = keys
        return found

    def encode_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> Keys:
        """The same as passages."""
        return self.encode_passages(texts, progress=progress)


class DenseOutput(_Output[Vectors]):
    """(texts, d) float32 vectors of length 1."""

    output = "dense"


class SparseOutput(_Output[WeightedTerms]):
    """Tokens with their weights; special tokens are left out."""

    output = "sparse"


class MultiOutput(_Output[TokenVectors]):
    """Vectors of length 1 for all tokens but the first."""

    output = "multi"


class ThreeOutputs:
    """The three encoders of one model, which they share."""

    def __init__(
        self,
        model: str | Path,
        *,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        self.dense = DenseOutput(model, max_length=max_length, dtype=dtype, device=device)
        self.sparse = SparseOutput(model, max_length=max_length, dtype=dtype, device=device)
        self.multi = MultiOutput(model, max_length=max_length, dtype=dtype, device=device)
