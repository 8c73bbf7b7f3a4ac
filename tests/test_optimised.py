"""`python -O` drops every assert: what has to be refused is refused all the same.

A table of calls that must raise is run in a process of its own with -O, and once as it is. (The
tests themselves would say nothing under -O: their own asserts would be gone.)
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone import errors
from ragstone.cli import main
from ragstone.corpus import open_source
from ragstone.eval.measures import parse_measure
from ragstone.indexes.collection import Collection
from ragstone.indexes.family import load_family
from ragstone.models import HashingEncoder, load_encoder
from ragstone.pipeline import Library, build
from ragstone.records import Passage, WeightedTerms
from ragstone.storage import Store

ROOT = Path(__file__).parents[1]


class Place:
    """A fresh folder with a source, and a collection over it with one index of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.at = folder, folder / "facts.jsonl", folder / "c"
        self.collection = Collection.open(self.at)
        self.library = Library.open(self.at)

    @classmethod
    def fresh(cls, folder: Path) -> "Place":
        """The first one is made, further ones beside it are copies."""
        made = folder.parent / "made"
        if not made.exists():
            made.mkdir()
            lines = [json.dumps({"id": f"d{i}", "text": f"fact {i}"}) for i in range(5)]
            (made / "facts.jsonl").write_text("\n".join(lines))
            build(made / "facts.jsonl", made / "c", using=("bm25", "dense"), model="hashing")
        return cls(shutil.copytree(made, folder))

    def keys(self, **changed: Any) -> dict[str, Any]:
        dimensions = self.collection.families["dense"].settings["dimensions"]
        vectors = np.ones((1, dimensions), np.float32)
        terms = WeightedTerms(
            np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), [b"x"],
            np.ones(1, np.int32),
        )  # fmt: skip
        return {"bm25": terms, "dense": vectors} | changed

    def add(self, id: str = "new", text: str = "x", metadata: Any = None, **keys: Any) -> None:
        with self.collection.writer() as writer:
            writer.add([Passage(id, text, "", metadata or {})], self.keys(**keys))
            writer.commit(note={})

    def terms(self, **changed: Any) -> WeightedTerms:
        own = self.keys()["bm25"]
        fields = ("offsets", "ids", "weights", "vocabulary", "lengths")
        return WeightedTerms(**{name: changed.get(name, getattr(own, name)) for name in fields})

    def search(self, index: str, k: int = 1, **changed: Any) -> None:
        keys = self.keys()[index] if "keys" not in changed else changed.pop("keys")
        self.collection.indexes[index].search(keys, k, **changed)

    def damage(self, pattern: str, change: Callable[[bytes], bytes]) -> None:
        path = sorted(self.at.rglob(pattern))[-1]
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(change(data))
        Collection.open(self.at)

    def index(self, line: str) -> None:
        bad = self.folder / "bad.jsonl"
        bad.write_text(line)
        build(bad, self.folder / "d", using=("bm25",))

    def second_writer(self) -> None:
        with self.collection.writer(), self.collection.writer():
            pass


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


WIDE = np.ones((1, 3), np.float32)
REFUSED: dict[str, tuple[str, Callable[[Place], Any]]] = {
    "k = 0, terms": ("UsageError", lambda p: p.search("bm25", 0)),
    "k = 0, vectors": ("UsageError", lambda p: p.search("dense", 0)),
    "k < 0": ("UsageError", lambda p: p.search("dense", -1)),
    "k = 0, library": ("UsageError", lambda p: p.library.search("fact", 0)),
    "filter of another size": (
        "UsageError", lambda p: p.search("dense", allowed=np.ones(2, np.bool_)),
    ),
    "filter of numbers": ("UsageError", lambda p: p.search("bm25", allowed=np.ones(5))),
    "query of another width": ("InputError", lambda p: p.search("dense", keys=WIDE)),
    "query of NaN": (
        "InputError", lambda p: p.search("dense", keys=p.keys()["dense"] * np.float32("nan")),
    ),
    "weights below 0": (
        "InputError", lambda p: p.search("bm25", keys=p.terms(weights=-np.ones(1, np.float32))),
    ),
    "a term outside": (
        "UsageError", lambda p: p.search("bm25", keys=p.terms(ids=np.array([7], np.int32))),
    ),
    "offsets outside": (
        "UsageError", lambda p: p.search("bm25", keys=p.terms(offsets=np.array([0, 9]))),
    ),
    "vector of another width": ("InputError", lambda p: p.add(dense=WIDE)),
    "vector of another type": ("InputError", lambda p: p.add(dense=p.keys()["dense"] * 1.0j)),
    "vector of zeros": ("InputError", lambda p: p.add(dense=p.keys()["dense"] * 0)),
    "half a term": (
        "InputError", lambda p: p.add(bm25=p.terms(weights=np.full(1, 0.5, np.float32))),
    ),
    "keys for no index": ("UsageError", lambda p: p.add(other=WIDE)),
    "too few keys": ("UsageError", lambda p: p.add(dense=p.keys()["dense"][:0])),
    "an id twice": ("DuplicateId", lambda p: p.add("d0")),
    "an empty id": ("InputError", lambda p: p.add("")),
    "an id of two lines": ("InputError", lambda p: p.add("a\nb")),
    "a surrogate": ("InputError", lambda p: p.add(text="\ud800")),
    "metadata of NaN": ("InputError", lambda p: p.add(metadata={"a": float("nan")})),
    "metadata of objects": ("InputError", lambda p: p.add(metadata={"a": object()})),
    "fetch of nothing": ("InputError", lambda p: p.collection.passages.fetch(["absent"])),
    "a number outside": ("UsageError", lambda p: p.collection.passages.ids(np.array([-1]))),
    "an unknown operator": (
        "UsageError", lambda p: p.collection.passages.select({"a": {"$near": 1}}),
    ),
    "a filter of NaN": (
        "UsageError", lambda p: p.collection.passages.select({"a": {"$gt": float("nan")}}),
    ),
    "an unknown family": ("Mismatch", lambda p: load_family("oracle", {})),
    "unknown settings": ("Mismatch", lambda p: load_family("vector", {"size": 3})),
    "no dimensions": ("UsageError", lambda p: load_family("vector", {"dimensions": 0})),
    "half a dimension": ("UsageError", lambda p: load_family("vector", {"dimensions": 2.5})),
    "an unknown metric": (
        "UsageError", lambda p: load_family("vector", {"dimensions": 2, "metric": "l1"}),
    ),
    "b above 1": ("UsageError", lambda p: load_family("inverted", {"b": 2})),
    "another encoder": (
        "Mismatch", lambda p: load_encoder({"class": "oracle"}),
    ),
    "an encoder of no dimensions": ("UsageError", lambda p: HashingEncoder(0)),
    "a measure of nothing": ("UsageError", lambda p: parse_measure("nDCG@0")),
    "a precision without cutoff": ("UsageError", lambda p: parse_measure("P")),
    "a judged share without cutoff": ("UsageError", lambda p: parse_measure("Judged")),
    "an unknown measure": ("UsageError", lambda p: parse_measure("luck@3")),
    "a taken folder": ("UsageError", lambda p: Collection.create(p.at, {})),
    "no folder": ("UsageError", lambda p: Collection.open(p.folder / "absent")),
    "no such generation": ("UsageError", lambda p: Collection.open(p.at, generation=99)),
    "an unknown check": ("UsageError", lambda p: Store.open(p.at, check="md5")),  # type: ignore[arg-type]
    "two writers": ("Locked", lambda p: p.second_writer()),
    "a bit of an array": ("Damaged", lambda p: p.damage("*.npy", flipped)),
    "a bit of a blob": ("Damaged", lambda p: p.damage("*.terms.bin", flipped)),
    "a bit of the manifest": ("Damaged", lambda p: p.damage("manifest-*", flipped)),
    "a cut array": ("Damaged", lambda p: p.damage("*.npy", lambda data: data[:-1])),
    "a cut format": ("Damaged", lambda p: p.damage("FORMAT", lambda data: b"")),
    "a newer format": ("Mismatch", lambda p: p.damage("FORMAT", lambda data: b"ragstone 9\n")),
    "no source": ("InputError", lambda p: open_source(p.folder / "absent")),
    "a line that is no JSON": ("InputError", lambda p: p.index("{")),
    "a line without id": ("InputError", lambda p: p.index('{"text": "x"}')),
    "a line of NaN": ("InputError", lambda p: p.index('{"id": "a", "text": "x", "y": NaN}')),
    "ids twice": ("DuplicateId", lambda p: p.index('{"id": "a", "text": "x"}\n' * 2)),
    "a deep line": ("InputError", lambda p: p.index("[" * 100_000)),
    "no document": ("InputError", lambda p: p.index("")),
    "an unknown index": (
        "UsageError", lambda p: build(p.source, p.folder / "e", using=("magic",)),
    ),
    "an unknown system": ("UsageError", lambda p: p.library.search("x", using="magic")),
}  # fmt: skip


def verdict(folder: Path, case: tuple[str, Callable[[Place], Any]]) -> str:
    """Empty when the call raised what it has to raise, with a message; else what it did."""
    wanted, call = case
    try:
        call(Place.fresh(folder))
    except errors.RagstoneError as error:
        right = isinstance(error, getattr(errors, wanted)) and str(error)
        return "" if right else repr(error)
    except Exception as error:
        return repr(error)
    return "nothing was raised"


def verdicts(folder: Path) -> dict[str, str]:
    said = {name: verdict(folder / str(i), case) for i, (name, case) in enumerate(REFUSED.items())}
    return {name: one for name, one in said.items() if one}


def test_what_has_to_be_refused_is_refused(tmp_path: Path) -> None:
    assert verdicts(tmp_path) == {}


def run(*arguments: str, cwd: Path = ROOT) -> Sequence[Any]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_refused_without_asserts_too(tmp_path: Path) -> None:
    """`debug` shows that -O was on; exit codes are those of the command line."""
    said = run("-O", "-m", "tests.test_optimised", str(tmp_path))
    assert said == {"debug": False, "verdicts": {}, "codes": [0, 2, 3, 4]}


def codes(place: Place) -> list[int]:
    """The exit codes of a search, a bad k, a bad source and a damaged collection."""
    at, empty = str(place.at), place.folder / "empty.jsonl"
    empty.write_text("")
    found = [main(["search", at, "fact"]), main(["search", at, "fact", "-k", "0"])]
    found.append(main(["index", str(empty), "--to", str(place.folder / "f"), "--with", "bm25"]))
    with (place.at / "FORMAT").open("w") as file:
        file.write("x")
    return [*found, main(["search", at, "fact"])]


if __name__ == "__main__":
    where = Path(sys.argv[1])
    outcome = verdicts(where)
    exits = codes(Place.fresh(where / "codes"))
    print(json.dumps({"debug": __debug__, "verdicts": outcome, "codes": exits}))
