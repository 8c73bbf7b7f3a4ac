"""Whoever can write to a folder can write checksums: what is behind them is not trusted either.

A process of its own (hostile_run.py) forges folders of every family of the package and uses them.
Any answer is fine, and so is any RagstoneError; a crash, a hang, another exception or memory that
the folder does not account for is not.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import Damaged, RagstoneError
from ragstone.indexes.family import OpenPart, load_family
from ragstone.pipeline import Library, build
from ragstone.records import WeightedTerms
from ragstone.storage import MemoryPart

from .forgery import WILD, leaves, signed

ROOT = Path(__file__).parents[1]
BATCH = 1_000


def attacked(folder: Path, first: int, count: int) -> tuple[Counter[str], list[Any]]:
    """The outcomes of some seeds, and what must not have happened."""
    command = [sys.executable, "-m", "tests.hostile_run", str(folder), str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    findings = [one for one in said if "outcomes" not in one]
    outcomes: Counter[str] = Counter()
    for one in said:
        outcomes.update(one.get("outcomes", {}))
    if done.returncode:
        seed = folder / "seed"
        died = {"seed": seed.read_text() if seed.exists() else None, "code": done.returncode}
        findings.append(died | {"said": done.stderr[-3000:]})
    return outcomes, findings


def test_forged_folders_are_used_or_refused(tmp_path: Path) -> None:
    outcomes, findings = attacked(tmp_path, 0, 250)
    assert not findings
    assert sum(outcomes.values()) == 250
    # Few forgeries would mean that checks elsewhere hide what this is about.
    assert min(outcomes["open"], outcomes["later"], outcomes["none"]) > 10


@pytest.mark.long
def test_many_forged_folders_are_used_or_refused(tmp_path: Path) -> None:
    for first in range(1_000_000, 1_020_000, BATCH):
        outcomes, findings = attacked(tmp_path, first, BATCH)
        assert not findings
        assert sum(outcomes.values()) == BATCH


def test_forged_settings_of_a_library_are_used_or_refused(tmp_path: Path) -> None:
    """Families, fingerprints and canary vectors, each of their values replaced by wild ones."""
    source, folder = tmp_path / "x.jsonl", tmp_path / "c"
    source.write_text('{"id": "a", "text": "some words"}')
    build(source, folder, using=("bm25", "dense"), model="hashing")
    head = max(folder.glob("manifest-*"))
    manifest = json.loads(head.read_bytes())
    places = len(leaves(manifest["settings"]))
    assert places > 20
    for draw in map(random.Random, range(400)):
        forged = deepcopy(manifest)
        holder, key = leaves(forged["settings"])[draw.randrange(places)]
        holder[key] = deepcopy(draw.choice(WILD))
        head.unlink()
        head.write_bytes(signed(forged))
        with suppress(RagstoneError):
            library = Library.open(folder)
            for using in library.systems:
                with suppress(RagstoneError):
                    library.search("words", 1, using=using)


ROWS = (1 << 16) + 1000
"""Two ranges of postings, which forged folders are too small for."""


def two_ranges() -> MemoryPart:
    """`often` is in every fourth row, `always` in all, `seldom` in three."""
    held = [np.array([0, 1] if row % 4 == 0 else [1]) for row in range(ROWS)]
    for row in (5, 70, ROWS - 1):
        held[row] = np.append(held[row], 2)
    ids, family = np.concatenate(held).astype(np.int32), load_family("inverted", {})
    offsets = np.cumsum([0, *map(len, held)])
    builder, part = family.builder(), MemoryPart()
    words, weights = [b"often", b"always", b"seldom"], np.ones(len(ids), np.float32)
    builder.add(WeightedTerms(offsets, ids, weights, words, np.full(ROWS, 3, np.int32)))
    builder.write(part)
    return part


class Altered:
    """A part of which one array is another."""

    def __init__(self, part: MemoryPart, name: str, array: Any) -> None:
        self.part, self.name, self.changed = part, name, array

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def __contains__(self, name: str) -> bool:
        return name in self.part

    def array(self, name: str) -> Any:
        return self.changed if name == self.name else self.part.array(name)


def test_postings_of_several_ranges_stay_inside(tmp_path: Path) -> None:
    part, family = two_ranges(), load_family("inverted", {})
    assert family.open([OpenPart(part, 0, ROWS)]).rows == ROWS
    outside = {
        "docs": (-1, 1000),
        "sparse": (-1, ROWS << 6),
        "dense_counts": (0, 1),
        "directory": (1, 9),
        "common": (0, 3),
        "dense": (0, 0),
    }
    for name, (at, value) in outside.items():
        array = part.array(name).copy()
        assert array.reshape(-1)[at] != value
        array.reshape(-1)[at] = value
        with pytest.raises(Damaged, match="do not fit together"):
            family.open([OpenPart(Altered(part, name, array), 0, ROWS)])
