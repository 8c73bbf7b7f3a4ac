"""A cosine adapter: a map from cosines to the probability of relevance that depends on the query.

The score that says "relevant" differs from query to query. A small network reads the vector of the
query and gives a slope a > 0 and an offset b; a cosine s then means the probability
1 / (1 + exp(-(a s + b))). The map rises with s, so rankings stay in their order, and one threshold
on probabilities is a limit of its own for every query.

Rossi et al., Relevance Filtering for Embedding-based Retrieval, CIKM 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, InputError, MissingExtra, UsageError
from ..records import JSON, Fingerprint
from .directions import unit
from .learned_folder import AGAIN, Learned, load_learned, save_learned

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Floats = NDArray[np.float32]

KIND = "cosine adapter"
FEWEST = 10
"""Queries below which nothing can be held out and learned from."""

_SHAPES = {"inward": "hd", "bias": "h", "outward": "oh", "constant": "o", "scale": "o"}
_STEEPEST = 12.0
"""Bound on the logarithm of the slope: beyond it float32 has no numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMap:
    """(log a, b) = outward relu(inward q + bias) + constant, for the unit vector q of a query.

    encoder: whose cosines these are.  inward: (h, d), bias: (h,), outward: (2, h), constant: (2,),
    scale: (2,) mean and spread of cosines; all float32.  threshold: the probability that gave the
    best F1 on the pairs it was learned from.  facts: how it was learned, and the loss held out of
    a map without q, and of this one.
    """

    encoder: Fingerprint
    inward: Floats
    bias: Floats
    outward: Floats
    constant: Floats
    scale: Floats
    threshold: float
    facts: Mapping[str, JSON]

    def probabilities(self, queries: Floats, scores: Floats) -> Floats:
        """(n, d) vectors of queries and (n, c) cosines -> (n, c) float32, 0 for a score of -inf."""
        slope, offset = self._lines(queries)
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-(slope[:, None] * scores + offset[:, None])))).astype("f4")

    def limits(self, queries: Floats, threshold: float) -> NDArray[np.float64]:
        """(n,) the cosine from which each query's probability is `threshold` or more."""
        if not 0 < threshold < 1:
            raise UsageError(f"threshold={threshold}", remedy="Use one between 0 and 1")
        slope, offset = self._lines(queries)
        return np.asarray((np.log(threshold / (1 - threshold)) - offset) / slope)

    def _lines(self, queries: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        hidden = np.maximum(unit(queries) @ self.inward.T + self.bias, 0)
        out = (hidden @ self.outward.T + self.constant).astype(np.float64)
        mean, spread = self.scale.astype(np.float64)
        slope = np.exp(np.clip(out[:, 0], -_STEEPEST, _STEEPEST)) / spread
        return slope, out[:, 1] - slope * mean

    def save(self, folder: Path) -> None:
        """Write it, over an older one too. Raises UsageError, Locked, DiskError."""
        arrays = {name: getattr(self, name) for name in _SHAPES}
        facts: dict[str, JSON] = {"threshold": self.threshold, "training": dict(self.facts)}
        save_learned(folder, Learned(KIND, self.encoder, facts, arrays))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UsageError where there is none, Damaged, Mismatch."""
        found = load_learned(folder, KIND, _SHAPES)
        threshold, facts = found.facts.get("threshold"), found.facts.get("training")
        whole = len(found.arrays) == len(_SHAPES) and len(found.arrays["scale"]) == 2
        if (
            not whole
            or not found.arrays["scale"][1] > 0
            or not isinstance(facts, Mapping)
            or not isinstance(threshold, float)
        ):
            what = "the cosine adapter is not complete"
            raise Damaged(what, where=str(folder), remedy=AGAIN)
        arrays = {name: array.astype(np.float32) for name, array in found.arrays.items()}
        return cls(found.encoder, **arrays, threshold=threshold, facts=facts)


def train_score_map(
    queries: Floats,
    scores: Floats,
    relevant: NDArray[np.bool_],
    encoder: Fingerprint,
    *,
    hidden: int = 128,
    rate: float = 3e-3,
    decay: float = 0.01,
    epochs: int = 100,
    patience: int = 10,
    held_out: float = 0.2,
    seed: int = 0,
) -> ScoreMap:
    """A score map from judged rankings: cross-entropy of the probabilities, by query.

    queries: (n, d).  scores, relevant: (n, c), the best passages of each query and which of them
    are relevant; a score of -inf is none.  hidden: width of the network, which begins as a map
    that is equal for all queries, fitted first; the epoch that is best on the queries held out is
    kept, that first map if none is better. Equal for equal seeds. Needs torch.

    Raises InputError for shapes that do not fit and for too few queries, MissingExtra.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtra("torch", "dense") from None
    _check(queries, scores, relevant)
    fit = _Fit(queries, scores, relevant, hidden, held_out, seed)
    fit.constant_first()
    before = fit.held_loss()
    epoch, after, arrays = fit.rounds(rate, decay, epochs, patience)
    inward, bias, outward, constant = arrays
    facts: dict[str, JSON] = {
        "queries": len(queries),
        "hidden": hidden,
        "seed": seed,
        "epoch": epoch,
        "loss": [round(before, 4), round(after, 4)],
    }
    found = ScoreMap(encoder, inward, bias, outward, constant, fit.scale, 0.5, facts)
    threshold = best_threshold(found.probabilities(queries, scores), relevant)
    return replace(found, threshold=threshold)


class _Fit:
    """One training: the judged rankings as tensors, and the network as it is learned."""

    def __init__(
        self,
        queries: Floats,
        scores: Floats,
        relevant: NDArray[np.bool_],
        hidden: int,
        held_out: float,
        seed: int,
    ) -> None:
        import torch

        real = np.isfinite(scores)
        self.queries = torch.tensor(unit(queries))
        self.scale = np.array([scores[real].mean(), scores[real].std() or 1.0], np.float32)
        standard = np.where(real, scores - self.scale[0], 0) / self.scale[1]
        self.scores = torch.tensor(standard.astype(np.float32))
        self.labels, self.real = torch.tensor(relevant.astype(np.float32)), torch.tensor(real)
        self.random = np.random.default_rng(seed)
        order = torch.tensor(self.random.permutation(len(queries)))
        self.held, self.kept = order.tensor_split([max(1, round(held_out * len(queries)))])
        generator = torch.Generator().manual_seed(seed)
        inward = torch.randn(hidden, queries.shape[1], generator=generator)
        shapes = (hidden,), (2, hidden), (2,)
        self.arrays = [inward, *(torch.zeros(shape) for shape in shapes)]
        for array in self.arrays:
            array.requires_grad_()

    def constant_first(self) -> None:
        """Fit one map for all queries, by the logarithm of its slope and its offset."""
        import torch

        optimizer = torch.optim.Adam(self.arrays[-1:], 0.1)
        for _ in range(300):
            self._step(optimizer, self.kept)

    def rounds(
        self, rate: float, decay: float, epochs: int, patience: int
    ) -> tuple[int, float, list[Floats]]:
        """Learn what depends on the query: the best epoch, its loss held out and its arrays."""
        import torch

        best, found, at = self.held_loss(), self._copied(), 0
        optimizer = torch.optim.AdamW(self.arrays, rate, weight_decay=decay)
        for epoch in range(1, epochs + 1):
            order = self.random.permutation(len(self.kept))
            for start in range(0, len(order), 64):
                self._step(optimizer, self.kept[torch.tensor(order[start : start + 64])])
            if (now := self.held_loss()) < best:
                best, found, at = now, self._copied(), epoch
            if epoch - at >= patience:
                break
        return at, best, found

    def held_loss(self) -> float:
        return float(self._loss(self.held).detach())

    def _step(self, optimizer: "Optimizer", rows: "Tensor") -> None:
        optimizer.zero_grad()
        self._loss(rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _loss(self, rows: "Tensor") -> "Tensor":
        """Cross-entropy, averaged over the passages of the queries `rows`."""
        import torch

        inward, bias, outward, constant = self.arrays
        hidden = torch.relu(self.queries[rows] @ inward.T + bias)
        lines = hidden @ outward.T + constant
        slope = lines[:, :1].clamp(-_STEEPEST, _STEEPEST).exp()
        logits, real = slope * self.scores[rows] + lines[:, 1:], self.real[rows]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits[real], self.labels[rows][real]
        )

    def _copied(self) -> list[Floats]:
        return [array.detach().numpy().copy() for array in self.arrays]


def best_threshold(values: Floats, relevant: NDArray[np.bool_]) -> float:
    """The value from which on, taken over all queries, keeping passages gives the best F1."""
    order = np.argsort(-values, axis=None, kind="stable")
    descending, hits = values.ravel()[order], relevant.ravel()[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(int(relevant.sum()), 1))
    last_of_equals = np.append(descending[1:] != descending[:-1], True)
    return float(descending[np.argmax(np.where(last_of_equals, f1, -1))])


def _check(queries: Floats, scores: Floats, relevant: NDArray[np.bool_]) -> None:
    if scores.ndim != 2 or relevant.shape != scores.shape or len(queries) != len(scores):
        what = f"queries {queries.shape}, scores {scores.shape} and relevance {relevant.shape}"
        raise InputError(what, remedy="Give one row a query in each, one column a passage")
    if np.isnan(scores).any() or not np.isfinite(queries).all():
        what = "a score or a vector is not a number"
        raise InputError(what, remedy="Leave the query out, or search again")
    judged = int(relevant.any(axis=1).sum())
    if judged < FEWEST:
        what = f"{judged} queries that found a relevant passage are too few to learn from"
        raise InputError(what, remedy=f"Give {FEWEST} or more, and more passages each")
