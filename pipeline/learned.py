"""How an index may be asked by what was learned for it: ``dense:adapter``, ``dense:tower``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import UsageError
from ..indexes.collection import Collection
from ..models.adapter import AdaptedEncoder, Adapter
from ..models.cosine_adapter import ScoreMap
from ..models.query_tower import QueryTower
from ..retrieval.cut_off import CutOff
from ..stages import Retriever
from .recipes import AnyEncoder

Kind: TypeAlias = Literal["adapter", "score-map", "tower"]
OpenIndex: TypeAlias = Callable[[AnyEncoder], Retriever]

LEARNED = "learned"


def learned_folder(collection: Collection, index: str, kind: Kind) -> Path:
    """Where what was learned for an index lies."""
    return collection.folder / LEARNED / index / kind


def _adapter(encoder: AnyEncoder, folder: Path, open_index: OpenIndex) -> Retriever:
    adapter = Adapter.load(folder)
    return open_index(AdaptedEncoder(encoder, adapter, folder=folder))


def _tower(encoder: AnyEncoder, folder: Path, open_index: OpenIndex) -> Retriever:
    return open_index(QueryTower.load(folder))


def _score_map(encoder: AnyEncoder, folder: Path, open_index: OpenIndex) -> Retriever:
    return CutOff(open_index(encoder), encoder, ScoreMap.load(folder))


WAYS: Mapping[str, Callable[[AnyEncoder, Path, OpenIndex], Retriever]] = {
    "adapter": _adapter,
    "tower": _tower,
    "score-map": _score_map,
}


def index_and_way(leg: str) -> tuple[str, str]:
    """What ``dense:adapter`` names; the way is "" for the index alone.

    Raises UsageError for a way that nothing is learned for.
    """
    name, colon, way = leg.partition(":")
    if colon and way not in WAYS:
        remedy = f"After the colon goes {', '.join(WAYS)}; a variant is asked for by the name of "
        remedy += f"its index, as in --with near={leg} --using near"
        raise UsageError(f"'{leg}' is no way of asking an index", remedy=remedy)
    return name, way


def ways(collection: Collection, index: str) -> list[Kind]:
    """What was learned for an index."""
    kinds: tuple[Kind, ...] = ("adapter", "tower", "score-map")
    return [kind for kind in kinds if learned_folder(collection, index, kind).is_dir()]


def ask_by(
    collection: Collection, index: str, way: str, encoder: AnyEncoder, open_index: OpenIndex
) -> Retriever:
    """The retriever of an index with what was learned for it.

    open_index: makes the retriever of the index with a given encoder.  Raises UsageError when
    nothing of the kind was learned, Mismatch when it was learned for another encoder.
    """
    there = {str(kind): kind for kind in ways(collection, index)}
    if way not in there:
        raise UsageError(
            f"nothing like '{index}:{way}' is here",
            remedy=f"There are: {', '.join(f'{index}:{kind}' for kind in there)}"
            if there
            else f"Run: ragstone train {{{','.join(WAYS)}}} COLLECTION SOURCE --index {index}",
        )
    return WAYS[way](encoder, learned_folder(collection, index, there[way]), open_index)
