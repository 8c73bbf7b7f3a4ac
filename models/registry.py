"""From the settings that an index keeps back to the encoder that made its keys."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..errors import Mismatch
from ..records import JSON
from ..stages import Encoder

ENCODERS: dict[str, tuple[str, str]] = {
    "adapted": (".adapter", "AdaptedEncoder"),
    "analyzer": (".analyzer", "Analyzer"),
    "bi-encoder": (".bi_encoder", "BiEncoder"),
    "decoder-encoder": (".decoder_encoder", "DecoderEncoder"),
    "given-weights": (".given_weights", "GivenWeights"),
    "hashing": (".hashing", "HashingEncoder"),
    "prompted-dense": (".sparse_prompted", "PromptedDense"),
    "prompted-sparse": (".sparse_prompted", "PromptedSparse"),
    "query-tower": (".query_tower", "QueryTower"),
    "splade": (".sparse_splade", "SpladeEncoder"),
    "tilde": (".tilde", "TildeEncoder"),
    "three-outputs-dense": (".three_outputs", "DenseOutput"),
    "three-outputs-multi": (".three_outputs", "MultiOutput"),
    "three-outputs-sparse": (".three_outputs", "SparseOutput"),
    "tokens": (".token_encoder", "TokenEncoder"),
}
"""The module and class behind each "class" of a fingerprint's settings.

A class makes itself again from them with ``from_settings(settings)``. Modules are imported when
they are needed: the analyzer compiles kernels, others load torch.
"""


def load_encoder(settings: Mapping[str, JSON]) -> Encoder[Any, Any]:
    """The encoder that a fingerprint's settings describe; nothing heavy is loaded yet.

    Raises Mismatch for a class that this version does not know, InputError when the model is gone.
    Whether it is the same encoder is for `check_encoder` to say.
    """
    kind = settings.get("class")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise Mismatch(
            f"encoder class {kind!r} is not known",
            remedy=f"This version knows {', '.join(ENCODERS)}; use a newer one",
        )
    module, name = ENCODERS[kind]
    try:
        encoder: Encoder[Any, Any] = getattr(
            import_module(module, __package__), name
        ).from_settings(settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise Mismatch(
            f"an encoder of class {kind!r} cannot be made from its settings ({error!r})",
            remedy="Run: ragstone verify, or build the index again",
        ) from error
    return encoder
