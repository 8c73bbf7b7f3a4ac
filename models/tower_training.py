"""Distilling a query tower from a full encoder, with texts that nobody has judged.

Token vectors begin as what the full encoder makes of each token alone, less their mean, rare ones
longer than frequent ones. They and a small layer then learn to give the full encoder's vectors of
the texts and, where vectors of passages are given, its distribution of scores over the passages
nearest to them. Passage vectors stay as they are.

Huang et al., ScalingNote: Scaling up Retrievers with Large Language Models for Real-World Dense
Retrieval, 2024.  Arora et al., A Simple but Tough-to-Beat Baseline for Sentence Embeddings, ICLR
2017 (the weights of the beginning).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtra, UsageError
from ..records import JSON
from ..stages import Encoder
from .directions import unit
from .fingerprint import canary
from .model_folder import find_model
from .query_tower import QueryTower, TowerParts, Vectors, read_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 10
"""Texts below which nothing can be learned and measured."""

_RARE = 1e-3
"""The share of all tokens at which a token's weight is a half."""

_CANDIDATES, _NEAREST, _TEMPERATURE = 1024, 8, 0.05
"""Passages a batch that scores are compared on, how many of each text, and their temperature."""


@dataclass(frozen=True, slots=True)
class TowerTraining:
    """How a tower is distilled.

    hidden: width of the layer.  rate: Adam's at the start, falling to 0.  epochs: rounds over the
    texts.  batch: texts a step.  scores: weight of the score distributions, where there are
    passages, beside that of the vectors, 1.  held_out: the share of texts that only measures.
    """

    hidden: int = 256
    rate: float = 5e-3
    epochs: int = 10
    batch: int = 256
    scores: float = 0.1
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.hidden, self.epochs, self.batch) < 1:
            what = f"hidden={self.hidden}, epochs={self.epochs}, batch={self.batch}"
            raise UsageError(what, remedy="Use 1 or more")
        if not (self.rate > 0 and self.scores >= 0 and 0 < self.held_out < 1):
            what = f"rate={self.rate}, scores={self.scores}, held_out={self.held_out}"
            raise UsageError(what, remedy="Use a rate above 0 and a share such as 0.05")


def distil_tower(
    encoder: Encoder[Any, Vectors],
    texts: Sequence[str],
    *,
    passages: Vectors | None = None,
    vectors: Vectors | None = None,
    tokenizer: Path | None = None,
    training: TowerTraining | None = None,
) -> QueryTower:
    """A tower that gives about the vectors that `encoder` gives for queries.

    texts: queries, or sentences that could be some; thousands are better than hundreds, and they
    need no judgements.  passages: (n, d) vectors of an index.  vectors: those of the texts, if
    they are encoded already.  tokenizer: a tokenizer.json, that of the encoder's model by default.
    Encodes the texts and every token of the vocabulary once. Equal for equal seeds. Needs torch.

    Raises InputError for too few texts, UsageError for an encoder without a tokenizer.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtra("torch", "dense") from None
    training = training or TowerTraining()
    if len(texts) < FEWEST:
        raise InputError(f"{len(texts)} texts are too few", remedy=f"Give {FEWEST} or more")
    content = (tokenizer or _tokenizer_of(encoder)).read_bytes()
    split = read_tokenizer(content)
    encoded = split.encode_batch(list(texts), add_special_tokens=False)
    tokens = [np.array(one.ids, np.int64) for one in encoded]
    words = [split.id_to_token(place) or "" for place in range(split.get_vocab_size())]
    targets = encoder.encode_queries(texts) if vectors is None else vectors
    run = _Run(tokens, unit(targets), _beginning(encoder, words, tokens), passages, training)
    before = run.measured()
    run.learn()
    facts: dict[str, JSON] = {
        "training": asdict(training),
        "texts": len(texts),
        "cosine": [round(before, 4), round(run.measured(), 4)],
    }
    table, bias, inward, outward = (one.detach().numpy().copy() for one in run.parameters)
    parts = TowerParts(content, table.astype(np.float16), bias, inward, outward, canary(encoder))
    return QueryTower(encoder.fingerprint, parts, facts)


class _Run:
    """One training: tokens and target vectors of the texts, and the tower as it is learned."""

    def __init__(
        self,
        tokens: Sequence[NDArray[np.int64]],
        targets: Vectors,
        table: Vectors,
        passages: Vectors | None,
        training: TowerTraining,
    ) -> None:
        import torch

        self.tokens, self.targets, self.training = tokens, torch.tensor(targets), training
        self.random = np.random.default_rng(training.seed)
        order = self.random.permutation(len(tokens))
        out = max(1, round(training.held_out * len(tokens)))
        self.held, self.kept = order[:out], order[out:]
        generator = torch.Generator().manual_seed(training.seed)
        d, h = table.shape[1], training.hidden
        inward = torch.randn(h, d, generator=generator) / d**0.5
        self.parameters = [torch.tensor(table), torch.zeros(d), inward, torch.zeros(d, h)]
        for one in self.parameters:
            one.requires_grad_()
        self.passages = self.nearest = None
        if passages is not None and training.scores and len(passages):
            self.passages = torch.tensor(unit(passages))
            self.nearest = _nearest(targets, unit(passages))

    def learn(self) -> None:
        import torch

        table, *rest = self.parameters
        optimizers = torch.optim.SparseAdam([table]), torch.optim.Adam(rest)
        steps = self.training.epochs * -(-len(self.kept) // self.training.batch)
        step = 0
        for _ in range(self.training.epochs):
            order = self.random.permutation(self.kept)
            for start in range(0, len(order), self.training.batch):
                for optimizer in optimizers:
                    optimizer.param_groups[0]["lr"] = self.training.rate * (1 - step / steps)
                    optimizer.zero_grad()
                chosen = order[start : start + self.training.batch]
                self._loss(chosen).backward()  # type: ignore[no-untyped-call]
                for optimizer in optimizers:
                    optimizer.step()  # type: ignore[no-untyped-call]
                step += 1

    def measured(self) -> float:
        """The mean cosine to the vectors of the texts held out."""
        import torch

        with torch.no_grad():
            return float((self._encoded(self.held) * self.targets[self.held]).sum(1).mean())

    def _encoded(self, chosen: NDArray[np.int64]) -> "Tensor":
        import torch

        table, bias, inward, outward = self.parameters
        tokens = [self.tokens[place] for place in chosen.tolist()]
        starts = np.cumsum([0, *(len(one) for one in tokens)])[:-1]
        flat = torch.tensor(np.concatenate(tokens))
        means = torch.nn.functional.embedding_bag(
            flat, table, torch.tensor(starts), mode="mean", sparse=True
        )
        v = means + bias
        moved = v + torch.relu(v @ inward.T) @ outward.T
        return torch.nn.functional.normalize(moved, dim=1)

    def _loss(self, chosen: NDArray[np.int64]) -> "Tensor":
        found, wanted = self._encoded(chosen), self.targets[chosen]
        loss = (1 - (found * wanted).sum(1)).mean()
        if self.passages is None or self.nearest is None:
            return loss
        near = self.random.permutation(np.unique(self.nearest[chosen]))[:_CANDIDATES]
        passages = self.passages[near].T / _TEMPERATURE
        given = (wanted @ passages).softmax(1)
        own = (found @ passages).log_softmax(1)
        divergence = (given * (given.clamp_min(1e-9).log() - own)).sum(1).mean()
        total: Tensor = loss + self.training.scores * divergence
        return total


def _beginning(
    encoder: Encoder[Any, Vectors], words: Sequence[str], tokens: Sequence[NDArray[np.int64]]
) -> Vectors:
    """(tokens, d) what the encoder makes of each token alone, centred and weighted."""
    alone = encoder.encode_queries([_plain(word) for word in words])
    seen = np.fromiter(chain.from_iterable(tokens), np.int64)
    counts = np.bincount(seen, minlength=len(words)) + 1.0
    weights = _RARE / (_RARE + counts / counts.sum())
    table = (alone - alone.mean(axis=0)) * weights[:, None]
    return np.asarray(table / np.linalg.norm(table, axis=1).mean(), dtype=np.float32)


def _plain(token: str) -> str:
    """The text of a token without the marks of tokenizers."""
    return token.removeprefix("##").lstrip("Ġ▁") or token


def _nearest(vectors: Vectors, passages: Vectors) -> NDArray[np.int64]:
    """(n, 8) the passages nearest to each vector, a block at a time."""
    blocks = (vectors[start : start + 512] for start in range(0, len(vectors), 512))
    most = min(_NEAREST, len(passages))
    return np.concatenate(
        [np.argpartition(-(block @ passages.T), most - 1, axis=1)[:, :most] for block in blocks]
    )


def _tokenizer_of(encoder: Encoder[Any, Vectors]) -> Path:
    model = encoder.fingerprint.settings.get("model")
    path = find_model(str(model)).folder / "tokenizer.json" if model else None
    if path is None or not path.exists():
        what = f"the encoder {encoder.fingerprint.name!r} has no tokenizer.json"
        raise UsageError(what, remedy="Give one with tokenizer=")
    return path
