"""Learning over a collection: from a BEIR folder to something that lies beside the index."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragstone.errors import InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.vector import Vector
from ragstone.models.adapter import AdaptedEncoder, Adapter
from ragstone.models.adapter_training import AdapterTraining
from ragstone.models.analyzer import Analyzer
from ragstone.models.cosine_adapter import ScoreMap
from ragstone.models.fingerprint import canary
from ragstone.models.hashing import HashingEncoder
from ragstone.pipeline import Library
from ragstone.pipeline.learned import learned_folder
from ragstone.pipeline.training import (
    examples_from,
    judged_queries,
    train_for_adapter,
    train_for_score_map,
)
from ragstone.records import Fingerprint, Passage

pytest.importorskip("torch")
ENCODER = HashingEncoder(48, seed=2)
WORDS = [f"{a}{b}" for a in "bcdfglmnrst" for b in ("al", "em", "ir", "on", "ub", "yk")]


def texts() -> tuple[list[str], list[str]]:
    """Forty documents, and queries that name them by other words with a rule between the two."""
    random = np.random.default_rng(0)
    chosen = [random.choice(len(WORDS) - 1, 4, replace=False) for _ in range(40)]
    documents = [" ".join(WORDS[place] for place in row) for row in chosen]
    return documents, [" ".join(WORDS[place + 1] for place in row) for row in chosen]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    documents, queries = texts()
    for name, rows in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": f"{name[0]}{n}", "text": t}) for n, t in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = [f"q{n}\tc{n}\t1" for n in range(30)] + ["q1\tc2\t0", "q2\tgone\t1", "q31\tc3\t0"]
    (folder / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return folder


def collection(folder: Path, *, cut: bool = False) -> Collection:
    """The documents, whole or each as two chunks of two words."""
    documents, _ = texts()
    passages = [Passage(f"c{n}", text) for n, text in enumerate(documents)]
    if cut:
        passages = [
            Passage(f"{one.id}#{n}", part)
            for one in passages
            for n, part in enumerate(one.text.replace(" ", "|", 2).replace("|", " ", 1).split("|"))
        ]
    made = Collection.create(
        folder,
        {"dense": Vector(48), "bm25": Inverted()},
        encoders={"dense": ENCODER.fingerprint, "bm25": Analyzer().fingerprint},
        canaries={"dense": canary(ENCODER)},
    )
    written = [one.text for one in passages]
    keys = {"dense": ENCODER.encode_passages(written), "bm25": Analyzer().encode_passages(written)}
    with made.writer() as writer:
        writer.add(passages, keys)
        writer.commit()
    return made.refresh()


def test_an_adapter_from_a_collection_and_a_beir_folder(source: Path, tmp_path: Path) -> None:
    c = collection(tmp_path / "c")
    library = Library(c, encoders={"dense": ENCODER})
    assert library.systems == ("bm25", "dense", "hybrid")
    with pytest.raises(UsageError, match="Run: ragstone train {adapter,tower,score-map}"):
        library.search("word", using="dense:adapter")
    report = train_for_adapter(c, source, training=AdapterTraining(rank=8, epochs=20, decay=1))
    assert report.folder == learned_folder(c, "dense", "adapter")
    assert (report.facts["queries"], report.facts["pairs"]) == (30, 30)
    library = Library(c, encoders={"dense": ENCODER})
    assert library.systems == ("bm25", "dense", "hybrid", "dense:adapter")
    assert library.legs("bm25+dense:adapter") == ("bm25", "dense")
    query = judged_queries(source, "train")[0][3].text
    plain, better = (library.search(query, 1, using=one)[0] for one in library.systems[1::2])
    adapter = Adapter.load(report.folder)
    keys = AdaptedEncoder(ENCODER, adapter).encode_queries([query])
    assert better.score == c.indexes["dense"].search(keys, 1).scores[0, 0] != plain.score
    assert len(library.search(query, 5, using="bm25+dense:adapter")) == 5
    with pytest.raises(UsageError, match="There are: dense:adapter"):
        library.search(query, using="dense:tower")
    other = Adapter(Fingerprint("hashing-48", "0" * 64), adapter.query, None, adapter.facts)
    other.save(report.folder)
    with pytest.raises(Mismatch, match="adapter learned for hashing-48@0000"):
        library.search(query, using="dense:adapter")


def test_what_was_learned_outlives_commits_and_compaction(source: Path, tmp_path: Path) -> None:
    c = collection(tmp_path / "c")
    train_for_adapter(c, source, training=AdapterTraining(rank=2, epochs=1))
    before = Adapter.load(learned_folder(c, "dense", "adapter")).digest
    for number in range(3):
        new = Passage(f"new{number}", "new words")
        keys = {"dense": ENCODER.encode_passages([new.text]),
                "bm25": Analyzer().encode_passages([new.text])}  # fmt: skip
        with c.writer() as writer:
            writer.delete([f"c{number}"])
            writer.add([new], keys)
            writer.commit()
        c = c.refresh()
    c = c.compact()
    assert Collection.verify(c.folder, deep=True).ok
    assert Adapter.load(learned_folder(c, "dense", "adapter")).digest == before


@pytest.mark.parametrize("cut", [False, True])
def test_the_examples_are_what_was_judged(cut: bool, source: Path, tmp_path: Path) -> None:
    c = collection(tmp_path / "c", cut=cut)
    queries, qrels = judged_queries(source, "train")
    assert len(queries) == 30  # q31 has no relevant document
    examples = examples_from(c, "dense", ENCODER, queries, qrels, mined=5)
    everything = c.indexes["dense"].vectors(np.arange(len(c)))
    ids = [passage.id for passage in c.passages]
    scores = examples.queries @ everything.T
    assert len(examples.pairs) == 30
    for row, place in examples.pairs.tolist():
        number = int(np.flatnonzero((everything == examples.passages[place]).all(axis=1))[0])
        own = [n for n, id in enumerate(ids) if id.split("#")[0] == f"c{row}"]
        assert number in own and scores[row, number] == scores[row, own].max()
        others = sorted(set(range(len(ids))) - set(own), key=lambda n: -scores[row, n])[:5]
        mined = examples.passages[examples.mined[row]]
        found = -np.sort(-(mined @ examples.queries[row]))
        np.testing.assert_allclose(found, scores[row, others], atol=1e-6)


def test_a_score_map_from_a_collection(source: Path, tmp_path: Path) -> None:
    c = collection(tmp_path / "c")
    report = train_for_score_map(c, source)
    assert ScoreMap.load(report.folder).encoder == ENCODER.fingerprint


def test_what_is_refused(source: Path, tmp_path: Path) -> None:
    c = collection(tmp_path / "c")
    with pytest.raises(UsageError, match="has no index 'dens'"):
        train_for_adapter(c, source, index="dens")
    with pytest.raises(UsageError, match="'bm25' does not give vectors back"):
        train_for_adapter(c, source, index="bm25")
    with pytest.raises(InputError, match="there is no split 'dev'"):
        train_for_adapter(c, source, split="dev")
    (source / "qrels" / "other.tsv").write_text("query-id\tcorpus-id\tscore\nq1\telse\t1\n")
    with pytest.raises(InputError, match="none of the documents judged for 1 queries"):
        train_for_adapter(c, source, split="other")
