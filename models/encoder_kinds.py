"""Which encoder of dense vectors a model is for: what its folder says, unless told otherwise."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from ..errors import UsageError
from ..stages import Encoder
from .bi_encoder import BiEncoder
from .decoder_encoder import DecoderEncoder
from .hashing import HashingEncoder
from .model_folder import EMBEDDED, ModelFolder, find_model

AnyEncoder = Encoder[Any, Any]

KINDS: Mapping[str, Callable[..., AnyEncoder]] = {
    "bi-encoder": BiEncoder,
    "decoder": DecoderEncoder,
    "hashing": HashingEncoder,
}

HEADS = ("ForCausalLM", "LMHeadModel")
"""How the architectures of language models end."""


def open_encoder(
    model: str | None = None, *, kind: str = "auto", **options: Any
) -> Encoder[Any, Any]:
    """The encoder of a model, with the options of its class.

    kind: "bi-encoder", "decoder" or "hashing". "auto": a folder without modules.json whose
    configuration names a causal language model is a decoder, the model "hashing" is that, and
    everything else is a bi-encoder. Without a model it is the embedded one.
    Raises UsageError for an option that the class does not have.
    """
    chosen = _kind_of(model or EMBEDDED) if kind == "auto" else kind
    if chosen not in KINDS:
        known = ", ".join(("auto", *KINDS))
        raise UsageError(f"kind={kind!r}", remedy=f"Use one of {known}")
    _check_options(chosen, options)
    given = [] if chosen == "hashing" else [model or EMBEDDED]
    return KINDS[chosen](*given, **options)


def _kind_of(model: str) -> str:
    if model == "hashing":
        return "hashing"
    return "decoder" if is_decoder(find_model(model)) else "bi-encoder"


def is_decoder(model: ModelFolder) -> bool:
    """Whether the folder holds a bare causal language model."""
    names = model.json("config.json").get("architectures") or []
    return not model.modules and any(str(name).endswith(HEADS) for name in names)


def _check_options(kind: str, options: Mapping[str, Any]) -> None:
    known = signature(KINDS[kind]).parameters.keys() - {"model"}
    for name in options:
        if name in known:
            continue
        others = [other for other in KINDS if name in signature(KINDS[other]).parameters]
        hint = f"kind={others[0]!r} has it; " if others else ""
        raise UsageError(
            f"a {kind} encoder has no option {name!r}",
            remedy=f"{hint}there are {', '.join(sorted(known))}",
        )
