"""Passages of low quality are left out of a collection that is there, and can be brought back."""

import json
from pathlib import Path

import pytest

from ragstone.cli import main
from ragstone.errors import UsageError
from ragstone.indexes.collection import Collection
from ragstone.pipeline import build
from ragstone.pipeline.prune import prune

GOOD = "the council of the town keeps a library of the books of the valley"
NOISE = "xq xq xq zw zw zw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "x.jsonl"
    texts = [NOISE if i % 5 == 0 else f"{GOOD} {i}" for i in range(20)]
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    source.write_text("\n".join(lines))
    build(source, tmp_path / "c", using=("bm25",))
    return tmp_path / "c"


@pytest.mark.parametrize("by", ["distance", "noise"])
def test_the_worst_passages_go_in_one_commit(folder: Path, by: str) -> None:
    before = Collection.open(folder)
    after, gone = prune(folder, 0.2, by=by)
    assert (gone, len(after), after.generation) == (4, 16, before.generation + 1)
    assert not any(passage.text == NOISE for passage in after.passages)
    assert len(Collection.restore(folder, to=before.generation)) == 20


def test_nothing_goes_for_nothing(folder: Path) -> None:
    generation = Collection.open(folder).generation
    after, gone = prune(folder, 0.01)
    assert (gone, after.generation) == (0, generation)


def test_what_makes_no_sense_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="prune=1.5"):
        prune(folder, 1.5)
    for by, model in (("model", None), ("length", None), ("noise", "a/model")):
        with pytest.raises(UsageError, match="Use 'distance', 'noise', or 'model'"):
            prune(folder, 0.1, by=by, model=model)


def test_the_command_says_how_to_take_it_back(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", str(folder), "--share", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pruned"] == 4
    assert main(["prune", str(folder), "--share", "0.5"]) == 0
    assert "8 passages left out, 8 kept" in capsys.readouterr().out
