"""Several expert retrievers as one: each query goes to the expert whose pilots it is nearest to.

A pilot is the mean vector of training queries that one expert answered best. Experts come and go
without training: pilots are means, and a query is compared with them alone.

Lee et al., RouterRetriever: Exploring the Benefits of Routing over Multiple Expert Embedding
Models, AAAI 2025.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, InputError, UsageError
from ..models.directions import unit
from ..models.learned_folder import AGAIN, Learned, load_learned, require_encoder, save_learned
from ..records import Filter, Fingerprint, Query, Ranking
from ..stages import Encoder, Retriever
from .index_retriever import require_positive

Vectors = NDArray[np.float32]

KIND = "pilots"
_ROUNDS = 50
"""Of k-means at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Pilots:
    """vectors: (pilots, d) float32 of length 1.  experts: the name behind each pilot.

    encoder: whose vectors of queries they are means of.
    """

    encoder: Fingerprint
    vectors: Vectors
    experts: tuple[str, ...]

    def choose(self, queries: Vectors, nearest: int | None = None) -> list[str]:
        """The expert for each of (n, d) queries: the one with the greatest mean cosine between the
        query and the expert's pilots, or only its `nearest` ones. Of equals, the first by name.
        """
        cosines = unit(queries) @ self.vectors.T
        names = sorted(set(self.experts))
        owners = np.array(self.experts)
        means = [_mean_of_best(cosines[:, owners == name], nearest) for name in names]
        return [names[place] for place in np.argmax(means, axis=0).tolist()]

    def save(self, folder: Path) -> None:
        """Write them, over older ones too. Raises UsageError, Locked, DiskError."""
        facts = {"experts": list(self.experts)}
        save_learned(folder, Learned(KIND, self.encoder, facts, {"vectors": self.vectors}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UsageError where there are none, Damaged, Mismatch."""
        found = load_learned(folder, KIND, {"vectors": "pd"})
        vectors, experts = found.arrays.get("vectors"), found.facts.get("experts")
        named = isinstance(experts, list) and all(isinstance(one, str) for one in experts)
        if vectors is None or not isinstance(experts, list) or not named:
            what = "the pilots are not complete"
            raise Damaged(what, where=str(folder), remedy=AGAIN)
        if len(experts) != len(vectors):
            what = f"{len(experts)} experts for {len(vectors)} pilots"
            raise Damaged(what, where=str(folder), remedy=AGAIN)
        return cls(found.encoder, vectors.astype(np.float32), tuple(experts))


def pilots_from(
    queries: Vectors,
    quality: Mapping[str, NDArray[np.float64]],
    encoder: Fingerprint,
    *,
    groups: Sequence[str] | None = None,
    pilots: int = 1,
    seed: int = 0,
) -> Pilots:
    """The means of the queries that each expert was best at, apart for each group.

    queries: (n, d).  quality: for each expert (n,), such as nDCG@10 of each query; queries at
    which all experts are equal say nothing and are left out.  groups: where each query is from
    (the domains of the experts, in the paper); all from one by default.  pilots: means of each
    group and expert, by k-means. InputError: nothing tells the experts apart.
    """
    require_positive("pilots", pilots)
    names = sorted(quality)
    if not names or any(len(quality[name]) != len(queries) for name in names):
        what = f"the quality of {names} is not one value for each of {len(queries)} queries"
        raise InputError(what, remedy="Measure every expert on every query")
    table = np.stack([quality[name] for name in names])
    best, telling = table.argmax(axis=0), table.max(axis=0) > table.min(axis=0)
    origin = np.array([""] * len(queries) if groups is None else groups)
    vectors, experts = [], []
    for group in sorted(set(origin.tolist())):
        for place, name in enumerate(names):
            chosen = unit(queries[(best == place) & telling & (origin == group)])
            means = list(_means(chosen, pilots, np.random.default_rng(seed)))
            vectors += means
            experts += [name] * len(means)
    if not vectors:
        what = "no query tells the experts apart"
        raise InputError(what, remedy="Give queries that they answer differently")
    return Pilots(encoder, np.stack(vectors), tuple(experts))


@dataclass(frozen=True, slots=True)
class Routed:
    """A retriever that asks, for each query, the one expert that its vector leads to.

    experts: retrievers by name, each over its own index of the same passages.  encoder: makes the
    vectors that are compared with the pilots.  nearest: so many pilots of an expert count, all by
    default, as in the paper; 1 suits experts whose queries are of several kinds.
    Scores are those of the expert, so they compare within a ranking, not between rankings.
    Mismatch: pilots of another encoder.  UsageError: pilots of experts that are not there.
    """

    experts: Mapping[str, Retriever]
    encoder: Encoder[Any, Vectors]
    pilots: Pilots
    nearest: int | None = None

    def __post_init__(self) -> None:
        require_encoder(KIND, self.pilots.encoder, self.encoder.fingerprint)
        if missing := sorted(set(self.pilots.experts) - set(self.experts)):
            there = ", ".join(self.experts) or "none"
            what = f"there are pilots of '{missing[0]}', which is no expert here"
            raise UsageError(what, remedy=f"Leave its pilots out, or add it; there are: {there}")
        if self.nearest is not None:
            require_positive("nearest", self.nearest)

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` passages a query.  UsageError: k < 1."""
        require_positive("k", k)
        if not queries:
            return []
        keys = self.encoder.encode_queries([query.text for query in queries])
        chosen = np.array(self.pilots.choose(keys, self.nearest))
        found: dict[int, Ranking] = {}
        for name in sorted(set(chosen.tolist())):
            places = np.flatnonzero(chosen == name).tolist()
            asked = [queries[place] for place in places]
            rankings = self.experts[name].retrieve(asked, k, filter=filter)
            found.update(zip(places, rankings, strict=True))
        return [found[place] for place in range(len(queries))]


def _means(vectors: Vectors, most: int, random: np.random.Generator) -> Iterator[Vectors]:
    """At most `most` unit means of unit vectors (n, d), by k-means on the sphere."""
    if not len(vectors):
        return
    means = vectors[random.permutation(len(vectors))[:most]]
    nearest = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        before, nearest = nearest, (vectors @ means.T).argmax(axis=1)
        if np.array_equal(before, nearest):
            break
        filled = np.unique(nearest)
        means = unit(np.stack([vectors[nearest == one].mean(axis=0) for one in filled]))
    yield from means


def _mean_of_best(cosines: Vectors, nearest: int | None) -> Vectors:
    """(n, pilots) -> (n,) the mean of each row, or of its greatest values."""
    best = cosines if nearest is None else np.sort(cosines, axis=1)[:, -nearest:]
    return np.asarray(best.mean(axis=1))
