"""Any sparse encoder that sentence-transformers can load, asked in batches of equal length."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .loaded_encoder import load
from .model_folder import ModelFolder
from .plain_bert import AT_ONCE
from .sparse_pooling import PooledLogits, take_head

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder
    from tokenizers import Tokenizer
    from torch import device, dtype

SPARSE = ("SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding")
"""The stages of sentence-transformers that make sparse vectors."""


class Dense(Protocol):
    """What makes (texts, words) float32 weights, zeros included, of one batch of texts."""

    def __call__(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]: ...


class SparseModel:
    """A SparseEncoder whose two sides, queries and passages, are computed in the fastest way.

    A masked language model with SPLADE pooling is run by our own forward pass (`sparse_pooling`);
    everything else by sentence-transformers.
    """

    def __init__(
        self, model: ModelFolder, max_length: int | None, number_type: "dtype", target: "device"
    ) -> None:
        check_sparse(model)
        self._model: SparseEncoder = load(model, number_type, target, "SparseEncoder")
        if max_length is not None:
            self._model.max_seq_length = max_length
        stages = {task: _stages(self._model, task) for task in ("query", "document")}
        pooled: dict[int, Dense] = {}
        self._sides: dict[str, Dense] = {}
        for task, found in stages.items():
            key = id(found[0]) if found else 0
            if key and key not in pooled:
                pooled[key] = _side(self._model, found, task)
            self._sides[task] = pooled[key] if key else _Whole(self._model, task)

    @property
    def tokenizer(self) -> "Tokenizer":
        """Of the passages' side, as the package tokenizers has it."""
        backend: Tokenizer = self._model.tokenizer.backend_tokenizer
        return backend

    def lengths(self, texts: Sequence[str], prompt: str) -> tuple[NDArray[np.int64], int]:
        """Tokens of each text as the model reads it, and how many texts are cut."""
        limit = self._model.max_seq_length
        whole: list[int] = []
        for start in range(0, len(texts), AT_ONCE):
            prompted = [prompt + text for text in texts[start : start + AT_ONCE]]
            found = self._model.tokenizer(prompted, truncation=False, verbose=False)["input_ids"]
            whole += [len(ids) for ids in found]
        lengths = np.array(whole, dtype=np.int64)
        if limit is None:
            return lengths, 0
        return np.minimum(lengths, limit), int((lengths > limit).sum())

    def encode(self, texts: Sequence[str], prompt: str, *, is_query: bool) -> NDArray[np.float32]:
        """(texts, words) float32 weights, zeros included: give it a batch, not a collection."""
        return self._sides["query" if is_query else "document"](texts, prompt)


class _Whole:
    """One side of a model by sentence-transformers' own forward pass."""

    def __init__(self, model: "SparseEncoder", task: str) -> None:
        self._encode: Any = model.encode_query if task == "query" else model.encode_document

    def __call__(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        weights: Any = self._encode(
            list(texts),
            prompt=prompt,
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_sparse_tensor=False,
        )
        return np.asarray(weights.float().numpy(force=True))


class _Pooled:
    """One side of a model: a masked language model without its last product, and that product."""

    def __init__(self, transformer: Any, head: PooledLogits, task: str) -> None:
        self._transformer, self._head, self._task = transformer, head, task

    def __call__(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            features = _features(self._transformer, texts, prompt, self._task)
            read = features["attention_mask"].bool()
            hidden = self._transformer(features)["token_embeddings"]
            return self._head.pool(hidden[read], read.sum(1).tolist())


def _side(model: "SparseEncoder", stages: Sequence[Any], task: str) -> Dense:
    import torch

    transformer, pooling = stages

    def run() -> torch.Tensor:
        logits: torch.Tensor = transformer(_features(transformer, ["a b"], "", task))[
            "token_embeddings"
        ]
        return logits

    head = take_head(transformer.model, run)
    if head is None:
        return _Whole(model, task)
    damped = 2 if pooling.activation_function == "log1p_relu" else 1
    pooled = PooledLogits(head, damped=damped, summed=pooling.pooling_strategy == "sum")
    return _Pooled(transformer, pooled, task)


def _features(transformer: Any, texts: Sequence[str], prompt: str, task: str) -> dict[str, Any]:
    """The tokens of a batch, on the device of the model."""
    features = transformer.preprocess(list(texts), prompt=prompt or None, task=task)
    target = transformer.model.device
    return {
        name: value.to(target) if hasattr(value, "to") else value
        for name, value in features.items()
    }


def _stages(model: "SparseEncoder", task: str) -> Sequence[Any]:
    """Transformer and pooling, where the side consists of these two, else nothing."""
    stages: list[Any] = list(model)
    routes = getattr(stages[0], "sub_modules", None)
    if routes is not None:
        mapped = getattr(stages[0], "route_mappings", None)
        stages = [] if mapped or task not in routes else [*routes[task], *stages[1:]]
    kinds = [type(stage).__name__ for stage in stages]
    return stages if kinds[1:] == ["SpladePooling"] and hasattr(stages[0], "model") else ()


def check_sparse(model: ModelFolder) -> None:
    """Refuse what sentence-transformers would turn into a sparse encoder of random weights."""
    kinds = [str(stage["type"]) for stage in model.modules]
    kinds += map(str, model.json("router_config.json").get("types", {}).values())
    for kind in kinds:
        if not kind.startswith("sentence_transformers."):
            raise InputError(
                f"the model needs code of its own ({kind})",
                where=str(model.folder),
                remedy="Use a model made of the modules of sentence-transformers alone",
            )
    architectures = model.json("config.json").get("architectures") or []
    masked = not model.modules and any(one.endswith("ForMaskedLM") for one in architectures)
    if not masked and not any(kind.rsplit(".", 1)[-1] in SPARSE for kind in kinds):
        raise InputError(
            "this is no sparse encoder: it has no SPLADE pooling and no masked language model",
            where=str(model.folder),
            remedy="Use a SPLADE model, or take this one for dense vectors",
        )
