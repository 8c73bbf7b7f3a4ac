"""Words from the pieces of each kind of tokenizer, and the means of their vectors."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from ragstone.models.whole_words import (
    Pieces,
    bert_pieces,
    joined_pieces,
    one_each,
    only,
    without_stop_words,
)
from ragstone.records import TokenVectors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_piece() -> Tokenizer:
    words = [*SPECIAL, "play", "##ing", "##ed", "the", "dog", "'", "s", "-", ".", "a", "##9", "東"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def sentence_piece() -> Tokenizer:
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁play", "ing", "▁the", "▁", "dog", ".", "s", "東京"]
    words += ["▁(", "s)", "'", "▁Play"]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", *alphabet, "ab", "Ġab", "Ã©"]
    merges = [("a", "b"), ("Ġ", "ab"), ("Ã", "©")]
    tokenizer = Tokenizer(models.BPE({w: n for n, w in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def whole_words(
    keys: TokenVectors, ids: np.ndarray, pieces: Pieces, *, merged: bool, stems: bool = False
) -> TokenVectors:
    first = pieces.first(ids, keys.offsets)
    words = joined_pieces(keys, first)
    return one_each(words, pieces.words(ids, first), stems=stems) if merged else words


def words_of(pieces: Pieces, text: str) -> list[str]:
    ids = np.array(pieces.tokenizer.encode(text).ids)
    return pieces.words(ids, pieces.first(ids, np.array([0, len(ids)])))


def test_words_of_word_pieces() -> None:
    pieces = bert_pieces(word_piece())
    assert words_of(pieces, "The dog's playing. 東東a9") == [
        *("the", "dog", "'", "s", "playing", ".", "東", "東", "a9")
    ]
    assert words_of(pieces, "the zebra") == ["the", ""]
    assert np.flatnonzero(pieces.special).tolist() == [0, 2, 3, 4]
    marks = [pieces.tokenizer.id_to_token(id) for id in np.flatnonzero(pieces.punctuation)]
    assert marks == ["'", "-", "."]


def test_words_of_sentence_pieces() -> None:
    pieces = Pieces(sentence_piece(), [0, 1, 2], 3)
    assert words_of(pieces, "playing the dog. Play") == ["playing", "the", "dog", ".", "play"]
    assert words_of(pieces, "the 東京dog") == ["the", "", "東京", "dog"]
    assert words_of(pieces, "the dog's") == ["the", "dog", "'", "s"]
    assert words_of(pieces, "the xdog") == ["the", "", "", "dog"]
    marks = [pieces.tokenizer.id_to_token(id) for id in np.flatnonzero(pieces.punctuation)]
    assert marks == [".", "▁(", "'"]


def test_words_of_bytes() -> None:
    pieces = Pieces(byte_level(), [0], None)
    assert words_of(pieces, "ab éab, ab") == ["ab", "éab", ",", "ab"]


def test_words_do_not_run_over_the_end_of_a_text() -> None:
    pieces = bert_pieces(word_piece())
    play, ing = (pieces.tokenizer.token_to_id(piece) for piece in ("play", "##ing"))
    ids, offsets = np.array([play, ing, ing, play]), np.array([0, 2, 2, 3, 4, 4])
    assert pieces.first(ids, offsets).tolist() == [True, False, True, True]


def naive(ids: list[int], vectors: np.ndarray, pieces: Pieces, merged: bool) -> list[np.ndarray]:
    """The means of one text, word by word."""
    found: dict[object, list[np.ndarray]] = {}
    names = [pieces.tokenizer.id_to_token(id) for id in ids]
    place = 0
    for number, word in enumerate(re.findall(r"\S+(?: ##\S+)*", " ".join(names))):
        size = len(word.split())
        apart = not merged or word in SPECIAL
        key = number if apart else word.replace(" ##", "")
        found.setdefault(key, []).append(vectors[place : place + size].mean(0))
        place += size
    return [np.mean(occurrences, axis=0) for occurrences in found.values()]


VOCABULARY_SIZE = word_piece().get_vocab_size()
IDS = st.lists(st.integers(0, VOCABULARY_SIZE - 1), max_size=12)
MARKS = {word_piece().token_to_id(piece) for piece in ("'", "-", ".", "東", *SPECIAL)}
CONTINUED = {word_piece().token_to_id(piece) for piece in ("##ing", "##ed", "##9")}


@given(st.lists(IDS, max_size=5), st.booleans(), st.integers(0, 9))
def test_means_are_those_of_each_word(texts: list[list[int]], merged: bool, seed: int) -> None:
    pieces = bert_pieces(word_piece())
    texts = [_possible(ids) for ids in texts]
    offsets = np.cumsum([0, *map(len, texts)])
    ids = np.array([id for text in texts for id in text], dtype=np.int64)
    vectors = np.random.default_rng(seed).standard_normal((len(ids), 3)).astype(np.float32)
    found = whole_words(TokenVectors(offsets, vectors), ids, pieces, merged=merged)
    expected = [
        naive(text, vectors[start : start + len(text)], pieces, merged)
        for text, start in zip(texts, offsets[:-1], strict=True)
    ]
    assert np.diff(found.offsets).tolist() == [len(text) for text in expected]
    every = [vector for text in expected for vector in text]
    if every:
        np.testing.assert_allclose(found.vectors, np.stack(every), atol=1e-6)
    assert found.vectors.dtype == np.float32 and found.offsets.dtype == np.int64


def _possible(ids: list[int]) -> list[int]:
    """Without continuations where no tokenizer puts one: at the start and after a mark."""
    kept: list[int] = []
    for id in ids:
        if id not in CONTINUED or (kept and kept[-1] not in MARKS):
            kept.append(id)
    return kept


def test_equal_stems_share_a_vector_and_a_batch_changes_nothing() -> None:
    pieces = bert_pieces(word_piece())
    ids = np.array(pieces.tokenizer.encode("playing the played dog").ids)
    vectors = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    keys = TokenVectors(np.array([0, 6]), vectors)
    play = (vectors[:2].mean(0) + vectors[3:5].mean(0)) / 2
    found = whole_words(keys, ids, pieces, merged=True, stems=True)
    np.testing.assert_allclose(found.vectors, [play, vectors[2], vectors[5]], rtol=1e-5)
    twice = TokenVectors(np.array([0, 6, 6, 12]), np.concatenate([vectors, vectors]))
    both = whole_words(twice, np.concatenate([ids, ids]), pieces, merged=True, stems=True)
    assert both.offsets.tolist() == [0, 3, 3, 6]
    assert both.vectors.tolist() == [*found.vectors.tolist(), *found.vectors.tolist()]


def test_a_text_may_lose_all_its_vectors() -> None:
    keys = TokenVectors(np.array([0, 2, 3, 3, 5]), np.arange(10, dtype=np.float32).reshape(5, 2))
    found = only(keys, np.array([True, False, False, True, True]))
    assert found.offsets.tolist() == [0, 1, 1, 1, 3]
    assert found.vectors.tolist() == [[0, 1], [6, 7], [8, 9]]


def test_a_gate_scales_what_it_keeps() -> None:
    keys = TokenVectors(np.array([0, 2, 3]), np.float32([[1, 2], [-3, 0], [0, 0]]))
    found = without_stop_words(keys, np.float32([1, 0.5]), np.float32([1]))
    assert found.offsets.tolist() == [0, 1, 2]
    assert found.vectors.tolist() == [[3, 6], [0, 0]]


@pytest.mark.parametrize("merged", [True, False])
def test_nothing_gives_nothing(merged: bool) -> None:
    keys = TokenVectors(np.zeros(3, np.int64), np.empty((0, 4), np.float32))
    found = whole_words(keys, np.empty(0, np.int64), bert_pieces(word_piece()), merged=merged)
    assert found.offsets.tolist() == [0, 0, 0] and found.vectors.shape == (0, 4)
