"""Fewer dimensions, fewer layers, and an instruction for every query."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import Mismatch, UsageError
from ragstone.models import BiEncoder, canary, check_encoder, load_encoder
from ragstone.models.bi_encoder import FEW, UNSTATED
from ragstone.models.instructions import one_each, prompt_with

MakeBert = Callable[..., Path]
Vectors = NDArray[np.float32]

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

TEXTS = ["the book", "", "The Library of books; a library.", "of the book " * 9, "a library"]


def unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def layer_means(folder: Path, texts: Sequence[str], layer: int) -> Vectors:
    """Means over the hidden states that transformers gives after `layer` layers, text by text."""
    from transformers import AutoTokenizer, BertModel

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        model = BertModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows = []
    with torch.inference_mode():
        for text in texts:
            given = tokenizer(text, return_tensors="pt", truncation=True, max_length=48)
            rows.append(model(**given, output_hidden_states=True).hidden_states[layer][0].mean(0))
    return unit(torch.stack(rows).numpy())


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_first_dimensions_are_those_of_the_whole_vector(
    make_bert: MakeBert, pooling: str
) -> None:
    folder = make_bert(pooling=pooling)
    whole = BiEncoder(folder, dtype="float32").encode_passages(TEXTS)
    for dimensions in (1, 7, 32):
        encoder = BiEncoder(folder, dtype="float32", dimensions=dimensions)
        found = encoder.encode_passages(TEXTS)
        assert (encoder.dimensions, found.shape) == (dimensions, (len(TEXTS), dimensions))
        np.testing.assert_allclose(found, unit(whole[:, :dimensions]), atol=1e-5)
        np.testing.assert_allclose(encoder.encode_queries(TEXTS), found, atol=1e-5)


def test_without_normalisation_the_first_dimensions_are_bare(make_bert: MakeBert) -> None:
    folder = make_bert()
    options: dict[str, Any] = {"dtype": "float32", "normalize": False}
    whole = BiEncoder(folder, **options).encode_passages(TEXTS)
    found = BiEncoder(folder, dimensions=8, **options).encode_passages(TEXTS)
    np.testing.assert_allclose(found, whole[:, :8], atol=1e-6)


@pytest.mark.parametrize("layer", [1, 2])
def test_the_first_layers_are_the_hidden_states_of_the_model(
    make_bert: MakeBert, layer: int
) -> None:
    folder = make_bert()
    expected = layer_means(folder, TEXTS, layer)
    encoder = BiEncoder(folder, dtype="float32", layers=layer)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS[:2]), expected[:2], atol=1e-5)
    many = encoder.encode_passages(TEXTS * (FEW // 20))
    np.testing.assert_allclose(many, np.tile(expected, (FEW // 20, 1)), atol=1e-5)
    assert encoder._bert is not None
    assert len(encoder._packed._layers) == layer


def test_sentence_transformers_computes_fewer_layers_too(make_bert: MakeBert) -> None:
    folder = make_bert(pooling="max")
    first, both = (BiEncoder(folder, dtype="float32", layers=n) for n in (1, 2))
    whole = BiEncoder(folder, dtype="float32").encode_passages(TEXTS)
    np.testing.assert_allclose(both.encode_passages(TEXTS), whole, atol=1e-5)
    assert not np.allclose(first.encode_passages(TEXTS), whole, atol=0.1)
    layers = first._loaded._transformer("model").encoder.layer
    assert len(layers) == 1


def test_layers_and_dimensions_go_together(make_bert: MakeBert) -> None:
    folder = make_bert()
    found = BiEncoder(folder, dtype="float32", layers=1, dimensions=5).encode_passages(TEXTS)
    np.testing.assert_allclose(found, unit(layer_means(folder, TEXTS, 1)[:, :5]), atol=1e-5)


@pytest.mark.parametrize("bad", [0, -1, 3, True, 1.0, "1"])
def test_layers_that_are_not_there_are_refused(make_bert: MakeBert, bad: Any) -> None:
    with pytest.raises(UsageError, match=r"layers=.* from 1 to 2"):
        BiEncoder(make_bert(), layers=bad)


@pytest.mark.parametrize("bad", [0, 33, 2.5])
def test_dimensions_that_are_not_there_are_refused(make_bert: MakeBert, bad: Any) -> None:
    with pytest.raises(UsageError, match=r"dimensions=.* from 1 to 32"):
        BiEncoder(make_bert(), dimensions=bad).encode_queries(["a"])


def test_a_model_without_layers_says_so(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    table = np.eye(2, 4, dtype=np.float32)
    words = StaticEmbedding(Tokenizer(WordLevel({"a": 0, "b": 1}, "a")), embedding_weights=table)
    SentenceTransformer(modules=[words], device="cpu").save(str(tmp_path / "static"))
    with pytest.raises(UsageError, match=r"no layers.*Leave out"):
        BiEncoder(tmp_path / "static", layers=1).encode_queries(["a"])


# --- fingerprints


def test_settings_left_alone_leave_the_digest_alone(make_bert: MakeBert) -> None:
    folder = make_bert()
    bare = BiEncoder(folder)
    first = "class model files pooling normalize query_prompt passage_prompt max_length dtype"
    assert bare.fingerprint.settings.keys() == {*first.split()}
    assert bare.fingerprint == BiEncoder(folder, **UNSTATED).fingerprint  # type: ignore[arg-type]


def test_every_new_setting_is_told_apart_and_comes_back(make_bert: MakeBert) -> None:
    folder = make_bert()
    given: dict[str, Any] = {
        "instruction": "the",
        "prepend": "none",
        "dimensions": 8,
        "layers": 1,
        "late_chunking": True,
    }
    assert given.keys() == UNSTATED.keys()
    bare = BiEncoder(folder, dtype="float32")
    for name, value in given.items():
        encoder = BiEncoder(folder, dtype="float32", **{name: value})
        again = load_encoder(json.loads(json.dumps(encoder.fingerprint.settings)))
        check_encoder(again, encoder.fingerprint, canary(encoder), name="dense")
        np.testing.assert_array_equal(again.encode_passages(TEXTS), encoder.encode_passages(TEXTS))
        with pytest.raises(Mismatch, match=rf"{name} \(built: null"):
            check_encoder(encoder, bare.fingerprint, name="dense")


# --- instructions


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_every_query_may_bring_its_own_instruction(make_bert: MakeBert, pooling: str) -> None:
    folder = make_bert(pooling=pooling, prompts={"query": "of "})
    encoder = BiEncoder(folder, dtype="float32", query_prompt="{instruction} . ")
    bare = BiEncoder(folder, dtype="float32", query_prompt="")
    queries, given = ["book", "library", "book"], ["the", "", "a"]
    expected = bare.encode_queries(["the . book", "library", "a . book"])
    found = encoder.encode_queries(queries, instructions=given)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(queries), bare.encode_queries(queries))
    fixed = BiEncoder(folder, dtype="float32", query_prompt="{instruction} . ", instruction="the")
    np.testing.assert_allclose(fixed.encode_queries(["book"]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(fixed.encode_passages(["book"]), bare.encode_passages(["book"]))
    own = BiEncoder(folder, dtype="float32").encode_queries(["book"])
    np.testing.assert_allclose(own, bare.encode_queries(["of book"]), atol=1e-5)


def test_a_prompt_without_a_place_gives_way_to_the_usual_form() -> None:
    assert prompt_with("query: ", "") == "query: "
    assert prompt_with("query: ", "Find facts") == "Instruct: Find facts\nQuery: "
    assert prompt_with("{instruction} [SEP] ", "Find {text}") == "Find {text} [SEP] "
    assert prompt_with("{instruction} [SEP] ", "") == ""


@pytest.mark.parametrize("bad", ["find", ["find"], []])
def test_instructions_are_one_a_query(bad: Any) -> None:
    with pytest.raises(UsageError, match=r"instructions=.* for 2 queries"):
        one_each("", bad, 2)
    assert one_each("x", None, 2) == ["x", "x"]
