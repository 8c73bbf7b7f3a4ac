"""A language model that writes: causal, or one that reads with an encoder and writes after it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, UsageError
from ..decoder_model import no_reports
from ..loaded_encoder import loading
from ..model_folder import find_model

if TYPE_CHECKING:
    from torch import Tensor, device

DTYPES = ("float32", "bfloat16", "float16")


class LanguageModel:
    """A model of transformers with a head over the vocabulary, and what decoding must know of it.

    model: a causal or a sequence-to-sequence model, in memory and on its device; it is put into
    evaluation mode.  reads_apart: it has an encoder.  vocabulary: its token ids.  tokenizer: the
    model's, for those who have texts; decoding itself takes token ids alone.
    """

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.reads_apart = bool(model.config.is_encoder_decoder)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])

    @property
    def device(self) -> "device":
        """Where the model is."""
        found: device = self.model.device
        return found

    @property
    def end(self) -> int | None:
        """The token that the model ends a text with, None for a model that has none."""
        known = self._setting("eos_token_id")
        first: int | None = known[0] if type(known) is list else known
        return first

    def decoder_start(self) -> tuple[int, ...]:
        """What a decoder that follows an encoder is begun with, the token that the model's settings
        force after it included, as `generate` does it; nothing for a causal model.
        """
        if not self.reads_apart:
            return ()
        start = self._setting("decoder_start_token_id")
        if start is None:
            raise UsageError(
                "the model does not say what its decoder begins with",
                remedy="Set `decoder_start` to its first tokens",
            )
        forced = self._setting("forced_bos_token_id")
        return (int(start),) if forced is None else (int(start), int(forced))

    def _setting(self, name: str) -> Any:
        """From the model's settings for generation, or else from its configuration."""
        found = getattr(self.model.generation_config, name, None)
        return getattr(self.model.config, name, None) if found is None else found

    def check(self, prompts: Sequence[NDArray[np.int64]], begun: Sequence[int], more: int) -> None:
        """Raise InputError or UsageError for what the model cannot read, or has no room for.

        begun: what is written whatever comes.  more: tokens that may follow it.
        """
        if self.reads_apart and not len(begun):
            raise UsageError(
                "nothing for the decoder to begin with", remedy="Give `decoder_start` a token"
            )
        room = len(begun) + more
        beside = 0 if self.reads_apart else room
        for number, prompt in enumerate(prompts):
            if not len(prompt):
                raise InputError(f"prompt {number} is empty", remedy="Give at least one token")
            self.check_known(prompt, f"prompt {number}")
            self._check_length(len(prompt) + beside, f"prompt {number}")
        self.check_known(begun, "what all begin with")
        self._check_length(room, "what is to be written")

    def check_known(self, tokens: Sequence[int] | NDArray[np.int64], where: str) -> None:
        """Raise InputError for tokens that the model does not have."""
        tokens = np.asarray(tokens, dtype=np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.vocabulary)]
        if len(wrong):
            raise InputError(
                f"token {int(wrong[0])} is none of the model's",
                where=where,
                remedy=f"Tokens go from 0 to {self.vocabulary - 1}",
            )

    def _check_length(self, length: int, where: str) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit and length > limit:
            raise InputError(
                f"{length} tokens, with what is to follow",
                where=where,
                remedy=f"The model has {limit} places: shorten the prompt or what is written",
            )

    def tensor(self, values: NDArray[Any]) -> "Tensor":
        """A copy of the array on the device of the model."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def load_language_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> LanguageModel:
    """A causal or sequence-to-sequence model of a local folder, or by its Hugging Face name.

    Its weights are safetensors, and no code of the model's own is run.
    Raises InputError when it cannot be loaded, UsageError for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r}", remedy=f"Use one of {', '.join(DTYPES)}")
    model = find_model(name)
    with loading(model), no_reports():
        import torch
        import transformers

        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = transformers.AutoConfig.from_pretrained(model.folder, **local)
        apart = config.is_encoder_decoder
        head: Any = (
            transformers.AutoModelForSeq2SeqLM if apart else transformers.AutoModelForCausalLM
        )
        loaded, found = head.from_pretrained(
            model.folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            **local,
        )
        if found["missing_keys"]:
            raise ValueError(f"it has no weights for {min(found['missing_keys'])}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder, **local)
    return LanguageModel(loaded.to(device), tokenizer)
