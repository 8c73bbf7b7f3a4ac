"""A text encoder without a model: hashed words and parts of words, for tests and first steps.

Texts that share words, or words that share parts, get near vectors. It knows no meaning: use it
where a real encoder would only slow a test down, or where nothing may be installed.

Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from math import log
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Fingerprint
from .fingerprint import fingerprint_of

WORDS = re.compile(r"\w+")
PART = 3
"""Characters in a part of a word; the ends of the word count as one each."""

MOST_DIMENSIONS = 65_536

PARTS_WEIGHT = 1.0
"""Length of the vector of all parts of a word, beside the length 1 of the word's own."""


class HashingEncoder:
    """Deterministic vectors from NumPy alone: equal on every platform and in every process.

    dimensions: of the vectors. seed: another one gives unrelated vectors.
    """

    def __init__(self, dimensions: int = 256, seed: int = 0) -> None:
        if type(dimensions) is not int or not 1 <= dimensions <= MOST_DIMENSIONS:
            remedy = f"Use at least 1 and at most {MOST_DIMENSIONS:,}, such as 256"
            raise UsageError(f"dimensions={dimensions}", remedy=remedy)
        if type(seed) is not int:
            raise UsageError(f"seed={seed!r} is no whole number", remedy="Use one such as 0")
        self.dimensions, self.seed = dimensions, seed

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(settings["dimensions"], settings["seed"])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        settings: dict[str, JSON] = {
            "class": "hashing",
            "dimensions": self.dimensions,
            "seed": self.seed,
        }
        return fingerprint_of(f"hashing-{self.dimensions}", settings)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions) float32, each row of length 1, an empty text's too."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = self._vector(text)
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As passages: the encoder is symmetric."""
        return self.encode_passages(texts)

    def _vector(self, text: str) -> NDArray[np.float64]:
        words = WORDS.findall(unicodedata.normalize("NFKC", text).casefold()) or [""]
        counts = Counter(words)
        found = [features(word, self.dimensions, self.seed) for word in counts]
        weights = [w * (1.0 + log(n)) for (_, w), n in zip(found, counts.values(), strict=True)]
        places = np.concatenate([places for places, _ in found])
        vector = np.bincount(places, np.concatenate(weights), minlength=self.dimensions)
        length = np.sqrt((vector * vector).sum())
        if length == 0:  # all features cancelled out, which few dimensions make possible
            vector[0] = length = 1.0
        return np.asarray(vector / length)


@lru_cache(maxsize=1 << 16)
def features(
    word: str, dimensions: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and signed weights of a word and its parts."""
    parts = list(_parts(word))
    weights = [1.0, *(PARTS_WEIGHT / np.sqrt(len(parts)) for _ in parts)]
    hashes = [_hash(feature, seed) for feature in (f"word {word}", *parts)]
    places = np.array([number % dimensions for number in hashes], dtype=np.int64)
    signs = np.array([1.0 if number >> 63 else -1.0 for number in hashes])
    return places, signs * np.array(weights)


def _parts(word: str) -> Iterator[str]:
    framed = f"<{word}>"
    return (f"part {framed[at : at + PART]}" for at in range(len(framed) - PART + 1))


def _hash(feature: str, seed: int) -> int:
    """64 bits; Python's own hash() differs between processes."""
    text = f"{seed} {feature}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
