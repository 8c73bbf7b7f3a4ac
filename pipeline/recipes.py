"""Which encoder and which index stand behind the names that people type: bm25, dense."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ..errors import UsageError
from ..indexes.family import Family
from ..records import Fingerprint
from ..stages import Encoder

AnyEncoder = Encoder[Any, Any]
AnyFamily = Family[Any, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one index is made: `encoder(model)` gives the keys, `family(encoder)` stores them."""

    encoder: Callable[[str | None], AnyEncoder]
    family: Callable[[AnyEncoder], AnyFamily]
    learned: bool
    """Whether a model makes the keys: then a canary is stored and its encoding is slow."""


def _analyzer(model: str | None) -> AnyEncoder:
    from ..models.analyzer import Analyzer

    return Analyzer()


def _inverted(encoder: AnyEncoder) -> AnyFamily:
    from ..indexes.inverted import Inverted

    return Inverted()


def _dense_encoder(model: str | None) -> AnyEncoder:
    if model == "hashing":
        from ..models.hashing import HashingEncoder

        return HashingEncoder()
    from ..models.bi_encoder import BiEncoder

    return BiEncoder(model) if model else BiEncoder()


def _vector(encoder: AnyEncoder) -> AnyFamily:
    from ..indexes.vector import Vector

    return Vector(dimensions=encoder.encode_queries(["dimensions"]).shape[1])


RECIPES: Mapping[str, Recipe] = {
    "bm25": Recipe(_analyzer, _inverted, learned=False),
    "dense": Recipe(_dense_encoder, _vector, learned=True),
}


def dense_fingerprint(model: str | None) -> Fingerprint:
    """The fingerprint of the encoder that `model` names now, to compare with an index's."""
    return _dense_encoder(model).fingerprint


def default_names() -> tuple[str, ...]:
    """BM25, and dense vectors where the extra that makes them is installed."""
    dense = all(find_spec(package) for package in ("torch", "transformers"))
    return ("bm25", "dense") if dense else ("bm25",)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of indexes, each known and each once.

    Raises UsageError for a name without a recipe, and for none at all.
    """
    known = ", ".join(RECIPES)
    for name in names:
        if name not in RECIPES:
            raise UsageError(f"there is no index kind '{name}'", remedy=f"Choose from: {known}")
    if not names:
        raise UsageError("no index was named", remedy=f"Choose from: {known}")
    return tuple(dict.fromkeys(names))
