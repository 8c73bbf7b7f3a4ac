"""What is shipped is what stands here, and importing it stays light."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(("ragstone", *init.parent.relative_to(ROOT).parts))
        for init in ROOT.glob("**/__init__.py")
        if not {".venv", "build"} & set(init.relative_to(ROOT).parts)
    }
    assert set(listed) == folders


def test_importing_ragstone_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import socket, sys, time; socket.socket = None; begin = time.perf_counter();"
        "import ragstone; took = time.perf_counter() - begin;"
        "heavy = {'torch', 'transformers', 'numba', 'faiss', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy; assert took < 0.2, took"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_explains_itself_without_loading_the_library() -> None:
    code = (
        "import sys; from ragstone.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numba', 'numpy', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for verb in ("index", "search", "ask", "eval", "info", "verify", "log", "compact", "restore"):
        assert verb in shown.stdout
