"""Learned sparse vectors: texts as the tokens of a vocabulary, weighted by a masked language model.

Passages are expanded with words that they do not contain; queries too, or, in models made for it
and with a table of weights in any, they are their own tokens with weights that are looked up.

Formal, Piwowarski and Clinchant, SPLADE: Sparse Lexical and Expansion Model for First Stage
Ranking, SIGIR 2021.
Geng et al., Towards Competitive Search Relevance for Inference-Free Learned Sparse Retrievers,
2024.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import UsageError
from ..records import JSON, Fingerprint, WeightedTerms
from .bi_encoder import (
    BUDGET,
    BUDGET_CUDA,
    WINDOW,
    check_number_type,
    check_texts,
    length_limit,
    stated_name,
)
from .fingerprint import file_digest, files_digest, fingerprint_of
from .model_folder import find_model
from .processor import choose_device, choose_number_type
from .sparse_lookup import (
    Lookup,
    inverse_frequencies,
    read_static,
    read_tokenizer,
    read_weights,
    static_folder,
)
from .sparse_model import SparseModel, check_sparse
from .sparse_terms import NOTHING, Row, row_of, strongest, token_bytes, weighted_terms
from .text_batches import by_length

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Progress = Callable[[int], None]


class SpladeEncoder:
    """Texts to weighted tokens by the sparse model of a Hugging Face name or a local folder.

    Takes what sentence-transformers calls a SparseEncoder (SPLADE, inference-free and CSR models)
    and bare masked language models. Keys for ``Inverted(scoring="impact")``.

    query_prompt, passage_prompt: put before each text; the model's own unless given.
    passage_terms, query_terms: the heaviest terms of a text that are kept, the model's own limit
        unless given, which for most models is none.
    query_weights: a JSON file {token: weight}. With it queries need no inference: they are their
        own tokens with these weights (see `inverse_frequencies`). Models made so bring their own.
    max_length: tokens of a text that are read; `truncated` of the `encoded` texts so far were cut.
    dtype, device: as for `BiEncoder`.

    A text of white space alone has no terms. Raises InputError when there is no such model, it is
    no sparse one, or its weights are not safetensors.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        passage_terms: int | None = None,
        query_terms: int | None = None,
        query_weights: str | None = None,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        self._model = found = find_model(str(model))
        check_sparse(found)
        own = found.json("config_sentence_transformers.json").get("max_active_dims")
        self.query_prompt = found.query_prompt if query_prompt is None else query_prompt
        self.passage_prompt = found.passage_prompt if passage_prompt is None else passage_prompt
        self.passage_terms = _terms("passage_terms", passage_terms, own)
        self.query_terms = _terms("query_terms", query_terms, own)
        self.query_weights = None if query_weights is None else Path(query_weights).resolve()
        self.max_length = length_limit(max_length, found)
        self._dtype, self._device = dtype, device
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = (
            *("query_prompt", "passage_prompt", "passage_terms", "query_terms"),
            *("query_weights", "max_length", "dtype"),
        )
        return cls(settings["model"], **{name: settings[name] for name in kept})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its terms."""
        settings: dict[str, JSON] = {
            "class": "splade",
            "model": stated_name(self._model),
            "files": files_digest(self._model),
            "routes": file_digest(self._model.folder / "router_config.json"),
            "query_prompt": self.query_prompt,
            "passage_prompt": self.passage_prompt,
            "passage_terms": self.passage_terms,
            "query_terms": self.query_terms,
            "weights": file_digest(self.query_weights),
            "max_length": self.max_length,
            "dtype": self._dtype,
        }
        found = fingerprint_of(Path(self._model.name).name, settings)
        where = None if self.query_weights is None else str(self.query_weights)
        # where the table lies is no part of what it says
        return replace(found, settings={**settings, "query_weights": where})

    @property
    def number_type(self) -> str:
        """What `dtype` comes to on this device: "float32", "bfloat16" or "float16"."""
        return str(choose_number_type(self._dtype, choose_device(self._device))).removeprefix(
            "torch."
        )

    def encode_passages(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> WeightedTerms:
        """The terms of each text, in its order.

        progress: called with the number of texts done since it was called last.
        """
        rows = self._rows(texts, False, self.passage_terms, progress)
        return weighted_terms(rows, self._tokens)

    def encode_queries(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> WeightedTerms:
        """The terms of each text, in its order."""
        if self._lookup is None:
            return weighted_terms(self._rows(texts, True, self.query_terms, progress), self._tokens)
        check_texts(texts)
        found = self._lookup.rows(texts, self.query_prompt)
        if progress:
            progress(len(texts))
        return weighted_terms(
            [strongest(row, self.query_terms) for row in found], self._lookup_tokens
        )

    def inverse_frequencies(self, texts: Sequence[str]) -> dict[str, float]:
        """Query weights for passages `texts`: save as JSON and name as `query_weights`."""
        check_texts(texts)
        return inverse_frequencies(self._read_tokenizer(), texts)

    def _rows(
        self, texts: Sequence[str], is_query: bool, most: int | None, progress: Progress | None
    ) -> list[Row]:
        check_texts(texts)
        rows: list[Row] = [NOTHING] * len(texts)
        full = [place for place, text in enumerate(texts) if text.strip()]
        for start in range(0, len(full), WINDOW):
            window = full[start : start + WINDOW]
            for chosen, weights in self._batches([texts[i] for i in window], is_query):
                for place, one in zip(chosen, weights, strict=True):
                    rows[window[place]] = row_of(one, most)
                if progress:
                    progress(len(chosen))
        self.encoded += len(texts)
        return rows

    def _batches(self, texts: Sequence[str], is_query: bool) -> Iterator[tuple[Sequence[int], Any]]:
        """Batches of texts of about equal length: their places, and their weights."""
        prompt = self.query_prompt if is_query else self.passage_prompt
        lengths, truncated = self._loaded.lengths(texts, prompt)
        self.truncated += truncated
        budget = BUDGET if choose_device(self._device).type == "cpu" else BUDGET_CUDA
        for chosen in by_length(lengths, budget):
            batch = [texts[place] for place in chosen]
            yield chosen.tolist(), self._loaded.encode(batch, prompt, is_query=is_query)

    @cached_property
    def _loaded(self) -> SparseModel:
        target = choose_device(self._device)
        number_type = choose_number_type(self._dtype, target)
        return SparseModel(self._model, self.max_length, number_type, target)

    @cached_property
    def _tokens(self) -> list[bytes]:
        """What each dimension is called: its token; its number in models of other dimensions."""
        size = self._loaded.encode(["a"], "", is_query=False).shape[1]
        tokenizer = self._loaded.tokenizer
        if size < tokenizer.get_vocab_size():
            return [str(number).encode() for number in range(size)]
        return token_bytes(tokenizer, size)

    @cached_property
    def _lookup(self) -> Lookup | None:
        """How queries are encoded without inference, if they are. Needs no torch."""
        if self.query_weights is None:
            static = static_folder(self._model)
            return None if static is None else read_static(static)
        tokenizer = self._read_tokenizer()
        weights = read_weights(self.query_weights, tokenizer, tokenizer.get_vocab_size())
        return Lookup(tokenizer, weights, self.max_length)

    def _read_tokenizer(self) -> "Tokenizer":
        return read_tokenizer(static_folder(self._model) or self._model.folder)

    @cached_property
    def _lookup_tokens(self) -> list[bytes]:
        assert self._lookup is not None
        return token_bytes(self._lookup.tokenizer, len(self._lookup.weights))


def _terms(name: str, asked: int | None, own: int | None) -> int | None:
    """How many terms of a text are kept: the number asked for, or the model's own."""
    if asked is None:
        return own
    if type(asked) is not int or asked < 1:
        raise UsageError(f"{name}={asked!r}", remedy="Use a whole number from 1, such as 128")
    return asked
