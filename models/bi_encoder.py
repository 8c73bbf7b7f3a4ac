"""Dense vectors of queries and passages, each encoded on its own.

A folder that is a plain BERT (the embedded default is one) is computed by our own forward pass
over packed texts: in NumPy while there are few tokens, so that a single query needs no torch, and
in torch otherwise. Every other model runs in sentence-transformers.

Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
Karpukhin et al., Dense Passage Retrieval for Open-Domain Question Answering, EMNLP 2020.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Fingerprint
from .fingerprint import files_digest, fingerprint_of
from .instructions import one_each, prompt_with
from .late_chunking import ChunkedText, TokenReader, check_asked, check_late, late_vectors
from .loaded_encoder import LoadedEncoder
from .matryoshka import check_layers, first_dimensions, unit
from .model_folder import EMBEDDED, ModelFolder, find_model
from .packed_bert import PackedBert
from .passage_text import names
from .plain_bert import PlainBert, read_plain_bert
from .processor import NUMBER_TYPES, choose_device, choose_number_type
from .text_batches import by_length as by_length
from .text_batches import check_texts as check_texts

if TYPE_CHECKING:
    from torch import device, dtype

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]

WINDOW = 4096
"""Texts that are sorted by length together."""

BUDGET = 2048
"""Tokens in a batch: enough to fill the matrix unit, little enough to stay in the cache."""

BUDGET_CUDA = 65_536
FEW = 256
"""Tokens up to which NumPy answers in less time than the import of torch takes."""

LONG = 8192
"""Tokens of a window of a document where the model names no limit."""

UNSTATED: Mapping[str, JSON] = {
    "instruction": "",
    "prepend": "title",
    "dimensions": None,
    "layers": None,
    "late_chunking": False,
}
"""Settings that a fingerprint leaves out as long as they have these values.

They came later than the first indexes, whose fingerprints lack them.
"""


class BiEncoder:
    """Texts to vectors of length 1 by the model of a Hugging Face name or a local folder.

    model: "all-MiniLM-L6-v2" comes inside a package and needs no network.
    query_prompt, passage_prompt: put before each text; the model's own unless given.
    instruction: what queries ask for, said in words; put where `query_prompt` has "{instruction}",
        else in place of it as "Instruct: ...\\nQuery: ".
    prepend: what a pipeline puts before a passage: "title" (with its headings), "none", or names of
        metadata joined by "+", as in "title+summary".
    normalize: divide each vector by its length.
    dimensions, layers: the first ones alone, of vectors and model (Matryoshka); all unless given.
    late_chunking: chunks are encoded within their document, by `encode_documents`.
    max_length: tokens of a text that are read, the model's own unless given; the rest is cut off,
        and `truncated` of the `encoded` texts so far were cut.
    dtype: "auto" is the fastest number type of the device that keeps the ranking: bfloat16 where
        there are instructions for it. device: "auto" is CUDA where there is a device.

    Raises InputError when there is no such model, or its weights are not safetensors.
    """

    def __init__(
        self,
        model: str | Path = EMBEDDED,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        instruction: str = "",
        prepend: str = "title",
        normalize: bool = True,
        dimensions: int | None = None,
        layers: int | None = None,
        late_chunking: bool = False,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        names(prepend)
        self._model = found = find_model(str(model))
        self.query_prompt = found.query_prompt if query_prompt is None else query_prompt
        self.passage_prompt = found.passage_prompt if passage_prompt is None else passage_prompt
        self.instruction, self.prepend = instruction, prepend
        self.normalize = normalize
        check_layers(layers, found)
        self._layers, self._dimensions = layers, dimensions
        self.late_chunking = late_chunking
        if late_chunking:
            check_late(found)
        self.max_length = length_limit(max_length, found)
        self._dtype, self._device = dtype, device
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = ("query_prompt", "passage_prompt", "normalize", "max_length", "dtype")
        options = {name: settings[name] for name in kept}
        options |= {name: settings[name] for name in UNSTATED if name in settings}
        return cls(settings["model"], **options)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its vectors."""
        settings: dict[str, JSON] = {
            "class": "bi-encoder",
            "model": stated_name(self._model),
            "files": files_digest(self._model),
            "pooling": self._model.pooling,
            "normalize": self.normalize,
            "query_prompt": self.query_prompt,
            "passage_prompt": self.passage_prompt,
            "max_length": self.max_length,
            "dtype": self._dtype,
        }
        own = (self.instruction, self.prepend, self._dimensions, self._layers, self.late_chunking)
        pairs = zip(UNSTATED.items(), own, strict=True)
        settings |= {name: value for (name, usual), value in pairs if value != usual}
        return fingerprint_of(Path(self._model.name).name, settings)

    @property
    def dimensions(self) -> int:
        whole = self._bert.dimensions if self._bert else self._loaded.dimensions
        return first_dimensions(whole, self._dimensions, self._model.name)

    @property
    def number_type(self) -> str:
        """What `dtype` comes to on this device: "float32", "bfloat16" or "float16"."""
        return str(self._types[0]).removeprefix("torch.")

    def encode_passages(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """(texts, d) float32 in the order of the texts.

        progress: called with the number of texts done since it was called last.
        """
        if self.late_chunking:
            check_texts(texts)
            whole = [ChunkedText(text, [(0, len(text))]) for text in texts]
            return self.encode_documents(whole, progress=progress)
        return self._encode(texts, [self.passage_prompt] * len(texts), False, progress)

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        instructions: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """(texts, d) float32 in the order of the texts.

        instructions: one for each query instead of the encoder's own.
        """
        given = one_each(self.instruction, instructions, len(texts))
        prompts = [prompt_with(self.query_prompt, instruction) for instruction in given]
        return self._encode(texts, prompts, True, progress)

    def encode_documents(
        self, documents: Sequence[ChunkedText], *, progress: Progress | None = None
    ) -> Vectors:
        """(chunks, d) float32: the chunks of all documents in order, each read in its document.

        Nothing is cut off: windows of a document longer than the model reads overlap.
        Raises UsageError unless the encoder was made for it.
        """
        check_asked(self.late_chunking)
        reader: TokenReader = self._packed if self._bert else self._loaded
        limit = self.max_length or LONG
        vectors = late_vectors(
            documents, self.passage_prompt, reader, limit, self._budget, progress
        )
        self.encoded += len(vectors)
        return self._finished(vectors)

    def _encode(
        self,
        texts: Sequence[str],
        prompts: Sequence[str],
        is_query: bool,
        progress: Progress | None,
    ) -> Vectors:
        check_texts(texts)
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        run = self._run_bert if self._bert else self._run_loaded
        for start in range(0, len(texts), WINDOW):
            window = slice(start, start + WINDOW)
            for chosen, found in run(texts[window], prompts[window], is_query):
                vectors[start + chosen] = found[:, : vectors.shape[1]]
                if progress:
                    progress(len(chosen))
        self.encoded += len(texts)
        return self._finished(vectors)

    def _finished(self, vectors: Vectors) -> Vectors:
        kept = vectors[:, : self.dimensions]
        return unit(kept) if self.normalize else kept

    def _run_bert(
        self, texts: Sequence[str], prompts: Sequence[str], is_query: bool
    ) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Batches of texts of about equal length: their places, and their vectors."""
        assert self._bert is not None and self.max_length is not None
        prompted = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        tokens, truncated = self._bert.tokenize(prompted, self.max_length)
        self.truncated += truncated
        lengths = np.array([len(text) for text in tokens])
        few = self._numpy_will_do and lengths.sum() <= FEW
        encode = self._bert.encode if few else self._packed.encode
        for chosen in by_length(lengths, BUDGET if few else self._budget):
            yield chosen, encode([tokens[place] for place in chosen])

    def _run_loaded(
        self, texts: Sequence[str], prompts: Sequence[str], is_query: bool
    ) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        lengths, truncated = self._loaded.lengths(texts, prompts)
        self.truncated += truncated
        for chosen in by_length(lengths, self._budget):
            batch, own = ([column[place] for place in chosen] for column in (texts, prompts))
            yield chosen, self._loaded.encode_each(batch, own, is_query=is_query)

    @cached_property
    def _bert(self) -> PlainBert | None:
        return read_plain_bert(self._model, self._layers)

    @cached_property
    def _packed(self) -> PackedBert:
        assert self._bert is not None
        return PackedBert(self._bert, *self._types)

    @cached_property
    def _loaded(self) -> LoadedEncoder:
        return LoadedEncoder(self._model, self.max_length, *self._types, self._layers)

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


def stated_name(model: ModelFolder) -> str:
    """What finds the model again: a folder by its whole path, any other by its name."""
    return str(model.folder) if Path(model.name).expanduser().is_dir() else model.name


def length_limit(asked: int | None, model: ModelFolder) -> int | None:
    if asked is None:
        return model.max_length
    positions = model.json("config.json").get("max_position_embeddings")
    if asked < 3 or (positions and asked > positions):
        raise UsageError(
            f"max_length={asked} for {model.name!r}",
            remedy=f"Use a number from 3 to {positions or 'what the model was made for'}",
        )
    return asked


def check_number_type(name: str) -> None:
    if name not in NUMBER_TYPES:
        raise UsageError(f"dtype={name!r}", remedy=f"Use one of {', '.join(NUMBER_TYPES)}")
