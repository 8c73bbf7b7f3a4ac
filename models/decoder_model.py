"""The hidden states of a decoder language model, causal or with attention in both directions.

Nothing of the model is changed: attention in both directions is a mask that is handed to it, and
token prepending a hook that is there for one pass. Texts are padded on the right, where under
causal attention no token of a text can see the padding, and positions count from the first token.

BehnamGhader et al., LLM2Vec: Large Language Models Are Secretly Powerful Text Encoders, COLM 2024
(both directions).
Fu et al., Token Prepending, ACL 2025: after each of the first layers the hidden state of the last
token, which has seen the whole sentence, replaces that of a placeholder before the sentence.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .loaded_encoder import loading
from .matryoshka import keep_layers
from .model_folder import ModelFolder

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

Masks = Any
"""What a model takes as its attention mask: a tensor, or one by each kind of layer."""


@dataclass(frozen=True, slots=True)
class Pass:
    """How a decoder is run.

    bidirectional: tokens see those after them.  prepend_layers: after how many of the first layers
    the placeholder is replaced.  final_norm: the last normalisation is applied.
    """

    bidirectional: bool = False
    prepend_layers: int = 0
    final_norm: bool = True


class DecoderModel:
    """The transformer of a decoder language model without its head, and its tokenizer."""

    def __init__(
        self, model: ModelFolder, number_type: "dtype", target: "device", layers: int | None = None
    ) -> None:
        self.tokenizer, loaded = load_decoder(model, number_type)
        self.transformer = loaded.to(target).eval()
        self._name, self._target = model.name, target
        self._layers = keep_layers(self.transformer, layers, model.name)

    @property
    def dimensions(self) -> int:
        return int(self.transformer.config.hidden_size)

    def check(self, how: Pass) -> None:
        """Raise UsageError for what this model cannot do."""
        if not 0 <= how.prepend_layers < len(self._layers):
            raise UsageError(
                f"prepend_layers={how.prepend_layers} for {self._name!r}",
                remedy=f"Use a number from 0 to {len(self._layers) - 1}",
            )
        if how.bidirectional and not self._sees_ahead():
            raise UsageError(
                f"bidirectional=True, but {self._name!r} attends to earlier tokens whatever the "
                "mask says",
                remedy="Leave the option out",
            )

    def _sees_ahead(self) -> bool:
        """Whether the first of two tokens depends on the second: some models make own masks."""
        words = self.transformer.config.vocab_size
        pairs = [np.array([0, last], dtype=np.int32) for last in (words // 2, words // 3)]
        try:
            left, right = self.hidden(pairs, None, Pass(bidirectional=True))[:, 0]
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
            return False  # a model that does not take such a mask
        return bool((left != right).any())

    def hidden(
        self,
        tokens: Sequence[NDArray[np.int32]],
        placeholders: Sequence[int] | None,
        how: Pass,
    ) -> "Tensor":
        """(texts, longest, d) hidden states in float32, on the device; those of padding are noise.

        placeholders: the place of each text's placeholder, for token prepending.
        """
        import torch

        lengths = torch.tensor([len(text) for text in tokens], device=self._target)
        ids = torch.zeros((len(tokens), int(lengths.max())), dtype=torch.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = torch.from_numpy(text)
        with torch.inference_mode(), ExitStack() as stack:
            given: dict[str, Any] = {"input_ids": ids.to(self._target)}
            if placeholders is not None:
                places = torch.tensor(placeholders, device=self._target)
                given = {"inputs_embeds": self._embedded(given["input_ids"], places)}
                early = list(self._layers)[1 : how.prepend_layers + 1]
                stack.enter_context(replaced(early, places, lengths - 1))
            if how.bidirectional:
                given["attention_mask"] = self._both_ways(lengths)
            raw = stack.enter_context(output_of(self._layers[-1]))
            last = self.transformer(**given, use_cache=False).last_hidden_state
            states: Tensor = last if how.final_norm else raw[0]
            return states.float()

    def _embedded(self, ids: "Tensor", places: "Tensor") -> "Tensor":
        """(texts, longest, d): the embeddings of the tokens, with one of noise for placeholders."""
        import torch

        embedded: Tensor = self.transformer.get_input_embeddings()(ids)
        noise = np.random.default_rng(0).standard_normal(embedded.shape[-1])
        embedded[torch.arange(len(ids), device=ids.device), places] = torch.from_numpy(noise).to(
            embedded
        )
        return embedded

    def _both_ways(self, lengths: "Tensor") -> Masks:
        """Masks under which every token sees all tokens of its text, near ones where that is all.

        A layer with a sliding window sees that far ahead too, as transformers has it.
        """
        import torch

        config = self.transformer.config
        longest = int(lengths.max())
        at = torch.arange(longest, device=lengths.device)
        full = (at < lengths[:, None])[:, None, None, :].expand(-1, 1, longest, -1)
        window = getattr(config, "sliding_window", None)
        near = full if not window else full & ((at[:, None] - at).abs() <= window)
        near = near | torch.eye(longest, dtype=torch.bool, device=at.device)  # padding sees itself
        masks = {"full_attention": self._as_mask(full), "sliding_attention": self._as_mask(near)}
        if getattr(config, "layer_types", None):
            return masks
        return masks["sliding_attention" if window else "full_attention"]

    def _as_mask(self, seen: "Tensor") -> "Tensor":
        """In the form that the kind of attention takes: what is seen, or what is added."""
        import torch

        if self.transformer.config._attn_implementation == "sdpa":
            return seen
        number_type = self.transformer.dtype
        added = torch.zeros(seen.shape, dtype=number_type, device=seen.device)
        return added.masked_fill_(~seen, torch.finfo(number_type).min)


def load_decoder(model: ModelFolder, number_type: "dtype") -> tuple[Any, Any]:
    """The tokenizer, and the model without its head; no network, no code of the model's own."""
    with loading(model):
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            model.folder, local_files_only=True, trust_remote_code=False
        )
        with no_reports():
            loaded, found = AutoModel.from_pretrained(
                model.folder,
                dtype=number_type,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        if found["missing_keys"]:
            raise ValueError(f"it has no weights for {min(found['missing_keys'])}")
        return tokenizer, loaded


@contextmanager
def no_reports() -> Iterator[None]:
    """Without what transformers says about weights that the model has and nobody asked for."""
    from transformers.utils import logging

    switches: Any = logging  # carries no types
    level = switches.get_verbosity()
    switches.set_verbosity_error()
    try:
        yield
    finally:
        switches.set_verbosity(level)


@contextmanager
def replaced(layers: Sequence[Any], places: "Tensor", lasts: "Tensor") -> Iterator[None]:
    """While it lasts, each of the layers reads at `places` what stands at `lasts`, row by row."""
    import torch

    rows = torch.arange(len(places), device=places.device)

    def put(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        states = given[0].clone()
        states[rows, places] = states[rows, lasts]
        return (states, *given[1:])

    hooks = [layer.register_forward_pre_hook(put) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def output_of(layer: Any) -> Iterator[list["Tensor"]]:
    """A list that holds what the layer gives, once it has run."""
    found: list[Tensor] = []

    def keep(layer: Any, given: tuple[Any, ...], output: Any) -> None:
        found.append(output[0] if type(output) is tuple else output)

    hook = layer.register_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()
