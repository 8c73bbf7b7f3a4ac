"""Matryoshka encoders: the first dimensions, or the first layers, of an encoder are an encoder.

Both cost quality in a model that was not trained for it.

Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022 (dimensions).
Li et al., 2D Matryoshka Sentence Embeddings, 2024 (dimensions and layers).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .model_folder import ModelFolder

if TYPE_CHECKING:
    from torch.nn import Module, ModuleList

Vectors = NDArray[np.float32]

LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""What configurations call the number of layers."""


def first_dimensions(whole: int, asked: int | None, model: str) -> int:
    """How many of the `whole` dimensions are kept."""
    if asked is None:
        return whole
    _check("dimensions", asked, whole, model)
    return asked


def check_layers(asked: int | None, model: ModelFolder) -> None:
    """Raise UsageError for a number of layers that the model does not have."""
    config = model.json("config.json")
    whole = next((int(config[name]) for name in LAYER_COUNTS if config.get(name)), 2**31)
    if asked is not None:
        _check("layers", asked, whole, model.name)


def keep_layers(transformer: "Module", asked: int | None, model: str) -> "ModuleList":
    """The layers of a loaded model; all but the first `asked` are dropped from it for good."""
    layers = layers_of(transformer, model)
    if asked is not None:
        _check("layers", asked, len(layers), model)
        del layers[asked:]
    return layers


def layers_of(transformer: "Module", model: str) -> "ModuleList":
    """The list of a model's layers: the first that is as long as its configuration says."""
    from torch.nn import ModuleList

    config: Any = transformer.config
    count = getattr(config, "num_hidden_layers", None)
    for module in transformer.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return module
    raise UsageError(
        f"the layers of {model!r} cannot be told apart",
        remedy="Use a text model with one stack of layers, or leave out 'layers'",
    )


def unit(vectors: Vectors) -> Vectors:
    """Each vector divided by its length; a zero stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))


def _check(name: str, asked: object, whole: int, model: str) -> None:
    if type(asked) is not int or not 1 <= asked <= whole:
        raise UsageError(
            f"{name}={asked!r} for {model!r}", remedy=f"Use a number from 1 to {whole}"
        )
