"""Every kind of index through the command line: built, found in, updated, extended, measured.

Models are small and random, so what they find means nothing; but it has to be what their keys say
when they are multiplied by hand, in every process and however the passages came in.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.indexes.collection import Collection
from ragstone.models.one_pass import OnePass
from ragstone.models.passage_text import passage_keys, passage_text
from ragstone.models.sparse_prompted_pass import PromptedPass
from ragstone.pipeline import Library
from ragstone.pipeline import intake as intake_module
from ragstone.pipeline.encoders import encoder_of
from ragstone.pipeline.recipes import GROUPS, RECIPES
from ragstone.pipeline.wanted import wanted
from ragstone.records import JSON, Passage, TokenVectors

from . import small_models, sparse_folders
from .conftest import MakeBert
from .decoders import make_decoder
from .test_cli import beir, failing, run

pytest.importorskip("torch").set_num_threads(1)

MakeModel = Callable[[Path, int], Path]
Scores = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """How a kind is tested: which model it gets, and options that make its keys exact."""

    model: str | None = None
    options: dict[str, JSON] = field(default_factory=dict)


EXACT: dict[str, JSON] = {"dtype": "float32"}
CODES: dict[str, JSON] = {**EXACT, "codes": "float16"}
KINDS = {
    "bm25": Kind(),
    "dense": Kind("bert", EXACT),
    "late": Kind("bert", CODES),
    "splade": Kind("masked", EXACT),
    "tilde": Kind("tilde", EXACT),
    "m3-dense": Kind("m3", EXACT),
    "m3-sparse": Kind("m3", EXACT),
    "m3-multi": Kind("m3", CODES),
    "weights": Kind(None, {"made_by": "hand"}),
    "promptreps-dense": Kind("decoder", EXACT),
    "promptreps-sparse": Kind("decoder", EXACT),
}
MODELLED = [name for name, kind in KINDS.items() if kind.model]
QUERY = "q book of e library"
QUERY_TERMS = "q book e library"


def some_text(random: np.random.Generator, words: int) -> str:
    known = ["book", "library", "the", "of", *"abcdefgh"]
    return " ".join(random.choice(known, words))


RANDOM = np.random.default_rng(5)
PASSAGES = [
    Passage(f"d{i}", some_text(RANDOM, 4 + i % 9), "hijklm"[i % 6], {"year": 2000 + i})
    for i in range(20)
]
PASSAGES[7] = Passage("d7", "a q library of a q book", "t", {"year": 2007})
LATER = [Passage("d3", "the q book", "u"), Passage("d90", "q of library", "v")]


def write_passages(path: Path, passages: Sequence[Passage]) -> Path:
    lines = [
        {"id": one.id, "title": one.title, "text": one.text, "metadata": dict(one.metadata)}
        for one in passages
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_weights(path: Path, passages: Sequence[Passage]) -> Path:
    lines = [
        {"id": one.id, "contents": one.text, "vector": {w: 1.5 for w in one.text.split()}}
        for one in passages
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@dataclass(frozen=True)
class World:
    """Models and sources that all tests share; each kind's collection is built once."""

    folder: Path
    make_bert: MakeBert
    built: dict[str, Path] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.folder / "passages.jsonl"

    def model(self, name: str, seed: int = 2) -> Path:
        folder = self.folder / f"{name}-{seed}"
        if not folder.exists():
            makers: dict[str, MakeModel] = {
                "bert": lambda folder, seed: self.make_bert(seed=seed).rename(folder),
                "masked": lambda folder, seed: sparse_folders.masked_model(folder, seed=seed),
                "tilde": small_models.tildev2,
                "m3": small_models.three_outputs,
                "decoder": lambda folder, seed: make_decoder(folder, seed=seed),
            }
            makers[name](folder, seed)
        return folder

    def asked(self, kind: str, *, model: Path | None = None, name: str = "") -> list[str]:
        """The words of the command line that ask for this kind."""
        name = name or kind
        one = KINDS[kind]
        words = ["--with", f"{name}={kind}"]
        if one.model:
            words += ["--model", f"{name}={model or self.model(one.model)}"]
        for option, value in self.options(kind).items():
            words += ["--set", f"{name}.{option}={value}"]
        return words

    def options(self, kind: str) -> dict[str, JSON]:
        own: dict[str, JSON] = dict(KINDS[kind].options)
        return own | ({"file": str(self.folder / "weights.jsonl")} if kind == "weights" else {})

    def collection(self, kind: str) -> Path:
        if kind not in self.built:
            folder = self.folder / f"{kind}.ragstone"
            assert run("index", self.source, "--to", folder, *self.asked(kind)) == 0
            self.built[kind] = folder
        return self.built[kind]

    def copy(self, kind: str, target: Path) -> Path:
        return Path(shutil.copytree(self.collection(kind), target))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, make_bert: MakeBert) -> World:
    world = World(tmp_path_factory.mktemp("kinds"), make_bert)
    write_passages(world.source, PASSAGES)
    write_weights(world.folder / "weights.jsonl", [*PASSAGES, *LATER])
    return world


def test_every_kind_is_tested_here() -> None:
    assert list(KINDS) == list(RECIPES)
    assert {one for members in GROUPS.values() for one in members} <= set(KINDS)


every_kind = pytest.mark.parametrize("kind", RECIPES)
every_model = pytest.mark.parametrize("kind", MODELLED)


def query_of(kind: str) -> str:
    return QUERY_TERMS if kind == "weights" else QUERY


def found(folder: Path, using: str, k: int = 50) -> list[tuple[str, float]]:
    hits = Library.open(folder).search(query_of(using), k, using=using)
    return [(hit.passage.id, hit.score) for hit in hits]


def by_hand(folder: Path, kind: str, passages: Sequence[Passage]) -> Scores:
    """Scores of all passages that have one: keys multiplied, one by one."""
    encoder = encoder_of(Collection.open(folder), kind)
    keys = passage_keys(encoder, passages)
    query = encoder.encode_queries([query_of(kind)])
    if kind == "bm25":
        return bm25_by_hand([passage_text(one) for one in passages], passages, encoder)
    scores = products(query, keys)
    return {p.id: float(s) for p, s in zip(passages, scores, strict=True) if np.isfinite(s)}


def products(query: Any, keys: Any) -> np.ndarray:
    if isinstance(keys, np.ndarray):
        unit = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-30)
        return np.asarray(unit @ (query[0] / np.linalg.norm(query[0])))
    if isinstance(keys, TokenVectors):
        texts = np.split(keys.vectors, keys.offsets[1:-1])
        return np.array([(t @ query.vectors.T).max(0).sum() if len(t) else -np.inf for t in texts])
    asked = terms(query, 0)
    rows = [terms(keys, row) for row in range(len(keys))]
    shared = [[asked[term] * row[term] for term in asked if term in row] for row in rows]
    return np.array([sum(one) if one else -np.inf for one in shared])


def terms(keys: Any, row: int) -> dict[bytes, float]:
    span = slice(keys.offsets[row], keys.offsets[row + 1])
    names = [keys.vocabulary[id] for id in keys.ids[span]]
    return dict(zip(names, keys.weights[span].tolist(), strict=True))


def bm25_by_hand(texts: Sequence[str], passages: Sequence[Passage], encoder: Any) -> Scores:
    keys, query = encoder.encode_passages(texts), terms(encoder.encode_queries([QUERY]), 0)
    rows = [terms(keys, row) for row in range(len(keys))]
    mean = keys.lengths.mean()
    scores: Scores = {}
    for one, row, length in zip(passages, rows, keys.lengths.tolist(), strict=True):
        for term in query.keys() & row.keys():
            having = sum(term in other for other in rows)
            weight = np.log(1 + (len(rows) - having + 0.5) / (having + 0.5))
            share = row[term] / (row[term] + 0.9 * (1 - 0.4 + 0.4 * length / mean))
            scores[one.id] = scores.get(one.id, 0.0) + weight * share
    return scores


def assert_as_by_hand(folder: Path, kind: str, passages: Sequence[Passage]) -> None:
    expected, hits = by_hand(folder, kind, passages), found(folder, kind)
    assert expected and dict(hits) == pytest.approx(expected, rel=2e-3, abs=2e-3)
    scores = [score for _, score in hits]
    assert scores == sorted(scores, reverse=True)


@every_kind
def test_a_search_finds_what_the_keys_say(kind: str, world: World) -> None:
    assert_as_by_hand(world.collection(kind), kind, PASSAGES)
    if kind in ("bm25", "weights"):
        assert found(world.collection(kind), kind)[0][0] == "d7"


def test_a_new_process_finds_the_same(world: World) -> None:
    asked = [(str(world.collection(kind)), query_of(kind)) for kind in RECIPES]
    script = (
        "import sys, json; from ragstone.cli import main\n"
        "for folder, query in json.loads(sys.argv[1]):\n"
        "    assert main(['search', folder, query, '-k', '50', '--json']) == 0; print('--')\n"
    )
    command = [sys.executable, "-c", script, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for kind, shown in zip(RECIPES, done.stdout.split("--\n"), strict=False):
        hits = [json.loads(line) for line in shown.splitlines()]
        assert [(hit["id"], hit["score"]) for hit in hits] == found(world.collection(kind), kind)


@every_kind
def test_an_update_adds_and_replaces(kind: str, world: World, tmp_path: Path) -> None:
    folder = world.copy(kind, tmp_path / "c")
    assert (
        run("index", write_passages(tmp_path / "l.jsonl", LATER), "--to", folder, "--update") == 0
    )
    now = [one for one in PASSAGES if one.id != "d3"] + LATER
    assert_as_by_hand(folder, kind, now)


@every_kind
def test_an_interrupted_build_is_resumed(
    kind: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "BATCH", 8)
    take, batches = intake_module.Intake._take, []

    def interrupted(self: Any, *arguments: Any) -> None:
        batches.append(1)
        if len(batches) == 2:
            raise KeyboardInterrupt
        take(self, *arguments)

    monkeypatch.setattr(intake_module.Intake, "_take", interrupted)
    words = world.asked(kind)
    assert run("index", world.source, "--to", tmp_path / "c", *words) == 130
    assert len(Collection.open(tmp_path / "c")) == 8
    assert run("index", world.source, "--to", tmp_path / "c", "--resume", *words) == 0
    expected = dict(found(world.collection(kind), kind))
    assert dict(found(tmp_path / "c", kind)) == pytest.approx(expected, abs=1e-5)


@every_kind
def test_an_index_may_come_later(kind: str, world: World, tmp_path: Path) -> None:
    folder = world.copy("bm25", tmp_path / "c")
    assert run("extend", folder, *world.asked(kind, name="new")) == 0
    library = Library.open(folder)
    hits = library.search(query_of(kind), 50, using="new")
    expected = dict(found(world.collection(kind), kind))
    assert {hit.passage.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert library.systems == ("bm25", "new", "hybrid")
    assert len(library.search(query_of(kind), 5, using="bm25+new")) == 5


@every_kind
def test_info_tells_what_is_there(
    kind: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = world.collection(kind)
    capsys.readouterr()
    assert run("info", folder, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["passages"] == 20
    (index,) = record["indexes"].values()
    assert index["bytes"] > 0 and index["encoder"]
    assert run("info", folder) == 0
    assert kind in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind for kind, one in RECIPES.items() if one.variants])
def test_all_variants_find_the_same_in_little_data(kind: str, world: World, tmp_path: Path) -> None:
    variants = list(RECIPES[kind].variants)
    words = ["--with", ",".join(f"{one}={kind}:{one}" for one in variants)]
    small = {"least_rows": 8, "lists": 2} if "hnsw" in variants else {}
    for one in variants:
        if model := KINDS[kind].model:
            words += ["--model", f"{one}={world.model(model)}"]
        for option, value in (world.options(kind) | small).items():
            words += ["--set", f"{one}.{option}={value}"]
    assert run("index", world.source, "--to", tmp_path / "c", *words) == 0
    library = Library.open(tmp_path / "c")
    expected = dict(found(world.collection(kind), kind))
    for one in variants:
        assert library.collection.families[one].settings["search"] == one
        hits = {hit.passage.id: hit.score for hit in library.search(query_of(kind), 50, using=one)}
        assert hits == pytest.approx(expected, abs=1e-5)


# --- groups


@pytest.mark.parametrize(("group", "model"), [("m3", "m3"), ("promptreps", "decoder")])
def test_a_group_takes_one_pass_of_its_model(
    group: str, model: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "BATCH", 16)
    monkeypatch.setattr(intake_module, "SLICE", 4)
    passes = texts_of_passes(monkeypatch)
    words = ["--with", f"x={group}", "--model", world.model(model)]
    assert run("index", world.source, "--to", tmp_path / "c", *words) == 0
    assert sorted(Collection.open(tmp_path / "c").families) == sorted(
        "x" + kind.removeprefix(group) for kind in GROUPS[group]
    )
    of_passages = [text for texts in passes for text in texts if text in TEXTS]
    assert sorted(of_passages) == sorted(TEXTS)
    assert sum(bool(TEXTS & {*texts}) for texts in passes) == 5
    passes.clear()
    folder = world.copy("bm25", tmp_path / "later")
    assert run("extend", folder, *words) == 0
    of_passages = [text for texts in passes for text in texts if text in TEXTS]
    assert sorted(of_passages) == sorted(TEXTS)
    words = ["--with", group, "--model", world.model(model)]
    assert run("extend", folder, *words) == 0
    library = Library.open(folder)
    assert library.search(QUERY, using=group) == library.search(
        QUERY, using="+".join(GROUPS[group])
    )


TEXTS = {passage_text(one) for one in PASSAGES}


def texts_of_passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every pass of a model that several encoders share, from now on."""
    passes: list[list[str]] = []
    for place in (OnePass, PromptedPass):
        own = place._run

        def noted(self: Any, texts: Sequence[str], *more: Any, own: Any = own) -> Any:
            passes.append(list(texts))
            return own(self, texts, *more)

        monkeypatch.setattr(place, "_run", noted)
    return passes


# --- measured


@every_kind
def test_an_evaluation_uses_its_index_again(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = world.folder / "beir"
    if not data.exists():
        beir(data)
    weights = [Passage(f"d{n}", word) for n, word in enumerate(["owl", "eel", "bee", "stork"])]
    write_weights(tmp_path / "w.jsonl", weights)
    words = [*world.asked(kind), "--out", tmp_path / "out", "--json"]
    if kind == "weights":
        words += ["--set", f"weights.file={tmp_path / 'w.jsonl'}"]
    capsys.readouterr()
    shown = []
    for _ in range(2):
        assert run("eval", data, *words) == 0
        shown.append(capsys.readouterr())
    first, again = (json.loads(one.out) for one in shown)
    assert first["system"] == kind and first["measures"] == again["measures"]
    assert ["indexing" in one.err for one in shown] == [True, False]
    if kind in ("bm25", "weights"):
        assert first["measures"]["nDCG@10"] == 1


# --- refused


@every_model
def test_another_model_in_its_place_is_refused(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(KINDS[kind].model)
    here, folder = tmp_path / "model", tmp_path / "c"
    shutil.copytree(world.model(name), here)
    assert run("index", world.source, "--to", folder, *world.asked(kind, model=here)) == 0
    built = Collection.open(folder).encoders[kind].digest
    shutil.rmtree(here)
    assert "no model" in failing(capsys, 3, "search", folder, "book")
    shutil.copytree(world.model(name, seed=4), here)
    other = world.asked(kind, model=here)
    digest = wanted([kind], str(here), {kind: world.options(kind)})[0].encoder().fingerprint.digest
    for words in (("search", folder, "book"), ("index", world.source, "--to", folder, "--update")):
        said = failing(capsys, 7, *words)
        assert built[:8] in said and digest[:8] in said and f"'{kind}'" in said
    again = ("index", world.source, "--to", folder, "--update", *other)
    assert failing(capsys, 7, *again)


@every_kind
def test_what_is_wrong_is_said_in_one_line(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = ("index", world.source, "--to", tmp_path / "c")
    said = failing(capsys, 2, *index, *world.asked(kind), "--set", f"{kind}.colour=1")
    assert "no option 'colour'. There are: " in said
    if KINDS[kind].model:
        gone = failing(capsys, 3, *index, *world.asked(kind, model=tmp_path / "none"))
        assert "no model" in gone and "Give the path of a folder" in gone
        if not RECIPES[kind].default:
            assert "--model" in failing(capsys, 2, *index, "--with", kind)
    else:
        assert "takes none" in failing(
            capsys, 2, *index, *world.asked(kind), "--model", f"{kind}=x"
        )
    assert not (tmp_path / "c").exists()


@every_model
def test_other_models_are_taken_or_refused_in_one_line(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takes_any = kind in ("dense", "late", "m3-dense")  # all that has token vectors
    others = {"bert", "masked", "tilde", "m3", "decoder"} - {KINDS[kind].model}
    for name in {"decoder"} if takes_any else others:
        folder = tmp_path / name
        words = ("index", world.source, "--to", folder, *world.asked(kind, model=world.model(name)))
        if takes_any:
            assert run(*words) == 0 and run("search", folder, QUERY) == 0
        else:
            assert str(world.model(name)) in failing(capsys, 3, *words)
            assert not folder.exists()


def test_only_passages_count_as_cut(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fixed texts by which an encoder is known again are longer than this model reads."""
    words = ["--with", "late", "--model", world.model("bert")]
    long = Passage("long", "the book " * 40)
    for passages, cut in ((PASSAGES, 0), ([*PASSAGES, long], 1)):
        source = write_passages(tmp_path / f"{cut}.jsonl", passages)
        capsys.readouterr()
        assert run("index", source, "--to", tmp_path / f"c{cut}", *words) == 0
        said = capsys.readouterr().err
        assert (f"1 of {len(passages)} passages are longer than the 48 tokens" in said) == bool(cut)
        assert bool(said) == bool(cut)


def test_an_evaluation_asks_by_what_was_learned(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = beir(tmp_path / "toy")
    queries = [{"_id": f"q{n}", "text": f"the {word}"} for n, word in enumerate("abcdefghijkl")]
    (data / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    rows = "".join(f"q{n}\td{n % 4}\t1\n" for n in range(12))
    for split in ("train", "test"):
        (data / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    words = ("eval", data, "--model", "hashing", "--out", tmp_path / "out", "--using")
    assert "--using near" in failing(capsys, 2, *words, "dense:hnsw")
    assert not (tmp_path / "out").exists()
    assert run(*words, "dense") == 0
    assert "Run: ragstone train" in failing(capsys, 2, *words, "dense:tower")
    index = tmp_path / "out" / "index.ragstone"
    generation = Collection.open(index).generation
    assert run("train", "adapter", index, data) == 0
    assert run(*words, "dense,dense:adapter") == 0
    assert Collection.open(index).generation == generation
    assert (tmp_path / "out" / "runs" / "dense%3Aadapter.trec").exists()
