"""Chunks encoded within their document: means over the document's own token vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ragstone.errors import InputError, UsageError
from ragstone.models import BiEncoder
from ragstone.models.late_chunking import ChunkedText, stretches

MakeBert = Callable[..., Path]
Vectors = NDArray[np.float32]

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

TEXT = "the book of the library. a library of books. é the end"
SPANS = [(0, 24), (25, 44), (45, len(TEXT))]


def token_vectors(folder: Path, text: str) -> tuple[Vectors, list[tuple[int, int]]]:
    """Vectors and character offsets of the tokens of one text, by transformers alone."""
    from transformers import AutoTokenizer, BertModel

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    given = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = given.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        return model(**given).last_hidden_state[0].numpy(), offsets


def pooled(folder: Path, text: str, spans: Sequence[tuple[int, int]]) -> Vectors:
    vectors, offsets = token_vectors(folder, text)
    rows = [
        np.mean([v for v, (a, b) in zip(vectors, offsets, strict=True) if a < end and b > start], 0)
        for start, end in spans
    ]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def late(folder: Path, **options: object) -> BiEncoder:
    return BiEncoder(folder, dtype="float32", late_chunking=True, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["own", "sentence-transformers"])
def folder(request: pytest.FixtureRequest, make_bert: MakeBert) -> Path:
    """A mean-pooled BERT, and the same one for which the own forward pass will not do."""
    made = make_bert()
    if request.param != "own":
        options = made / "sentence_bert_config.json"
        options.write_text('{"max_seq_length": 48, "do_lower_case": true}')
    return made


def test_chunks_are_means_over_the_token_vectors_of_the_whole_text(folder: Path) -> None:
    expected = pooled(folder, TEXT, SPANS)
    encoder = late(folder)
    found = encoder.encode_documents([ChunkedText(TEXT, SPANS)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.dtype, encoder.encoded, encoder.truncated) == (np.float32, 3, 0)
    alone = BiEncoder(folder, dtype="float32").encode_passages([TEXT[a:b] for a, b in SPANS])
    assert ((alone * found).sum(1) < 0.999).all()


def test_a_chunk_sees_the_rest_of_its_document_and_its_title(folder: Path) -> None:
    encoder = late(folder)
    one, two = ChunkedText("the book. a", [(0, 9)]), ChunkedText("the book. z", [(0, 9)])
    titled = ChunkedText("the book. a", [(0, 9)], title="library")
    first, second, third = encoder.encode_documents([one, two, titled])
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(first, third, atol=1e-3)
    np.testing.assert_allclose(
        third[None], pooled(folder, "library the book. a", [(8, 17)]), atol=1e-5
    )


def test_documents_do_not_see_each_other(folder: Path) -> None:
    encoder = late(folder)
    documents = [
        ChunkedText(TEXT, SPANS),
        ChunkedText("a book", [(0, 6)], "the"),
        ChunkedText("of " * 30, [(0, 45), (30, 90)]),
        ChunkedText(TEXT, SPANS[::-1]),
    ]
    together = encoder.encode_documents(documents)
    alone = np.concatenate([encoder.encode_documents([one]) for one in documents])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together[:3], together[-3:][::-1], atol=1e-6)
    assert encoder.encode_documents([]).shape == (0, 32)


def test_a_passage_by_itself_is_a_document_of_one_chunk(folder: Path) -> None:
    encoder = late(folder, dimensions=7)
    whole = encoder.encode_documents([ChunkedText(TEXT, [(0, len(TEXT))])])
    np.testing.assert_array_equal(encoder.encode_passages([TEXT]), whole)
    assert whole.shape == (1, 7)


def test_a_chunk_without_a_token_has_the_vector_of_its_document(folder: Path) -> None:
    encoder = late(folder)
    plain = BiEncoder(folder, dtype="float32")
    found = encoder.encode_documents([ChunkedText("", [(0, 0)], "the book"), ChunkedText("", [])])
    np.testing.assert_allclose(found, plain.encode_passages(["the book "]), atol=1e-5)


def test_a_document_longer_than_the_window_is_read_in_windows(folder: Path) -> None:
    """Each token has the vector of the window that shows the most of what is around it."""
    words = [f"{'ab'[n % 2]}" for n in range(70)]
    text, limit = " ".join(words), 22  # a window holds 20 of the 70 tokens, and steps by 15
    starts = [0, 15, 30, 45, 50]
    edges = [0, 17, 32, 47, 57, 70]
    rows = []
    for start, lower, upper in zip(starts, edges[:-1], edges[1:], strict=True):
        vectors, _ = token_vectors(folder, " ".join(words[start : start + 20]))
        rows.append(vectors[1:-1][lower - start : upper - start])
    tokens = np.concatenate(rows)
    spans = [(0, 20), (20, 100), (60, 139)]
    expected = np.stack([tokens[a // 2 : -(-b // 2)].mean(0) for a, b in spans])
    found = late(folder, max_length=limit, normalize=False).encode_documents(
        [ChunkedText(text, spans)]
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_prompt_or_title_that_fills_the_window_is_cut_to_half_of_it(folder: Path) -> None:
    found = late(folder, max_length=12).encode_documents(
        [ChunkedText("the book", [(0, 8)], "of " * 50)]
    )
    expected = pooled(folder, "of of of of of the book", [(15, 23)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.integers(0, 300), st.integers(1, 50))
def test_stretches_own_every_token_once(tokens: int, room: int) -> None:
    found = list(stretches(tokens, room))
    assert [lower for _, _, lower, _ in found] == [0, *(upper for *_, upper in found[:-1])]
    assert found[-1][3] == tokens
    for start, end, lower, upper in found:
        assert 0 <= start <= lower <= upper <= end <= tokens
        assert end - start == min(room, tokens)


def test_only_an_encoder_made_for_it_reads_documents(make_bert: MakeBert) -> None:
    with pytest.raises(UsageError, match="late_chunking=True: its index"):
        BiEncoder(make_bert()).encode_documents([ChunkedText("a", [(0, 1)])])
    with pytest.raises(UsageError, match="pools by 'cls'"):
        late(make_bert(pooling="cls"))


@pytest.mark.parametrize("bad", ["half \ud800 a", 7])
def test_a_text_that_cannot_be_read_is_named(make_bert: MakeBert, bad: Any) -> None:
    encoder = late(make_bert())
    with pytest.raises(InputError, match="text 1 "):
        encoder.encode_passages(["good", bad])
    with pytest.raises(InputError, match="text 1 "):
        encoder.encode_documents([ChunkedText(bad, [(0, 1)])])


def test_progress_counts_chunks(folder: Path) -> None:
    done: list[int] = []
    late(folder).encode_documents([ChunkedText(TEXT, SPANS)] * 70, progress=done.append)
    assert sum(done) == 210
    assert len(done) == 2
