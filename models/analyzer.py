"""The English analyzer: texts to term frequencies, as Lucene's EnglishAnalyzer has them.

Words by Unicode's word-break rules, possessive 's taken off, lower case, Lucene's 33 English stop
words left out, Porter's stemmer. BM25 over these terms agrees with Anserini's defaults.

P. Yang, H. Fang, J. Lin, "Anserini: Enabling the Use of Lucene for Information Retrieval Research",
SIGIR 2017.
"""

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..records import JSON, Fingerprint, WeightedTerms
from .porter import stem_words
from .words import Terms, Words, count_terms, take_terms

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then"
    " there these they this to was will with".split()
)
"""Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET."""

POSSESSIVES = ("'s", "\u2019s", "\uff07s")
ROOM = 1 << 19
"""Distinct words whose terms are remembered between batches (some 100 MB)."""

AnyInteger = TypeVar("AnyInteger", np.uint8, np.int32, np.int64)

_RULES = "uax29-lucene9/255; possessive; lower; stop-33; porter-bli-logi; version 1"


class Analyzer:
    """Encodes texts as weighted terms: stemmed words with their frequencies.

    Distinct words are remembered with their terms, so that each is lowered and stemmed once; when
    `ROOM` words are known the memory starts afresh. May be used from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._words = Words(np.uint64(secrets.randbits(64)))
        self._numbers: dict[bytes, int] = {}  # term -> number
        self._blob, self._ends = np.zeros(1 << 13, np.uint8), np.zeros(1024, np.int64)  # of terms
        self._terms = np.empty(0, np.int32)  # word -> number of its term, -1 = stop word
        self._known = self._place = 0  # words that have a term, and the bytes of their records
        self._stamps = np.zeros(1024, np.int64)  # term -> last text that had it
        self._places = np.zeros(1024, np.int32)  # term -> its entry in that text
        self._locals = np.zeros(1024, np.int32)  # term -> its number in the batch
        self._stamp = 1

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Named "english"; the digest covers the rules and the stop words."""
        settings: dict[str, JSON] = {"class": "analyzer", "language": "english", "rules": _RULES}
        text = "\n".join([_RULES, *sorted(STOP_WORDS)])
        return Fingerprint("english", hashlib.sha256(text.encode()).hexdigest(), settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, JSON]) -> Self:
        return cls()

    def encode_passages(self, texts: Sequence[str]) -> WeightedTerms:
        """Terms in the order of their first occurrence; `lengths` counts all but stop words."""
        with self._lock:
            if self._known > ROOM:
                self._forget()
            return self._encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> WeightedTerms:
        """The same as passages."""
        return self.encode_passages(texts)

    def _encode(self, texts: Sequence[str]) -> WeightedTerms:
        encoded = [text.encode("utf-8", "replace") for text in texts]
        words, starts = self._words.number(encoded)
        self._learn()
        scratch = (self._stamps, self._places, self._locals)
        offsets, ids, weights, lengths, batch = count_terms(
            words, starts, self._terms, *scratch, self._stamp
        )
        self._stamp += len(texts)
        vocabulary = Terms(*take_terms(self._blob, self._ends, batch))
        return WeightedTerms(offsets, ids, weights, vocabulary, lengths)

    def _learn(self) -> None:
        """Find the terms of the words that the last batch brought."""
        known, self._known = self._known, self._words.count
        if self._known == known:
            return
        words = _lowered(b"\n".join(self._words.since(self._place, known))).split("\n")
        self._place = int(self._words.size[1])
        kept = [word for word in words if word not in STOP_WORDS]
        stems = iter(stemmed(kept))
        first = len(self._numbers)
        number = self._numbers.setdefault
        numbers = [
            -1 if word in STOP_WORDS else number(next(stems), len(self._numbers)) for word in words
        ]
        self._terms = _grown(self._terms, self._known)
        self._terms[known : self._known] = numbers
        self._keep(list(islice(reversed(self._numbers), len(self._numbers) - first))[::-1])

    def _keep(self, terms: list[bytes]) -> None:
        """Put new terms behind the others, and make room for what is counted of them."""
        count = len(self._numbers)
        self._ends, self._stamps = _grown(self._ends, count), _grown(self._stamps, count)
        self._places, self._locals = _grown(self._places, count), _grown(self._locals, count)
        ends = np.cumsum(np.fromiter(map(len, terms), np.int64, len(terms)))
        first = count - len(terms)
        start = self._ends[first - 1] if first else 0
        self._ends[first:count] = ends + start
        blob = np.frombuffer(b"".join(terms), np.uint8)
        self._blob = _grown(self._blob, start + len(blob))
        self._blob[start : start + len(blob)] = blob


def _lowered(words: bytes) -> str:
    """Words in lower case character by character, possessives taken off; one word a line."""
    text = words.decode()
    if not text.isascii():  # the two characters that str.lower treats by rules of its own
        text = text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()
    for ending in POSSESSIVES:
        text = text.replace(ending + "\n", "\n").removesuffix(ending)
    return text


def stemmed(words: list[str]) -> list[bytes]:
    """The Porter stem of each word; words are in lower case and hold no line feed."""
    units = np.frombuffer("".join([word + "\n" for word in words]).encode("utf-16-le"), np.uint16)
    units = units.copy()
    return units[: stem_words(units)].tobytes().decode("utf-16-le").encode().split(b"\n")[:-1]


def _grown(array: NDArray[AnyInteger], size: int) -> NDArray[AnyInteger]:
    """The array, with room for at least `size` values."""
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger
