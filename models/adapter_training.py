"""Learning an adapter from pairs of queries and passages, over vectors that stay as they are.

Each query has to find its passage among those of its batch and passages mined for the batch's
queries (InfoNCE). The map begins as the identity; a part of the queries is held out, and the map
that did best on them is kept, the identity if none did better.

Khatry et al., Augmented Embeddings for Custom Retrievals, 2023 (the low-rank residual).
Karpukhin et al., Dense Passage Retrieval for Open-Domain Question Answering, EMNLP 2020 (in-batch
and mined negatives).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtra, UsageError
from ..records import JSON, Fingerprint
from .adapter import Adapter, LowRank, Vectors

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Map: TypeAlias = tuple[Tensor, Tensor]

FEWEST = 10
"""Queries below which nothing can be held out and learned from."""

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What is learned from, as vectors.

    queries: (n, d).  passages: (m, d), all that occur below.  pairs: (e, 2) int64, a query and a
    passage that is relevant to it.  mined: (n, c) int64, passages near each query, -1 where there
    are fewer; those that are relevant to it are left out of its negatives.
    """

    queries: Vectors
    passages: Vectors
    pairs: NDArray[np.int64]
    mined: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AdapterTraining:
    """How an adapter is learned.

    rank: of the map.  sides: "query" leaves an index valid, "both" needs one built with it.
    temperature: by which cosines are divided.  rate: Adam's.  decay: weight of the squared norm of
    the map, to which a pair adds 1.  epochs, patience: rounds at most, and without gain.
    batch: pairs a step.  held_out: the share of queries it is stopped by.  apart: "queries" holds
    out queries, whose passages others may share, as when a collection is asked again about what it
    was asked before; "passages" holds out those that share none, so that only what carries over to
    new passages counts.
    """

    rank: int = 64
    sides: Literal["query", "both"] = "query"
    temperature: float = 0.05
    rate: float = 1e-3
    decay: float = 20.0
    epochs: int = 60
    patience: int = 10
    batch: int = 64
    held_out: float = 0.2
    apart: Literal["queries", "passages"] = "queries"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("sides", ("query", "both")), ("apart", ("queries", "passages"))):
            if getattr(self, name) not in known:
                remedy = f"Use {' or '.join(known)}"
                raise UsageError(f"{name}={getattr(self, name)!r} is unknown", remedy=remedy)
        for name in ("rank", "epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}", remedy="Use 1 or more")
        if not (self.temperature > 0 and self.rate > 0 and self.decay >= 0):
            what = f"temperature={self.temperature}, rate={self.rate}, decay={self.decay}"
            raise UsageError(what, remedy="Use a temperature and a rate above 0, a decay from 0 on")
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out={self.held_out}", remedy="Use a share such as 0.2")


def train_adapter(
    examples: Examples, encoder: Fingerprint, training: AdapterTraining | None = None
) -> Adapter:
    """An adapter for the encoder that made the examples' vectors.

    On the queries held out its loss is below that of the plain vectors and its reciprocal rank not
    below theirs, over all passages of the examples; else it is the identity. Its facts have both
    before and after. Equal for equal seeds. Needs torch.

    Raises InputError for too few queries or vectors that make no sense, MissingExtra.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtra("torch", "dense") from None
    training = training or AdapterTraining()
    _check(examples)
    return _Run(examples, training).adapter(encoder)


class _Run:
    """One training: the examples as tensors, and the maps as they are learned."""

    def __init__(self, examples: Examples, training: AdapterTraining) -> None:
        import torch

        self.training, self.examples = training, examples
        self.random = np.random.default_rng(training.seed)
        self.held, self.kept = hold_out(examples, training, self.random)
        # Directions of queries and relative lengths of passages: no ranking depends on more.
        lengths = np.linalg.norm(examples.passages, axis=1).mean()
        self.queries = torch.nn.functional.normalize(torch.tensor(examples.queries), dim=1)
        self.passages = torch.tensor(examples.passages / np.float32(lengths))
        generator = torch.Generator().manual_seed(training.seed)
        dimensions = examples.queries.shape[1]
        sides = 2 if training.sides == "both" else 1
        self.maps = [_identity(training.rank, dimensions, generator) for _ in range(sides)]
        self.relevant: list[set[int]] = [set() for _ in examples.queries]
        for query, passage in examples.pairs.tolist():
            self.relevant[query].add(passage)

    def adapter(self, encoder: Fingerprint) -> Adapter:
        import torch

        optimizer = torch.optim.Adam(
            [one for pair in self.maps for one in pair], self.training.rate
        )
        before = best = self._measured()
        kept, at = self._copied(), 0
        for epoch in range(1, self.training.epochs + 1):
            for query, passage in self._batches():
                optimizer.zero_grad()
                self._loss(query, passage).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            found = self._measured()
            if found[0] < best[0] and found[1] >= before[1]:
                best, kept, at = found, self._copied(), epoch
            if epoch - at >= self.training.patience:
                break
        facts: dict[str, JSON] = {
            "training": asdict(self.training),
            "queries": len(self.examples.queries),
            "pairs": len(self.examples.pairs),
            "held_out": len(self.held),
            "epoch": at,
            "loss": [round(before[0], 4), round(best[0], 4)],
            "reciprocal_rank": [round(before[1], 4), round(best[1], 4)],
        }
        return Adapter(encoder, kept[0], kept[1] if len(kept) > 1 else None, facts)

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """All pairs of the kept queries in random order: their queries and their passages."""
        pairs = self.examples.pairs[np.isin(self.examples.pairs[:, 0], self.kept)]
        order = self.random.permutation(len(pairs))
        for start in range(0, len(order), self.training.batch):
            chosen = pairs[order[start : start + self.training.batch]]
            yield chosen[:, 0], chosen[:, 1]

    def _loss(self, query: NDArray[np.int64], passage: NDArray[np.int64]) -> "Tensor":
        """Of a batch of pairs (b,), (b,) over the passages of the batch and those mined for it."""
        import torch

        mined = self.examples.mined[query]
        candidates, place = np.unique(
            np.concatenate([passage, mined[mined >= 0]]), return_inverse=True
        )
        also = [[one in self.relevant[q] for one in candidates.tolist()] for q in query.tolist()]
        mask = np.array(also)
        mask[np.arange(len(query)), place[: len(query)]] = False
        scores = self._scores(torch.tensor(query), torch.tensor(candidates))
        scores = scores.masked_fill(torch.tensor(mask), -torch.inf)
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(place[: len(query)]))
        weight = self.training.decay / max(len(self.examples.pairs), 1)
        return loss + weight * sum(_squared_norm(*pair) for pair in self.maps)

    def _scores(self, query: "Tensor", passage: "Tensor") -> "Tensor":
        queries = _moved(self.queries[query], self.maps[0])
        passages = self.passages[passage]
        if len(self.maps) > 1:
            passages = _moved(passages, self.maps[1])
        return queries @ passages.T / self.training.temperature

    def _measured(self) -> tuple[float, float]:
        """Loss and mean reciprocal rank of the queries held out, over all passages."""
        import torch

        with torch.no_grad():
            scores = self._scores(torch.tensor(self.held), torch.arange(len(self.passages)))
            logs = torch.log_softmax(scores, dim=1).numpy()
        rows = [list(self.relevant[query]) for query in self.held.tolist()]
        losses = [-log[row].mean() for log, row in zip(logs, rows, strict=True)]
        ranks = [1 + (log > log[row].max()).sum() for log, row in zip(logs, rows, strict=True)]
        return float(np.mean(losses)), float(np.mean(1 / np.array(ranks)))

    def _copied(self) -> list[LowRank]:
        return [LowRank(*(one.detach().numpy().copy() for one in pair)) for pair in self.maps]


def _identity(rank: int, dimensions: int, generator: "Generator") -> "Map":
    """A random `down` that keeps lengths, about, and an `up` of zeros."""
    import torch

    down = torch.randn(rank, dimensions, generator=generator) / dimensions**0.5
    return down.requires_grad_(), torch.zeros(rank, dimensions, requires_grad=True)


def _moved(vectors: "Tensor", pair: "Map") -> "Tensor":
    """`LowRank` with gradients."""
    down, up = pair
    moved = vectors + vectors @ down.T @ up
    before, after = (one.norm(dim=1, keepdim=True) for one in (vectors, moved))
    turned: Tensor = moved * (before / after.clamp_min(_TINY))
    return turned


def _squared_norm(down: "Tensor", up: "Tensor") -> "Tensor":
    """Of the product up'down (d, d), without making it."""
    norm: Tensor = ((up @ up.T) * (down @ down.T)).sum()
    return norm


def hold_out(
    examples: Examples, training: AdapterTraining, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the queries held out and of the others, all of them with a relevant passage."""
    groups = _groups(examples) if training.apart == "passages" else np.arange(len(examples.queries))
    judged = np.unique(examples.pairs[:, 0])
    order = random.permutation(np.unique(groups[judged]))
    sizes = np.bincount(groups[judged], minlength=len(groups))[order]
    wanted = training.held_out * len(judged)
    chosen = order[: 1 + int(np.searchsorted(np.cumsum(sizes), wanted))]
    out = np.isin(groups[judged], chosen)
    if out.all():
        what = "every query shares passages with every other, so none can be held out"
        raise InputError(what, remedy="Hold out by queries: apart='queries'")
    return judged[out], judged[~out]


def _groups(examples: Examples) -> NDArray[np.int64]:
    """(queries,) the lowest query that each is tied to by a chain of shared passages."""
    query, passage = examples.pairs.T
    lowest = np.arange(len(examples.queries))
    while True:
        of_passage = np.full(len(examples.passages), len(lowest))
        np.minimum.at(of_passage, passage, lowest[query])
        lower = lowest.copy()
        np.minimum.at(lower, query, of_passage[passage])
        if np.array_equal(lower, lowest):
            return lowest
        lowest = lower


def _check(examples: Examples) -> None:
    queries, passages = examples.queries, examples.passages
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
        what = f"queries {queries.shape} and passages {passages.shape} are of no one space"
        raise InputError(what, remedy="Encode both with the encoder of the index")
    _check_rows("queries", examples.pairs[:, 0], 0, len(queries))
    _check_rows("passages", examples.pairs[:, 1], 0, len(passages))
    _check_rows("mined passages", examples.mined, -1, len(passages))
    for name, vectors in (("query", queries), ("passage", passages)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1))
        if len(bad):
            remedy = "Leave it out, or encode it again"
            raise InputError(f"the vector of {name} {bad[0]} is zero or not finite", remedy=remedy)
    judged = len(np.unique(examples.pairs[:, 0]))
    if judged < FEWEST:
        what = f"{judged} queries with a relevant passage are too few to learn from"
        raise InputError(what, remedy=f"Give {FEWEST} or more")


def _check_rows(name: str, rows: NDArray[np.int64], least: int, end: int) -> None:
    if rows.size and not (rows.min() >= least and rows.max() < end):
        what = f"rows from {rows.min()} to {rows.max()} of {end} {name}"
        raise InputError(what, remedy="Give the places of vectors that are there")
