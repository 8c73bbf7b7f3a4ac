"""Which encoder and which index stand behind the kinds that people type: bm25, dense."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any

from ..errors import UsageError
from ..indexes.family import Family
from ..records import JSON
from ..stages import Encoder

AnyEncoder = Encoder[Any, Any]
AnyFamily = Family[Any, Any]
Settings = Mapping[str, JSON]


def dimensions(encoder: AnyEncoder) -> JSON:
    """How many numbers a vector of this encoder has."""
    width: int = encoder.encode_queries(["dimensions"]).shape[1]
    return width


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of index is made.

    encoder: "module:name" of what makes the keys; called with the model, if it takes one, and
    options.  family: "module:name" of the settings of the index.  decided: those of them that the
    encoder decides.  variants: names for some settings of the family.
    """

    summary: str
    encoder: str
    family: str
    decided: Mapping[str, Callable[[AnyEncoder], JSON]] = field(default_factory=dict)
    variants: Mapping[str, Settings] = field(default_factory=dict)
    takes_model: bool = True

    def open_encoder(self, model: str | None, options: Settings) -> AnyEncoder:
        """The encoder; the kind's own default without a model."""
        make = _imported(self.encoder)
        encoder: AnyEncoder = make(*([model] if model else []), **options)
        return encoder

    def open_family(self, encoder: AnyEncoder, settings: Settings) -> AnyFamily:
        """The settings of an index for the keys of `encoder`."""
        decided = {name: measure(encoder) for name, measure in self.decided.items()}
        family: AnyFamily = _imported(self.family)(**settings, **decided)
        return family

    def options(self) -> list[str]:
        """What may be set, where the encoder does not depend on the model."""
        named = {**signature(_imported(self.encoder)).parameters, **self._settings()}
        hidden = {"model", *(name for name, one in named.items() if one.kind is one.VAR_KEYWORD)}
        return sorted({*named} - hidden)

    def _settings(self) -> Mapping[str, Parameter]:
        """The settings of the family that are free."""
        all_ = signature(_imported(self.family)).parameters
        return {name: one for name, one in all_.items() if name not in self.decided}

    def split(self, options: Settings) -> tuple[Settings, Settings]:
        """Options for the encoder, and settings of the family.

        One that both know is the encoder's; "index." before it says that the family is meant.
        """
        known = self._settings()
        own = signature(_imported(self.encoder)).parameters
        meant = {name for name in options if name in known and name not in own}
        meant |= {name for name in options if name.startswith("index.")}
        family = {name.removeprefix("index."): options[name] for name in options if name in meant}
        encoder = {name: options[name] for name in options if name not in meant}
        _refuse_unknown(family, known, "the index")
        if not any(one.kind is one.VAR_KEYWORD for one in own.values()):
            _refuse_unknown(encoder, {**own, **known}, "it")
        return encoder, family


def _refuse_unknown(options: Settings, known: Mapping[str, Any], what: str) -> None:
    for name in options:
        if name not in known or name == "model":
            listed = ", ".join(sorted(set(known) - {"model", "kind"}))
            raise UsageError(f"{what} has no option '{name}'", remedy=f"There are: {listed}")


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"..{module}", __package__), name)


def dense_encoder(model: str | None = None, **options: Any) -> AnyEncoder:
    """The encoder of dense vectors that `model` names: "hashing", a folder, or a name."""
    if model == "hashing":
        from ..models.hashing import HashingEncoder

        return HashingEncoder(**options)
    from ..models.bi_encoder import BiEncoder

    return BiEncoder(model, **options) if model else BiEncoder(**options)


RECIPES: Mapping[str, Recipe] = {
    "bm25": Recipe(
        "words, by BM25",
        "models.analyzer:Analyzer",
        "indexes.inverted:Inverted",
        takes_model=False,
    ),
    "dense": Recipe(
        "meaning, by one vector a passage",
        "pipeline.recipes:dense_encoder",
        "indexes.vector:Vector",
        {"dimensions": dimensions},
        variants={"exact": {"search": "exact"}, "hnsw": {"search": "hnsw"}},
    ),
}


def default_names() -> tuple[str, ...]:
    """BM25, and dense vectors where the extra that makes them is installed."""
    dense = all(find_spec(package) for package in ("torch", "transformers"))
    return ("bm25", "dense") if dense else ("bm25",)
