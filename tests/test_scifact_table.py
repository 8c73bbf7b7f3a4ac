"""benchmarks/scifact.py: what it takes for granted, that it goes on, and one run of all of it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ragstone.indexes.inverted import Inverted
from ragstone.models.analyzer import Analyzer
from ragstone.models.bi_encoder import BiEncoder
from ragstone.models.matryoshka import unit

MakeBert = Callable[..., Path]
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = ("scifact", "scifact_data", "scifact_indexes", "scifact_pictures", "adapters")
WORDS = "library book the of a quiet reader shelf catalogue title author lends keeps finds".split()


@pytest.fixture(scope="module")
def scripts() -> Iterator[Callable[[str], ModuleType]]:
    """The benchmark's modules, by name; they import each other as scripts do."""
    before = dict(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield lambda name: __import__(name)
    sys.path.remove(str(BENCHMARKS))
    for name in NAMES:
        sys.modules.pop(name, None)
        if name in before:
            sys.modules[name] = before[name]


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """60 passages; of each the training and the test ask for some words."""
    random, folder = np.random.default_rng(0), tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = [" ".join(random.choice(WORDS, 12)) for _ in range(60)]
    lines = [{"_id": f"d{n}", "title": "Book", "text": text} for n, text in enumerate(texts)]
    asked = [{"_id": f"q{n}", "text": " ".join(text.split()[:4])} for n, text in enumerate(texts)]
    for name, rows in (("corpus", lines), ("queries", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, places in (("train", range(0, 40)), ("test", range(30, 60))):
        pairs = "".join(f"q{n}\td{n}\t1\n" for n in places)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + pairs)
    return folder


def test_the_first_dimensions_are_what_the_encoder_gives_itself(make_bert: MakeBert) -> None:
    model = str(make_bert())
    texts = ["the library", "a book of the reader", "shelf"]
    whole = BiEncoder(model).encode_passages(texts)
    for count in (16, 5):
        own = BiEncoder(model, dimensions=count).encode_passages(texts)
        assert np.allclose(unit(whole[:, :count]), own, atol=1e-6)


def test_impacts_are_the_weights_of_bm25(scripts: Callable[[str], ModuleType]) -> None:
    random, analyzer = np.random.default_rng(1), Analyzer()
    texts = [" ".join(random.choice(WORDS, random.integers(1, 60))) for _ in range(50)]
    terms = analyzer.encode_passages(texts)
    queries = analyzer.encode_queries(["quiet reader", "book book shelf", "title"])
    found = []
    for family, keys in (
        (Inverted(), terms),
        (Inverted(scoring="impact"), scripts("scifact_indexes").impacts_of(terms)),
    ):
        index = family.open([])
        index.add(np.arange(50), keys)
        neighbours = index.search(queries, 50)
        scores = np.zeros((3, 51), np.float32)
        np.put_along_axis(scores, neighbours.numbers, np.maximum(neighbours.scores, 0), 1)
        found.append(scores[:, :50])
    assert found[0].max() > 0.5
    assert np.allclose(*found, rtol=1e-3)


def test_an_interrupted_encoding_goes_on(
    beir: Path, tmp_path: Path, scripts: Callable[[str], ModuleType], monkeypatch: Any
) -> None:
    """Slices that are there are not encoded again, and the keys are those of one go."""
    from ragstone.models.hashing import HashingEncoder

    module = scripts("scifact_data")
    monkeypatch.setattr(module, "SLICE", 16)
    asked: list[int] = []

    class Failing(HashingEncoder):
        def encode_passages(self, texts: Any, **more: Any) -> Any:
            asked.append(len(texts))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().encode_passages(texts, **more)

    data = module.SciFact(beir, tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        list(module.Encoded("some", Failing(), data)())
    keys = list(module.Encoded("some", Failing(), data)())
    assert asked == [16, 16, 16, 16, 12]
    texts = [f"{passage.title} {passage.text}" for passage in data.passages]
    assert np.allclose(np.concatenate(keys), HashingEncoder().encode_passages(texts))


def test_names_in_a_picture_are_apart(scripts: Callable[[str], ModuleType]) -> None:
    module = scripts("scifact_pictures")
    random = np.random.default_rng(2)
    points = random.uniform((150, 100), (850, 500), (15, 2))
    taken = [module._box(point, (0, 0), 13, 13) for point in points]
    for point in points:
        _, box = module._free(point, 90, 14, taken, np.array([0, 0, 1000, 600]))
        assert not any(module._overlap(box, other) for other in taken)
        taken.append(box)


def test_all_of_it_on_a_small_corpus(
    beir: Path,
    tmp_path: Path,
    make_bert: MakeBert,
    scripts: Callable[[str], ModuleType],
    monkeypatch: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every system gets its row and finds what it should; a second run measures nothing again."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("faiss")
    scifact = scripts("scifact")
    monkeypatch.setattr(scifact, "ENOUGH", 0.0)
    monkeypatch.setattr(scifact, "DIMENSIONS", (16, 8))
    monkeypatch.setattr(scifact, "LAYERS", 1)
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    command = [str(beir), "--model", str(make_bert()), *places]
    scifact.main(command)
    table = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out/scifact.jsonl").read_text().splitlines()]
    by_name = {row["system"]: row for row in rows}
    assert len(table.splitlines()) == len(rows) + 2
    assert by_name["bm25"]["nDCG@10"] > 0.5
    assert by_name["impacts"]["nDCG@10"] == pytest.approx(by_name["bm25"]["nDCG@10"], abs=0.02)
    assert by_name["dense float16"]["bytes"] < by_name["dense"]["bytes"]
    assert by_name["bm25+dense rrf"]["bytes"] == pytest.approx(
        by_name["bm25"]["bytes"] + by_name["dense"]["bytes"]
    )
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["scifact-bytes.png", "scifact-latency.png"]
    monkeypatch.setattr(scifact.Measuring, "row", None)
    scifact.main(command)
    assert capsys.readouterr().out == table
