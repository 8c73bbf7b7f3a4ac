"""An index refuses every encoder but the one that built it, by name."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import InputError, Mismatch
from ragstone.models import BiEncoder, HashingEncoder, canary, check_encoder, load_encoder
from ragstone.models.fingerprint import CANARIES, digest
from ragstone.records import Fingerprint

MakeBert = Callable[..., Path]
Vectors = NDArray[np.float32]


@dataclass
class Fixed:
    """An encoder that answers with given vectors."""

    fingerprint: Fingerprint
    vectors: Vectors

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        return self.vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.vectors


def check(built: Any, asked: Any) -> None:
    check_encoder(asked, built.fingerprint, canary(built), name="dense")


def edited(folder: Path, file: str, change: Callable[[Any], Any]) -> Callable[[Path], Path]:
    """A copy of a model in which one JSON file was changed."""

    def make(target: Path) -> Path:
        copy = shutil.copytree(folder, target)
        path = copy / file
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return copy

    return make


def test_the_canary_is_eight_different_texts_in_float32() -> None:
    vectors = canary(HashingEncoder(64))
    assert (vectors.shape, vectors.dtype) == ((8, 64), np.float32)
    assert len(set(CANARIES)) == 8
    assert (np.triu(vectors @ vectors.T, 1) < 0.9).all()


def test_the_same_model_loaded_again_is_taken(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = make_bert(prompts={"query": "the "})
    options: dict[str, Any] = {"max_length": 20, "normalize": False, "passage_prompt": "of "}
    built = BiEncoder(folder, **options)
    again = load_encoder(json.loads(json.dumps(built.fingerprint.settings)))
    check(built, again)
    assert again.fingerprint == built.fingerprint
    np.testing.assert_array_equal(again.encode_queries(CANARIES), canary(built))
    check(built, BiEncoder(shutil.copytree(folder, tmp_path / "moved"), **options))
    check(HashingEncoder(48, 9), load_encoder(HashingEncoder(48, 9).fingerprint.settings))
    embedded = BiEncoder()
    check(embedded, load_encoder(embedded.fingerprint.settings))


def test_twenty_other_encoders_are_refused_by_name(make_bert: MakeBert, tmp_path: Path) -> None:
    folder = make_bert(prompts={"query": "the "})
    built = BiEncoder(folder)
    tokenizer = edited(folder, "tokenizer.json", lambda t: t | {"normalizer": None})
    pooling = "1_Pooling/config.json"
    positions = edited(folder, "config.json", lambda c: c | {"layer_norm_eps": 1e-5})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"zyxwvutsrqponmlkjihgfedcba"]
    others: dict[str, Any] = {
        "files 1": BiEncoder(make_bert(seed=1, prompts={"query": "the "})),
        "files 2": BiEncoder(make_bert(seed=2, prompts={"query": "the "})),
        "files 3": BiEncoder(make_bert(width=64)),
        "files 4": BiEncoder(make_bert(width=16)),
        "files 5": BiEncoder(make_bert(half=True)),
        "files 6": BiEncoder(make_bert(vocabulary=words)),
        "files 7": BiEncoder(tokenizer(tmp_path / "tokenizer")),
        "files 8": BiEncoder(positions(tmp_path / "epsilon")),
        "pooling 1": BiEncoder(make_bert(pooling="cls", prompts={"query": "the "})),
        "pooling 2": BiEncoder(make_bert(pooling="max", prompts={"query": "the "})),
        "pooling 3": BiEncoder(
            edited(folder, pooling, lambda c: c | {"pooling_mode_max_tokens": True})(tmp_path / "p")
        ),
        "query_prompt 1": BiEncoder(folder, query_prompt=""),
        "query_prompt 2": BiEncoder(folder, query_prompt="the  "),
        "query_prompt 3": BiEncoder(make_bert(prompts={})),
        "passage_prompt": BiEncoder(folder, passage_prompt="of "),
        "normalize": BiEncoder(folder, normalize=False),
        "max_length 1": BiEncoder(folder, max_length=47),
        "max_length 2": BiEncoder(folder, max_length=64),
        "class 1": HashingEncoder(32),
        "class 2": HashingEncoder(32, seed=1),
    }
    assert len(others) == 20
    for reason, other in others.items():
        said = rf"'dense' was built with {built.fingerprint.name}@{built.fingerprint.digest[:8]}"
        said += f".* {other.fingerprint.name}@.*{reason.split()[0]} .*build the index again"
        with pytest.raises(Mismatch, match=said):
            check(built, other)
        with pytest.raises(Mismatch):
            check(other, built)
    check(built, BiEncoder(folder))


@pytest.mark.parametrize("changed", [{"seed": 1}, {"dimensions": 65}])
def test_another_hashing_encoder_is_refused(changed: dict[str, int]) -> None:
    settings = {"dimensions": 64, "seed": 0}
    with pytest.raises(Mismatch, match=rf"{next(iter(changed))} \(built: "):
        check(HashingEncoder(**settings), HashingEncoder(**(settings | changed)))


def test_the_number_type_alone_is_no_mismatch(make_bert: MakeBert) -> None:
    folder = make_bert()
    types = [BiEncoder(folder, dtype=dtype) for dtype in ("float32", "bfloat16", "auto")]
    for built in types:
        for asked in types:
            check(built, asked)
    assert types[0].fingerprint != types[1].fingerprint
    assert types[0].fingerprint.digest == types[1].fingerprint.digest


def test_the_canary_catches_what_the_digest_cannot_see() -> None:
    encoder = HashingEncoder(64)
    kept = canary(encoder)
    noise = np.random.default_rng(0).normal(size=kept.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)

    def drifted(share: float, dtype: str) -> Fixed:
        own = encoder.fingerprint
        changed = replace(own, settings={**own.settings, "dtype": dtype})
        return Fixed(changed, (kept + share * noise).astype(np.float32))

    for share, dtype in ((0.01, "float32"), (0.05, "bfloat16"), (0.05, "auto")):
        check_encoder(drifted(share, dtype), encoder.fingerprint, kept, name="dense")
    for share, dtype in ((0.1, "float32"), (0.2, "bfloat16"), (0.2, "auto"), (np.nan, "float32")):
        with pytest.raises(Mismatch, match="fixed texts get other vectors"):
            check_encoder(drifted(share, dtype), encoder.fingerprint, kept, name="dense")
    narrow = Fixed(encoder.fingerprint, kept[:, :32])
    with pytest.raises(Mismatch, match="32 dimensions instead of 64"):
        check_encoder(narrow, encoder.fingerprint, kept, name="dense")


def test_without_canary_vectors_the_digest_alone_decides() -> None:
    encoder = HashingEncoder()
    check_encoder(encoder, encoder.fingerprint, name="bm25")
    check_encoder(encoder, encoder.fingerprint, np.empty((0, 0), np.float32), name="bm25")
    with pytest.raises(Mismatch, match="'bm25'"):
        check_encoder(encoder, replace(encoder.fingerprint, digest="0" * 64), name="bm25")


def test_files_that_make_no_vectors_are_outside_the_fingerprint(
    make_bert: MakeBert, tmp_path: Path
) -> None:
    folder = make_bert()
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("words")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert BiEncoder(copy).fingerprint.digest == BiEncoder(folder).fingerprint.digest


def test_a_digest_does_not_depend_on_the_order_of_the_facts() -> None:
    assert digest({"a": 1, "b": "é"}) == digest({"b": "é", "a": 1}) != digest({"a": 1, "b": "e"})


def test_settings_that_lead_to_no_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="'oracle' is not known.*bi-encoder"):
        load_encoder({"class": "oracle"})
    settings = BiEncoder().fingerprint.settings | {"model": str(tmp_path / "gone")}
    with pytest.raises(InputError, match="no model .*gone"):
        load_encoder(settings)


def test_the_analyzer_comes_back_from_its_settings() -> None:
    from ragstone.models.analyzer import Analyzer

    encoder = load_encoder(Analyzer().fingerprint.settings)
    check_encoder(encoder, Analyzer().fingerprint, name="bm25")
    assert len(encoder.encode_queries(["books"])) == 1
