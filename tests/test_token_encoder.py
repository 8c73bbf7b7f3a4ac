"""Token vectors against the libraries that the models come from, and what the settings leave."""

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import InputError, UsageError
from ragstone.models import canary, check_encoder, load_encoder
from ragstone.models.model_folder import find_model
from ragstone.models.packed_bert import PackedBert
from ragstone.models.plain_bert import read_plain_bert
from ragstone.models.token_encoder import GATE, TokenEncoder
from ragstone.records import TokenVectors

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

MakeBert = Callable[..., Path]
Vectors = NDArray[np.float32]

TEXTS = [
    "the book",
    "",
    "The Library of books; a library of the Book.",
    "é ü 東京 😀 1,234",
    "of " * 100,
    "the book",
]
MARKED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "[Q]", "[D]"]
VOCABULARY = [
    *MARKED,
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *("the", "of", "library", "book", ".", ",", ";"),
]


def rows(keys: TokenVectors) -> list[Vectors]:
    return np.split(keys.vectors, keys.offsets[1:-1])


def assert_equal(found: TokenVectors, expected: Sequence[Any]) -> None:
    assert [len(text) for text in rows(found)] == [len(text) for text in expected]
    for one, other in zip(rows(found), expected, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), atol=1e-5)


def last_layer(folder: Path, texts: Sequence[str]) -> list[Vectors]:
    """Normalised vectors of all tokens, by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = model.encode(list(texts), output_value="token_embeddings", show_progress_bar=False)
    return [np.asarray(torch.nn.functional.normalize(text, dim=-1)) for text in found]


def settings_of(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))


# --- encoders that were not made for it


def test_both_forward_passes_give_the_vectors_of_the_last_layer(make_bert: MakeBert) -> None:
    folder = make_bert()
    expected = last_layer(folder, TEXTS)
    bert = read_plain_bert(find_model(str(folder)))
    assert bert is not None
    tokens, _ = bert.tokenize(TEXTS, 48)
    for forward in (bert, PackedBert(bert, torch.float32, torch.device("cpu"))):
        found = forward.token_vectors(tokens)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)
    encoder = TokenEncoder(folder, dtype="float32")
    assert_equal(encoder.encode_passages(TEXTS), expected)
    assert encoder.dimensions == 32


def test_texts_keep_their_order_over_batches_and_are_counted(make_bert: MakeBert) -> None:
    encoder = TokenEncoder(make_bert(), dtype="float32", max_length=20)
    texts = ["the book " * (number % 13) for number in range(120)]
    done: list[int] = []
    found = encoder.encode_passages(texts, progress=done.append)
    for number in (0, 5, 57, 119):
        alone = encoder.encode_passages(texts[number : number + 1])
        np.testing.assert_allclose(rows(found)[number], alone.vectors, atol=1e-5)
    assert sum(done) == 120 and encoder.encoded == 124
    assert encoder.truncated == sum(number % 13 > 9 for number in (*range(120), 0, 5, 57, 119))
    assert np.diff(found.offsets).max() == 20
    nothing = encoder.encode_queries([])
    assert len(nothing) == 0 and nothing.vectors.shape == (0, 32)


def test_any_other_encoder_gives_the_vectors_of_its_last_layer(make_bert: MakeBert) -> None:
    folder = make_bert(pooling="max", prompts={"query": "the ", "document": "of "})
    assert read_plain_bert(find_model(str(folder))) is None
    encoder = TokenEncoder(folder, dtype="float32")
    expected = last_layer(folder, [f"of {text}" for text in TEXTS])
    assert_equal(encoder.encode_passages(TEXTS), expected)
    assert encoder.truncated == 1
    assert_equal(
        encoder.encode_queries(TEXTS[:3]), last_layer(folder, [f"the {text}" for text in TEXTS[:3]])
    )
    own = TokenEncoder(folder, dtype="float32", query_prompt="", passage_prompt="library ")
    assert_equal(own.encode_queries(TEXTS[:3]), last_layer(folder, TEXTS[:3]))
    assert_equal(own.encode_passages(["book"]), last_layer(folder, ["library book"]))


def test_a_number_type_that_rounds_ranks_alike() -> None:
    exact, rounded = TokenEncoder(dtype="float32"), TokenEncoder(dtype="bfloat16")
    texts = ["Insulin lowers the sugar in blood.", "The sky is blue"]
    cosines = (exact.encode_passages(texts).vectors * rounded.encode_passages(texts).vectors).sum(1)
    assert cosines.min() > 0.999


# --- what has a vector


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_special_tokens_and_punctuation_are_left_out(make_bert: MakeBert, pooling: str) -> None:
    folder = make_bert(pooling=pooling)
    everything = rows(TokenEncoder(folder, dtype="float32").encode_passages(TEXTS))
    bare = TokenEncoder(folder, dtype="float32", special_tokens=False)
    assert_equal(bare.encode_passages(TEXTS), [text[1:-1] for text in everything])
    assert len(rows(bare.encode_queries([""]))[0]) == 0
    wordy = TokenEncoder(folder, dtype="float32", punctuation=False)
    whole = rows(TokenEncoder(folder, dtype="float32").encode_passages(["the book."]))[0]
    assert_equal(wordy.encode_passages(["the book."]), [whole[[0, 1, 2, 4]]])
    assert_equal(wordy.encode_queries(["the book."]), [whole])


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_words_and_stems(make_bert: MakeBert, pooling: str) -> None:
    folder = make_bert(pooling=pooling)
    text = "the books of the book"  # the book ##s of the book
    tokens = TokenEncoder(folder, dtype="float32", normalize=False, special_tokens=False)
    the, book, s, of, the2, book2 = tokens.encode_passages([text]).vectors
    words = TokenEncoder(
        folder, dtype="float32", normalize=False, special_tokens=False, unit="word"
    )
    merged = [(the + the2) / 2, (book + s) / 2, of, book2]
    assert_equal(words.encode_passages([text]), [np.stack(merged)])
    assert_equal(words.encode_queries([text]), [np.stack([the, book, s, of, the2, book2])])
    stems = TokenEncoder(
        folder, dtype="float32", normalize=False, special_tokens=False, unit="stem"
    )
    merged = [(the + the2) / 2, ((book + s) / 2 + book2) / 2, of]
    assert_equal(stems.encode_passages([text, text]), [np.stack(merged)] * 2)


def test_vectors_of_words_have_length_1(make_bert: MakeBert) -> None:
    found = TokenEncoder(make_bert(), unit="word").encode_passages(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)


def test_a_learned_gate_drops_vectors_of_passages(make_bert: MakeBert) -> None:
    from safetensors.numpy import save_file

    folder = make_bert()
    plain = TokenEncoder(folder, dtype="float32", normalize=False)
    digest = plain.fingerprint.digest
    text = "the library of books"
    whole = plain.encode_passages([text]).vectors
    weight = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    save_file({"weight": weight, "bias": np.zeros(1, np.float32)}, folder / GATE)
    gates = whole @ weight[0]
    assert 0 < (gates > 0).sum() < len(gates)
    gated = TokenEncoder(folder, dtype="float32", normalize=False)
    assert_equal(gated.encode_passages([text]), [(whole * gates[:, None])[gates > 0]])
    np.testing.assert_array_equal(gated.encode_queries([text]).vectors, whole)
    assert gated.fingerprint.digest != digest
    save_file({"weight": weight[:, :5].copy(), "bias": np.zeros(1, np.float32)}, folder / GATE)
    with pytest.raises(InputError, match="no gate for vectors of 32 dimensions"):
        TokenEncoder(folder).encode_passages([text])


# --- models that were made for it


@pytest.fixture(scope="module")
def multi_vector(
    make_bert: MakeBert, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Saves a small model as sentence-transformers keeps one for late interaction."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import (
        HierarchicalTokenPooling,
        MultiVectorMask,
    )

    from ragstone.models.loaded_encoder import no_progress_bars

    def make(*, normalized: bool = True, pooled: bool = False, **options: Any) -> Path:
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("colbert")
        with no_progress_bars():
            first = Transformer(str(make_bert(vocabulary=VOCABULARY)), **options)
        dense = Dense(
            32,
            8,
            bias=False,
            activation_function=torch.nn.Identity(),
            module_input_name="token_embeddings",
        )
        modules = [first, dense, MultiVectorMask(skiplist_words=[".", ","])]
        modules += [Normalize(module_input_name="token_embeddings")] if normalized else []
        modules += [HierarchicalTokenPooling(2)] if pooled else []
        model = MultiVectorEncoder(
            modules=modules, prompts={"query": "the ", "document": "of "}, device="cpu"
        )
        model.save_pretrained(str(folder), create_model_card=False)
        return folder

    return make


def reference(folder: Path) -> Any:
    from sentence_transformers import MultiVectorEncoder

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        return MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


EXPANSIONS: list[dict[str, Any]] = [
    {},
    {"query_length": 6, "document_length": 9},
    {"query_expansion": {"strategy": "fixed", "attend": False, "length": 12}},
    {"query_expansion": {"strategy": "min", "attend": True, "length": 8}, "document_length": 20},
]


@pytest.mark.parametrize("options", EXPANSIONS)
def test_a_multi_vector_model_is_run_as_it_was_made(
    multi_vector: Callable[..., Path], options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = multi_vector(**options)
    model = reference(folder)
    capfd.readouterr()
    encoder = TokenEncoder(folder, dtype="float32")
    assert_equal(encoder.encode_passages(TEXTS), model.encode_document(TEXTS))
    tokens = [len(ids) for ids in model.tokenizer([f"of {text}" for text in TEXTS])["input_ids"]]
    limit = options.get("document_length", 48)
    assert encoder.truncated == sum(length > limit for length in tokens)
    short = [text for text in TEXTS if len(text) < 12]
    assert_equal(encoder.encode_queries(short), model.encode_query(short))
    assert encoder.dimensions == 8
    assert capfd.readouterr() == ("", "")


def test_queries_cut_are_counted_too(multi_vector: Callable[..., Path]) -> None:
    encoder = TokenEncoder(multi_vector(query_length=4), dtype="float32")
    encoder.encode_queries(["book", "book book book"])
    assert encoder.truncated == 1


def test_masks_and_markers_can_be_left_out_of_a_multi_vector_model(
    multi_vector: Callable[..., Path],
) -> None:
    folder = multi_vector(query_expansion={"strategy": "fixed", "attend": False, "length": 12})
    whole = rows(TokenEncoder(folder, dtype="float32").encode_queries(["book"]))[0]
    bare = TokenEncoder(folder, dtype="float32", special_tokens=False).encode_queries(["book"])
    assert_equal(bare, [whole[1:3]])  # [CLS] the book [SEP] [MASK]...
    markers = TokenEncoder(folder, dtype="float32", unit="word").encode_passages(["book"])
    assert len(markers.vectors) == 4  # [CLS] of book [SEP]


def test_a_given_length_cuts_passages_and_not_queries(multi_vector: Callable[..., Path]) -> None:
    folder = multi_vector(query_length=12, document_length=20)
    encoder = TokenEncoder(folder, dtype="float32", max_length=6)
    assert np.diff(encoder.encode_passages(["book " * 30]).offsets).tolist() == [6]
    assert np.diff(encoder.encode_queries(["book " * 30]).offsets).tolist() == [12]


def test_lengths_stay_where_the_model_leaves_them(multi_vector: Callable[..., Path]) -> None:
    folder = multi_vector(normalized=False)
    found = TokenEncoder(folder, dtype="float32").encode_passages(TEXTS)
    assert_equal(found, reference(folder).encode_document(TEXTS))
    assert abs(np.linalg.norm(found.vectors, axis=1) - 1).max() > 0.1
    unit = TokenEncoder(folder, dtype="float32", normalize=True).encode_passages(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(unit.vectors, axis=1), 1, rtol=1e-5)


def test_a_model_that_pools_its_tokens_cannot_tell_words(
    multi_vector: Callable[..., Path],
) -> None:
    folder = multi_vector(pooled=True)
    text = ["library book of the book"]
    found = TokenEncoder(folder, dtype="float32").encode_passages(text)
    assert_equal(found, reference(folder).encode_document(text))
    with pytest.raises(UsageError, match="pools its tokens itself"):
        TokenEncoder(folder, unit="word").encode_passages(text)


def stanford(folder: Path) -> Vectors:
    """Turns a BERT folder into one of Stanford's ColBERT; gives the projection."""
    from safetensors.numpy import load_file, save_file

    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    tensors = load_file(folder / "model.safetensors")
    tensors = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    projection = np.random.default_rng(7).normal(0, 0.2, (8, 32)).astype(np.float32)
    tensors["linear.weight"] = projection
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings_of(folder, "config.json", architectures=["HF_ColBERT"])
    settings = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]"}
    settings_of(folder, "artifact.metadata", **settings, query_maxlen=10, doc_maxlen=14)
    return projection


def by_hand(folder: Path, projection: Vectors, ids: list[int], read: int) -> Vectors:
    """Projected and normalised vectors of tokens of which attention sees the first ones."""
    from transformers import BertModel

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        bert = BertModel.from_pretrained(folder, local_files_only=True).eval()
    seen = torch.tensor([[int(place < read) for place in range(len(ids))]])
    with torch.inference_mode():
        found = bert(input_ids=torch.tensor([ids]), attention_mask=seen).last_hidden_state[0]
        return np.asarray(torch.nn.functional.normalize(found @ torch.from_numpy(projection).T))


def test_a_checkpoint_of_stanford_s_colbert(
    make_bert: MakeBert, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_bert(vocabulary=VOCABULARY)
    projection = stanford(folder)
    encoder = TokenEncoder(folder, dtype="float32")
    encoder.encode_queries(["the book"])
    assert capfd.readouterr() == ("", "")
    number = VOCABULARY.index
    asked = [number(word) for word in ("[CLS]", "[unused0]", "the", "book", "[SEP]")]
    expanded = asked + [number("[MASK]")] * 5
    expected = by_hand(folder, projection, expanded, 5)
    assert_equal(encoder.encode_queries(["the book"]), [expected])
    held = [number(word) for word in ("[CLS]", "[unused1]", "the", "book", ".", "[SEP]")]
    expected = by_hand(folder, projection, held, 6)[[0, 1, 2, 3, 5]]
    assert_equal(encoder.encode_passages(["the book."]), [expected])
    assert np.diff(encoder.encode_passages(["book " * 30]).offsets).tolist() == [14]
    assert encoder.truncated == 1


def test_a_checkpoint_of_pylate(make_bert: MakeBert) -> None:
    from safetensors.numpy import save_file

    folder = make_bert(vocabulary=VOCABULARY)
    projection = np.random.default_rng(7).normal(0, 0.2, (8, 32)).astype(np.float32)
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": projection}, folder / "1_Dense/model.safetensors")
    activation = "torch.nn.modules.linear.Identity"
    sizes = {"in_features": 32, "out_features": 8, "bias": False}
    settings_of(folder, "1_Dense/config.json", **sizes, activation_function=activation)
    stages = [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Dense", "pylate.models.Dense.Dense"),
    ]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(stages)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    settings_of(
        folder,
        "config_sentence_transformers.json",
        model_type="ColBERT",
        query_prefix="[Q] ",
        document_prefix="[D] ",
        query_length=8,
        document_length=12,
        attend_to_expansion_tokens=True,
        skiplist_words=[";"],
    )
    encoder = TokenEncoder(folder, dtype="float32")
    number = VOCABULARY.index
    asked = [number(word) for word in ("[CLS]", "[Q]", "book", "[SEP]", *["[MASK]"] * 4)]
    assert_equal(encoder.encode_queries(["book"]), [by_hand(folder, projection, asked, 8)])
    held = [number(word) for word in ("[CLS]", "[D]", "book", ";", ".", "[SEP]")]
    expected = by_hand(folder, projection, held, 6)[[0, 1, 2, 4, 5]]
    assert_equal(encoder.encode_passages(["book;."]), [expected])


# --- settings


CHANGES: list[dict[str, Any]] = [
    {"query_prompt": "the "},
    {"passage_prompt": "of "},
    {"prepend": "title+summary"},
    {"unit": "word"},
    {"unit": "stem"},
    {"special_tokens": False},
    {"punctuation": False},
    {"normalize": False},
    {"max_length": 7},
]


def test_an_encoder_comes_back_from_its_settings(make_bert: MakeBert) -> None:
    folder = make_bert()
    plain = TokenEncoder(folder)
    assert plain.fingerprint.settings["class"] == "tokens"
    digests = {plain.fingerprint.digest}
    for change in CHANGES:
        encoder = TokenEncoder(folder, **change, dtype="float32")
        again = load_encoder(json.loads(json.dumps(dict(encoder.fingerprint.settings))))
        assert again.fingerprint == encoder.fingerprint
        check_encoder(again, encoder.fingerprint, canary(encoder), name="late")
        assert_equal(again.encode_passages(TEXTS[:3]), rows(encoder.encode_passages(TEXTS[:3])))
        digests.add(encoder.fingerprint.digest)
    assert len(digests) == 1 + len(CHANGES)
    assert TokenEncoder(folder, dtype="float32").fingerprint.digest in digests


def test_a_multi_vector_encoder_comes_back_from_its_settings(
    multi_vector: Callable[..., Path],
) -> None:
    folder = multi_vector(query_length=6)
    encoder = TokenEncoder(folder, dtype="float32", max_length=11, punctuation=False)
    again = load_encoder(encoder.fingerprint.settings)
    check_encoder(again, encoder.fingerprint, canary(encoder), name="late")
    assert_equal(again.encode_passages(TEXTS), rows(encoder.encode_passages(TEXTS)))


def test_wrong_calls_are_refused(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = make_bert()
    with pytest.raises(UsageError, match="unit='sentence'. Use one of token, word, stem"):
        TokenEncoder(folder, unit="sentence")
    with pytest.raises(UsageError, match="prepend=''"):
        TokenEncoder(folder, prepend="")
    with pytest.raises(UsageError, match="dtype='int8'"):
        TokenEncoder(folder, dtype="int8")
    with pytest.raises(UsageError, match="max_length=65"):
        TokenEncoder(folder, max_length=65)
    with pytest.raises(InputError, match="text 1 is int"):
        TokenEncoder(folder).encode_passages(["a", 3])  # type: ignore[list-item]


def test_a_model_without_tokens_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    module = StaticEmbedding(tokenizer, embedding_dim=4)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(
        str(tmp_path), create_model_card=False
    )
    with pytest.raises(InputError, match="no vectors of tokens"):
        TokenEncoder(tmp_path).encode_passages(["the"])
