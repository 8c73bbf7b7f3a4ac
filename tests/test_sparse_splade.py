"""Sparse encoders against sentence-transformers and plain sums, from model folder to ranking."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.models import canary, check_encoder, load_encoder
from ragstone.models.sparse_pooling import ROWS, WORDS, PooledLogits
from ragstone.models.sparse_splade import SpladeEncoder
from ragstone.models.sparse_terms import row_of, weighted_terms
from ragstone.records import Passage, Query
from ragstone.retrieval.index_retriever import IndexRetriever

from . import sparse_folders as folders
from .sparse_folders import TEXTS

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
torch.set_num_threads(1)

FULL = [place for place, text in enumerate(TEXTS) if text.strip()]


def theirs(folder: Path, texts: list[str], **options: Any) -> NDArray[np.float32]:
    """What sentence-transformers makes of the texts."""
    from sentence_transformers import SparseEncoder

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        model = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    encode = model.encode_query if options.pop("is_query", False) else model.encode_document
    found = encode(texts, show_progress_bar=False, convert_to_sparse_tensor=False, **options)
    return np.asarray(found.numpy(), np.float32)


def exact(folder: Path | str, **options: Any) -> SpladeEncoder:
    return SpladeEncoder(folder, dtype="float32", **options)


# --- equal to sentence-transformers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "DistilBert", "activation_function": "log1p_relu"},
        {"pooling_strategy": "sum"},
        {"pooling_strategy": "sum", "activation_function": "log1p_relu"},
        {"settings": {"prompts": {"query": "what ", "document": "the "}}},
        {"settings": {"max_active_dims": 7}},
    ],
)
def test_terms_and_weights_are_those_of_sentence_transformers(
    tmp_path: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = folders.splade(tmp_path, **options)
    expected = theirs(folder, TEXTS), theirs(folder, TEXTS, is_query=True)
    capfd.readouterr()
    encoder = exact(folder)
    done: list[int] = []
    keys = encoder.encode_passages(TEXTS, progress=done.append), encoder.encode_queries(TEXTS)
    assert sum(done) == len(FULL)
    for found, want in zip(map(folders.dense, keys), expected, strict=True):
        np.testing.assert_allclose(found[FULL], want[FULL], atol=1e-5)
        assert not found[[1, 3]].any()
        assert (found[FULL] > 0).any(1).all()
    assert (encoder.encoded, encoder.truncated) == (2 * len(TEXTS), 4)
    assert capfd.readouterr() == ("", "")


def test_a_bare_masked_language_model_is_a_sparse_encoder(tmp_path: Path) -> None:
    folder = folders.masked_model(tmp_path, words=len(folders.WORDS) + 3)
    keys = exact(folder).encode_passages(TEXTS)
    found = folders.dense(keys, [*folders.WORDS, *(f"[{number}]" for number in range(3))])
    np.testing.assert_allclose(found[FULL], theirs(folder, TEXTS)[FULL], atol=1e-5)


def test_a_sparse_autoencoder_names_its_dimensions_by_number(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    bare = folders.masked_model(tmp_path / "bare")
    stages = [Transformer(str(bare)), Pooling(32), SparseAutoEncoder(32, 40, k=5, k_aux=2)]
    folder = folders.saved(SparseEncoder(modules=stages, device="cpu"), tmp_path / "model")
    keys = exact(folder).encode_passages(TEXTS)
    found = folders.dense(keys, [str(number) for number in range(40)])
    np.testing.assert_allclose(found[FULL], theirs(folder, TEXTS)[FULL], atol=1e-5)


def test_one_text_alone_has_the_terms_it_has_among_others(tmp_path: Path) -> None:
    encoder = exact(folders.splade(tmp_path))
    together = folders.dense(encoder.encode_passages(TEXTS))
    alone = [folders.dense(encoder.encode_passages([text]))[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_heaviest_terms_are_kept(tmp_path: Path) -> None:
    folder = folders.splade(tmp_path)
    whole = folders.dense(exact(folder).encode_passages(TEXTS))
    few = exact(folder, passage_terms=3, query_terms=2)
    for keys, most in ((few.encode_passages(TEXTS), 3), (few.encode_queries(TEXTS), 2)):
        found = folders.dense(keys)
        for row, (all_, kept) in enumerate(zip(whole, found, strict=True)):
            best = np.argsort(-all_, kind="stable")[:most]
            expected = np.where(np.isin(np.arange(len(all_)), best), all_, 0)
            np.testing.assert_allclose(kept, expected, atol=1e-5, err_msg=str(row))


def test_ties_keep_the_lower_token_and_terms_stand_once() -> None:
    tokens, weights = row_of(np.array([0, 2, 1, 2, 2, -1], np.float32), 2)
    assert tokens.tolist() == [1, 3] and weights.tolist() == [2, 2]
    keys = weighted_terms([row_of(np.ones(3, np.float32))] * 2, [b"x", b"y", b"z"])
    assert keys.vocabulary == [b"x", b"y", b"z"]
    assert keys.ids.tolist() == [0, 1, 2] * 2 and keys.offsets.tolist() == [0, 3, 6]
    empty = weighted_terms([], [b"x"])
    assert len(empty) == 0 and list(empty.vocabulary) == []


# --- pooling


@pytest.mark.parametrize("damped", [1, 2])
@pytest.mark.parametrize("summed", [False, True])
def test_pooled_logits_are_the_plain_ones_across_every_cut(damped: int, summed: bool) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 2 * WORDS + 7)
    lengths = [1, ROWS - 1, ROWS, 3, 2 * ROWS + 5, 1, 2]
    hidden = torch.randn(sum(lengths), 16)
    with torch.inference_mode():
        found = PooledLogits(head, damped=damped, summed=summed).pool(hidden, lengths)
        values = head(hidden).relu()
        for _ in range(damped):
            values = values.log1p()
    texts = values.split(lengths)
    expected = [text.sum(0) if summed else text.amax(0) for text in texts]
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), rtol=1e-5, atol=1e-5)


def test_a_head_that_is_not_the_last_step_is_left_alone(tmp_path: Path) -> None:
    from ragstone.models.sparse_pooling import take_head

    class Capped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, 9)

        def get_output_embeddings(self) -> Any:
            return self.head

        def forward(self, x: Any) -> Any:
            return torch.tanh(self.head(x))

    network, x = Capped(), torch.randn(3, 4)
    before = network(x)
    assert take_head(network, lambda: network(x)) is None
    assert not network.head._forward_pre_hooks
    torch.testing.assert_close(network(x), before)
    assert take_head(torch.nn.Linear(4, 4), lambda: x) is None


# --- queries without inference


def weights() -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    found = random.random(len(folders.WORDS)).astype(np.float32)
    found[folders.WORDS.index("of")] = 0
    return found


def test_a_model_with_static_queries_looks_them_up(tmp_path: Path) -> None:
    folder = folders.inference_free(tmp_path, weights())
    encoder = exact(folder)
    expected = theirs(folder, TEXTS, is_query=True)
    found = encoder.encode_queries(TEXTS)
    assert "_loaded" not in vars(encoder)  # the network is not even read
    np.testing.assert_allclose(folders.dense(found), expected, atol=1e-6)
    assert not folders.dense(found)[5].any()  # "of of of" weighs nothing
    passages = folders.dense(encoder.encode_passages(TEXTS))
    np.testing.assert_allclose(passages[FULL], theirs(folder, TEXTS)[FULL], atol=1e-5)


def test_static_queries_need_no_torch(tmp_path: Path) -> None:
    folder = folders.inference_free(tmp_path, weights())
    code = (
        "import sys; from ragstone.models.sparse_splade import SpladeEncoder\n"
        f"keys = SpladeEncoder({str(folder)!r}).encode_queries(['the book'])\n"
        "assert keys.vocabulary == [b'the', b'book'], keys\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_table_of_weights_makes_the_queries_of_any_model(tmp_path: Path) -> None:
    folder = folders.splade(tmp_path)
    table = tmp_path / "idf.json"
    table.write_text(json.dumps({"book": 2.5, "the": 0.25, "city": 0}))
    encoder = exact(folder, query_weights=str(table), query_terms=1)
    found = folders.dense(encoder.encode_queries(["the book of the city, the book", "of", ""]))
    expected = np.zeros_like(found)
    expected[0, folders.WORDS.index("book")] = 2.5
    np.testing.assert_array_equal(found, expected)
    plain = exact(folder)
    np.testing.assert_array_equal(
        folders.dense(encoder.encode_passages(TEXTS)), folders.dense(plain.encode_passages(TEXTS))
    )


def test_inverse_frequencies_of_a_collection_are_such_a_table(tmp_path: Path) -> None:
    folder = folders.splade(tmp_path)
    texts = ["the book", "the the city", "of", ""]
    table = exact(folder).inverse_frequencies(texts)
    assert table["the"] == pytest.approx(np.log(1 + 2.5 / 2.5))
    assert table["book"] == pytest.approx(np.log(1 + 3.5 / 1.5))
    assert set(table) == {"the", "book", "city", "of"}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(table))
    keys = exact(folder, query_weights=str(path)).encode_queries(["the book"])
    assert dict(zip(keys.vocabulary, keys.weights.tolist(), strict=True)) == {
        b"the": pytest.approx(table["the"]),
        b"book": pytest.approx(table["book"]),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no weights can be read"),
        ("[1]", "no JSON object"),
        ('{"nowhere": 1}', "has no token 'nowhere'"),
        ('{"book": -1}', "the weight of 'book' is -1"),
        ('{"book": NaN}', "the weight of 'book' is nan"),
        ('{"book": "1"}', "the weight of 'book' is '1'"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "idf.json").write_text(content)
    encoder = exact(folders.splade(tmp_path), query_weights=str(tmp_path / "idf.json"))
    with pytest.raises(InputError, match=said):
        encoder.encode_queries(["a"])


# --- which encoder it is


def test_the_same_encoder_comes_back_from_its_settings(tmp_path: Path) -> None:
    table = tmp_path / "idf.json"
    table.write_text('{"book": 2.5}')
    built = exact(
        folders.splade(tmp_path),
        query_prompt="what ",
        passage_prompt="the ",
        passage_terms=5,
        query_terms=4,
        query_weights=str(table),
        max_length=20,
    )
    again = load_encoder(json.loads(json.dumps(built.fingerprint.settings)))
    assert again.fingerprint == built.fingerprint
    check_encoder(again, built.fingerprint, canary(built), name="sparse")
    moved = table.rename(tmp_path / "moved.json")
    settings = {**built.fingerprint.settings, "query_weights": str(moved)}
    check_encoder(load_encoder(settings), built.fingerprint, canary(built), name="sparse")
    for text in TEXTS:
        one, other = built.encode_passages([text]), again.encode_passages([text])
        np.testing.assert_array_equal(folders.dense(one), folders.dense(other))


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    folder = folders.splade(tmp_path / "a")
    built = exact(folder)
    for name, other in {
        "files": exact(folders.splade(tmp_path / "b", pooling_strategy="sum")),
        "query_prompt": exact(folder, query_prompt="the "),
        "passage_terms": exact(folder, passage_terms=9),
        "query_terms": exact(folder, query_terms=9),
        "max_length": exact(folder, max_length=9),
    }.items():
        with pytest.raises(Mismatch, match=rf"{name} \("):
            check_encoder(other, built.fingerprint, canary(built), name="sparse")
    table = tmp_path / "idf.json"
    table.write_text('{"book": 2.5}')
    first = exact(folder, query_weights=str(table))
    with pytest.raises(Mismatch, match=r"weights \("):
        check_encoder(first, built.fingerprint, None, name="sparse")
    _ = first.fingerprint
    table.write_text('{"book": 2.75}')
    with pytest.raises(Mismatch, match=r"weights \("):
        check_encoder(exact(folder, query_weights=str(table)), first.fingerprint, name="sparse")


def test_changed_routes_are_another_model(tmp_path: Path) -> None:
    folder = folders.inference_free(tmp_path, weights())
    built = exact(folder).fingerprint
    path = folder / "router_config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(Mismatch, match=r"routes \("):
        check_encoder(exact(folder), built, name="sparse")


def test_what_is_no_sparse_model_is_refused(tmp_path: Path) -> None:
    from ragstone.models.model_folder import EMBEDDED

    with pytest.raises(InputError, match="no sparse encoder"):
        SpladeEncoder(EMBEDDED)
    folder = folders.inference_free(tmp_path, weights())
    path = folder / "router_config.json"
    path.write_text(path.read_text().replace("sentence_transformers.sparse", "other.sparse"))
    with pytest.raises(InputError, match="needs code of its own"):
        SpladeEncoder(folder)
    with pytest.raises(UsageError, match="passage_terms=0"):
        SpladeEncoder(folders.splade(tmp_path / "b"), passage_terms=0)


# --- to a ranking


@pytest.mark.parametrize("kind", ["splade", "inference-free"])
def test_from_texts_to_rankings_through_a_collection(tmp_path: Path, kind: str) -> None:
    if kind == "splade":
        encoder = exact(folders.splade(tmp_path), passage_terms=30)
    else:
        encoder = exact(folders.inference_free(tmp_path, weights()))
    ids = [f"p{place}" for place in range(len(TEXTS))]
    collection = Collection.create(
        tmp_path / "c.ragstone",
        {"sparse": Inverted(scoring="impact")},
        encoders={"sparse": encoder.fingerprint},
        canaries={"sparse": canary(encoder)},
    )
    with collection.writer() as writer:
        for start in range(0, len(TEXTS), 4):
            some = [Passage(ids[i], TEXTS[i]) for i in range(len(TEXTS))[start : start + 4]]
            keys = encoder.encode_passages([passage.text for passage in some])
            writer.add(some, {"sparse": keys})
            writer.commit()
    collection = collection.refresh()
    again = load_encoder(collection.encoders["sparse"].settings)
    check_encoder(
        again, collection.encoders["sparse"], collection.canaries["sparse"], name="sparse"
    )
    queries = [Query(str(i), text) for i, text in enumerate(["the library", "city books", ""])]
    retriever = IndexRetriever(again, collection.indexes["sparse"], collection.passages)
    rankings = retriever.retrieve(queries, len(TEXTS))
    # the index keeps passage weights as float16
    passages = folders.dense(encoder.encode_passages(TEXTS)).astype(np.float16)
    asked = folders.dense(encoder.encode_queries([query.text for query in queries]))
    scores = asked @ passages.astype(np.float32).T
    for ranking, expected in zip(rankings, scores, strict=True):
        found = dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))
        matched = {ids[i]: expected[i] for i in np.flatnonzero(expected)}
        assert {id: score for id, score in found.items() if score} == pytest.approx(
            matched, rel=1e-5
        )
    assert len(rankings[0]) >= len(FULL) - 3
