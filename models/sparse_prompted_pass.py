"""The forward pass of a prompted language model that its dense and sparse encoders share.

The text is put into a prompt that asks for one word; what the model has in mind at the last
position of the prompt is the text's representation. Texts are padded on the right, where under
causal attention nothing of the text can see the padding.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bi_encoder import BUDGET, BUDGET_CUDA, WINDOW
from .fingerprint import files_digest
from .loaded_encoder import loading, no_load_report
from .model_folder import ModelFolder
from .plain_bert import AT_ONCE
from .processor import choose_device, choose_number_type
from .sparse_terms import NOTHING, Row, row_of, strongest, token_bytes
from .stop_words import ENGLISH
from .text_batches import by_length

if TYPE_CHECKING:
    from torch import Tensor

Vector = NDArray[np.float32]
Progress = Callable[[int], None]

SYSTEM = "You are an AI assistant that can understand human language."
MARK = "<<the text>>"

WORD = re.compile(r"\w+(?:[-.'’]\w+)*")

WITHOUT_WORDS = 10
"""The likeliest tokens of the vocabulary stand for a text of stop words alone."""

ROOM = 4096
"""Texts whose other output is remembered until it is asked for."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the model is asked, with "{text}" in it, and how its answer begins."""

    query: str
    passage: str
    answer: str


class PromptedPass:
    """A language model, and what it gave for texts that one of its encoders has not asked for."""

    def __init__(
        self, model: ModelFolder, prompts: Prompts, max_length: int, number_type: str, device: str
    ) -> None:
        self.wanted: set[str] = set()
        self.passes = 0
        self._model, self._prompts, self._max_length = model, prompts, max_length
        self._dtype, self._device = number_type, device
        self._lock = Lock()
        self._kept: dict[tuple[bool, str], dict[str, Any]] = {}
        self._of_word: dict[str, list[int]] = {}

    @cached_property
    def files(self) -> str:
        """The digest of the model's files."""
        return files_digest(self._model)

    def take(
        self, output: str, texts: Sequence[str], is_query: bool, progress: Progress | None
    ) -> tuple[list[Any], int]:
        """What each text has of an output ("dense" or "sparse"), and how many were cut now."""
        with self._lock:
            distinct = list(dict.fromkeys(texts))
            found = {
                text: self._kept[is_query, text].pop(output)
                for text in distinct
                if output in self._kept.get((is_query, text), {})
            }
            missing = [text for text in distinct if text not in found]
            truncated = 0
            for start in range(0, len(missing), WINDOW):
                window = missing[start : start + WINDOW]
                truncated += self._run(window, is_query, output, found, progress)
            self._forget()
        if progress and len(texts) > len(missing):
            progress(len(texts) - len(missing))
        return [found[text] for text in texts], truncated

    def _run(
        self,
        texts: Sequence[str],
        is_query: bool,
        output: str,
        found: dict[str, Any],
        progress: Progress | None,
    ) -> int:
        """One pass over some texts; gives how many of them were cut."""
        self.passes += 1
        tokens, truncated = self._tokens(texts, is_query)
        for chosen in by_length(np.array([len(one) for one in tokens]), self._budget):
            states, logits = self._last([tokens[place] for place in chosen])
            for place, state, own in zip(chosen.tolist(), states, logits, strict=True):
                text = texts[place]
                made = {"dense": state, "sparse": self._sparse(text, own)}
                found[text] = made.pop(output)
                rest = {name: value for name, value in made.items() if name in self.wanted}
                if rest:
                    self._kept[is_query, text] = rest
            if progress:
                progress(len(chosen))
        return truncated

    def _forget(self) -> None:
        """Drop what was taken, and what waits longest beyond ROOM."""
        held = [key for key, outputs in self._kept.items() if outputs]
        self._kept = {key: self._kept[key] for key in held[-ROOM:]}

    def _tokens(self, texts: Sequence[str], is_query: bool) -> tuple[list[NDArray[np.int64]], int]:
        """The prompts of the texts, of each text the first tokens, and how many were cut."""
        before, after = self._frames[is_query]
        ids = self._ids(texts)
        cut = sum(len(one) > self._max_length for one in ids)
        whole = [[*before, *one[: self._max_length], *after] for one in ids]
        return [np.array(one, np.int64) for one in whole], cut

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(texts), AT_ONCE):
            some = list(texts[start : start + AT_ONCE])
            found += self._tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def _last(self, tokens: Sequence[NDArray[np.int64]]) -> tuple[Vector, Vector]:
        """(texts, d) hidden states and (texts, vocabulary) logits at the last token of each."""
        import torch

        lengths = torch.tensor([len(one) for one in tokens], device=self._target)
        ids = torch.zeros((len(tokens), int(lengths.max())), dtype=torch.int64)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = torch.from_numpy(one)
        with torch.inference_mode(), _only(self._head, lengths - 1) as seen:
            logits = self._network(input_ids=ids.to(self._target), use_cache=False).logits[:, -1]
            states = seen[0]
        return states.float().numpy(force=True), logits.float().numpy(force=True)

    def _sparse(self, text: str, logits: Vector) -> Row:
        """The tokens of the words of a text that are above 0, with log(1 + logit)."""
        if not text.strip():
            return NOTHING
        words = [word for word in WORD.findall(text.lower()) if word not in ENGLISH]
        self._learn(words)
        own = sorted({token for word in words for token in self._of_word[word]})
        weights = np.log1p(np.maximum(logits, 0))
        if not own:
            return strongest(row_of(weights), WITHOUT_WORDS)
        tokens = np.array(own, np.int64)
        above = weights[tokens] > 0
        return tokens[above], weights[tokens][above]

    def _learn(self, words: Sequence[str]) -> None:
        """Remember the tokens of words, until there are too many."""
        new = list(dict.fromkeys(word for word in words if word not in self._of_word))
        if len(self._of_word) > 1 << 18:
            self._of_word, new = {}, list(dict.fromkeys(words))
        if new:
            self._of_word |= zip(new, self._ids(new), strict=True)

    @property
    def dimensions(self) -> int:
        return int(self._head.in_features)

    @cached_property
    def names(self) -> list[bytes]:
        """What each token is called."""
        return token_bytes(self._tokenizer.backend_tokenizer, int(self._head.out_features))

    @cached_property
    def _frames(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]:
        """The tokens around a passage, and those around a query."""
        passage, query = (
            self._frame(asked) for asked in (self._prompts.passage, self._prompts.query)
        )
        return passage, query

    def _frame(self, asked: str) -> tuple[list[int], list[int]]:
        tokenizer, answer = self._tokenizer, self._prompts.answer
        chat = getattr(tokenizer, "chat_template", None)
        user = asked.replace("{text}", MARK)
        whole = _rendered(tokenizer, user, answer) if chat else f"{user} {answer}"
        before, after = whole.split(MARK)
        first: list[int] = tokenizer(before, add_special_tokens=not chat)["input_ids"]
        if first and first[-1] == tokenizer.eos_token_id and not chat:
            first = first[:-1]
        return first, tokenizer(after, add_special_tokens=False)["input_ids"]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The tokenizer and the network."""
        with loading(self._model), no_load_report():  # what is missing is said below
            from transformers import AutoModelForCausalLM, AutoTokenizer

            options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(self._model.folder, **options)
            options |= {"dtype": choose_number_type(self._dtype, self._target)}
            options |= {"use_safetensors": True, "output_loading_info": True}
            load: Any = AutoModelForCausalLM.from_pretrained
            network, found = load(self._model.folder, **options)
            if found["missing_keys"]:
                raise ValueError(f"it has no weights for {min(found['missing_keys'])}")
        return tokenizer, network.to(self._target).eval()

    @property
    def _tokenizer(self) -> Any:
        return self._loaded[0]

    @property
    def _network(self) -> Any:
        return self._loaded[1]

    @property
    def _head(self) -> Any:
        return self._network.get_output_embeddings()

    @cached_property
    def _target(self) -> Any:
        return choose_device(self._device)

    @property
    def _budget(self) -> int:
        return BUDGET if self._target.type == "cpu" else BUDGET_CUDA


@contextmanager
def _only(head: Any, places: "Tensor") -> "Iterator[list[Tensor]]":
    """While it lasts, the head sees one place of each text, and the list what it saw."""
    import torch

    seen: list[Tensor] = []
    rows = torch.arange(len(places), device=places.device)

    def pick(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(given[0][rows, places])
        return (seen[-1][:, None], *given[1:])

    hook = head.register_forward_pre_hook(pick)
    try:
        yield seen
    finally:
        hook.remove()


def _rendered(tokenizer: Any, user: str, answer: str) -> str:
    """The chat up to the first word of the answer."""
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    render = tokenizer.apply_chat_template
    try:
        system = {"role": "system", "content": SYSTEM}
        whole = render([system, *turns], tokenize=False, continue_final_message=True)
    except Exception:  # templates raise errors of their own where they know no system role
        whole = _without_system(render, turns)
    if whole.count(MARK) != 1:
        raise InputError(
            "the chat template of the model does not show the user's text once",
            remedy="Use an instruction-tuned model, or one without a chat template",
        )
    return str(whole)


def _without_system(render: Any, turns: Sequence[dict[str, str]]) -> str:
    try:
        return str(render(turns, tokenize=False, continue_final_message=True))
    except Exception:  # of a foreign template any error may come
        return ""


_LOADED: "WeakValueDictionary[tuple[Any, ...], PromptedPass]" = WeakValueDictionary()
_LOADED_LOCK = Lock()


def prompted_pass(
    model: ModelFolder, prompts: Prompts, max_length: int, number_type: str, device: str
) -> PromptedPass:
    """The pass of this model that some encoder holds already, or a new one."""
    key = (model.folder, prompts, max_length, number_type, device)
    with _LOADED_LOCK:
        found = _LOADED.get(key) or PromptedPass(model, prompts, max_length, number_type, device)
        _LOADED[key] = found
        return found
