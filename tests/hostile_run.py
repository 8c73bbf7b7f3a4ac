"""Use forged folders in every way, in a process of its own: it may die of it.

    python -m tests.hostile_run FOLDER FIRST COUNT [CASE]

For the seeds FIRST to FIRST + COUNT a folder is forged, opened, searched, read, filtered, added
to and compacted. Every step works or raises a RagstoneError. A line of JSON a finding: what else
was raised, or how much memory was taken; the last line has the counts. FOLDER/seed holds the seed
in work, for whoever finds this process dead.
"""

import faulthandler
import json
import random
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ragstone.errors import RagstoneError
from ragstone.indexes.collection import Collection
from ragstone.indexes.family import BadKey
from ragstone.records import Passage, WeightedTerms
from ragstone.storage import Disk

from .forgery import Forger
from .test_contract import CASES, Case

PATIENCE = 20
"""Seconds that one folder may take; a folder of this size takes a fiftieth of a second."""

MEMORY = 200 << 20
"""Bytes that one folder may take beyond what a process has; all folders are below 1 MB."""

FILTERS: list[Any] = [
    {"n": 3}, {"n": {"$gte": 2}}, {"s": {"$in": ["a", "b"]}}, {"in.side": {"$exists": True}},
    {"l": [1, 2]}, {"$not": {"s": {"$lt": "b"}}},
]  # fmt: skip


def passages(first: int, count: int) -> list[Passage]:
    return [
        Passage(
            f"p{i}",
            f"text é {i}\n" * (i % 3),
            f"title {i}" if i % 2 else "",
            {"n": i % 5, "s": "abc"[i % 3], "in": {"side": i % 7 == 0}, "l": [1, i], "f": i / 4},
        )
        for i in range(first, first + count)
    ]


def keys_of(case: Case, rng: np.random.Generator, count: int) -> Any:
    """Keys; of terms, one is there three hundred times, so that symbols take two bytes."""
    keys = case.encode(rng, count)
    if isinstance(keys, WeightedTerms) and len(keys.weights):
        weights = keys.weights.copy()
        weights[0] = 300
        heavy = replace(keys, weights=weights)
        with suppress(BadKey):  # a family of one byte a weight has no such symbols
            case.family.check(heavy)
            return heavy
    return keys


def build(folder: Path, case: Case) -> None:
    """Three segments, with rows of two deleted."""
    rng = np.random.default_rng(7)
    collection = Collection.create(folder, {"one": case.family})
    with collection.writer() as writer:
        for first, count in ((0, 90), (90, 12), (102, 30)):
            writer.add(passages(first, count), {"one": keys_of(case, rng, count)})
            writer.commit(note={"read": 132})
        writer.delete(["p3", "p50", "p95"])
        writer.commit(note={"read": 132})


def uses(folder: Path, case: Case) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that can be done with a collection, step by step."""
    rng = np.random.default_rng(0)
    queries = case.encode(rng, 3)
    collection = Collection.open(folder)
    rows = collection.passages.rows
    allowed = rng.random(rows) < 0.5
    if "one" not in collection.indexes:
        return
    index = collection.indexes["one"]
    for k in (1, 5, 150):
        yield f"search {k}", lambda k=k: index.search(queries, k)
    yield "search allowed", lambda: index.search(queries, 5, allowed=allowed)
    yield "sizes", lambda: (index.rows, index.nbytes, len(collection), collection.encoders)
    yield "ids", lambda: collection.passages.ids(np.arange(rows))
    yield "iterate", lambda: [passage.metadata for passage in collection.passages]
    yield "fetch", lambda: collection.passages.fetch(["p5", "p91"])
    yield "numbers", lambda: collection.passages.numbers([f"p{i}" for i in range(140)])
    for one in FILTERS:
        yield f"filter {one}", lambda one=one: collection.passages.select(one)
    yield "write", lambda: write(collection, case, rng)
    yield "compact", lambda: compact(folder, queries)
    yield "add", lambda: index.add(np.arange(index.rows, index.rows + 2), case.encode(rng, 2))


def write(collection: Collection, case: Case, rng: np.random.Generator) -> None:
    with collection.writer(duplicates="replace") as writer:
        writer.add(passages(0, 3), {"one": case.encode(rng, 3)})
        writer.delete(["p7", "p8"])
        writer.commit(note={})


def compact(folder: Path, queries: Any) -> None:
    compacted = Collection.open(folder).compact()
    compacted.indexes["one"].search(queries, 5)
    list(compacted.passages)


def use(folder: Path, case: Case, finding: Callable[[str, BaseException], None]) -> str:
    """Take every step; "open" if it was refused at once, "later" if a step was, else "none"."""
    try:
        steps = list(uses(folder, case))
    except RagstoneError:
        return "open"
    except Exception as error:
        finding("open", error)
        return "finding"
    refused = "none"
    for name, step in steps:
        try:
            with np.errstate(all="ignore"):
                step()
        except RagstoneError:
            refused = "later"
        except Exception as error:
            finding(name, error)
    return refused


def memory(field: str) -> int:
    """Bytes, as the kernel counts them for this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024


def run(folder: Path, first: int, count: int, names: list[str]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    forgers = {name: Forger(folder / name) for name in names}
    for name, forger in forgers.items():  # what is not forged has to work; kernels are loaded
        forger.untouched(folder / "target")
        refused = use(folder / "target", CASES[name], lambda step, error: fail(error))
        assert refused == "none", (name, refused)
    limit = memory("VmSize") + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for seed in range(first, first + count):
        name = names[seed % len(names)]
        (folder / "seed").write_text(str(seed))
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        forgers[name].forge(folder / "target", random.Random(seed))
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
        before = memory("VmRSS")

        def finding(step: str, error: BaseException, seed: int = seed, name: str = name) -> None:
            outcomes["findings"] += 1
            said = traceback.format_exception(error)[-4:]
            report(seed=seed, case=name, step=step, done=forgers[name].done, said=said)

        outcomes[use(folder / "target", CASES[name], finding)] += 1
        taken = memory("VmHWM") - before
        if taken > MEMORY:
            outcomes["findings"] += 1
            report(seed=seed, case=name, memory=taken, done=forgers[name].done)
    faulthandler.cancel_dump_traceback_later()
    return outcomes


def fail(error: BaseException) -> None:
    raise error


def report(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    faulthandler.enable()
    Disk.sync = Disk.sync_folder = lambda *_: None  # type: ignore[method-assign]
    own = [name for name, case in CASES.items() if is_ours(case)]
    names = [name for name in own if name in sys.argv[4:] or not sys.argv[4:]]
    for name in names:
        if not (folder / name).exists():
            build(folder / name, CASES[name])
    report(outcomes=run(folder, first, count, names))


def is_ours(case: Case) -> bool:
    """The stand-in family of the contract suite checks nothing, and is not shipped."""
    return type(case.family).__module__.startswith("ragstone.")


if __name__ == "__main__":
    main()
