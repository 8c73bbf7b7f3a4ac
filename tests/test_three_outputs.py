"""Three kinds of keys from one pass, against the formulas of the paper in plain NumPy."""

import gc
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import InputError, UsageError
from ragstone.models import canary, check_encoder, load_encoder
from ragstone.models.one_pass import _LOADED, KEPT, OnePass
from ragstone.models.three_outputs import DenseOutput, MultiOutput, SparseOutput, ThreeOutputs
from ragstone.records import TokenVectors, WeightedTerms

from .small_models import TOKENS, three_outputs

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

TEXTS = [
    "the book of the library",
    "",
    "book book books .",
    "zebra the",
    "of " * 40,
    "a library",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_outputs(tmp_path_factory.mktemp("m3"))


def states(folder: Path, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
    """Tokens and last layer of each text, run alone by transformers."""
    from transformers import AutoTokenizer, XLMRobertaModel

    from ragstone.models.loaded_encoder import no_progress_bars

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with no_progress_bars():
        model = XLMRobertaModel.from_pretrained(folder, local_files_only=True).eval()
    found = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=32)["input_ids"]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        found.append((ids, np.asarray(hidden, dtype=np.float64)))
    return found


def head(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    from safetensors.numpy import load_file

    tensors = load_file(folder / f"{name}.safetensors")
    return tensors["weight"].astype(np.float64), tensors["bias"].astype(np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def weights(keys: WeightedTerms) -> list[dict[str, float]]:
    bounds = zip(keys.offsets[:-1].tolist(), keys.offsets[1:].tolist(), strict=True)
    return [
        {
            keys.vocabulary[id].decode(): float(weight)
            for id, weight in zip(keys.ids[a:b], keys.weights[a:b], strict=True)
        }
        for a, b in bounds
    ]


def by_hand(ids: list[int], scores: np.ndarray) -> dict[str, float]:
    """The greatest positive score of each token that is neither special nor unknown."""
    found: dict[str, float] = {}
    for id, score in zip(ids, scores.tolist(), strict=True):
        if id > 3 and score > 0:
            found[TOKENS[id]] = max(score, found.get(TOKENS[id], 0.0))
    return found


def test_each_output_is_that_of_the_paper(folder: Path) -> None:
    model = ThreeOutputs(folder, dtype="float32")
    expected = states(folder, TEXTS)
    dense = model.dense.encode_passages(TEXTS)
    np.testing.assert_allclose(dense, unit(np.stack([x[0] for _, x in expected])), atol=1e-5)
    assert dense.dtype == np.float32

    weight, bias = head(folder, "sparse_linear")
    sparse = model.sparse.encode_passages(TEXTS)
    for found, (ids, x) in zip(weights(sparse), expected, strict=True):
        assert found == pytest.approx(by_hand(ids, (x @ weight.T + bias)[:, 0]), abs=1e-5)
    assert any(weights(sparse)) and len(sparse) == len(TEXTS)

    weight, bias = head(folder, "colbert_linear")
    multi = model.multi.encode_passages(TEXTS)
    rows = np.split(multi.vectors, multi.offsets[1:-1])
    for row, (_, x) in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, unit(x[1:] @ weight.T + bias), atol=1e-5)
    assert model.multi.truncated == model.dense.truncated == 1
    assert model.sparse.encoded == len(TEXTS)


def passes(encoder: Any) -> int:
    shared: OnePass = encoder._shared
    return shared.passes


def test_three_encoders_take_one_pass(folder: Path) -> None:
    model = ThreeOutputs(folder)
    done: list[int] = []
    for texts in (TEXTS, TEXTS[:2], [], TEXTS):
        before = passes(model.dense)
        model.sparse.encode_passages(texts, progress=done.append)
        model.dense.encode_queries(list(texts), progress=done.append)
        model.multi.encode_passages(tuple(texts), progress=done.append)
        assert passes(model.dense) == before + 1
    assert sum(done) == 3 * (2 * len(TEXTS) + 2)
    again = model.multi.encode_passages(TEXTS)  # what was taken is not kept
    assert passes(model.dense) == 5
    np.testing.assert_array_equal(again.vectors, model.multi.encode_passages(TEXTS).vectors)


def test_an_encoder_may_be_several_batches_ahead(folder: Path) -> None:
    model = ThreeOutputs(folder, max_length=13)
    batches = [[f"the book {'a ' * number}"] for number in range(KEPT + 2)]
    for encoder in (model.multi, model.dense, model.sparse):
        for batch in batches[:KEPT]:
            encoder.encode_passages(batch)
    assert passes(model.dense) == KEPT and not model.dense._shared._untaken
    for batch in batches:  # two more than are kept
        model.dense.encode_passages(batch)
    assert len(model.dense._shared._untaken) == KEPT
    model.sparse.encode_passages(batches[2])
    assert passes(model.dense) == 2 * KEPT + 2
    model.sparse.encode_passages(batches[0])
    assert passes(model.dense) == 2 * KEPT + 3


def test_only_what_is_wanted_is_computed(folder: Path) -> None:
    gc.collect()
    dense = DenseOutput(folder, max_length=9)
    dense.encode_passages(TEXTS)
    assert dense._shared._untaken == {} and dense._shared._heads == {}
    sparse = SparseOutput(folder, max_length=9)
    assert sparse._shared is dense._shared
    sparse.encode_passages(TEXTS)
    assert [one.keys.keys() for one in dense._shared._untaken.values()] == [{"dense"}]
    dense.encode_passages(TEXTS)
    assert passes(dense) == 2


def test_encoders_come_back_from_their_settings_and_share_again(folder: Path) -> None:
    made = ThreeOutputs(folder, max_length=11, dtype="float32")
    views = (made.dense, made.sparse, made.multi)
    stored = [json.loads(json.dumps(dict(view.fingerprint.settings))) for view in views]
    expected = [view.encode_passages(TEXTS) for view in views]
    assert len({view.fingerprint.digest for view in views}) == 3
    canaries = [canary(view) for view in views]
    fingerprints = [view.fingerprint for view in views]
    del made, views
    gc.collect()
    assert not any(key[0] == folder and key[1] == 11 for key in _LOADED)
    again: list[Any] = [load_encoder(settings) for settings in stored]
    assert len({id(view._shared) for view in again}) == 1
    for view, fingerprint, seen in zip(again, fingerprints, canaries, strict=True):
        check_encoder(view, fingerprint, seen, name="index")
    dense, sparse, multi = (view.encode_passages(TEXTS) for view in again)
    np.testing.assert_array_equal(dense, expected[0])
    assert weights(sparse) == weights(expected[1])
    np.testing.assert_array_equal(multi.vectors, expected[2].vectors)
    assert len({view.truncated for view in again}) == 1


def test_a_setting_changes_the_fingerprint(folder: Path) -> None:
    digest = SparseOutput(folder).fingerprint.digest
    assert SparseOutput(folder, max_length=7).fingerprint.digest != digest
    assert SparseOutput(folder, dtype="float32").fingerprint.digest == digest
    assert MultiOutput(folder, max_length=7)._shared is not MultiOutput(folder)._shared


def test_threads_get_the_keys_of_their_own_texts(folder: Path) -> None:
    model = ThreeOutputs(folder, dtype="float32")
    alone = {text: model.dense.encode_queries([text])[0] for text in TEXTS}
    wrong: list[str] = []

    def ask(text: str) -> None:
        for _ in range(5):
            keys: TokenVectors = model.multi.encode_queries([text])
            vector = model.dense.encode_queries([text])[0]
            if len(keys) != 1 or not np.allclose(vector, alone[text], atol=1e-6):
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- folders that are refused


def copy_of(folder: Path, target: Path) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_pickled_heads_are_refused_with_the_cure(folder: Path, tmp_path: Path) -> None:
    copy = copy_of(folder, tmp_path)
    (copy / "sparse_linear.safetensors").rename(copy / "sparse_linear.pt")
    with pytest.raises(InputError, match="pickle, which is never read.*sparse_linear.safetensors"):
        SparseOutput(copy)
    assert DenseOutput(copy).encode_queries(["the"]).shape == (1, 16)
    (copy / "colbert_linear.safetensors").unlink()
    with pytest.raises(InputError, match="no layer for multi keys"):
        MultiOutput(copy)


@pytest.mark.parametrize(
    "tensors, reason",
    [
        ({"weight": np.ones((1, 16), np.float32)}, "no linear layer"),
        ({"weight": np.ones((1, 15), np.float32), "bias": np.ones(1, np.float32)}, r"\(1, 15\)"),
        ({"weight": np.ones((2, 16), np.float32), "bias": np.ones(2, np.float32)}, r"\(2, 16\)"),
        ({"weight": np.ones((1, 16), np.float32), "bias": np.float32(1)}, r"\(\)"),
        (None, "no linear layer"),
    ],
)
def test_heads_of_other_shapes_are_refused(
    folder: Path, tmp_path: Path, tensors: dict[str, np.ndarray] | None, reason: str
) -> None:
    from safetensors.numpy import save_file

    copy = copy_of(folder, tmp_path)
    path = copy / "sparse_linear.safetensors"
    if tensors is None:
        path.write_bytes(b"no tensors")
    else:
        save_file({name: np.asarray(tensor) for name, tensor in tensors.items()}, path)
    with pytest.raises(InputError, match=reason):
        SparseOutput(copy).encode_passages(["the"])


def test_wrong_calls_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="max_length=99"):
        DenseOutput(folder, max_length=99)
    with pytest.raises(UsageError, match="dtype='half'"):
        DenseOutput(folder, dtype="half")
    with pytest.raises(InputError, match="text 0 is int"):
        DenseOutput(folder).encode_passages([1])  # type: ignore[list-item]
