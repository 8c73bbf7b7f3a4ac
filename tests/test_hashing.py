"""The hashing encoder against a plain twin, and its promise of equal vectors everywhere."""

import hashlib
import math
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.models import HashingEncoder


def twin(text: str, dimensions: int, seed: int) -> list[float]:
    """The same vector with dictionaries and lists."""
    vector = [0.0] * dimensions

    def put(feature: str, weight: float) -> None:
        raw = hashlib.blake2b(f"{seed} {feature}".encode(), digest_size=8).digest()
        number = int.from_bytes(raw, "little")
        vector[number % dimensions] += weight if number >= 2**63 else -weight

    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()) or [""]
    for word in dict.fromkeys(words):
        weight = 1 + math.log(words.count(word))
        framed = f"<{word}>"
        parts = [framed[at : at + 3] for at in range(len(framed) - 2)]
        put(f"word {word}", weight)
        for part in parts:
            put(f"part {part}", weight / math.sqrt(len(parts)))
    length = math.sqrt(sum(x * x for x in vector))
    if length == 0:  # everything cancelled out
        vector[0] = length = 1.0
    return [x / length for x in vector]


@given(st.text(max_size=40), st.integers(16, 64), st.integers(0, 3))
def test_vectors_are_those_of_the_plain_twin(text: str, dimensions: int, seed: int) -> None:
    found = HashingEncoder(dimensions, seed).encode_queries([text])[0]
    np.testing.assert_allclose(found, twin(text, dimensions, seed), atol=1e-6)


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(1, 8))
def test_every_vector_has_length_one_even_when_features_cancel(
    texts: list[str], dimensions: int
) -> None:
    found = HashingEncoder(dimensions).encode_passages(texts)
    assert (found.shape, found.dtype) == ((len(texts), dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_vectors_are_these_on_every_platform() -> None:
    found = HashingEncoder(4, seed=7).encode_queries(["Stones in a river", ""])
    expected = [[-0.77258593, 0.06897233, -0.41821203, -0.47270763], [0, 0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_another_process_gives_the_same_bytes_without_torch() -> None:
    text = "Ærøskøbing and 東京: 12 stones"
    code = f"""
import sys
from ragstone.models import HashingEncoder
print(HashingEncoder(64, 3).encode_passages([{text!r}]).tobytes().hex())
assert not {{"torch", "tokenizers", "transformers", "numba"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == HashingEncoder(64, 3).encode_passages([text]).tobytes().hex()


def test_shared_words_and_shared_parts_of_words_bring_texts_near() -> None:
    base, same, inflected, other = HashingEncoder().encode_passages(
        [
            "the retrieval of passages from an index",
            "an index for the retrieval of passages",
            "retrieving a passage by indexing",
            "cats sleep all day on warm windowsills",
        ]
    )
    assert base @ same > base @ inflected > base @ other
    assert base @ same > 0.8 and base @ inflected > 0.1
    assert abs(base @ other) < 0.2


def test_case_and_compatibility_forms_make_no_difference() -> None:
    left, right = HashingEncoder().encode_queries(["Straße ﬁne", "STRASSE fine"])
    np.testing.assert_array_equal(left, right)


def test_seeds_give_unrelated_vectors_and_other_fingerprints() -> None:
    first, second = HashingEncoder(seed=1), HashingEncoder(seed=2)
    texts = [f"text number {n} about rivers" for n in range(20)]
    crossed = (first.encode_passages(texts) * second.encode_passages(texts)).sum(1)
    assert np.abs(crossed).max() < 0.3
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == HashingEncoder(seed=1).fingerprint


def test_no_dimensions_are_refused() -> None:
    with pytest.raises(UsageError, match="dimensions=0.*at least 1"):
        HashingEncoder(0)
