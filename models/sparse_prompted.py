"""PromptReps: a language model is asked for the one word that says what a text is about.

What it would answer, as a distribution over its vocabulary, is a sparse vector of the text; the
hidden state that it would answer from is a dense one. Nothing is trained. The two encoders of a
model share it, and their forward passes, so that two indexes are filled by one pass.

Zhuang et al., PromptReps: Prompting Large Language Models to Generate Dense and Sparse
Representations for Zero-Shot Document Retrieval, EMNLP 2024.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..records import JSON, Fingerprint, WeightedTerms
from .bi_encoder import check_number_type, check_texts, stated_name
from .encoder_kinds import HEADS
from .fingerprint import file_digest, fingerprint_of
from .model_folder import ModelFolder, find_model
from .sparse_prompted_pass import Progress, Prompts, prompted_pass
from .sparse_terms import strongest, weighted_terms

ASKED = "Use one word to represent the {} in a retrieval task. Make sure your word is in lowercase."
QUERY = f'Query: "{{text}}". {ASKED.format("query")}'
PASSAGE = f'Passage: "{{text}}". {ASKED.format("passage")}'
ANSWER = 'The word is "'
"""The prompts of the paper; the model goes on from the last quotation mark."""

ENCODER = re.compile("bert|electra|mpnet")
"""Types of models that read in both directions."""

Keys = TypeVar("Keys")


class _Prompted(Generic[Keys]):
    """One output of a prompted causal language model.

    model: a Hugging Face name or a local folder, best one tuned to follow instructions.
    query_prompt, passage_prompt: what it is asked, with "{text}" in it.  answer: how its answer
        begins.  Both go through the model's chat template where it has one.
    max_length: tokens of a text that are read, prompts apart; `truncated` of the `encoded` texts so
        far were cut.  dtype, device: as for `BiEncoder`.

    Raises InputError when there is no such model, or its weights are not safetensors.
    """

    output: ClassVar[str]

    def __init__(
        self,
        model: str | Path,
        *,
        query_prompt: str = QUERY,
        passage_prompt: str = PASSAGE,
        answer: str = ANSWER,
        max_length: int = 512,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        check_number_type(dtype)
        _check_prompts(query_prompt, passage_prompt)
        if type(max_length) is not int or max_length < 1:
            raise UsageError(f"max_length={max_length!r}", remedy="Use a number from 1, as 512")
        self._model = found = find_model(str(model))
        _check_model(found)
        self._prompts = Prompts(query_prompt, passage_prompt, answer)
        self.max_length, self._dtype = max_length, dtype
        self._shared = prompted_pass(found, self._prompts, max_length, dtype, device)
        self._shared.wanted.add(self.output)
        self.encoded = self.truncated = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe."""
        kept = ("terms", "query_prompt", "passage_prompt", "answer", "max_length", "dtype")
        return cls(settings["model"], **{name: settings[name] for name in kept if name in settings})

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the model's files and every setting that changes its keys."""
        settings: dict[str, JSON] = {
            "class": f"prompted-{self.output}",
            "model": stated_name(self._model),
            "files": self._shared.files,
            "template": file_digest(self._model.folder / "chat_template.jinja"),
            "query_prompt": self._prompts.query,
            "passage_prompt": self._prompts.passage,
            "answer": self._prompts.answer,
            "max_length": self.max_length,
            "dtype": self._dtype,
            **self._own(),
        }
        return fingerprint_of(Path(self._model.name).name, settings)

    def _own(self) -> dict[str, JSON]:
        """Settings of one output alone."""
        return {}

    def _take(self, texts: Sequence[str], is_query: bool, progress: Progress | None) -> list[Any]:
        check_texts(texts)
        found, truncated = self._shared.take(self.output, texts, is_query, progress)
        self.encoded += len(texts)
        self.truncated += truncated
        return found

    def _keys(self, found: Sequence[Any]) -> Keys:
        raise NotImplementedError

    def encode_passages(self, texts: Sequence[str], *, progress: Progress | None = None) -> Keys:
        """The keys of the texts, in their order; a text of white space alone has no terms.

        progress: called with the number of texts done since it was called last.
        """
        return self._keys(self._take(texts, False, progress))

    def encode_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> Keys:
        """The keys of the texts, in their order."""
        return self._keys(self._take(texts, True, progress))


class PromptedDense(_Prompted[NDArray[np.float32]]):
    """(texts, d) float32: the hidden state that the word would come from, of length 1."""

    output = "dense"

    @property
    def dimensions(self) -> int:
        return self._shared.dimensions

    def _keys(self, found: Sequence[Any]) -> NDArray[np.float32]:
        vectors = np.stack([np.zeros(self.dimensions, np.float32), *found])[1:]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))


class PromptedSparse(_Prompted[WeightedTerms]):
    """Tokens of the text's own words, weighted by log(1 + logit) of being the word.

    terms: the heaviest that are kept.  The other options are those of `PromptedDense`.
    """

    output = "sparse"

    def __init__(
        self,
        model: str | Path,
        *,
        terms: int = 128,
        query_prompt: str = QUERY,
        passage_prompt: str = PASSAGE,
        answer: str = ANSWER,
        max_length: int = 512,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        if type(terms) is not int or terms < 1:
            raise UsageError(f"terms={terms!r}", remedy="Use a whole number from 1, such as 128")
        self.terms = terms
        super().__init__(
            model,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            answer=answer,
            max_length=max_length,
            dtype=dtype,
            device=device,
        )

    def _own(self) -> dict[str, JSON]:
        return {"terms": self.terms}

    def _keys(self, found: Sequence[Any]) -> WeightedTerms:
        rows = [strongest(row, self.terms) for row in found]
        return weighted_terms(rows, self._shared.names)


class PromptReps:
    """The two encoders of one model, which they share; options: those that both know."""

    def __init__(self, model: str | Path, **options: Any) -> None:
        self.dense = PromptedDense(model, **options)
        self.sparse = PromptedSparse(model, **options)


def _check_model(model: ModelFolder) -> None:
    """InputError for an encoder: transformers would ask it too, and it would answer at random."""
    config = model.json("config.json")
    kind, names = str(config.get("model_type")), config.get("architectures") or []
    if ENCODER.search(kind) and not any(str(name).endswith(HEADS) for name in names):
        raise InputError(
            f"this is no language model that answers, but an encoder ({kind})",
            where=str(model.folder),
            remedy="Use a causal language model, or take this one for another kind of index",
        )


def _check_prompts(*prompts: str) -> None:
    for prompt in prompts:
        if prompt.count("{text}") != 1:
            raise UsageError(
                f"the prompt {prompt!r} does not say where the text goes",
                remedy="Write {text} once, such as 'Passage: {text}. One word for it?'",
            )
