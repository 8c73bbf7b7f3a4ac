"""A model in the midst of writing: what it has read and written so far is kept, row by row.

Each row is one text being written for one query. Rows are repeated, dropped and put in another
order by `select`, and grow by `extend`; nothing that was read is read again.

Prompts of a causal model are padded on the left, under a mask and with positions that count from
each prompt's own first token, so that a row does not depend on what stands beside it. What an
encoder read is kept once it is there: it is copied anew only when rows change their query.
"""

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor


class Writing:
    """Rows that a model writes; `queries` says which query each is for.

    first: (queries, places, vocabulary) logits in float32 from the reading: the last of them say
    what comes next, those before it what each of the tokens that all begin with was worth.
    """

    def __init__(
        self, model: LanguageModel, prompts: Sequence[NDArray[np.int64]], begun: Sequence[int]
    ) -> None:
        """Read the prompts and, after each, the tokens `begun` with. For causal models a prompt
        and what is begun with are one text; others read the prompt with the encoder.
        """
        import torch

        self._model = model
        self.queries = np.arange(len(prompts))
        self._cache: Any = None
        self._read: Tensor | None = None
        if model.reads_apart:
            tokens, self._mask = padded(model, prompts, left=False)
            with torch.inference_mode():
                read = model.model.get_encoder()(input_ids=tokens, attention_mask=self._mask)
            self._read = read.last_hidden_state
            start = np.tile(np.array(begun, dtype=np.int64), (len(prompts), 1))
            self.first = self._forward(model.tensor(start), len(begun))
        else:
            tail = np.array(begun, dtype=np.int64)
            whole = [np.concatenate([prompt, tail]) for prompt in prompts]
            tokens, self._mask = padded(model, whole, left=True)
            self.first = self._forward(tokens, len(begun) + 1)
        self._check_cache()

    def _check_cache(self) -> None:
        if not hasattr(self._cache, "reorder_cache"):
            raise UsageError(
                f"{type(self._model.model).__name__} keeps no cache of keys and values",
                remedy="Use a model with attention",
            )

    def select(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows, in this order; one may be named many times, or not at all."""
        queries = self.queries[rows]
        same = len(rows) == len(self.queries) and bool((queries == self.queries).all())
        self.queries = queries
        chosen = self._model.tensor(rows)
        if self._read is None:
            self._mask = self._mask[chosen]
            self._cache.reorder_cache(chosen)
            return
        self._cache.self_attention_cache.reorder_cache(chosen)
        if not same:
            self._mask, self._read = self._mask[chosen], self._read[chosen]
            self._cache.cross_attention_cache.reorder_cache(chosen)

    def selected(self, rows: NDArray[np.int64]) -> "Writing":
        """Those rows as a writing of their own; this one stays as it is."""
        other = copy.copy(self)
        other._cache = copy.deepcopy(self._cache)
        other.select(rows)
        return other

    def extend(self, tokens: NDArray[np.int64]) -> "Tensor":
        """(rows, t, vocabulary) logits in float32 after each of the (rows, t) tokens."""
        import torch

        written = self._model.tensor(tokens)
        if self._read is None:
            self._mask = torch.cat([self._mask, torch.ones_like(written)], dim=1)
        return self._forward(written, tokens.shape[1])

    def _forward(self, tokens: "Tensor", asked: int) -> "Tensor":
        """Logits after the last `asked` of the tokens; the cache grows by all."""
        import torch

        given = self._inputs(tokens)
        if asked < tokens.shape[1] and self._takes("logits_to_keep"):
            given["logits_to_keep"] = asked
        with torch.inference_mode():
            found = self._model.model(**given, past_key_values=self._cache, use_cache=True)
        self._cache = getattr(found, "past_key_values", None)
        logits: Tensor = found.logits[:, -asked:].float()
        return logits

    def _inputs(self, tokens: "Tensor") -> dict[str, Any]:
        if self._read is not None:
            read = {"encoder_outputs": (self._read,), "attention_mask": self._mask}
            return {"decoder_input_ids": tokens, **read}
        given = {"input_ids": tokens, "attention_mask": self._mask}
        if self._takes("position_ids"):
            positions = (self._mask.cumsum(-1) - 1).clamp_(min=0)
            given["position_ids"] = positions[:, -tokens.shape[1] :]
        return given

    def _takes(self, name: str) -> bool:
        return name in inspect.signature(self._model.model.forward).parameters


def padded(
    model: LanguageModel, texts: Sequence[NDArray[np.int64]], *, left: bool
) -> tuple["Tensor", "Tensor"]:
    """(texts, longest) token ids and their mask, 1 where there is a token, on the device."""
    longest = max(len(text) for text in texts)
    ids = np.zeros((len(texts), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        at = slice(longest - len(text), None) if left else slice(0, len(text))
        ids[row, at], mask[row, at] = text, 1
    return model.tensor(ids), model.tensor(mask)
