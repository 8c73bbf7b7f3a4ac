"""Queries without inference: the tokens of a text, each with a weight that is looked up.

The passages' encoder has learned what a passage is about; a query is taken at its word. Its tokens
weigh what a table says, usually their inverse document frequency, so that a query is encoded in
microseconds, without a network.

Geng et al., Towards Competitive Search Relevance for Inference-Free Learned Sparse Retrievers,
2024.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingExtra
from .model_folder import ModelFolder
from .plain_bert import AT_ONCE, read_safetensors
from .sparse_terms import NOTHING, Row

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Lookup:
    """Texts to rows: each distinct token that has a weight above 0, special tokens left out.

    weights: (vocabulary,) float32.  max_length: tokens of a text that are read.
    """

    def __init__(
        self, tokenizer: "Tokenizer", weights: NDArray[np.float32], max_length: int | None = None
    ) -> None:
        self.tokenizer, self.weights, self._max_length = tokenizer, weights, max_length

    def rows(self, texts: Sequence[str], prompt: str = "") -> list[Row]:
        """One row a text, empty where it is nothing but white space."""
        return [
            self._row(ids) if text.strip() else NOTHING
            for text, ids in zip(texts, token_ids(self.tokenizer, texts, prompt), strict=True)
        ]

    def _row(self, ids: Sequence[int]) -> Row:
        tokens = np.unique(np.array(ids[: self._max_length], np.int64))
        tokens = tokens[tokens < len(self.weights)]
        weights = self.weights[tokens]
        return tokens[weights > 0], weights[weights > 0]


def token_ids(tokenizer: "Tokenizer", texts: Sequence[str], prompt: str = "") -> list[list[int]]:
    """The tokens of each text without special ones, however many."""
    found: list[list[int]] = []
    for start in range(0, len(texts), AT_ONCE):
        prompted = [prompt + text for text in texts[start : start + AT_ONCE]]
        encodings = tokenizer.encode_batch_fast(prompted, add_special_tokens=False)
        found += [encoding.ids for encoding in encodings]
    return found


def read_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer of a folder, which neither pads nor cuts."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("tokenizers", "dense") from None
    path = folder / "tokenizer.json"
    tokenizer: Tokenizer = Tokenizer.from_file(str(path)) if path.exists() else _converted(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _converted(folder: Path) -> "Tokenizer":
    """The tokenizer of a folder from before tokenizer.json."""
    from transformers import AutoTokenizer

    load: Any = AutoTokenizer.from_pretrained
    try:
        found = load(str(folder), local_files_only=True, trust_remote_code=False)
        backend: Tokenizer = found.backend_tokenizer
    except Exception as error:  # of foreign files any error may come
        raise InputError(
            f"no tokenizer can be read here ({str(error).partition(chr(10))[0]})",
            where=str(folder),
            remedy="Save the tokenizer of the model with tokenizer.json",
        ) from None
    return backend


def static_folder(model: ModelFolder) -> Path | None:
    """The folder of static query weights, in a model whose queries are a lookup in such."""
    if [str(stage["type"]).rsplit(".", 1)[-1] for stage in model.modules] != ["Router"]:
        return None
    router = model.json("router_config.json")
    stages = router.get("structure", {}).get("query", [])
    types = router.get("types", {})
    kinds = [str(types.get(stage)).rsplit(".", 1)[-1] for stage in stages]
    if kinds != ["SparseStaticEmbedding"] or router.get("parameters", {}).get("route_mappings"):
        return None
    folder = model.folder / model.modules[0]["path"] / stages[0]
    return folder if (folder / "model.safetensors").exists() else None


def read_static(folder: Path) -> Lookup:
    """The lookup that sentence-transformers calls SparseStaticEmbedding."""
    try:
        weights = read_safetensors(folder / "model.safetensors")["weight"].astype(np.float32)
    except KeyError:
        raise InputError(
            "no tensor 'weight' in float32 or float16",
            where=str(folder / "model.safetensors"),
            remedy="Fetch the model again",
        ) from None
    stated = ModelFolder(folder.name, folder).json("tokenizer_config.json")
    limit = stated.get("model_max_length")
    return Lookup(read_tokenizer(folder), weights, int(limit) if limit else None)


def read_weights(path: Path, tokenizer: "Tokenizer", size: int) -> NDArray[np.float32]:
    """(size,) float32 from a JSON object {token: weight}; tokens that it lacks weigh 0.

    Raises InputError for a file that is none, holds a token that the tokenizer does not know, or
    a weight that is no number from 0 up.
    """
    weights = np.zeros(size, np.float32)
    for token, weight in _table(path).items():
        number = tokenizer.token_to_id(token)
        if number is None or number >= size:
            raise InputError(
                f"the model's tokenizer has no token {token!r}",
                where=str(path),
                remedy="Give weights made for this tokenizer",
            )
        if not (isinstance(weight, int | float) and isfinite(weight) and weight >= 0):
            raise InputError(
                f"the weight of {token!r} is {weight!r}",
                where=str(path),
                remedy="Give weights >= 0",
            )
        weights[number] = weight
    return weights


def _table(path: Path) -> Mapping[str, object]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no weights can be read ({error})",
            where=str(path),
            remedy='Give a file with one JSON object {"token": weight, ...}',
        ) from None
    if not isinstance(table, dict):
        raise InputError("no JSON object", where=str(path), remedy='Write {"token": weight, ...}')
    return table


def inverse_frequencies(tokenizer: "Tokenizer", texts: Sequence[str]) -> dict[str, float]:
    """What each token of a collection is worth in a query: its inverse document frequency.

    log(1 + (n - f + .5) / (f + .5)) where f of the n texts have the token: never negative. Written
    as JSON, this is a file of query weights.
    """
    counts = Counter[int]()
    for ids in token_ids(tokenizer, texts):
        counts.update(set(ids))
    return {
        str(tokenizer.id_to_token(token)): log(1 + (len(texts) - count + 0.5) / (count + 0.5))
        for token, count in sorted(counts.items())
    }
