"""The forward pass of a plain BERT in torch, over texts packed end to end without padding.

The linear layers see one long row of tokens; attention runs over groups of texts of equal length.
On a processor three things decide the speed: bfloat16 where the processor has it, weights laid out
once for its matrix unit, and few distinct shapes (oneDNN compiles a kernel for each new number of
rows, which for short texts costs more than the products), so that batches are filled up with rows
of zeros to a multiple of 256.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .plain_bert import PlainBert, Tokens
from .token_spans import TokenSpans

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

    Dense: TypeAlias = Callable[[Tensor], Tensor]
    Norm: TypeAlias = Callable[[Tensor], Tensor]
    Group: TypeAlias = tuple[slice, int, int]

ROWS = 256


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer as four products and two normalisations."""

    project: "Dense"  # to queries, keys and values in one product
    attended: "Dense"
    attended_norm: "Norm"
    widen: "Dense"  # with the GELU
    narrow: "Dense"
    norm: "Norm"


class PackedBert:
    """Encodes batches of token lists with the weights of a plain BERT folder."""

    def __init__(self, bert: PlainBert, number_type: "dtype", target: "device") -> None:
        self.bert, self.number_type, self.target = bert, number_type, target
        self._rows = ROWS if target.type == "cpu" else 1
        self._norm = self._normalisation("embeddings.LayerNorm")
        names = (f"encoder.layer.{number}" for number in range(bert.layers))
        self._layers = [self._layer(name) for name in names]

    def encode(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """(texts, d) pooled vectors, not normalised. Fastest when lengths come sorted."""
        import torch

        lengths = [len(text) for text in tokens]
        with torch.inference_mode():
            pooled = self._pool(self._last_layer(tokens, lengths), lengths)
            return np.asarray(pooled.numpy(force=True))

    @property
    def dimensions(self) -> int:
        return self.bert.dimensions

    def token_spans(self, texts: Sequence[str]) -> list[TokenSpans]:
        return self.bert.token_spans(texts)

    def token_vectors(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """(tokens, d) vectors of the last layer, one text after the other, not normalised."""
        import torch

        lengths = [len(text) for text in tokens]
        with torch.inference_mode():
            x = self._last_layer(tokens, lengths)[: sum(lengths)]
            return np.asarray(x.float().numpy(force=True))

    def _last_layer(self, tokens: Sequence[Tokens], lengths: Sequence[int]) -> "Tensor":
        """(rows, d): the tokens of all texts, and rows that fill up the last product."""
        x = self._embed(tokens)
        for layer in self._layers:
            x = self._forward(layer, x, lengths)
        return x

    def _embed(self, tokens: Sequence[Tokens]) -> "Tensor":
        """(rows, d): the tokens of all texts, and rows of zeros up to a multiple of `_rows`."""
        import torch

        summed = self.bert.embeddings(tokens)
        rows = -(-len(summed) // self._rows) * self._rows
        filled = np.zeros((rows, summed.shape[1]), dtype=np.float32)
        filled[: len(summed)] = summed
        x = torch.from_numpy(filled).to(self.target)
        return self._norm(x).to(self.number_type)

    def _forward(self, layer: Layer, x: "Tensor", lengths: Sequence[int]) -> "Tensor":
        attended = self._attention(layer.project(x), lengths)
        x = layer.attended_norm(layer.attended(attended).add_(x))
        return layer.norm(layer.narrow(layer.widen(x)).add_(x))

    def _attention(self, projected: "Tensor", lengths: Sequence[int]) -> "Tensor":
        """(rows, d) from the (rows, 3 d) queries, keys and values."""
        from torch.nn.functional import scaled_dot_product_attention as attention

        width = projected.shape[1] // 3
        attended = projected.new_zeros(len(projected), width)
        for span, texts, length in equal_lengths(lengths):
            shape = (texts, length, 3, self.bert.heads, width // self.bert.heads)
            query, key, value = projected[span].view(shape).permute(2, 0, 3, 1, 4)
            found = attention(query, key, value).transpose(1, 2)
            attended[span].view(found.shape).copy_(found)
        return attended

    def _pool(self, x: "Tensor", lengths: Sequence[int]) -> "Tensor":
        import torch

        ends = np.cumsum(lengths)
        if self.bert.model.pooling == "cls":
            return x[torch.from_numpy(ends - np.array(lengths)).to(x.device)].float()
        counts = torch.tensor(lengths, device=x.device)
        return torch.segment_reduce(x[: ends[-1]].float(), "mean", lengths=counts)

    def _layer(self, name: str) -> Layer:
        return Layer(
            project=self._dense(*(f"{name}.attention.self.{p}" for p in ("query", "key", "value"))),
            attended=self._dense(f"{name}.attention.output.dense"),
            attended_norm=self._normalisation(f"{name}.attention.output.LayerNorm"),
            widen=self._dense(f"{name}.intermediate.dense", gelu=True),
            narrow=self._dense(f"{name}.output.dense"),
            norm=self._normalisation(f"{name}.output.LayerNorm"),
        )

    def _dense(self, *names: str, gelu: bool = False) -> "Dense":
        """The products of the named layers in one, side by side."""
        weight = self._tensor(*(f"{name}.weight" for name in names)).to(self.number_type)
        bias = self._tensor(*(f"{name}.bias" for name in names)).to(self.number_type)
        return (laid_out if can_lay_out(weight) else plain)(weight, bias, gelu)

    def _normalisation(self, name: str) -> "Norm":
        from torch.nn.functional import layer_norm

        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        by_type = {dtype: (weight.to(dtype), bias.to(dtype)) for dtype in self._types}
        epsilon = self.bert.epsilon
        return lambda x: layer_norm(x, x.shape[1:], *by_type[x.dtype], epsilon)

    @property
    def _types(self) -> "set[dtype]":
        import torch

        return {torch.float32, self.number_type}

    def _tensor(self, *names: str) -> "Tensor":
        import torch

        joined = np.concatenate([self.bert.weight(name) for name in names])
        return torch.from_numpy(joined).to(self.target)


def equal_lengths(lengths: Sequence[int]) -> "Iterator[Group]":
    """Neighbouring texts of one length: their rows, how many texts, and the length."""
    start = 0
    for length, run in groupby(lengths):
        texts = sum(1 for _ in run)
        end = start + texts * length
        yield slice(start, end), texts, length
        start = end


def plain(weight: "Tensor", bias: "Tensor", gelu: bool) -> "Dense":
    from torch.nn import functional

    if gelu:
        return lambda x: functional.gelu(functional.linear(x, weight, bias))
    return lambda x: functional.linear(x, weight, bias)


def laid_out(weight: "Tensor", bias: "Tensor", gelu: bool) -> "Dense":
    """The product by oneDNN with the weight in the layout of the processor's matrix unit.

    Saves the layout that `linear` makes anew at each call, and a pass over memory for the GELU;
    in float32 it also avoids a BLAS that is slow on processors of another maker.
    These are the operators that torch's own compiler emits.
    """
    import torch

    ready = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, ready, bias, *after)


def can_lay_out(weight: "Tensor") -> bool:
    """Whether the operators of `laid_out` exist here and take this kind of weight."""
    import torch

    if weight.device.type != "cpu" or weight.dtype not in (torch.bfloat16, torch.float32):
        return False
    try:
        sample = weight[:16, :16].contiguous()
        laid_out(sample, sample[0], gelu=True)(sample)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
