"""The README does what it says: its example runs, its links lead somewhere, its scripts exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_answers_from_a_folder_of_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "lease.md").write_text(
        "# Lease\n\nRent is due on the first. The notice period is three months.\n"
    )
    (tmp_path / "handbook" / "bees.txt").write_text("Bees dance to tell where flowers are.\n")
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert "lease.md" in shown[0]
    assert "The notice period is three months. [1]" in shown
    assert re.fullmatch(r"lease\.md \d+ \d+", shown[-1])


def test_links_and_scripts_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    scripts = re.findall(r"benchmarks/\w+\.py", README)
    assert links and scripts
    missing = [path for path in (*links, *scripts) if not (ROOT / path).exists()]
    assert not missing
