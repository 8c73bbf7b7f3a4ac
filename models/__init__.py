"""Encoders and language models: the only folder that touches torch and transformers."""

from .bi_encoder import BiEncoder
from .decoder_encoder import DecoderEncoder
from .encoder_kinds import open_encoder
from .fingerprint import canary, check_encoder
from .hashing import HashingEncoder
from .registry import load_encoder

__all__ = [
    "BiEncoder",
    "DecoderEncoder",
    "HashingEncoder",
    "canary",
    "check_encoder",
    "load_encoder",
    "open_encoder",
]
