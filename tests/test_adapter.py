"""Adapters: the identity to begin with, gradients that are right, refused where they do not fit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, InputError, Mismatch, UsageError
from ragstone.models.adapter import AdaptedEncoder, Adapter, LowRank
from ragstone.models.adapter_training import AdapterTraining, Examples, hold_out, train_adapter
from ragstone.models.fingerprint import canary
from ragstone.models.hashing import HashingEncoder
from ragstone.models.late_chunking import ChunkedText
from ragstone.models.learned_folder import load_learned
from ragstone.models.registry import load_encoder
from ragstone.records import Fingerprint
from ragstone.storage import Store

TEXTS = ["soft rags", "hard stones", "a stone in the garden", "rags of linen"]


def low_rank(seed: int, dimensions: int = 32, rank: int = 3) -> LowRank:
    random = np.random.default_rng(seed)
    return LowRank(*random.normal(0, 0.5, (2, rank, dimensions)).astype(np.float32))


def made(encoder: HashingEncoder, *, both: bool = False) -> Adapter:
    passage = low_rank(2, encoder.dimensions) if both else None
    return Adapter(encoder.fingerprint, low_rank(1, encoder.dimensions), passage, {"epoch": 3})


def turned(n: int = 120, dimensions: int = 24, noise: float = 0.3, seed: int = 0) -> Examples:
    """Queries that are their passages turned by one fixed map, plus noise."""
    random = np.random.default_rng(seed)
    passages = random.normal(size=(n, dimensions)).astype(np.float32)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    turn = np.eye(dimensions, dtype=np.float32)
    turn[:16] = turn[:16][::-1]
    queries = passages @ turn + noise / dimensions**0.5 * random.normal(size=passages.shape)
    near = np.argsort(-(queries @ passages.T), axis=1)[:, :6]
    pairs = np.stack([np.arange(n), np.arange(n)], axis=1)
    return Examples(queries.astype(np.float32), passages, pairs, near)


def found_first(queries: np.ndarray, passages: np.ndarray) -> float:
    return float(((queries @ passages.T).argmax(axis=1) == np.arange(len(queries))).mean())


def test_a_map_is_what_it_says_and_the_identity_to_the_bit_without_up() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    one = low_rank(4)
    for vector, result in zip(vectors, one(vectors), strict=True):
        moved = vector + one.up.T @ (one.down @ vector)
        expected = moved * np.linalg.norm(vector) / np.linalg.norm(moved)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    still = LowRank(one.down, np.zeros_like(one.up))
    assert np.array_equal(still(vectors), vectors)
    assert not still(np.zeros((1, 32), np.float32)).any()


@pytest.mark.parametrize("both", [False, True])
def test_saved_adapters_do_the_same(both: bool, tmp_path: Path) -> None:
    encoder = HashingEncoder(32, seed=5)
    adapter = made(encoder, both=both)
    adapter.save(tmp_path / "a" / "dense")
    again = Adapter.load(tmp_path / "a" / "dense")
    assert (again.digest, again.facts) == (adapter.digest, {"epoch": 3})
    assert again.encoder == encoder.fingerprint
    plain, adapted = AdaptedEncoder(encoder, adapter), AdaptedEncoder(encoder, again)
    for side in ("encode_queries", "encode_passages"):
        assert np.array_equal(getattr(plain, side)(TEXTS), getattr(adapted, side)(TEXTS))
    moved = not np.array_equal(adapted.encode_passages(TEXTS), encoder.encode_passages(TEXTS))
    assert moved == both


def test_a_new_adapter_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    encoder = HashingEncoder(32)
    made(encoder, both=True).save(tmp_path)
    newer = replace(made(encoder), query=low_rank(9))
    newer.save(tmp_path)
    newer.save(tmp_path)
    assert Adapter.load(tmp_path).digest == newer.digest
    assert Adapter.load(tmp_path).passage is None


def test_it_is_refused_with_another_encoder_naming_both(tmp_path: Path) -> None:
    adapter, other = made(HashingEncoder(32)), HashingEncoder(32, seed=1)
    ours, theirs = (e.digest[:8] for e in (adapter.encoder, other.fingerprint))
    with pytest.raises(Mismatch, match=f"hashing-32@{ours}.*hashing-32@{theirs}"):
        AdaptedEncoder(other, adapter)


def test_an_index_of_the_plain_encoder_is_asked_through_an_adapter_for_queries() -> None:
    encoder = HashingEncoder(32)
    index = {"fingerprint": encoder.fingerprint, "canary": canary(encoder), "name": "dense"}
    AdaptedEncoder(encoder, made(encoder)).check_index(**index)
    both = AdaptedEncoder(encoder, made(encoder, both=True))
    with pytest.raises(Mismatch, match="'dense' was built with hashing-32@"):
        both.check_index(**index)
    both.check_index(both.fingerprint, canary(both), name="dense")
    other = HashingEncoder(32, seed=1)
    with pytest.raises(Mismatch, match="built with hashing-32@"):
        AdaptedEncoder(other, made(other)).check_index(**index)


def test_an_adapted_encoder_is_made_again_from_its_settings(tmp_path: Path) -> None:
    encoder = HashingEncoder(32, seed=5)
    adapter = made(encoder, both=True)
    adapter.save(tmp_path)
    adapted = AdaptedEncoder(encoder, adapter, folder=tmp_path)
    again: Any = load_encoder(adapted.fingerprint.settings)
    assert again.fingerprint == adapted.fingerprint
    assert np.array_equal(again.encode_passages(TEXTS), adapted.encode_passages(TEXTS))
    assert adapted.fingerprint.digest != encoder.fingerprint.digest
    elsewhere = AdaptedEncoder(encoder, adapter)
    assert elsewhere.fingerprint.digest == adapted.fingerprint.digest
    with pytest.raises(UsageError, match="never saved"):
        load_encoder(elsewhere.fingerprint.settings)


def test_training_undoes_a_rotation() -> None:
    examples, fresh = turned(), turned(seed=1)
    settings = AdapterTraining(rank=16, decay=1, rate=0.01)
    adapter = train_adapter(examples, Fingerprint("m", "0", {}), settings)
    before, after = adapter.facts["loss"]
    assert after < before / 2
    plain = found_first(fresh.queries, fresh.passages)
    assert found_first(adapter.query(fresh.queries), fresh.passages) > plain + 0.2
    assert adapter.passage is None


def test_training_is_the_same_for_the_same_seed_and_leaves_torch_alone() -> None:
    torch = pytest.importorskip("torch")
    state = torch.random.get_rng_state()
    settings = AdapterTraining(rank=4, sides="both", epochs=3, seed=3)
    one, two = (train_adapter(turned(), Fingerprint("m", "0", {}), settings) for _ in range(2))
    assert one.digest == two.digest
    other = train_adapter(turned(), Fingerprint("m", "0", {}), replace(settings, seed=4))
    assert other.digest != one.digest
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_to_learn_leaves_the_identity() -> None:
    """Pairs at random: whatever is learned from some does not help with the others."""
    random = np.random.default_rng(2)
    examples = turned(60)
    pairs = np.stack([np.arange(60), random.permutation(60)], axis=1)
    settings = AdapterTraining(apart="passages", decay=0, patience=60, rate=0.01)
    adapter = train_adapter(replace(examples, pairs=pairs), Fingerprint("m", "0", {}), settings)
    held = [adapter.facts[name] for name in ("loss", "reciprocal_rank")]
    assert held[0][1] <= held[0][0] and held[1][1] >= held[1][0]
    if adapter.facts["epoch"] == 0:
        assert np.array_equal(adapter.query(examples.queries), examples.queries)


@pytest.mark.parametrize("apart", ["queries", "passages"])
def test_what_is_held_out(apart: Any) -> None:
    examples = turned(40)
    shared = np.stack([np.arange(40), np.arange(40) // 2], axis=1)
    chain = np.array([[38, 18], [0, 19]])  # ties the first two to the last ones
    pairs = np.concatenate([shared, chain])
    random = np.random.default_rng(0)
    held, kept = hold_out(replace(examples, pairs=pairs), AdapterTraining(apart=apart), random)
    assert sorted([*held, *kept]) == list(range(40)) and 8 <= len(held) <= 12
    of = {name: set(pairs[np.isin(pairs[:, 0], rows), 1]) for name, rows in
          (("held", held), ("kept", kept))}  # fmt: skip
    assert bool(of["held"] & of["kept"]) == (apart == "queries")


def test_one_step_follows_the_gradient() -> None:
    """The loss of `_Run` falls as finite differences of a NumPy reference say."""
    torch = pytest.importorskip("torch")
    from ragstone.models.adapter_training import _Run

    examples = turned(12, 6)
    run = _Run(examples, AdapterTraining(rank=2, sides="both", decay=3, temperature=0.2))
    random = np.random.default_rng(0)
    values = [random.normal(0, 0.3, (2, 6)) for _ in range(4)]
    run.queries, run.passages = run.queries.double(), run.passages.double()
    run.maps = [tuple(torch.tensor(v, requires_grad=True) for v in values[i : i + 2])
                for i in (0, 2)]  # fmt: skip
    query = passage = np.arange(8)
    run._loss(query, passage).backward()

    def reference(at: list[np.ndarray]) -> float:
        def moved(v: np.ndarray, down: np.ndarray, up: np.ndarray) -> np.ndarray:
            out = v + (v @ down.T) @ up
            lengths = np.linalg.norm(v, axis=1) / np.linalg.norm(out, axis=1)
            return out * lengths[:, None]

        q = moved(run.queries.numpy(), *at[:2])
        p = moved(run.passages.numpy(), *at[2:])
        candidates = np.union1d(passage, examples.mined[query])
        total = 0.0
        for one in range(8):
            logits = q[one] @ p[candidates].T / 0.2
            total += np.log(np.exp(logits).sum()) - q[one] @ p[one] / 0.2
        penalty = sum(np.sum((up.T @ down) ** 2) for down, up in (at[:2], at[2:]))
        return total / 8 + 3 / 12 * penalty

    step = 1e-5
    for place in range(4):
        gradient = run.maps[place // 2][place % 2].grad.numpy()
        for spot in [(0, 0), (1, 4)]:
            there = [v.copy() for v in values]
            back = [v.copy() for v in values]
            there[place][spot] += step
            back[place][spot] -= step
            slope = (reference(there) - reference(back)) / (2 * step)
            np.testing.assert_allclose(gradient[spot], slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda e: {"pairs": e.pairs[:9]}, "9 queries with a relevant passage are too few"),
        (lambda e: {"pairs": e.pairs + 1}, "rows from 1 to 120 of 120 queries"),
        (lambda e: {"mined": e.mined - 9}, "mined passages"),
        (lambda e: {"queries": e.queries * np.nan}, "vector of query 0 is zero or not finite"),
        (lambda e: {"passages": e.passages * 0}, "vector of passage 0 is zero or not finite"),
        (lambda e: {"passages": e.passages[:, :3]}, "are of no one space"),
        (lambda e: {"pairs": e.pairs * [1, 0]}, "none can be held out"),
    ],
)
def test_examples_that_make_no_sense(change: Any, what: str) -> None:
    examples = turned()
    with pytest.raises(InputError, match=what):
        settings = AdapterTraining(apart="passages")
        train_adapter(replace(examples, **change(examples)), Fingerprint("m", "0", {}), settings)


@pytest.mark.parametrize(
    "wrong",
    [{"rank": 0}, {"sides": "passage"}, {"apart": "x"}, {"temperature": 0}, {"held_out": 1.0}],
)
def test_settings_that_make_no_sense(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError):
        AdapterTraining(**wrong)


def forged(folder: Path, arrays: Mapping[str, np.ndarray], **settings: Any) -> None:
    """A store with right checksums and any content."""
    stated = {"name": "m", "digest": "0", "settings": {}}
    store = Store.create(folder, settings={"learned": "adapter", "encoder": stated} | settings)
    with store.begin() as change:
        with change.new_segment(0) as writer:
            writer.part("learned").facts({})
            for name, array in arrays.items():
                writer.part("learned").array(name, array)
        change.commit()


FLAT = np.zeros((2, 5), np.float32)


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ({}, {}),
        ({"query_down": FLAT}, {}),
        ({"query_down": FLAT, "query_up": FLAT[:1]}, {}),
        ({"query_down": FLAT, "query_up": FLAT[:, :4]}, {}),
        ({"query_down": FLAT, "query_up": FLAT * np.nan}, {}),
        ({"query_down": FLAT, "query_up": FLAT.astype(np.int32)}, {}),
        ({"query_down": FLAT[:0], "query_up": FLAT[:0]}, {}),
        ({"query_down": FLAT[0], "query_up": FLAT[0]}, {}),
        ({"query_down": FLAT, "query_up": FLAT}, {"encoder": {"name": "m"}}),
        ({"query_down": FLAT, "query_up": FLAT}, {"encoder": [1]}),
    ],
)
def test_forged_folders_are_damaged(
    arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any], tmp_path: Path
) -> None:
    forged(tmp_path, arrays, **settings)
    with pytest.raises(Damaged):
        Adapter.load(tmp_path)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    adapter = made(HashingEncoder(8))
    with pytest.raises(UsageError, match="no ragstone folder"):
        Adapter.load(tmp_path)
    Store.create(tmp_path / "c", settings={"indexes": {}})
    for act in (adapter.save, Adapter.load):
        with pytest.raises(UsageError, match="nothing that was learned"):
            act(tmp_path / "c")
    adapter.save(tmp_path / "a")
    with pytest.raises(UsageError, match="holds a learned adapter"):
        load_learned(tmp_path / "a", "tower", {})
    Store.create(tmp_path / "e", settings={"learned": "adapter"})
    with pytest.raises(UsageError, match="nothing that was learned is in it yet"):
        Adapter.load(tmp_path / "e")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    made(HashingEncoder(8)).save(tmp_path)
    file = next(tmp_path.rglob("*query_up.npy"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(Damaged):
        Adapter.load(tmp_path)


def test_what_the_plain_encoder_wants_of_passages_is_kept() -> None:
    """Title or none, alone or in the document: the adapter changes vectors and nothing else."""

    class Reader(HashingEncoder):
        prepend, late_chunking = "none", True

        def encode_documents(self, documents):
            return self.encode_passages([one.text for one in documents])

    plain = Reader(16)
    down, up = np.random.default_rng(0).standard_normal((2, 3, 16), dtype=np.float32)
    both = Adapter(plain.fingerprint, LowRank(down, up), LowRank(up, down), {})
    adapted = AdaptedEncoder(plain, both)
    assert (adapted.prepend, adapted.late_chunking) == ("none", True)
    found = adapted.encode_documents([ChunkedText("two words", [(0, 9)])])
    np.testing.assert_array_equal(found, LowRank(up, down)(plain.encode_passages(["two words"])))
    usual = AdaptedEncoder(HashingEncoder(16), replace(both, passage=None))
    assert (usual.prepend, usual.late_chunking) == ("title", False)
