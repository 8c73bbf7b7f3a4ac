"""Encoders and language models: the only folder that touches torch and transformers."""

from .bi_encoder import BiEncoder
from .fingerprint import canary, check_encoder
from .hashing import HashingEncoder
from .registry import load_encoder

__all__ = ["BiEncoder", "HashingEncoder", "canary", "check_encoder", "load_encoder"]
