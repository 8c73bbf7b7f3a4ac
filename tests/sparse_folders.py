"""Small random models that make weighted terms, written as their libraries keep them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragstone.records import WeightedTerms

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{one}" for one in LETTERS)]
WORDS += ["the", "of", "library", "book", "city", ".", ",", "what", "1", "2"]

TEXTS = [
    "the book",
    "",
    "The Library of books; a library of the Book.",
    "   ",
    "é ü 東京 😀 1,2",
    "of " * 100,
    "books of the library of the books of the city " * 4,
    "the book",
    "what",
]


def tokenizer(**options: Any) -> Any:
    from tokenizers import BertWordPieceTokenizer
    from transformers import PreTrainedTokenizerFast

    core = BertWordPieceTokenizer({word: at for at, word in enumerate(WORDS)})
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    options = {"model_max_length": 48, **options}
    return PreTrainedTokenizerFast(tokenizer_object=core._tokenizer, **names, **options)


def masked_model(folder: Path, *, kind: str = "Bert", seed: int = 0, words: int = 0) -> Path:
    """A bare masked language model; `words`: rows of its vocabulary."""
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": words or len(WORDS)}
    if kind == "DistilBert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 64}
    config = getattr(transformers, f"{kind}Config")(max_position_embeddings=64, **sizes)
    torch.manual_seed(seed)
    network = getattr(transformers, f"{kind}ForMaskedLM")(config)
    with torch.no_grad():
        for values in network.parameters():
            values += 0.3 * torch.randn_like(values)
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def saved(model: Any, folder: Path, **settings: Any) -> Path:
    """A model of sentence-transformers, with settings of its own config file."""
    model.save(str(folder), create_model_card=False)
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def splade(folder: Path, **options: Any) -> Path:
    """A SPLADE model; options: of the pooling, and `settings`."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    settings = options.pop("settings", {})
    bare = masked_model(folder / "bare", kind=options.pop("kind", "Bert"))
    stages = [Transformer(str(bare), transformer_task="fill-mask"), SpladePooling(**options)]
    model = SparseEncoder(modules=stages, device="cpu")
    return saved(model, folder / "model", **settings)


def inference_free(folder: Path, weights: NDArray[np.float32]) -> Path:
    """A model whose queries are a lookup in `weights`."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    bare = masked_model(folder / "bare", kind="DistilBert")
    pooling = SpladePooling("max", activation_function="log1p_relu")
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tokenizer(), torch.from_numpy(weights), frozen=True)],
        document_modules=[Transformer(str(bare), transformer_task="fill-mask"), pooling],
    )
    return saved(SparseEncoder(modules=[router], device="cpu"), folder / "model")


def dense(keys: WeightedTerms, words: list[str] = WORDS) -> NDArray[np.float32]:
    """(texts, words) weights."""
    places = {word.encode(): at for at, word in enumerate(words)}
    columns = np.array([places[term] for term in keys.vocabulary], np.int64)
    rows = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    weights = np.zeros((len(keys), len(words)), np.float32)
    weights[rows, columns[keys.ids]] = keys.weights
    return weights
