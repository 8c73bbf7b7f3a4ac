"""Which encoder made an index: a digest of its files and settings, and the vectors of fixed texts.

A query encoder that differs from the one that built the index gives wrong rankings without an
error. The fingerprint tells such encoders apart by what they are, the canary by what they do: it
also notices a library that changed underneath unchanged files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Mismatch
from ..records import JSON, Fingerprint
from ..stages import Encoder
from .keys import sketch
from .model_folder import ModelFolder

CANARIES = (
    "a",
    "What is the capital of France?",
    "Über naïve façades: Ærøskøbing, Москва, 東京 and the 😀 of São Paulo",
    "0 1 2.5 -3e8 1,234,567 2024-02-29 0x1F",
    "def search(keys, k):\n\treturn sorted(keys)[:k]",
    "   spaces,\ttabs\nand ... punctuation!?  ",
    "THE QUICK BROWN FOX jumps over the lazy dog",
    "A library keeps what was written so that it can be found again. Its catalogue lists every "
    "book once under its author, its title and its subjects; a reader who knows none of them asks "
    "someone who does, and is led past shelves of other books that might serve as well.",
)
"""Eight texts that together touch case, scripts, numbers, white space, code and length."""

WHEREABOUTS = ("model", "dtype")
"""Settings outside the digest: where the model was found, and the number type asked for.

The same weights may be computed in bfloat16 on one machine and in float32 on another; that alone
is no mismatch, and the canary decides whether the vectors are near enough.
"""

LOWEST_COSINE = {"float32": 0.999}
LOWEST_COSINE_ROUNDED = 0.995
"""bfloat16 and float16 keep 8 and 11 bits: one model stays above .9995, another does not."""


def digest(facts: Mapping[str, JSON]) -> str:
    """sha256, in hexadecimal, of facts that are written down in one way only."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def files_digest(model: ModelFolder) -> str:
    """sha256 over (name, size, sha256) of the weights, tokenizer and configuration files."""
    listed: list[JSON] = [
        [path.relative_to(model.folder).as_posix(), path.stat().st_size, _sha256(path)]
        for path in model.files()
    ]
    return digest({"files": listed})


def file_digest(path: Path | None) -> str | None:
    """sha256 of one file, None where there is none."""
    return _sha256(path) if path is not None and path.is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(name: str, settings: Mapping[str, JSON]) -> Fingerprint:
    """The fingerprint of an encoder that `settings` describe in full."""
    decisive = {key: value for key, value in settings.items() if key not in WHEREABOUTS}
    return Fingerprint(name=name, digest=digest(decisive), settings=dict(settings))


def canary(encoder: Encoder[Any, Any]) -> NDArray[np.float32]:
    """(8, d) float32: a sketch of what the encoder makes of the canary texts as queries."""
    return sketch(encoder.encode_queries(CANARIES))


def check_encoder(
    encoder: Encoder[Any, Any],
    fingerprint: Fingerprint,
    canary_vectors: NDArray[np.float32] | None = None,
    *,
    name: str,
) -> None:
    """Raise Mismatch unless `encoder` is the one that built the index called `name`.

    The digests have to be equal, and where the index keeps canary vectors (dense encoders do,
    lexical ones do not) the encoder has to reproduce them: cosine >= .999 between float32
    encoders, .995 where either may compute in a shorter number type.
    """
    own = encoder.fingerprint
    if own.digest != fingerprint.digest:
        raise _mismatch(name, fingerprint, own, f"they differ in {_differences(fingerprint, own)}")
    if canary_vectors is None or not canary_vectors.size:
        return
    found = canary(encoder)
    if found.shape != canary_vectors.shape:
        shapes = f"{found.shape[1]} dimensions instead of {canary_vectors.shape[1]}"
        raise _mismatch(name, fingerprint, own, f"the encoder now gives {shapes}")
    lowest, needed = _lowest_cosine(found, canary_vectors), _needed(fingerprint, own)
    if not lowest >= needed:  # a NaN fails as well
        reason = f"fixed texts get other vectors (cosine {lowest:.4f}, at least {needed} is needed)"
        raise _mismatch(name, fingerprint, own, f"though their files are equal, {reason}")


def _mismatch(name: str, built: Fingerprint, own: Fingerprint, reason: str) -> Mismatch:
    return Mismatch(
        f"index {name!r} was built with {_short(built)}, the query encoder is {_short(own)}; "
        f"{reason}",
        remedy="Search with the encoder that built the index, or build the index again",
    )


def _short(fingerprint: Fingerprint) -> str:
    return f"{fingerprint.name}@{fingerprint.digest[:8]}"


def _differences(built: Fingerprint, own: Fingerprint) -> str:
    """The settings that differ, as "key (built: value, now: value)"."""
    keys = sorted({*built.settings, *own.settings} - set(WHEREABOUTS))
    pairs = ((key, built.settings.get(key), own.settings.get(key)) for key in keys)
    unequal = [
        f"{key} (built: {_word(old)}, now: {_word(new)})" for key, old, new in pairs if old != new
    ]
    return ", ".join(unequal) or "their digests"


def _word(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:12]}...{text[-5:]}"


def _lowest_cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Over the rows; two rows of zeros, which a text without terms has, are equal."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (left * right).sum(1) / norms
    nothing = ~left.any(1) & ~right.any(1)
    return float(np.where(nothing, 1, cosines).min())


def _needed(*fingerprints: Fingerprint) -> float:
    types = (str(fingerprint.settings.get("dtype", "float32")) for fingerprint in fingerprints)
    return min(LOWEST_COSINE.get(type_, LOWEST_COSINE_ROUNDED) for type_ in types)
