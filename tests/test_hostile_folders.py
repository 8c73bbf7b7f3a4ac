"""Whoever can write to a folder can write checksums: what is behind them is not trusted either.

A process of its own (hostile_run.py) forges folders of every family of the package and uses them.
Any answer is fine, and so is any RagstoneError; a crash, a hang, another exception or memory that
the folder does not account for is not.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

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
