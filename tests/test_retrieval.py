"""IndexRetriever over toy encoders and indexes: order, padding, filters, refusals, types."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragstone
from ragstone.errors import UsageError
from ragstone.records import Fingerprint, Neighbours, Query
from ragstone.retrieval import IndexRetriever


class LetterCounts:
    """Texts as counts of the letters a to e, (n, 5) float32."""

    fingerprint = Fingerprint("letters", "0")

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[text.count(letter) for letter in "abcde"] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 5)

    encode_queries = encode_passages


class Exhaustive:
    """Inner products with every passage above 0, padded like any index."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys

    def search(self, keys, k, *, allowed=None) -> Neighbours:
        numbers = np.full((len(keys), k), -1, np.int64)
        scores = np.full((len(keys), k), -np.inf, np.float32)
        for row, products in enumerate(keys @ self.keys.T):
            reachable = (products > 0) if allowed is None else (products > 0) & allowed
            order = np.argsort(-products, kind="stable")
            best = order[reachable[order]][:k]
            numbers[row, : len(best)], scores[row, : len(best)] = best, products[best]
        return Neighbours(numbers, scores)


class Named:
    """Passages by number; asking for a number that is none is an error, as in any store."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def ids(self, numbers) -> list[str]:
        assert (numbers >= 0).all() and numbers.dtype == np.int64
        return [self.names[number] for number in numbers.tolist()]

    def select(self, filter) -> np.ndarray:
        return np.array([name in filter["names"] for name in self.names])


def toy(texts: dict[str, str]) -> IndexRetriever:
    encoder = LetterCounts()
    keys = encoder.encode_passages(list(texts.values()))
    return IndexRetriever(encoder, Exhaustive(keys), Named(list(texts)))


TOY = {"z": "aab", "y": "ab", "x": "ab", "w": "c", "v": "aaaa"}


def test_best_first_and_equal_scores_by_id() -> None:
    first, second, none = toy(TOY).retrieve([Query(q, q) for q in ("a", "c", "e")], 4)
    assert first.ids == ("v", "z", "x", "y")  # y was added before x
    assert first.scores.tolist() == [4, 2, 1, 1] and first.scores.dtype == np.float32
    assert second.ids == ("w",)
    assert none.ids == () and none.query == Query("e", "e")


def test_no_queries_and_no_text() -> None:
    assert toy(TOY).retrieve([], 3) == []
    assert toy(TOY).retrieve([Query("1", "")], 3)[0].ids == ()


def test_a_filter_is_honoured_inside_the_search() -> None:
    (found,) = toy(TOY).retrieve([Query("1", "a")], 2, filter={"names": ["x", "y", "w"]})
    assert found.ids == ("x", "y")
    (none,) = toy(TOY).retrieve([Query("1", "a")], 2, filter={"names": []})
    assert none.ids == ()


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k}"):
        toy(TOY).retrieve([Query("1", "a")], k)
    with pytest.raises(UsageError):
        toy(TOY).retrieve([], k)


@given(
    texts=st.lists(st.text("abcde", max_size=4), max_size=12),
    asked=st.lists(st.text("abcde", max_size=3), max_size=4),
    k=st.integers(1, 15),
    data=st.data(),
)
def test_equals_sorting_everything(texts, asked, k, data) -> None:
    names = data.draw(st.permutations([f"p{i}" for i in range(len(texts))]))
    retriever = toy(dict(zip(names, texts, strict=True)))
    rankings = retriever.retrieve([Query(text, text) for text in asked], k)
    for ranking, text in zip(rankings, asked, strict=True):
        products = {
            name: sum(text.count(letter) * own.count(letter) for letter in "abcde")
            for name, own in zip(names, texts, strict=True)
        }
        everything = sorted((-score, name) for name, score in products.items() if score)
        got = [(-hit.score, hit.id) for hit in ranking]
        assert got == sorted(got)
        assert [score for score, _ in got] == [score for score, _ in everything[:k]]
        if k >= len(texts):  # where the tie at the last place is cut, numbers decide, not ids
            assert got == everything


PAIRING = """
import numpy as np
from numpy.typing import NDArray
from ragstone.records import WeightedTerms
from ragstone.retrieval.index_retriever import IndexRetriever, NumberedPassages
from ragstone.stages import Encoder, Index

Rows = NDArray[np.float32]
def pair(terms: Encoder[WeightedTerms, WeightedTerms], rows: Encoder[Rows, Rows],
         inverted: Index[WeightedTerms, WeightedTerms], vector: Index[Rows, Rows],
         passages: NumberedPassages) -> None:
    IndexRetriever(terms, inverted, passages)
    IndexRetriever(rows, vector, passages)
    IndexRetriever({encoder}, {index}, passages)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("encoder", "index", "fits"),
    [("rows", "vector", True), ("terms", "vector", False), ("rows", "inverted", False)],
)
def test_the_type_checker_refuses_an_encoder_of_another_family(
    tmp_path: Path, encoder: str, index: str, fits: bool
) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "ragstone").symlink_to(Path(ragstone.__file__).parent)
    program = tmp_path / "pairing.py"
    program.write_text(PAIRING.format(encoder=encoder, index=index))
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    complaints = [line for line in run.stdout.splitlines() if line.startswith("pairing.py")]
    assert bool(complaints) is not fits, run.stdout
    assert all("incompatible type" in line or "Cannot infer" in line for line in complaints)
