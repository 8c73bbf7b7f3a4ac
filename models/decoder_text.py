"""A text inside its template, as the tokens that a decoder reads.

A template says where the text stands, "{text}", and may name it twice: then the second one is
pooled, whose tokens have seen the whole of the first.

Jiang et al., Scaling Sentence Embeddings with Large Language Models, 2023 (ONE_WORD).
Springer et al., Repetition Improves Language Model Embeddings, ICLR 2025 (ECHO).
Wang et al., Improving Text Embeddings with Large Language Models, ACL 2024 (QUERY).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .instructions import INSTRUCT, PLACE
from .token_spans import TokenSpans, spans_by

TEXT = "{text}"
QUERY = INSTRUCT + TEXT
ONE_WORD = 'This sentence: "{text}" means in one word: "'
ECHO = "Rewrite the following paragraph: {text}. The rewritten paragraph: {text}"

AT_ONCE = 256
"""Texts given to the tokenizer together."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """One text as the model reads it.

    ids (n,) int32.  own: places of the tokens of the text itself.  placeholder: the place of the
    token that stands for the whole sentence (Token Prepending), if there is one.
    """

    ids: NDArray[np.int32]
    own: NDArray[np.int64]
    placeholder: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts become tokens.

    limit: tokens of a text with its template.  eos: one more token at the end, by its id.
    placeholder: put one before the text.
    """

    tokenizer: Any
    limit: int
    eos: int | None
    placeholder: bool

    def read(self, texts: Sequence[str], templates: Sequence[str]) -> tuple[list[Prompted], int]:
        """Each text in its template, and how many were cut; the template is kept whole."""
        prompted: list[Prompted] = []
        cut = 0
        for start in range(0, len(texts), AT_ONCE):
            batch = slice(start, start + AT_ONCE)
            pairs = zip(templates[batch], texts[batch], strict=True)
            filled = [fill(template, text) for template, text in pairs]
            tokens = spans_by(self.tokenizer, [whole for whole, _ in filled])
            for one, (_, places) in zip(tokens, filled, strict=True):
                found, too_long = self._one(one, places)
                prompted.append(found)
                cut += too_long
        return prompted, cut

    def _one(self, tokens: TokenSpans, places: Sequence[tuple[int, int]]) -> tuple[Prompted, bool]:
        occurrences = [tokens.within(*place) for place in places]
        room = self.limit - (self.eos is not None) - self.placeholder
        kept = _kept(len(tokens.ids), occurrences, room)
        own = np.isin(kept, occurrences[-1])
        ids = tokens.ids[kept]
        if self.eos is not None:
            ids = np.append(ids, np.int32(self.eos))
        if not len(ids):
            ids = np.array([self._blank], dtype=np.int32)
        return self._with_placeholder(ids, np.flatnonzero(own)), len(kept) < len(tokens.ids)

    @property
    def _blank(self) -> int:
        """What is read of a text that has no token at all."""
        names = ("eos_token_id", "bos_token_id", "unk_token_id")
        found = [getattr(self.tokenizer, name, None) for name in names]
        return next((int(one) for one in found if one is not None), 0)

    def _with_placeholder(self, ids: NDArray[np.int32], own: NDArray[np.int64]) -> Prompted:
        if not self.placeholder:
            return Prompted(ids, own)
        place = int(own[0]) if len(own) else len(ids) - 1
        return Prompted(np.insert(ids, place, 0), own + 1, place)


def fill(template: str, text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in its template, and the characters at which it stands there."""
    first, *rest = template.split(TEXT)
    whole, places = first, []
    for part in rest:
        places.append((len(whole), len(whole) + len(text)))
        whole += text + part
    return whole, places


def query_template(template: str | None, instruction: str) -> str:
    """The template of a query with its instruction in place.

    Without an instruction, a template that has a place for one gives way to the text alone.
    """
    if not instruction:
        return TEXT if template is None or PLACE in template else template
    if template is not None and PLACE not in template:
        raise UsageError(
            f"an instruction for query_template={template!r}, which has no place for one",
            remedy=f"Write {PLACE} where it belongs",
        )
    parts = (QUERY if template is None else template).split(TEXT)
    return TEXT.join(part.replace(PLACE, instruction.replace(TEXT, "text")) for part in parts)


def check_template(name: str, template: str) -> None:
    if not 1 <= template.count(TEXT) <= 2:
        raise UsageError(
            f"{name}={template!r} has {template.count(TEXT)} places for the text",
            remedy=f"Write {TEXT} once, or twice to have the text repeated",
        )


def _kept(tokens: int, occurrences: Sequence[NDArray[np.int64]], room: int) -> NDArray[np.int64]:
    """Places of the tokens that are read: the text loses its end, from every occurrence as much.

    Of a template that is too long by itself the end is kept: there the vector is taken.
    """
    excess = tokens - room
    if excess <= 0:
        return np.arange(tokens)
    each = -(-excess // len(occurrences))
    dropped = np.concatenate([places[max(0, len(places) - each) :] for places in occurrences])
    return np.setdiff1d(np.arange(tokens), dropped)[-room:]
