"""A query tower: queries encoded in microseconds into the space of passages that stay as they are.

The vector of a query is the mean of learned token vectors, through one small layer. It is learned
to be near the vectors that a full encoder gives (see `tower_training`), so an index that the full
encoder built is asked with it as it stands.

Huang et al., ScalingNote: Scaling up Retrievers with Large Language Models for Real-World Dense
Retrieval, 2024 (a small query tower distilled against a fixed passage tower).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, MissingExtra, UsageError
from ..records import JSON, Fingerprint
from ..stages import Encoder
from .fingerprint import check_encoder, digest
from .learned_folder import AGAIN, Learned, load_learned, save_learned
from .registry import load_encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = NDArray[np.float32]

KIND = "query tower"
_SHAPES = {"table": "td", "bias": "d", "inward": "hd", "outward": "dh", "canary": "cd"}
_TOKENIZER = "tokenizer"


@dataclass(frozen=True, slots=True, eq=False)
class TowerParts:
    """What a tower is made of, for a query with the mean token vector m:
    v = m + bias; v + outward relu(inward v), of length 1.

    tokenizer: the JSON of a Hugging Face tokenizer.  table: (tokens, d) float16.  bias: (d,),
    inward: (h, d), outward: (d, h).  canary: (8, d), what the full encoder made of fixed texts.
    """

    tokenizer: bytes
    table: NDArray[np.float16]
    bias: Vectors
    inward: Vectors
    outward: Vectors
    canary: Vectors


class QueryTower:
    """An encoder whose queries are the tower's; passages are those of the full encoder, which is
    loaded when one is asked for.

    encoder: the fingerprint of the full encoder.  facts: how it was learned, and the mean cosine
    to the full encoder's vectors on texts held out, before and after.
    """

    def __init__(
        self,
        encoder: Fingerprint,
        parts: TowerParts,
        facts: Mapping[str, JSON],
        *,
        folder: Path | str | None = None,
    ) -> None:
        self.encoder, self.parts, self.facts = encoder, parts, facts
        self._folder = None if folder is None else Path(folder).resolve()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The tower from its folder."""
        if settings["folder"] is None:
            remedy = "Save it, and load it from its folder"
            raise UsageError("this query tower was never saved", remedy=remedy)
        return cls.load(Path(settings["folder"]))

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over everything that changes its vectors, and the full encoder's digest."""
        tower = self._learned().digest
        settings: dict[str, JSON] = {
            "class": "query-tower",
            "encoder": dict(self.encoder.settings),
            "tower": tower,
            "folder": None if self._folder is None else str(self._folder),
        }
        decisive = {"class": "query-tower", "tower": tower}
        return Fingerprint(f"{self.encoder.name}+tower", digest(decisive), settings)

    @property
    def dimensions(self) -> int:
        return len(self.parts.bias)

    def check_index(
        self, fingerprint: Fingerprint, canary: Vectors | None = None, *, name: str
    ) -> None:
        """Raise Mismatch unless the index called `name` was built by the full encoder, which need
        not be loaded: what it made of the canary texts is kept here.
        """
        remembered = _Remembered(self.encoder, self.parts.canary)
        check_encoder(remembered, fingerprint, canary, name=name)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(texts, d) float32 of length 1."""
        parts = self.parts
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for row, encoding in zip(
            vectors,
            self._tokenizer.encode_batch(list(texts), add_special_tokens=False),
            strict=True,
        ):
            row[:] = parts.table[encoding.ids].sum(axis=0, dtype=np.float32)
            row /= max(len(encoding.ids), 1)
        vectors += parts.bias
        vectors += np.maximum(vectors @ parts.inward.T, 0) @ parts.outward.T
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[lengths[:, 0] == 0, 0] = 1.0  # a direction, though it says nothing
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1))

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(texts, d) float32 by the full encoder."""
        vectors: Vectors = self._full.encode_passages(texts)
        return vectors

    def save(self, folder: Path) -> None:
        """Write it, over an older one too. Raises UsageError, Locked, DiskError."""
        save_learned(folder, self._learned())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UsageError where there is none, Damaged, Mismatch."""
        found = load_learned(folder, KIND, _SHAPES, [_TOKENIZER])
        if len(found.arrays) < len(_SHAPES) or found.arrays["table"].dtype != np.float16:
            what = "the query tower is not complete"
            raise Damaged(what, where=str(folder), remedy=AGAIN)
        parts = TowerParts(found.blobs[_TOKENIZER], **found.arrays)
        tower = cls(found.encoder, parts, found.facts, folder=folder)
        try:
            words = tower._tokenizer.get_vocab_size()
        except ValueError as error:
            what = "the tokenizer of the query tower cannot be read"
            raise Damaged(what, where=str(folder), remedy=AGAIN) from error
        if words > len(parts.table):
            what = f"{words} tokens for {len(parts.table)} vectors"
            raise Damaged(what, where=str(folder), remedy=AGAIN)
        return tower

    def _learned(self) -> Learned:
        arrays = {name: getattr(self.parts, name) for name in _SHAPES}
        return Learned(KIND, self.encoder, self.facts, arrays, {_TOKENIZER: self.parts.tokenizer})

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return read_tokenizer(self.parts.tokenizer)

    @cached_property
    def _full(self) -> Encoder[Any, Any]:
        return load_encoder(self.encoder.settings)


class _Remembered:
    """What is left of the full encoder: its fingerprint, and its vectors of the canary texts."""

    def __init__(self, fingerprint: Fingerprint, canary: Vectors) -> None:
        self.fingerprint, self._canary = fingerprint, canary

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._canary

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        return self._canary


def read_tokenizer(content: bytes) -> "Tokenizer":
    """A tokenizer that cuts nothing off and fills nothing up. ValueError: this is none."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("tokenizers", "dense") from None
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises plain Exception
        raise ValueError("not a tokenizer") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
