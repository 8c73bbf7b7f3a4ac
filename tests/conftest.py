"""Fixtures that several test files share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the first numeric library is loaded
os.environ.setdefault("HF_HUB_OFFLINE", "1")

MakeBert = Callable[..., Path]

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
VOCABULARY += [f"##{letter}" for letter in LETTERS] + ["the", "of", "library", "book", ".", "é"]


@pytest.fixture(scope="session")
def make_bert(tmp_path_factory: pytest.TempPathFactory) -> MakeBert:
    """Writes a small random BERT folder as sentence-transformers keeps one; needs no torch."""

    def make(
        *,
        seed: int = 0,
        width: int = 32,
        pooling: str = "mean",
        prompts: dict[str, str] | None = None,
        vocabulary: list[str] | None = None,
        prefix: str = "",
        half: bool = False,
    ) -> Path:
        folder = tmp_path_factory.mktemp("bert")
        words = vocabulary or VOCABULARY
        _write_weights(folder, seed, width, len(words), prefix, np.float16 if half else np.float32)
        _write_tokenizer(folder, words)
        _write_settings(folder, width, len(words), pooling, prompts or {})
        return folder

    return make


def _write_weights(
    folder: Path, seed: int, width: int, words: int, prefix: str, kind: type[np.floating]
) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (words, width),
        "embeddings.position_embeddings.weight": (64, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    products = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (4 * width, width),
        "output.dense": (width, 4 * width),
    }
    for layer in (f"encoder.layer.{number}" for number in range(2)):
        for name, (rows, columns) in products.items():
            shapes |= {f"{layer}.{name}.weight": (rows, columns), f"{layer}.{name}.bias": (rows,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": (width,), f"{layer}.{name}.bias": (width,)}
    tensors = {}
    for name, shape in shapes.items():
        middle = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        tensors[prefix + name] = random.normal(middle, 0.2, shape).astype(kind)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(folder: Path, words: list[str]) -> None:
    from tokenizers import BertWordPieceTokenizer

    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = BertWordPieceTokenizer(vocabulary, strip_accents=False, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_settings(
    folder: Path, width: int, words: int, pooling: str, prompts: dict[str, str]
) -> None:
    module = "sentence_transformers.models"
    stages = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    settings = {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": f"{module}.{kind}"}
            for number, (path, kind) in enumerate(stages)
        ],
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "vocab_size": words,
            "pad_token_id": 0,
        },
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": pooling == "max",
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "strip_accents": False,
            "model_max_length": 64,
        },
    }
    for name, content in settings.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "2_Normalize").mkdir()
