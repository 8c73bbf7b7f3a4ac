"""Small random language models that write, from configurations, and a corpus as a constraint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragstone.models.decoding import LanguageModel
from ragstone.models.decoding.trie import Children

VOCABULARY = 40
CAUSAL = ("Llama", "GPT2", "Qwen2", "Mistral")
APART = ("Bart", "T5")

COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}
OWN: dict[str, dict[str, Any]] = {
    "Llama": DECODER,
    "Qwen2": DECODER,
    "Mistral": DECODER | {"sliding_window": 5},
    "GPT2": {"n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 64, "initializer_range": 0.5},
    "Bart": {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "init_std": 0.5,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    },
    "T5": {
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 4,
        "initializer_factor": 1.0,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": False,
    },
}
HEADS = {"GPT2": "GPT2LMHeadModel", "Bart": "BartForConditionalGeneration"}
HEADS |= {"T5": "T5ForConditionalGeneration"}


def module(family: str, seed: int = 0, **others: Any) -> Any:
    """A random model of the family, as transformers has it."""
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(**COMMON, **OWN[family] | others)
    torch.manual_seed(seed)
    return getattr(transformers, HEADS.get(family, f"{family}ForCausalLM"))(config)


def writer(family: str, seed: int = 0, **others: Any) -> LanguageModel:
    return LanguageModel(module(family, seed, **others))


class Corpus:
    """All n-grams of some token sequences: every question is answered by looking everywhere."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self._texts = [tuple(text) for text in texts]
        self.asked = 0

    def followers(self, prefix: Sequence[int]) -> list[int]:
        """Every token after an occurrence of the prefix, in no order."""
        self.asked += 1
        n, prefix = len(prefix), tuple(prefix)
        places = ((text, at) for text in self._texts for at in range(len(text) - n))
        return [text[at + n] for text, at in places if text[at : at + n] == prefix]

    def counts(self, prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
        n = prefixes.shape[1]
        found = []
        for prefix in map(tuple, prefixes.tolist()):
            places = ((text, at) for text in self._texts for at in range(len(text) - n + 1))
            found.append(sum(text[at : at + n] == prefix for text, at in places))
        return np.array(found, dtype=np.int64)

    def continuations(self, prefixes: NDArray[np.int64]) -> Children:
        each = [np.unique(self.followers(p), return_counts=True) for p in prefixes.tolist()]
        offsets = np.cumsum([0, *(len(tokens) for tokens, _ in each)])
        columns = ([np.zeros(0), *column] for column in zip(*each, strict=True))
        tokens, counts = (np.concatenate(c).astype(np.int64) for c in columns) if each else ([], [])
        return Children(offsets, np.array(tokens, np.int64), np.array(counts, np.int64))

    def allowed(
        self, prefixes: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        rows = zip(prefixes.tolist(), candidates, strict=True)
        found = [np.isin(tokens, self.followers(prefix)) for prefix, tokens in rows]
        return np.array(found, dtype=np.bool_).reshape(candidates.shape)
