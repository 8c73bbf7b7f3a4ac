"""The bi-encoder against sentence-transformers, and what it does with odd texts and folders."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ragstone.errors import InputError, UsageError
from ragstone.models import BiEncoder, model_folder, packed_bert
from ragstone.models.bi_encoder import FEW, by_length
from ragstone.models.packed_bert import PackedBert, can_lay_out, equal_lengths, laid_out, plain
from ragstone.models.plain_bert import gelu, read_plain_bert, read_safetensors

MakeBert = Callable[..., Path]
Vectors = NDArray[np.float32]

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

TEXTS = [
    "",
    "   ",
    "the book",
    "The Library of books; a library of the Book.",
    "é ü 東京 😀 1,234",
    "of " * 100,
    "books of the library of the books of the city " * 4,
    "the book",
]


def oracle(
    folder: Path | str, texts: Sequence[str], *, prompt: str = "", **options: Any
) -> Vectors:
    """What sentence-transformers makes of the texts, with its own defaults."""
    from sentence_transformers import SentenceTransformer

    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars():
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    encode = model.encode(list(texts), prompt=prompt, show_progress_bar=False, **options)
    return np.asarray(encode, dtype=np.float32)


def cosines(left: Vectors, right: Vectors) -> NDArray[np.float32]:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own; its errors fail the test."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    settings.pop("TOKENIZERS_PARALLELISM", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=settings, check=True)


# --- equal to sentence-transformers


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_both_forward_passes_agree_with_sentence_transformers(
    make_bert: MakeBert, pooling: str, prefix: str
) -> None:
    folder = make_bert(pooling=pooling, prefix=prefix)
    expected = oracle(folder, TEXTS)
    encoder = BiEncoder(folder, dtype="float32")
    bert = read_plain_bert(model_folder.find_model(str(folder)))
    assert bert is not None
    tokens, truncated = bert.tokenize(TEXTS, 48)
    assert truncated == 2
    for forward in (bert, PackedBert(bert, torch.float32, torch.device("cpu"))):
        found = forward.encode(tokens)
        np.testing.assert_allclose(
            found / np.linalg.norm(found, axis=1)[:, None], expected, atol=1e-5
        )
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected, atol=1e-5)
    assert encoder.dimensions == 32


def test_weights_kept_in_half_precision_are_read(make_bert: MakeBert) -> None:
    folder = make_bert(half=True)
    expected = oracle(folder, TEXTS)
    assert (
        cosines(BiEncoder(folder, dtype="float32").encode_passages(TEXTS), expected).min() > 0.9999
    )


def test_the_embedded_model_agrees_in_every_number_type() -> None:
    texts = [
        *TEXTS,
        *(f"{'insulin lowers blood sugar, says study ' * n}{n}" for n in range(0, 60, 3)),
    ]
    expected = oracle(model_folder.find_model(model_folder.EMBEDDED).folder, texts)
    exact = BiEncoder(dtype="float32")
    np.testing.assert_allclose(exact.encode_passages(texts), expected, atol=1e-5)
    np.testing.assert_allclose(exact.encode_queries(texts[:6]), expected[:6], atol=1e-5)
    rounded = BiEncoder(dtype="bfloat16").encode_passages(texts)
    assert cosines(rounded, expected).min() >= 0.9998
    assert exact.dimensions == 384
    assert exact.number_type == "float32"


def test_tokens_are_those_of_the_model_s_own_tokenizer() -> None:
    from transformers import AutoTokenizer

    model = model_folder.find_model(model_folder.EMBEDDED)
    texts = [*TEXTS, "Ünïcödé [SEP] naïve\u200b\u0301 co-\noperate\tЁлка İstanbul ﬁne ½ " * 40]
    theirs = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
    expected = theirs(texts, truncation=True, max_length=256)["input_ids"]
    bert = read_plain_bert(model)
    assert bert is not None
    tokens, truncated = bert.tokenize(texts, 256)
    assert [text.tolist() for text in tokens] == expected
    assert truncated == 1


def test_a_folder_of_another_kind_is_loaded_by_sentence_transformers(
    make_bert: MakeBert, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_bert(pooling="max", prompts={"query": "the ", "document": "of "})
    assert read_plain_bert(model_folder.find_model(str(folder))) is None
    expected = oracle(folder, TEXTS, prompt="of ")
    capfd.readouterr()
    encoder = BiEncoder(folder, dtype="float32")
    done: list[int] = []
    found = encoder.encode_passages(TEXTS, progress=done.append)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_queries(TEXTS), oracle(folder, TEXTS, prompt="the "), atol=1e-5
    )
    assert sum(done) == len(TEXTS)
    assert (encoder.encoded, encoder.truncated, encoder.dimensions) == (2 * len(TEXTS), 4, 32)
    assert capfd.readouterr() == ("", "")


def test_another_architecture_is_loaded_by_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import BertWordPieceTokenizer
    from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    torch.manual_seed(0)
    DistilBertModel(config).save_pretrained(tmp_path / "bare")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    core = BertWordPieceTokenizer({word: at for at, word in enumerate(words)})
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer, model_max_length=32, **names
    ).save_pretrained(tmp_path / "bare")
    stages = [Transformer(str(tmp_path / "bare")), Pooling(16)]
    SentenceTransformer(modules=stages, device="cpu").save(str(tmp_path / "model"))
    texts = ["a b c", "", "x y z " * 40, "a"]
    expected = oracle(tmp_path / "model", texts)
    plain_vectors = BiEncoder(tmp_path / "model", dtype="float32", normalize=False)
    np.testing.assert_allclose(plain_vectors.encode_passages(texts), expected, atol=1e-5)
    unit = BiEncoder(tmp_path / "model", dtype="float32").encode_passages(texts)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert logging.is_progress_bar_enabled() == shown


def test_products_laid_out_for_the_matrix_unit_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        weight, bias, x = (torch.randn(*n).to(dtype) for n in ((96, 64), (96,), (50, 64)))
        if not can_lay_out(weight):
            pytest.skip("this torch or processor lacks the operators")
        for with_gelu in (False, True):
            found, expected = (f(weight, bias, with_gelu)(x).float() for f in (laid_out, plain))
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance / 5)
    assert not can_lay_out(torch.ones(32, 32, dtype=torch.float64))


def test_without_those_operators_the_plain_products_serve(
    make_bert: MakeBert, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = oracle(folder := make_bert(), TEXTS)

    def absent(*arguments: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(packed_bert, "laid_out", absent)
    bert = read_plain_bert(model_folder.find_model(str(folder)))
    assert bert is not None
    found = PackedBert(bert, torch.float32, torch.device("cpu")).encode(bert.tokenize(TEXTS, 48)[0])
    np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-5)


def test_gelu_is_right_to_a_few_parts_in_ten_million() -> None:
    x = np.linspace(-9, 9, 20_001, dtype=np.float32)
    expected = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(gelu(x), expected, atol=1e-6)


# --- order, batches, counts


def test_a_text_gets_its_vector_whatever_stands_beside_it(make_bert: MakeBert) -> None:
    encoder = BiEncoder(make_bert(), dtype="float32")
    texts = [f"{'book ' * (n % 17)}of {'a' * (n % 5)} the {n}" for n in range(300)]
    together = encoder.encode_passages(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = encoder.encode_passages([texts[place] for place in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    alone = np.concatenate([encoder.encode_passages([text]) for text in texts[:20]])
    np.testing.assert_allclose(alone, together[:20], atol=1e-5)


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 200))
def test_batches_take_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(by_length(sizes, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sizes[batch].sum() <= budget for batch in batches)
    assert (np.diff([length for batch in batches for length in sizes[batch]]) <= 0).all()


def test_neighbours_of_equal_length_form_one_group() -> None:
    groups = [(span.start, span.stop, *rest) for span, *rest in equal_lengths([5, 5, 3, 1, 1, 1])]
    assert groups == [(0, 10, 2, 5), (10, 13, 1, 3), (13, 16, 3, 1)]


def test_cut_texts_are_counted_and_read_up_to_the_limit(make_bert: MakeBert) -> None:
    folder = make_bert()
    encoder = BiEncoder(folder, max_length=12)
    vectors = encoder.encode_passages(["the " * 10, "the " * 11, "the " * 500])
    assert (encoder.encoded, encoder.truncated) == (3, 2)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], 3, axis=0), atol=1e-6)
    encoder.encode_queries(["the " * 40])
    assert (encoder.encoded, encoder.truncated) == (4, 3)


def test_progress_counts_every_text(make_bert: MakeBert) -> None:
    done: list[int] = []
    texts = ["the book of the library"] * 3000
    BiEncoder(make_bert(), dtype="float32").encode_passages(texts, progress=done.append)
    assert sum(done) == len(texts)
    assert len(done) > 5


def test_no_texts_give_no_rows(make_bert: MakeBert) -> None:
    for pooling in ("mean", "max"):
        found = BiEncoder(make_bert(pooling=pooling)).encode_passages([])
        assert (found.shape, found.dtype) == ((0, 32), np.float32)


def test_prompts_come_from_the_model_unless_given(make_bert: MakeBert) -> None:
    folder = make_bert(prompts={"query": "the ", "passage": "of "})
    encoder, bare = BiEncoder(folder), BiEncoder(folder, query_prompt="", passage_prompt="")
    assert (encoder.query_prompt, encoder.passage_prompt) == ("the ", "of ")
    prompted = bare.encode_queries(["the book", "of book"])
    np.testing.assert_allclose(encoder.encode_queries(["book"]), prompted[:1], atol=1e-6)
    np.testing.assert_allclose(encoder.encode_passages(["book"]), prompted[1:], atol=1e-6)


def test_without_normalisation_vectors_keep_their_length(make_bert: MakeBert) -> None:
    folder = make_bert()
    raw = BiEncoder(folder, normalize=False).encode_queries(["the book of the library"])
    unit = BiEncoder(folder).encode_queries(["the book of the library"])
    assert abs(np.linalg.norm(raw) - 1) > 0.01
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


# --- refused


@pytest.mark.parametrize(
    ("bad", "said"), [("half \ud800 a", "text 1 .* at 5"), (7, "text 1 is int"), (None, "NoneType")]
)
def test_a_text_that_cannot_be_read_is_named(make_bert: MakeBert, bad: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BiEncoder(make_bert()).encode_passages(["good", bad])


def test_a_model_that_is_nowhere_is_one_line_with_a_cure() -> None:
    for name in ("ragstone-tests/no-such-model", "no-such-model", "/no/such/folder", "a b"):
        with pytest.raises(InputError, match="no model .*folder.*pip install") as caught:
            BiEncoder(name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = shutil.copytree(make_bert(), tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02never read")
    BiEncoder(folder)  # safetensors stand beside it
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model.bin.*safetensors.*convert"):
        BiEncoder(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="no weights"):
        BiEncoder(folder)
    with pytest.raises(InputError, match="no config.json"):
        BiEncoder(tmp_path)


def test_pickled_weights_of_a_single_stage_are_refused(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = shutil.copytree(make_bert(), tmp_path / "model")
    (folder / "3_Dense").mkdir()
    (folder / "3_Dense" / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(InputError, match="3_Dense"):
        BiEncoder(folder)


def test_a_model_with_code_of_its_own_is_refused(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = shutil.copytree(make_bert(), tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="code of its own"):
        BiEncoder(folder)


def test_damaged_folders_are_named(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = shutil.copytree(make_bert(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x00not a header")
    with pytest.raises(InputError, match=r"model.safetensors.*Fetch"):
        BiEncoder(folder).encode_queries(["a"])
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json.*JSON"):
        BiEncoder(folder).encode_queries(["a"])
    loaded = shutil.copytree(make_bert(pooling="max"), tmp_path / "other")
    (loaded / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(InputError, match="cannot be loaded"):
        BiEncoder(loaded).encode_queries(["a"])


def test_settings_that_make_no_sense_are_refused(make_bert: MakeBert) -> None:
    folder = make_bert()
    with pytest.raises(UsageError, match="dtype='int8'.*bfloat16"):
        BiEncoder(folder, dtype="int8")
    with pytest.raises(UsageError, match="max_length=65 .*from 3 to 64"):
        BiEncoder(folder, max_length=65)
    with pytest.raises(UsageError, match="device 'abacus'"):
        BiEncoder(folder, device="abacus").encode_passages(["a"])


# --- names, caches and what is loaded


def test_a_cached_model_is_used_only_when_its_weights_are_there(
    make_bert: MakeBert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, asked = make_bert(), []
    cached = {"org/whole": complete, "org/partial": tmp_path}

    def snapshot(name: str, *, local_files_only: bool) -> Path:
        asked.append((name, local_files_only))
        return cached[name] if local_files_only else complete

    monkeypatch.setattr(model_folder, "_snapshot", snapshot)
    assert model_folder.find_model("org/whole").folder == complete
    assert model_folder.find_model("org/partial").folder == complete
    assert asked == [("org/whole", True), ("org/partial", True), ("org/partial", False)]


def test_both_names_of_the_default_are_the_embedded_one() -> None:
    short, full = (
        model_folder.find_model(f"{p}all-MiniLM-L6-v2") for p in ("", "sentence-transformers/")
    )
    assert short.folder == full.folder
    assert (
        BiEncoder().fingerprint.name == BiEncoder(full.name).fingerprint.name == "all-MiniLM-L6-v2"
    )
    assert BiEncoder().max_length == 256


def test_a_query_needs_no_torch_no_network_and_says_nothing() -> None:
    code = """
import socket, sys
def refuse(*arguments, **options): raise OSError("a socket was opened")
socket.socket.connect = socket.getaddrinfo = refuse
import ragstone.models
light = sorted(sys.modules)
from ragstone.models import BiEncoder
vectors = BiEncoder().encode_queries(["What is the capital of France?"])
heavy = {"torch", "transformers", "sentence_transformers", "huggingface_hub", "numba"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not {"tokenizers"} & set(light)
print(vectors.shape)
"""
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("(1, 384)\n", "")


def test_many_passages_need_no_transformers_and_stay_silent_after_a_fork() -> None:
    code = f"""
import os, sys
from ragstone.models import BiEncoder
encoder = BiEncoder()
encoder.encode_passages(["a library of books"] * {FEW})
assert "torch" in sys.modules and "transformers" not in sys.modules
child = os.fork()
encoder.encode_queries(["one", "two", "three"])
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("", "")


def test_other_models_open_no_socket_either(make_bert: MakeBert) -> None:
    code = f"""
import socket
def refuse(*arguments, **options): raise OSError("a socket was opened")
socket.socket.connect = socket.getaddrinfo = refuse
from ragstone.models import BiEncoder
print(BiEncoder({str(make_bert(pooling="max"))!r}).encode_queries(["a", "b"]).shape)
"""
    done = run_python(code, HF_HUB_OFFLINE="0")
    assert (done.stdout, done.stderr) == ("(2, 32)\n", "")


def test_tensors_are_read_where_they_stand(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
    save_file({**tensors, "skipped": np.arange(3)}, tmp_path / "x.safetensors")
    found = read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert not found[name].flags.writeable


@pytest.mark.long
def test_scifact_is_ranked_as_by_the_plain_model() -> None:
    """sentence-transformers in float32 has nDCG@10 .6451 and R@100 .925."""
    if "RAGSTONE_DATA" not in os.environ:
        pytest.skip("RAGSTONE_DATA is not set")
    folder = Path(os.environ["RAGSTONE_DATA"]) / "beir-scifact"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    lines = (folder / "queries.jsonl").open(encoding="utf-8")
    queries = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    judged: dict[str, set[str]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        judged.setdefault(line.split("\t")[0], set()).add(line.split("\t")[1])
    rows.sort(key=lambda row: str(row["_id"]))
    encoder = BiEncoder()
    keys = encoder.encode_passages([f"{row['title']} {row['text']}" for row in rows])
    scores = encoder.encode_queries([queries[id] for id in judged]) @ keys.T
    gains, recalls = [], []
    for order, relevant in zip(np.argsort(-scores, kind="stable"), judged.values(), strict=True):
        found = np.array([rows[place]["_id"] in relevant for place in order[:100]])
        ideal = (1 / np.log2(np.arange(min(10, len(relevant))) + 2)).sum()
        gains.append((found[:10] / np.log2(np.arange(10) + 2)).sum() / ideal)
        recalls.append(found.sum() / len(relevant))
    assert np.mean(gains) == pytest.approx(0.6451, abs=0.002)
    assert np.mean(recalls) == pytest.approx(0.925, abs=0.002)
