"""The query tower: what it computes, what it learns, and which indexes it may ask."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, InputError, Mismatch, UsageError
from ragstone.models.bi_encoder import BiEncoder
from ragstone.models.fingerprint import canary
from ragstone.models.hashing import HashingEncoder
from ragstone.models.learned_folder import Learned, save_learned
from ragstone.models.query_tower import QueryTower, TowerParts
from ragstone.models.registry import load_encoder
from ragstone.models.tower_training import TowerTraining, distil_tower

WORDS = ["the", "of", "library", "book", "."]


def texts(n: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS + list("abcdefgh"), 6)) for _ in range(n)]


@pytest.fixture(scope="module")
def full(make_bert: Callable[..., Path]) -> BiEncoder:
    return BiEncoder(make_bert(), dtype="float32")


@pytest.fixture(scope="module")
def tower(full: BiEncoder) -> QueryTower:
    passages = full.encode_passages(texts(50, 9))
    settings = TowerTraining(hidden=16, batch=64, epochs=15, held_out=0.1)
    return distil_tower(full, texts(600), passages=passages, training=settings)


def test_it_comes_near_the_full_encoder(tower: QueryTower, full: BiEncoder) -> None:
    fresh = texts(100, 5)
    ours, theirs = tower.encode_queries(fresh), full.encode_queries(fresh)
    before, after = tower.facts["cosine"]
    assert after > before and after > 0.9
    centre = theirs.mean(axis=0)  # a random model's vectors are all alike: compare what differs
    spread = ((theirs - centre) ** 2).sum()
    assert ((ours - theirs) ** 2).sum() < 0.6 * spread


def test_a_query_is_what_the_docstring_says(tower: QueryTower) -> None:
    parts = tower.parts
    found = tower.encode_queries(["the book of x", "the"])
    vocabulary = tower._tokenizer.get_vocab()
    for row, words in zip(found, (["the", "book", "of", "x"], ["the"]), strict=True):
        v = parts.table[[vocabulary[word] for word in words]].astype(np.float64).mean(axis=0)
        v = v + parts.bias
        v = v + parts.outward @ np.maximum(parts.inward @ v, 0)
        np.testing.assert_allclose(row, v / np.linalg.norm(v), atol=1e-5)
    empty = tower.encode_queries(["", "  "])
    np.testing.assert_allclose(np.linalg.norm(empty, axis=1), 1, atol=1e-6)
    assert tower.encode_queries([]).shape == (0, tower.dimensions)


def test_a_text_of_any_length_and_nothing_at_all_have_a_direction(tower: QueryTower) -> None:
    long = tower.encode_queries(["book " * 2000, "book"])
    np.testing.assert_allclose(long[0], long[1], atol=1e-4)
    zero = {name: np.zeros_like(getattr(tower.parts, name)) for name in
            ("table", "bias", "inward", "outward")}  # fmt: skip
    nothing = QueryTower(tower.encoder, replace(tower.parts, **zero), {})
    assert np.array_equal(nothing.encode_queries(["a"]), np.eye(1, 32, dtype=np.float32))


def test_saved_towers_do_the_same_and_are_made_from_their_settings(
    tower: QueryTower, full: BiEncoder, tmp_path: Path
) -> None:
    tower.save(tmp_path)
    again = QueryTower.load(tmp_path)
    some = texts(20, 3)
    assert np.array_equal(again.encode_queries(some), tower.encode_queries(some))
    assert again.fingerprint.digest == tower.fingerprint.digest != full.fingerprint.digest
    assert again.facts == tower.facts
    from_settings: Any = load_encoder(again.fingerprint.settings)
    assert from_settings.fingerprint == again.fingerprint
    with pytest.raises(UsageError, match="never saved"):
        load_encoder(tower.fingerprint.settings)
    np.testing.assert_array_equal(again.encode_passages(some), full.encode_passages(some))


def test_it_asks_indexes_of_the_full_encoder_alone(
    tower: QueryTower, full: BiEncoder, make_bert: Callable[..., Path], tmp_path: Path
) -> None:
    tower.save(tmp_path)
    again = QueryTower.load(tmp_path)
    again.check_index(full.fingerprint, canary(full), name="dense")
    again.check_index(full.fingerprint, None, name="dense")
    other = BiEncoder(make_bert(seed=3), dtype="float32")
    with pytest.raises(Mismatch, match="'dense' was built with bert.*the query encoder is bert"):
        again.check_index(other.fingerprint, canary(other), name="dense")
    with pytest.raises(Mismatch, match="fixed texts get other vectors"):
        again.check_index(full.fingerprint, canary(other), name="dense")


def test_equal_seeds_give_equal_towers(full: BiEncoder) -> None:
    torch = pytest.importorskip("torch")
    state = torch.random.get_rng_state()
    settings = TowerTraining(hidden=4, epochs=2, seed=2)
    one, two = (distil_tower(full, texts(40), training=settings) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_refused(full: BiEncoder) -> None:
    with pytest.raises(InputError, match="9 texts are too few"):
        distil_tower(full, texts(9))
    with pytest.raises(UsageError, match="has no tokenizer.json"):
        distil_tower(HashingEncoder(), texts(20))
    for wrong in ({"hidden": 0}, {"rate": 0.0}, {"held_out": 1.0}):
        with pytest.raises(UsageError):
            TowerTraining(**wrong)


def test_any_encoder_can_be_distilled_with_a_tokenizer(make_bert: Callable[..., Path]) -> None:
    tokenizer = make_bert() / "tokenizer.json"
    encoder = HashingEncoder(16)
    found = distil_tower(encoder, texts(300), tokenizer=tokenizer)
    assert found.facts["cosine"][1] > 0.7
    found.check_index(encoder.fingerprint, canary(encoder), name="dense")


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": b"{}"},
        {"tokenizer": b"\xff"},
        {"table": np.zeros((3, 32), np.float16)},
        {"table": np.zeros((90, 32), np.float32)},
        {"bias": np.zeros(31, np.float32)},
        {"outward": np.zeros((32, 5), np.float32)},
    ],
)
def test_forged_towers_are_damaged(change: Any, tower: QueryTower, tmp_path: Path) -> None:
    parts: TowerParts = replace(tower.parts, **change)
    names = ("table", "bias", "inward", "outward", "canary")
    arrays = {name: getattr(parts, name) for name in names}
    blobs = {"tokenizer": parts.tokenizer}
    save_learned(tmp_path, Learned("query tower", tower.encoder, {}, arrays, blobs))
    with pytest.raises(Damaged):
        QueryTower.load(tmp_path)
