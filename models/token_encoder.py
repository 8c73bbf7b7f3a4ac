"""Several vectors a text, one a token or a word: the keys of late interaction.

A model made for it (ColBERT) is run as it was trained. Any other encoder gives the vectors of its
last layer: though they were made to be averaged, comparing them one by one can rank better than
their average does. A plain BERT folder is computed by our own forward pass.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..records import JSON, Fingerprint, TokenVectors
from .bi_encoder import (
    BUDGET,
    BUDGET_CUDA,
    FEW,
    WINDOW,
    Progress,
    Vectors,
    check_number_type,
    check_texts,
    length_limit,
    stated_name,
)
from .fingerprint import files_digest, fingerprint_of
from .loaded_tokens import LoadedTokens, is_multi_vector
from .matryoshka import unit as of_length_1
from .model_folder import EMBEDDED, find_model
from .packed_bert import PackedBert
from .passage_text import names
from .plain_bert import PlainBert, read_plain_bert, read_safetensors
from .processor import choose_device, choose_number_type
from .text_batches import by_length
from .whole_words import Ids, Pieces, bert_pieces, joined_pieces, one_each, only, without_stop_words

if TYPE_CHECKING:
    from torch import device, dtype

Places: TypeAlias = NDArray[np.int64]
Batch: TypeAlias = tuple[Places, Ids | None, TokenVectors]
"""Places of texts, the token behind each vector, and the vectors, text after text."""

UNITS = ("token", "word", "stem")

GATE = "stop_words.safetensors"
"""The learned gate of ColBERTer, where a model folder has one: `weight` (d,), `bias` (1,)."""


class TokenEncoder:
    """Texts to a vector for each token, by the model of a Hugging Face name or a local folder.

    model: a multi-vector model of sentence-transformers, PyLate or Stanford's ColBERT, or any
        encoder; "all-MiniLM-L6-v2" comes inside a package and needs no network.
    query_prompt, passage_prompt: put before each text; the model's own unless given.
    prepend: what a pipeline puts before a passage: "title" (with its headings), "none", or names of
        metadata joined by "+", as in "title+summary".
    unit: what has a vector in passages: "token"; "word", the mean of all pieces of all equal words;
        "stem", the same for words of one stem. Queries have one a token: they rank better so.
    special_tokens: keep the vectors of [CLS], [SEP], markers and masks.
    punctuation: keep those of punctuation in passages (queries keep it, as in ColBERT).
    normalize: divide each vector by its length; unless given, as the model was made.
    max_length: tokens of a text that are read (of a passage, where the model sets a length of its
        own for queries), the model's own unless given; `truncated` of the `encoded` texts were cut.
    dtype, device: as for BiEncoder.

    Raises InputError when there is no such model, or its weights are not safetensors.
    """

    def __init__(
        self,
        model: str | Path = EMBEDDED,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        prepend: str = "title",
        unit: str = "token",
        special_tokens: bool = True,
        punctuation: bool = True,
        normalize: bool | None = None,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        names(prepend)
        _check_unit(unit)
        self._model = found = find_model(str(model))
        self._own_rules = own = is_multi_vector(found)
        self.query_prompt, self.passage_prompt = query_prompt, passage_prompt
        self.prepend = prepend
        self.unit, self.special_tokens, self.punctuation = unit, special_tokens, punctuation
        self.normalize = normalize
        self.max_length = None if own and max_length is None else length_limit(max_length, found)
        self._dtype, self._device = dtype, device
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        return cls(settings["model"], **{name: settings[name] for name in _KEPT})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its vectors."""
        settings: dict[str, JSON] = {
            "class": "tokens",
            "model": stated_name(self._model),
            "files": files_digest(self._model),
        }
        settings |= {name: getattr(self, name) for name in _KEPT if name != "dtype"}
        settings["dtype"] = self._dtype
        return fingerprint_of(Path(self._model.name).name, settings)

    @property
    def dimensions(self) -> int:
        return self._bert.dimensions if self._bert else self._loaded.dimensions

    def encode_passages(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> TokenVectors:
        """The vectors of each text, in the order of the texts; a text may have none.

        progress: called with the number of texts done since it was called last.
        """
        return self._encode(texts, False, progress)

    def encode_queries(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> TokenVectors:
        """The vectors of each text, in the order of the texts; a text may have none."""
        return self._encode(texts, True, progress)

    def _encode(
        self, texts: Sequence[str], is_query: bool, progress: Progress | None
    ) -> TokenVectors:
        check_texts(texts)
        nothing = np.empty((0, self.dimensions), dtype=np.float32)
        found = [nothing] * len(texts)
        for start in range(0, len(texts), WINDOW):
            for places, ids, keys in self._batches(texts[start : start + WINDOW], is_query):
                made = self._reduced(ids, keys, is_query)
                rows = np.split(made.vectors, made.offsets[1:-1])
                for place, vectors in zip(places.tolist(), rows, strict=True):
                    found[start + place] = vectors
                if progress:
                    progress(len(places))
        self.encoded += len(texts)
        offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return TokenVectors(offsets, np.concatenate([nothing, *found]))

    def _batches(self, texts: Sequence[str], is_query: bool) -> Iterator[Batch]:
        """Batches of texts of about equal length, with every vector that the model scores."""
        run = self._run_bert if self._bert else self._run_loaded
        return run(texts, is_query)

    def _run_bert(self, texts: Sequence[str], is_query: bool) -> Iterator[Batch]:
        assert self._bert is not None and self.max_length is not None
        asked = self.query_prompt if is_query else self.passage_prompt
        own = self._model.query_prompt if is_query else self._model.passage_prompt
        prompt = own if asked is None else asked
        tokens, truncated = self._bert.tokenize([prompt + text for text in texts], self.max_length)
        self.truncated += truncated
        lengths = np.array([len(text) for text in tokens])
        few = self._numpy_will_do and lengths.sum() <= FEW
        encode = self._bert.token_vectors if few else self._packed.token_vectors
        for places in by_length(lengths, BUDGET if few else self._budget):
            chosen = [tokens[place] for place in places]
            offsets = np.concatenate([[0], np.cumsum(lengths[places])])
            ids = np.concatenate(chosen).astype(np.int64)
            yield places, ids, TokenVectors(offsets, encode(chosen))

    def _run_loaded(self, texts: Sequence[str], is_query: bool) -> Iterator[Batch]:
        asked = self.query_prompt if is_query else self.passage_prompt
        prompt = self._loaded.prompt(is_query=is_query) if asked is None else asked
        lengths, truncated = self._loaded.lengths(texts, prompt, is_query=is_query)
        self.truncated += truncated
        for places in by_length(lengths, self._budget):
            batch = [texts[place] for place in places]
            yield places, *self._loaded.encode(batch, prompt, is_query=is_query)

    def _reduced(self, ids: Ids | None, keys: TokenVectors, is_query: bool) -> TokenVectors:
        """What the settings leave of all vectors of a batch."""
        changes = self.unit != "token" or not self.punctuation
        if not self.special_tokens or (changes and not is_query):
            keys = self._by_pieces(_known(ids, self._model.name), keys, is_query)
        if self._gate and not is_query:
            keys = without_stop_words(keys, *self._gate)
        return TokenVectors(keys.offsets, of_length_1(keys.vectors)) if self._normalizes else keys

    def _by_pieces(self, ids: Ids, keys: TokenVectors, is_query: bool) -> TokenVectors:
        pieces = self._pieces
        first = pieces.first(ids, keys.offsets)  # while all are there: a mark ends a word
        kept = np.ones(len(ids), dtype=np.bool_)
        if not self.special_tokens:
            kept &= ~pieces.special[ids]
        if not (self.punctuation or is_query):
            kept &= ~pieces.punctuation[ids]
        ids, first, keys = ids[kept], first[kept], only(keys, kept)
        if self.unit == "token" or is_query:
            return keys
        words = joined_pieces(keys, first)
        return one_each(words, pieces.words(ids, first), stems=self.unit == "stem")

    @cached_property
    def _pieces(self) -> Pieces:
        if self._bert:
            return bert_pieces(self._bert.tokenizer)
        return self._loaded.pieces

    @cached_property
    def _gate(self) -> tuple[Vectors, Vectors] | None:
        path = self._model.folder / GATE
        if not path.exists():
            return None
        tensors = read_safetensors(path)
        if tensors.keys() < {"weight", "bias"} or tensors["weight"].size != self.dimensions:
            raise InputError(
                f"no gate for vectors of {self.dimensions} dimensions",
                where=str(path),
                remedy="Store `weight` (d,) and `bias` (1,) in float32, or remove the file",
            )
        return tensors["weight"].reshape(-1), tensors["bias"].reshape(-1)

    @property
    def _normalizes(self) -> bool:
        if self.normalize is not None:
            return self.normalize
        return True if self._bert else self._loaded.normalizes

    @cached_property
    def _bert(self) -> PlainBert | None:
        return None if self._own_rules else read_plain_bert(self._model)

    @cached_property
    def _packed(self) -> PackedBert:
        assert self._bert is not None
        return PackedBert(self._bert, *self._types)

    @cached_property
    def _loaded(self) -> LoadedTokens:
        return LoadedTokens(self._model, self.max_length, *self._types)

    @cached_property
    def _types(self) -> "tuple[dtype, device]":
        target = choose_device(self._device)
        return choose_number_type(self._dtype, target), target

    @property
    def _budget(self) -> int:
        return BUDGET if self._types[1].type == "cpu" else BUDGET_CUDA

    @property
    def _numpy_will_do(self) -> bool:
        return self._device in ("auto", "cpu") and self._dtype in ("auto", "float32")


_KEPT = (
    "query_prompt",
    "passage_prompt",
    "prepend",
    "unit",
    "special_tokens",
    "punctuation",
    "normalize",
    "max_length",
    "dtype",
)
"""The settings that make an encoder again; all change its vectors."""


def _known(ids: Ids | None, name: str) -> Ids:
    if ids is None:
        raise UsageError(
            f"{name!r} pools its tokens itself, so that words and punctuation are not to be told",
            remedy='Use unit="token", special_tokens=True, punctuation=True',
        )
    return ids


def _check_unit(unit: str) -> None:
    if unit not in UNITS:
        raise UsageError(f"unit={unit!r}", remedy=f"Use one of {', '.join(UNITS)}")
