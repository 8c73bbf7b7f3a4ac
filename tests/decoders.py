"""Small random decoder language models, as Hugging Face keeps them, with a tokenizer of words."""

from pathlib import Path
from typing import Any

WORDS = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "the", "book", "library", "of"]
WORDS += ["Instruct", "Query", "find", "sentence", "means", ":", ".", '"', "[", "]", "{", "}", "é"]

WIDTH = 16
LAYERS = 4
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "Mistral": {"sliding_window": 5},
    "Gemma2": {"sliding_window": 5, "query_pre_attn_scalar": 4},
    "Gemma3": {"sliding_window": 5, "query_pre_attn_scalar": 4, "sliding_window_pattern": 2},
    "GPT2": {"n_embd": WIDTH, "n_head": 4, "n_layer": LAYERS, "n_positions": 128},
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def make_decoder(folder: Path, family: str = "Llama", *, start: bool = True, seed: int = 0) -> Path:
    """A random model of the family; `start`: its tokenizer puts <s> before a text."""
    import torch
    import transformers

    from ragstone.models.loaded_encoder import no_progress_bars

    shape = {} if family == "GPT2" else SHAPE
    common = {"vocab_size": len(WORDS), "initializer_range": 0.5}
    common |= {"bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(
        **{**shape, **common, **OWN.get(family, {})}
    )
    torch.manual_seed(seed)
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    with no_progress_bars():
        getattr(transformers, family + head)(config).save_pretrained(folder)
    _write_tokenizer(folder, start)
    return folder


def _write_tokenizer(folder: Path, start: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
