"""Which encoder and which index stand behind the kinds that people type: bm25, dense."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from ..errors import UsageError
from ..indexes.family import Family
from ..records import JSON
from ..stages import Encoder
from .options import Option, explained, joined, options_of

AnyEncoder = Encoder[Any, Any]
AnyFamily = Family[Any, Any]
Settings = Mapping[str, JSON]


def dimensions(encoder: AnyEncoder) -> JSON:
    """How many numbers a vector of this encoder has."""
    width: int = encoder.encode_queries(["dimensions"]).shape[1]
    return width


def token_dimensions(encoder: AnyEncoder) -> JSON:
    """How many numbers a vector of a token has."""
    width: int = encoder.encode_queries(["dimensions"]).vectors.shape[1]
    return width


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of index is made.

    encoder: "module:name" of what makes the keys; called with the model, if it takes one, and
    options; without a `default` model one has to be given.  passes_on: the classes whose options an
    encoder takes that chooses among them.  family: "module:name" of the settings of the index.
    decided: those of them that are not free, from the encoder.  variants: names for some of them.
    unused: those that mean nothing for this kind.
    """

    summary: str
    encoder: str
    family: str
    decided: Mapping[str, Callable[[AnyEncoder], JSON]] = field(default_factory=dict)
    variants: Mapping[str, Settings] = field(default_factory=dict)
    takes_model: bool = True
    default: bool = False
    unused: tuple[str, ...] = ()
    passes_on: tuple[str, ...] = ()

    def open_encoder(self, model: str | None, options: Settings) -> AnyEncoder:
        """The encoder.  UsageError: a model is needed and none is given."""
        if self.takes_model and not model and not self.default:
            remedy = "Name one with --model [INDEX=]NAME, a folder or a Hugging Face name"
            raise UsageError(f"an index of {self.summary} needs a model", remedy=remedy)
        make = _imported(self.encoder)
        given = [model] if model else []
        try:
            signature(make).bind(*given, **options)
        except TypeError as error:
            remedy = "Set it with --set INDEX.OPTION=VALUE"
            raise UsageError(f"an index of {self.summary}: {error}", remedy=remedy) from None
        encoder: AnyEncoder = make(*given, **options)
        return encoder

    def open_family(self, encoder: AnyEncoder, settings: Settings) -> AnyFamily:
        """The settings of an index for the keys of `encoder`."""
        decided = {name: measure(encoder) for name, measure in self.decided.items()}
        family: AnyFamily = _imported(self.family)(**settings, **decided)
        return family

    def encoder_options(self) -> Mapping[str, Option]:
        """What may be set of the encoder, or of those that it may turn out to be."""
        places = (self.encoder, *self.passes_on)
        own = joined(*(options_of(_imported(place)) for place in places))
        return explained(own, options_of(_imported(USUAL)))

    def index_options(self) -> Mapping[str, Option]:
        """What may be set of the index; "index." goes before a name that the encoder has too."""
        all_, passed = options_of(_imported(self.family)), {*self.decided, *self.unused}
        return {name: one for name, one in all_.items() if name not in passed}

    def split(self, options: Settings) -> tuple[Settings, Settings]:
        """Options for the encoder, and settings of the family.

        One that both know is the encoder's; "index." before it says that the family is meant.
        Raises UsageError for one that neither knows, and for a value that it does not take.
        """
        settings, own = self.index_options(), self.encoder_options()
        meant = {name for name in options if name in settings and name not in own}
        meant |= {name for name in options if name.startswith("index.")}
        family = {name.removeprefix("index."): options[name] for name in options if name in meant}
        encoder = {name: options[name] for name in options if name not in meant}
        _check(family, settings, settings, "the index")
        _check(encoder, own, {*own, *settings}, "it")
        return encoder, family


def _check(
    options: Settings, known: Mapping[str, Option], named: Collection[str], what: str
) -> None:
    for name, value in options.items():
        if name not in known:
            remedy = f"There are: {', '.join(sorted(named))}"
            raise UsageError(f"{what} has no option '{name}'", remedy=remedy)
        known[name].check(value)


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"..{module}", __package__), name)


def impact(encoder: AnyEncoder) -> JSON:
    """Learned weights are multiplied with those of the query."""
    return "impact"


def bm25(encoder: AnyEncoder) -> JSON:
    """Words are counted and weighed by BM25."""
    return "bm25"


USUAL = "models.bi_encoder:BiEncoder"
"""Where options that many encoders have are explained."""

INVERTED, VECTOR, MULTI = (
    "indexes.inverted:Inverted",
    "indexes.vector:Vector",
    "indexes.multivector:MultiVector",
)
_DENSE = ("exact", "hnsw", "ivf-pq", "ivf-sq8", "ivf-rabitq", "binary")
_LATE = ("exact", "centroids", "fixed")


def _searches(names: tuple[str, ...]) -> Mapping[str, Settings]:
    return {name: {"search": name} for name in names}


def _dense(summary: str, encoder: str, **more: Any) -> Recipe:
    return Recipe(summary, encoder, VECTOR, {"dimensions": dimensions}, _searches(_DENSE), **more)


def _late(summary: str, encoder: str, **more: Any) -> Recipe:
    return Recipe(
        summary, encoder, MULTI, {"dimensions": token_dimensions}, _searches(_LATE), **more
    )


_SPARSE = ("exact", "approximate")


def _sparse(summary: str, encoder: str, **more: Any) -> Recipe:
    decided, variants = {"scoring": impact}, _searches(_SPARSE)
    return Recipe(summary, encoder, INVERTED, decided, variants, unused=("k1", "b"), **more)


RECIPES: Mapping[str, Recipe] = {
    "bm25": Recipe(
        "words, by BM25",
        "models.analyzer:Analyzer",
        INVERTED,
        {"scoring": bm25},
        takes_model=False,
        unused=("weights", "search", "margin"),
    ),
    "dense": _dense(
        "meaning, by one vector a passage",
        "models.encoder_kinds:open_encoder",
        default=True,
        passes_on=(USUAL, "models.decoder_encoder:DecoderEncoder", "models.hashing:HashingEncoder"),
    ),
    "late": _late(
        "meaning, by one vector a token (ColBERT, or any encoder)",
        "models.token_encoder:TokenEncoder",
        default=True,
    ),
    "splade": _sparse("words that a model adds and weighs", "models.sparse_splade:SpladeEncoder"),
    "tilde": _sparse("words of the passage that a model weighs", "models.tilde:TildeEncoder"),
    "m3-dense": _dense("vectors of a three-output model", "models.three_outputs:DenseOutput"),
    "m3-sparse": _sparse("words of a three-output model", "models.three_outputs:SparseOutput"),
    "m3-multi": _late("token vectors of a three-output model", "models.three_outputs:MultiOutput"),
    "weights": _sparse(
        "weights made elsewhere, from a file",
        "models.given_weights:GivenWeights",
        takes_model=False,
    ),
    "promptreps-dense": _dense(
        "the state of a language model asked for a word", "models.sparse_prompted:PromptedDense"
    ),
    "promptreps-sparse": _sparse(
        "the words that a language model would say", "models.sparse_prompted:PromptedSparse"
    ),
}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "m3": ("m3-dense", "m3-sparse", "m3-multi"),
    "promptreps": ("promptreps-dense", "promptreps-sparse"),
}
"""Kinds that are several indexes, all filled by one pass of one model."""


def default_names() -> tuple[str, ...]:
    """BM25, and dense vectors where the extra that makes them is installed."""
    dense = all(find_spec(package) for package in ("torch", "transformers"))
    return ("bm25", "dense") if dense else ("bm25",)
