"""A masked language model's logits, pooled over the tokens of each text without ever being kept.

A SPLADE vector is the largest logit that any token of a text gives to each word of the vocabulary,
cut off at 0 and damped by log(1 + x). Both functions grow with their argument, so the maximum is
taken of raw logits, and the functions of one vector a text instead of one a token. The logits
of a few hundred packed tokens for some thousand words fit the cache and are gone after their
maximum; those of a padded batch would be gigabytes.

Formal et al., SPLADE v2: Sparse Lexical and Expansion Model for Information Retrieval, 2021.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .packed_bert import can_lay_out, laid_out, plain

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

ROWS = 256
"""Tokens whose logits are computed together on a processor, of one number so that it compiles one
kernel; a GPU takes more."""

ROWS_CUDA = 8192
WORDS = 4096
"""Words of the vocabulary whose logits are computed together: 2 MB of bfloat16 with ROWS."""

AGREEMENT = 0.03
"""Between the logits of the network and of its parts, as a share of the largest: rounding only."""


class PooledLogits:
    """The last product of a network, over packed tokens, pooled by text.

    damped: how often log(1 + x) is taken.  summed: over the tokens of the damped logits, as the
    first SPLADE had it, instead of their maximum.
    """

    def __init__(self, head: Any, *, damped: int = 1, summed: bool = False) -> None:
        weight: Any = head.weight.detach()
        bias: Any = getattr(head, "bias", None)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self._damped, self._summed, self.words = damped, summed, len(weight)
        on_processor = weight.device.type == "cpu"
        self._rows = ROWS if on_processor else ROWS_CUDA
        self._multiple = ROWS if on_processor else 1
        product = laid_out if on_processor and can_lay_out(weight) else plain
        step = WORDS if on_processor else self.words
        parts = zip(weight.split(step), bias.split(step), strict=True)
        self._products = [product(w.contiguous(), b.contiguous(), False) for w, b in parts]

    def pool(self, hidden: "Tensor", lengths: Sequence[int]) -> NDArray[np.float32]:
        """(texts, words) from the (tokens, d) last hidden states of the texts, one after another.

        lengths: tokens of each text.
        """
        import torch

        pooled = torch.zeros(len(lengths), self.words, device=hidden.device)
        for start in range(0, len(hidden), self._rows):
            rows = hidden[start : start + self._rows]
            spans = list(_spans(lengths, start, len(rows)))
            self._take(
                _filled(rows, self._rows if hidden.device.type == "cpu" else 1), spans, pooled
            )
        return np.asarray((pooled if self._summed else self._damp(pooled)).numpy(force=True))

    def _take(self, rows: "Tensor", spans: "Sequence[tuple[int, slice]]", pooled: "Tensor") -> None:
        """Pool the logits of some tokens into the rows of their texts."""
        import torch

        at = 0
        for product in self._products:
            logits = product(rows)
            words = slice(at, at + logits.shape[1])
            for text, span in spans:
                found, so_far = logits[span], pooled[text, words]
                if self._summed:
                    so_far += self._damp(found.float().relu_()).sum(0)
                else:
                    torch.maximum(so_far, found.amax(0).float(), out=so_far)
            at = words.stop

    def _damp(self, logits: "Tensor") -> "Tensor":
        for _ in range(self._damped):
            logits = logits.log1p_()
        return logits


def _spans(lengths: Sequence[int], start: int, rows: int) -> Iterator[tuple[int, slice]]:
    """Which texts have tokens among `rows` from `start` on, and where there."""
    ends = np.cumsum(lengths) - start
    first = int(np.searchsorted(ends, 0, side="right"))
    begin = 0
    for text in range(first, len(lengths)):
        end = min(int(ends[text]), rows)
        yield text, slice(begin, end)
        if end == rows:
            return
        begin = end


def _filled(rows: "Tensor", multiple: int) -> "Tensor":
    """With rows of zeros up to a multiple."""
    missing = -len(rows) % multiple
    if not missing:
        return rows.contiguous()
    import torch

    return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])


def take_head(network: "Module", run: "Callable[[], Tensor]") -> "Module | None":
    """Take the last product off a network of our own; None, and nothing done, where that would
    not give the same logits.

    run: a forward pass of the network on some tokens, giving their logits.  Afterwards the network
    gives what goes into the product instead of logits.
    """
    import torch

    head: Any = getattr(network, "get_output_embeddings", lambda: None)()
    if head is None or type(head) is not torch.nn.Linear:
        return None
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        with torch.inference_mode():
            logits = run()
            if len(seen) != 1 or not _near(head(seen[0]), logits):
                return None
    finally:
        hook.remove()
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is head:
                setattr(parent, name, torch.nn.Identity())
    taken: Module = head
    return taken


def _near(found: "Tensor", expected: "Tensor") -> bool:
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= AGREEMENT * expected.abs().max())
