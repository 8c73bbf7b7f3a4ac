"""An adapter: a low-rank residual map on the vectors of an encoder that stays as it is.

Each vector v becomes v + up'(down v), turned back to the length of v. It is learned from a few
pairs of queries and passages (see `adapter_training`), costs microseconds a query, and needs
NumPy alone. One that moves queries only leaves an index of passages valid as it is.

Khatry et al., Augmented Embeddings for Custom Retrievals, 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, UsageError
from ..records import JSON, Fingerprint
from ..stages import Encoder
from .fingerprint import check_encoder, digest
from .late_chunking import ChunkedText
from .learned_folder import AGAIN, Learned, load_learned, require_encoder, save_learned
from .passage_text import USUAL
from .registry import load_encoder

Vectors = NDArray[np.float32]
DenseEncoder = Encoder[Vectors, Vectors]

KIND = "adapter"
_SHAPES = {name: "rd" for name in ("query_down", "query_up")}
_SHAPES |= {name: "sd" for name in ("passage_down", "passage_up")}


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """v -> v + up'(down v), as long as v: with up = 0 it is the identity, to the bit.

    down, up: (rank, d) float32.
    """

    down: Vectors
    up: Vectors

    def __call__(self, vectors: Vectors) -> Vectors:
        """(n, d) -> (n, d) float32."""
        moved = vectors + (vectors @ self.down.T) @ self.up
        before, after = (np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, moved))
        return np.asarray(moved * (before / np.maximum(after, np.finfo(np.float32).tiny)))


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The maps for queries and, if it was trained so, for passages, of one encoder.

    encoder: whose vectors it was trained on; it is refused with any other.
    facts: how it was trained, and what that came to on the pairs held out.
    """

    encoder: Fingerprint
    query: LowRank
    passage: LowRank | None
    facts: Mapping[str, JSON]

    @property
    def digest(self) -> str:
        """Tells adapters apart by what they do."""
        return self._learned().digest

    def save(self, folder: Path) -> None:
        """Write it, over an older one too. Raises UsageError, Locked, DiskError."""
        save_learned(folder, self._learned())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UsageError where there is none, Damaged, Mismatch."""
        found = load_learned(folder, KIND, _SHAPES)
        query, passage = (_map(found, side) for side in ("query", "passage"))
        if query is None:
            raise Damaged("the adapter has no map", where=str(folder), remedy=AGAIN)
        return cls(found.encoder, query, passage, found.facts)

    def _learned(self) -> Learned:
        arrays = {"query_down": self.query.down, "query_up": self.query.up}
        if self.passage is not None:
            arrays |= {"passage_down": self.passage.down, "passage_up": self.passage.up}
        return Learned(KIND, self.encoder, self.facts, arrays)


def _map(found: Learned, side: str) -> LowRank | None:
    down, up = (found.arrays.get(f"{side}_{name}") for name in ("down", "up"))
    if down is None or up is None:
        return None
    return LowRank(down.astype(np.float32), up.astype(np.float32))


class AdaptedEncoder:
    """An encoder whose vectors go through an adapter: an encoder like any other.

    With an adapter for queries alone its passages are those of the plain encoder, so an index that
    the plain encoder built can be asked with it: `check_index` says so, while the fingerprint is
    its own. With one for both sides the index has to be built with it too; `folder`, where the
    adapter was saved, then stands in the fingerprint's settings, so that it is found again.

    Raises Mismatch, naming both, when the adapter was trained for another encoder.
    """

    def __init__(
        self, encoder: DenseEncoder, adapter: Adapter, *, folder: Path | str | None = None
    ) -> None:
        require_encoder(KIND, adapter.encoder, encoder.fingerprint)
        self.encoder, self.adapter = encoder, adapter
        self._folder = None if folder is None else Path(folder).resolve()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The plain encoder again, with the adapter from its folder."""
        folder = settings["folder"]
        if folder is None:
            remedy = "Save the adapter, and name its folder when the encoder is made"
            raise UsageError("the adapter of this encoder was never saved", remedy=remedy)
        return cls(load_encoder(settings["encoder"]), Adapter.load(Path(folder)), folder=folder)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the plain encoder's digest and the adapter's."""
        plain, adapter = self.encoder.fingerprint, self.adapter.digest
        decisive = {"class": "adapted", "encoder": plain.digest, "adapter": adapter}
        settings: dict[str, JSON] = {
            "class": "adapted",
            "encoder": dict(plain.settings),
            "adapter": adapter,
            "folder": None if self._folder is None else str(self._folder),
            "dtype": plain.settings.get("dtype", "float32"),
        }
        return Fingerprint(f"{plain.name}+adapter", digest(decisive), settings)

    def check_index(
        self, fingerprint: Fingerprint, canary: Vectors | None = None, *, name: str
    ) -> None:
        """Raise Mismatch unless an index built so can be asked with these queries.

        fingerprint, canary: what the index called `name` keeps of the encoder that built it.
        """
        builder = self if self.adapter.passage is not None else self.encoder
        check_encoder(builder, fingerprint, canary, name=name)

    @property
    def prepend(self) -> str:
        """What stands before a passage when it is encoded, as the plain encoder wants it."""
        return str(getattr(self.encoder, "prepend", USUAL))

    @property
    def late_chunking(self) -> bool:
        """Whether the plain encoder reads passages in their document."""
        return bool(getattr(self.encoder, "late_chunking", False))

    def encode_documents(self, documents: Sequence[ChunkedText]) -> Vectors:
        """(chunks, d) float32, where the plain encoder reads passages in their document."""
        plain: Any = self.encoder
        return self._moved(plain.encode_documents(documents))

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(texts, d) float32."""
        return self._moved(self.encoder.encode_passages(texts))

    def _moved(self, vectors: Vectors) -> Vectors:
        return vectors if self.adapter.passage is None else self.adapter.passage(vectors)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(texts, d) float32."""
        return self.adapter.query(self.encoder.encode_queries(texts))
