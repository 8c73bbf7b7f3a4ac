"""Which device computes, and in which number type."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from torch import device, dtype

NUMBER_TYPES = ("auto", "float32", "bfloat16", "float16")


def choose_device(name: str) -> "device":
    """The named device; for "auto" a CUDA device where there is one, else the processor."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "dense") from None
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"there is no device {name!r}", remedy="Use 'auto', 'cpu' or 'cuda'"
        ) from None


def choose_number_type(name: str, target: "device") -> "dtype":
    """The named type; for "auto" bfloat16 where the device computes in it, else the fastest safe.

    On a processor without bfloat16 instructions that is float32: emulated, bfloat16 is slower.
    """
    import torch

    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if target.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if target.type == "cpu" and _has_bfloat16() else torch.float32


def _has_bfloat16() -> bool:
    import torch

    describe = getattr(torch.cpu, "get_capabilities", dict)  # older releases of torch lack it
    found: Mapping[str, Any] = describe()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
