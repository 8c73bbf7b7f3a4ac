"""Whole-word vectors: the vectors of a word's pieces averaged, one vector for equal words.

A tokenizer cuts rare words into pieces. A passage that keeps one vector for each distinct word, or
for each word stem, needs fewer of them, and each stands for something that a person can read.

Words are found from the pieces themselves, by the mark that a tokenizer puts at the start of a word
or at its continuation; punctuation, and each character of a script that is written without spaces,
is a word of its own.

Hofstaetter, Khattab, Althammer, Sertkan and Hanbury, Introducing Neural Bag of Whole-Words with
ColBERTer: Contextualized Late Interactions using Enhanced Reduction, CIKM 2022,
https://arxiv.org/abs/2203.13088
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..records import Bitmap, TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

MARKS = ("\u2581", "\u0120")
"""What SentencePiece, and byte-level tokenizers, write for the space before a word."""

CONTINUED = "##"
"""What WordPiece writes before a piece that continues a word."""

UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0xA4CF),
    (0xF900, 0xFAFF),
)
"""Thai, Lao, Burmese and Khmer, and the characters of Chinese and Japanese."""


@dataclass(frozen=True)
class Pieces:
    """What the pieces of a tokenizer are parts of.

    special_ids: the tokens that stand for nothing in the text.  unknown: the one, if any, that
    stands for whatever the tokenizer lacks: two of them need not be the same word.
    """

    tokenizer: "Tokenizer"
    special_ids: Collection[int]
    unknown: int | None

    @cached_property
    def special(self) -> Bitmap:
        """(pieces,) bool."""
        marked = np.zeros(len(self._texts), dtype=np.bool_)
        marked[list(self.special_ids)] = True
        return marked

    @cached_property
    def punctuation(self) -> Bitmap:
        """(pieces,) bool: without a letter or digit, but no special token and no space alone."""
        return np.array([bool(text) and not _wordy(text) for text in self._texts])

    def first(self, ids: Ids, offsets: NDArray[np.int64]) -> Bitmap:
        """(pieces of all texts,) bool: where a word begins."""
        alone = self._alone[ids]
        begins = ~self._continues[ids] | alone
        begins[1:] |= alone[:-1]
        begins[offsets[:-1][offsets[:-1] < len(ids)]] = True
        return begins

    def words(self, ids: Ids, first: Bitmap) -> list[str]:
        """The words in lower case; special and unknown tokens are "" each."""
        bounds = [*np.flatnonzero(first).tolist(), len(ids)]
        texts, listed = self._texts, ids.tolist()
        joined = ["".join([texts[id] for id in listed[a:b]]) for a, b in pairwise(bounds)]
        return ["".join(word.lower().split()) for word in joined]

    @cached_property
    def _pieces(self) -> list[str]:
        size = self.tokenizer.get_vocab_size()
        return [self.tokenizer.id_to_token(number) or "" for number in range(size)]

    @cached_property
    def _texts(self) -> list[str]:
        """What each piece adds to the text, as far as that is known."""
        texts = [
            piece.removeprefix(CONTINUED) if self._word_piece else piece for piece in self._pieces
        ]
        if self._byte_level:
            decode = self.tokenizer.decoder.decode
            texts = [decode([piece]) for piece in self._pieces]
        for number in (*self.special_ids, *([] if self.unknown is None else [self.unknown])):
            texts[number] = ""
        return [text.replace(MARKS[0], "").strip() for text in texts]

    @cached_property
    def _continues(self) -> Bitmap:
        """(pieces,) bool: without the mark of a beginning, or with that of a continuation."""
        if self._word_piece:
            return np.array([piece.startswith(CONTINUED) for piece in self._pieces])
        return np.array([not piece.startswith(MARKS) for piece in self._pieces])

    @cached_property
    def _alone(self) -> Bitmap:
        """(pieces,) bool: joined to nothing before or after."""
        alone = self.special | self.punctuation | np.array([*map(_unspaced, self._texts)])
        if self.unknown is not None:
            alone[self.unknown] = True
        return np.asarray(alone)

    @property
    def _word_piece(self) -> bool:
        return type(self.tokenizer.model).__name__ == "WordPiece"

    @property
    def _byte_level(self) -> bool:
        return type(self.tokenizer.decoder).__name__ == "ByteLevel"


def bert_pieces(tokenizer: "Tokenizer") -> Pieces:
    """The pieces of a BERT tokenizer, which marks some of its own tokens and names the others."""
    added = tokenizer.get_added_tokens_decoder()
    named = (tokenizer.token_to_id(name) for name in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
    own = {number for number, token in added.items() if token.special}
    own |= {number for number in named if number is not None}
    unknown = tokenizer.token_to_id("[UNK]")
    return Pieces(tokenizer, sorted(own - {unknown}), unknown)


def joined_pieces(keys: TokenVectors, first: Bitmap) -> TokenVectors:
    """The mean of the vectors of each word's pieces; `first`: (vectors,) where a word begins."""
    starts = np.flatnonzero(first)
    return TokenVectors(np.searchsorted(starts, keys.offsets), _means(keys.vectors, starts))


def one_each(words: TokenVectors, names: Sequence[str], *, stems: bool = False) -> TokenVectors:
    """The mean of the vectors of equal words of a text, where the first of them stands.

    names: the words, of which "" equals no other.  stems: words of one stem are equal.
    """
    numbers = _numbers(names, stems)
    texts = np.repeat(np.arange(len(words)), np.diff(words.offsets))
    pairs = texts * (numbers.max(initial=0) + 1) + numbers
    _, places, groups = np.unique(pairs, return_index=True, return_inverse=True)
    order = np.argsort(places)  # of the groups, by where each is first met
    groups = np.argsort(order)[groups]
    together = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[together], np.arange(len(places)))
    offsets = np.searchsorted(texts[places[order]], np.arange(len(words) + 1))
    return TokenVectors(offsets, _means(words.vectors[together], starts))


def _numbers(words: Sequence[str], stems: bool) -> NDArray[np.int64]:
    """(words,) equal where the words, or their stems, are; "" equals nothing."""
    if stems:
        from .analyzer import stemmed  # compiles kernels

        words = [stem.decode() for stem in stemmed(list(words))]
    numbers: dict[str, int] = {}
    equal = [numbers.setdefault(word, len(numbers)) if word else -1 for word in words]
    found = np.array(equal, dtype=np.int64)
    unequal = np.flatnonzero(found < 0)
    found[unequal] = len(numbers) + np.arange(len(unequal))
    return found


def _means(vectors: Vectors, starts: NDArray[np.int64]) -> Vectors:
    """(starts, d): the mean of the rows from each start to before the next."""
    counts = np.diff(starts, append=len(vectors))
    sums = np.add.reduceat(vectors, starts) if len(starts) else vectors[:0]
    return np.asarray(sums / counts[:, None].astype(np.float32))


def only(keys: TokenVectors, kept: Bitmap) -> TokenVectors:
    """The vectors that are `kept` (vectors,); a text may lose all."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[keys.offsets]
    return TokenVectors(offsets, keys.vectors[kept])


def without_stop_words(keys: TokenVectors, weight: Vectors, bias: Vectors) -> TokenVectors:
    """Contextualised stop words: a learned gate drops vectors, and scales those that it keeps.

    The gate of a vector v is the positive part of ``v @ weight + bias`` (weight: (d,), bias: one
    number); where it is 0 the vector goes.
    """
    gates = np.maximum(keys.vectors @ weight + bias, 0)
    scaled = TokenVectors(keys.offsets, keys.vectors * gates[:, None])
    return only(scaled, gates > 0)


def _wordy(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _unspaced(text: str) -> bool:
    return any(low <= ord(character) <= high for character in text for low, high in UNSPACED)
