"""Small random models of the kinds that have a layout of their own: TILDEv2, three outputs."""

from pathlib import Path

import numpy as np

from . import sparse_folders as folders

WORDS = ["the", "of", "book", "library", "a", "s"]
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS), "s", "."]
"""What the model of three outputs knows."""


def tildev2(folder: Path, seed: int = 0) -> Path:
    """A checkpoint with the tensors of the published one."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(folders.WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    tensors = {
        f"bert.{name}": values + 0.3 * torch.randn_like(values)
        for name, values in BertModel(config).state_dict().items()
        if values.is_floating_point()
    }
    tensors |= {"tok_proj.weight": torch.randn(1, 32), "tok_proj.bias": torch.full((1,), 3.0)}
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    folders.tokenizer(model_max_length=64).save_pretrained(folder)
    return folder


def three_outputs(folder: Path, seed: int = 3) -> Path:
    """A model in the layout of BGE-M3."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
        initializer_range=0.5,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.Unigram([(token, -1.0) for token in TOKENS], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>"}
    named = {f"{name}_token": token for name, token in names.items()}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", model_max_length=32, **named
    ).save_pretrained(folder)
    _write_heads(folder, seed)
    return folder


def _write_heads(folder: Path, seed: int) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    for name, outputs in (("sparse_linear", 1), ("colbert_linear", 8)):
        weight = random.standard_normal((outputs, 16)).astype(np.float32)
        bias = random.standard_normal(outputs).astype(np.float32)
        save_file({"weight": weight, "bias": bias}, folder / f"{name}.safetensors")
