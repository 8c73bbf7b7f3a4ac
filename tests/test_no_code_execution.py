"""Nothing that is read can run code: no pickle, no eval and no code from models, anywhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ragstone

ROOT = Path(ragstone.__file__).parent
PACKAGES = ["cli", "corpus", "eval", "generation", "indexes", "models", "pipeline", "rerank"]
PACKAGES += ["retrieval", "storage"]
SOURCES = sorted(ROOT.glob("*.py")) + [p for one in PACKAGES for p in (ROOT / one).rglob("*.py")]

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("faiss", "read_index"),
    ("numba", "pycc"),
}
FLAGS = {"allow_pickle", "trust_remote_code", "shell"}


def is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in MODULES:
                    yield module
                yield from (
                    f"{module}.{one.name}" for one in names if (module, one.name) in ATTRIBUTES
                )
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name
            case ast.Attribute(value=ast.Name(id=owner), attr=attr) if (owner, attr) in ATTRIBUTES:
                yield f"{owner}.{attr}"
            case ast.keyword(arg=str(flag), value=value) if flag in FLAGS:
                if not is_false(value):
                    yield flag
            case ast.Dict(keys=keys, values=values):
                yield from (
                    str(key.value)
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(key, ast.Constant) and key.value in FLAGS and not is_false(value)
                )


def test_the_package_has_nothing_that_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    found = {
        str(path.relative_to(ROOT)): offence
        for path in SOURCES
        for offence in offences(ast.parse(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=yes)",
        "torch.load(path)",
        "from torch import load",
        "yaml.load(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, **{'trust_remote_code': True})",
        "faiss.read_index(path)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_for_it_finds_it(line: str) -> None:
    assert list(offences(ast.parse(line)))


def test_the_search_for_it_leaves_the_rest_alone() -> None:
    fine = "np.load(p, **{'allow_pickle': False}); np.load(p, allow_pickle=False); re.compile(x)"
    fine += "; json.load(f); model.eval(); load(1)"
    assert not list(offences(ast.parse(fine)))


ASSERTS = {
    "corpus/folder.py": 1,  # a piece of a folder without a problem is a path
    "eval/measures.py": 2,  # a measure that is cut off has a cutoff: its name was parsed
    "indexes/multivector_search.py": 1,  # what the constructor has set for this kind of search
    "indexes/multivector_write.py": 1,  # the parts of an index have the same arrays: open checks
    "indexes/vector_graph.py": 1,  # keeps an object alive
    "indexes/vector_pq.py": 1,  # the same
    "models/bi_encoder.py": 2,  # what the constructor has set for this kind of model
    "models/given_weights.py": 1,  # the same
    "models/sparse_splade.py": 1,
    "models/tilde.py": 2,
    "models/token_encoder.py": 2,
    "retrieval/lucene.py": 2,
}
"""How many `assert` each file has; none of them guards against what comes from outside."""


def test_every_assert_was_looked_at() -> None:
    """`python -O` drops them: an input that has to be refused takes an exception."""
    found: dict[str, int] = {}
    for path in SOURCES:
        count = sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))
        if count:
            found[str(path.relative_to(ROOT))] = count
    assert found == ASSERTS


JOURNEY = """
import builtins, json, pickle, sys
from pathlib import Path

from ragstone.cli import main

folder = Path(sys.argv[1])
(folder / "beir/qrels").mkdir(parents=True)
texts = {f"d{i}": f"fact {i} about colour{i % 7} and shape{i % 5}" for i in range(40)}
lines = [json.dumps({"_id": id, "title": "", "text": text}) for id, text in texts.items()]
(folder / "beir/corpus.jsonl").write_text("\\n".join(lines))
queries = [json.dumps({"_id": f"q{i}", "text": f"colour{i} fact"}) for i in range(5)]
(folder / "beir/queries.jsonl").write_text("\\n".join(queries))
qrels = ["query-id\\tcorpus-id\\tscore", *(f"q{i}\\td{i}\\t1" for i in range(5))]
(folder / "beir/qrels/test.tsv").write_text("\\n".join(qrels))


def journey(to):
    with_both = ["--with", "bm25,dense", "--model", "hashing"]
    assert main(["index", str(folder / "beir"), "--to", str(to), *with_both]) == 0
    assert main(["search", str(to), "colour3", "-k", "2"]) == 0
    assert main(["ask", str(to), "which fact is about colour3?"]) == 0
    runs = ["--using", "bm25,dense,hybrid", "--model", "hashing", "--out", f"{to}-runs"]
    assert main(["eval", str(folder / "beir"), *runs]) == 0
    assert main(["compact", str(to)]) == 0
    assert main(["verify", str(to), "--deep"]) == 0


# Numba keeps compiled kernels in a cache of its own, next to the package or in NUMBA_CACHE_DIR,
# and reads it with pickle. That is code of this installation and not data: it is exempt here, by
# loading all kernels in a first journey. Whoever can write there can change the package as well.
journey(folder / "first")


class Forbidden:
    def __init__(self, *_, **__):
        raise AssertionError("pickle was used")


def forbidden(*_, **__):
    raise AssertionError("pickle was used")


pickle.load = pickle.loads = forbidden
pickle.Unpickler = pickle._Unpickler = Forbidden
builtins.eval = builtins.exec = forbidden
journey(folder / "second")
print("no pickle")
"""


def test_a_whole_journey_reads_no_pickle(tmp_path: Path) -> None:
    """Index, search, ask, evaluate, compact and verify, in a process in which pickle raises."""
    command = [sys.executable, "-c", JOURNEY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("no pickle\n")
