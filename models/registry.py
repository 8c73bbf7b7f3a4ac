"""From the settings that an index keeps back to the encoder that made its keys."""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import Mismatch
from ..records import JSON
from ..stages import Encoder
from .bi_encoder import BiEncoder
from .hashing import HashingEncoder


def load_encoder(settings: Mapping[str, JSON]) -> Encoder[Any, Any]:
    """The encoder that a fingerprint's settings describe; nothing heavy is loaded yet.

    Raises Mismatch for a class that this version does not know, InputError when the model is gone.
    Whether it is the same encoder is for `check_encoder` to say.
    """
    loaders: dict[JSON, Callable[[Mapping[str, Any]], Encoder[Any, Any]]] = {
        "analyzer": _analyzer,
        "bi-encoder": _bi_encoder,
        "hashing": _hashing,
    }
    kind = settings.get("class")
    if not isinstance(kind, str) or kind not in loaders:
        raise Mismatch(
            f"encoder class {kind!r} is not known",
            remedy=f"This version knows {', '.join(map(str, loaders))}; use a newer one",
        )
    try:
        return loaders[kind](settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise Mismatch(
            f"an encoder of class {kind!r} cannot be made from its settings ({error!r})",
            remedy="Run: ragstone verify, or build the index again",
        ) from error


def _analyzer(settings: Mapping[str, Any]) -> Encoder[Any, Any]:
    from .analyzer import Analyzer  # compiles kernels, which dense searches do not need

    return Analyzer()


def _bi_encoder(settings: Mapping[str, Any]) -> Encoder[Any, Any]:
    kept = ("query_prompt", "passage_prompt", "normalize", "max_length", "dtype")
    return BiEncoder(settings["model"], **{name: settings[name] for name in kept})


def _hashing(settings: Mapping[str, Any]) -> Encoder[Any, Any]:
    return HashingEncoder(settings["dimensions"], settings["seed"])
