"""The same faults for ragstone and its peers: what is read back after damage, and after a kill.

    python benchmarks/faults.py [--trials 100] [--only ragstone LanceDB] [--json FILE]

Each store that is installed keeps the same 300 documents (what it is made for: texts, vectors or
both), and then has to bear:

flips  one bit flipped at a random place of its files, then a normal open, a read of everything and
       20 searches, compared with those of the undamaged store
cuts   one file cut at a random place, then the same
kills  30 documents added and saved over the 300 by a process that is killed when it is about to
       write, rename, link, remove or make a file for the k-th time, for every k, or 40 of them;
       then a new process reads
syncs  fsync, fdatasync and msync calls of one such addition that was acknowledged

error: the store raised one. named: it names the file. same: as if nothing had happened, because the
damaged bytes are not used (an old version, padding) or no answer depends on them. WRONG: other
content or other results, and no error. crash: the process was ended by a signal, or hung for 30
seconds. old, new: the documents before or after the addition. LOST: neither can be read.

Every trial is a process of its own, forked after the imports. Kills and syncs need strace (Linux).
"""

import argparse
import ctypes
import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from fault_stores import FOUND, STORES, Store, make_documents

DOCUMENTS, ADDED, QUERIES = 300, 30, 20
MOST_KILLS, SECONDS = 40, 30
WRITES = (
    "write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,ftruncate,fallocate,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
)
SYNCS = "fsync,fdatasync,msync,sync_file_range,syncfs,sync"
CALL = re.compile(r"^(\d+)\s+(\w+)\(")


def digest(answers: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(answers)).encode("utf-8", "surrogatepass")).hexdigest()


def in_child(work: Callable[[], str]) -> tuple[str, str]:
    """Run in a forked process: ("answer" | "error", its text), or ("crash", the signal)."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        run_and_exit(work, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        sent = pipe.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "crash", signal.Signals(os.WTERMSIG(status)).name
    return ("error" if os.WEXITSTATUS(status) else "answer"), sent


def run_and_exit(work: Callable[[], str], pipe: int) -> None:
    """The child's whole life; SIGALRM ends it when it hangs."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.alarm(SECONDS)
    status = 0
    try:
        text = work()
    except BaseException as error:  # a panic of Rust code is no Exception
        status, text = 1, f"{type(error).__name__}: {error}"
    os.write(pipe, text.encode("utf-8", "replace")[:60_000])
    os._exit(status)


class Trials:
    """One store's trials, in a folder of their own."""

    def __init__(self, store: Store, folder: Path, seed: int) -> None:
        self.store, self.random = store, np.random.default_rng(seed)
        self.documents = make_documents(DOCUMENTS + ADDED)
        self.queries = self.documents[: QUERIES * FOUND : FOUND]
        self.whole, self.trial = folder / "whole", folder / "trial"
        self.whole.mkdir()
        self.must(lambda: self.save(lambda: store.build(self.whole, self.documents[:DOCUMENTS])))
        if store.warm:
            digest(store.read(self.whole, self.queries))
        self.old = self.must(lambda: self.answers(self.whole))
        self.fresh()
        if self.must(lambda: self.answers(self.trial)) != self.old:
            raise RuntimeError("two reads of the same bytes differ, so nothing can be told")

    def must(self, work: Callable[[], str]) -> str:
        kind, text = in_child(work)
        if kind != "answer":
            raise RuntimeError(f"failed without a fault: {text}")
        return text

    def save(self, work: Callable[[], None]) -> str:
        work()
        return ""

    def answers(self, folder: Path) -> str:
        return digest(self.store.read(folder, self.queries))

    def fresh(self) -> None:
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.whole, self.trial)

    def files(self) -> list[Path]:
        """Those of the trial that hold something, in a fixed order of size and name."""
        found = [path for path in self.trial.rglob("*") if path.is_file() and path.stat().st_size]
        return sorted(found, key=lambda path: (path.stat().st_size, str(path)))

    def damage(self, harm: Callable[[], Path], trials: int) -> dict[str, object]:
        """Counts of what came of `harm`, and the files behind whatever was not an error."""
        counts, quiet = Counter[str](), Counter[str]()
        for _ in range(trials):
            self.fresh()
            path = harm()
            kind, text = in_child(lambda: self.answers(self.trial))
            if kind == "answer":
                kind = "same" if text == self.old else "wrong"
            counts[kind] += 1
            counts["named"] += kind == "error" and path.name in text
            if kind != "error" or path.name not in text:
                quiet[f"{kind}: {path.name}" + (f": {text[:90]}" if kind == "error" else "")] += 1
        return {"trials": trials, **counts, "not named": dict(quiet)}

    def flip(self) -> Path:
        """One bit, every one of the store equally likely."""
        files = self.files()
        sizes = np.cumsum([path.stat().st_size for path in files])
        place = int(self.random.integers(sizes[-1]))
        at = int(np.searchsorted(sizes, place, side="right"))
        data = bytearray(files[at].read_bytes())
        data[place - int(sizes[at])] ^= 1 << int(self.random.integers(8))
        files[at].write_bytes(data)
        return files[at]

    def cut(self) -> Path:
        """Every file equally likely, and every length below its own."""
        files = self.files()
        path = files[int(self.random.integers(len(files)))]
        os.truncate(path, int(self.random.integers(path.stat().st_size)))
        return path

    def traced(self, *options: str) -> tuple[int, str]:
        """Add documents to a fresh copy under strace: the wait status, and the trace."""
        self.fresh()
        gate, opener = os.pipe()
        child = os.fork()
        if not child:
            os.close(opener)
            ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # may be traced
            os.read(gate, 1)
            run_and_exit(
                lambda: self.save(lambda: self.store.add(self.trial, self.documents, DOCUMENTS)),
                os.open(os.devnull, os.O_WRONLY),
            )
        log = self.trial.with_name("trace")
        command = ["strace", "-f", "-y", "-s0", "-o", str(log), "-p", str(child), *options]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        attached = "attached" in tracer.stderr.readline()
        os.close(gate)
        os.write(opener, b"!")
        os.close(opener)
        status = os.waitpid(child, 0)[1]
        tracer.communicate()
        if not attached:
            raise OSError("strace may not trace here")
        return status, log.read_text("utf-8", "replace")

    def kills(self) -> dict[str, object]:
        """Where the writer was killed, and what could be read afterwards."""
        status, trace = self.traced("-e", f"trace={WRITES},{SYNCS}")
        if status:
            raise RuntimeError("adding failed without a fault")
        new = self.must(lambda: self.answers(self.trial))
        calls = Counter(found[2] for line in trace.splitlines() if (found := CALL.match(line)))
        points = self.points(trace)
        chosen = np.unique(np.linspace(0, len(points) - 1, MOST_KILLS).round().astype(int))
        counts = Counter[str]()
        for name, turn in (points[at] for at in chosen):
            counts[self.killed(name, turn, new)] += 1
        syncs = sum(calls[name] for name in SYNCS.split(","))
        missed = counts.pop("not reached", 0)
        figures = {"points": counts.total(), "not reached": missed, "of": len(points)}
        return {**figures, **counts, "syncs": syncs}

    def points(self, trace: str) -> list[tuple[str, int]]:
        """The writing calls that touch the store: name, and the how many-th of it in its thread."""
        turns, points = Counter[tuple[str, str]](), []
        for line in trace.splitlines():
            if found := CALL.match(line):
                thread, name = found[1], found[2]
                turns[thread, name] += 1
                if name in WRITES.split(",") and str(self.trial) in line:
                    points.append((name, turns[thread, name]))
        return points

    def killed(self, name: str, turn: int, new: str) -> str:
        kill = f"inject={name}:signal=SIGKILL:when={turn}"
        status, _ = self.traced("-e", f"trace={name}", "-e", kill)
        if not os.WIFSIGNALED(status):
            return "not reached"
        kind, text = in_child(lambda: self.answers(self.trial))
        if kind != "answer":
            return "lost"
        return {self.old: "old", new: "new"}.get(text, "wrong")


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """All faults of one store; this process does nothing else."""
    store = STORES[name]
    for package in store.packages:
        importlib.import_module(package)
    row: dict[str, object] = {"store": name, "version": version(store.packages[0])}
    with tempfile.TemporaryDirectory(prefix="ragstone-faults-") as folder:
        trials = Trials(store, Path(folder).resolve(), options.seed)
        row["files"] = sum(path.is_file() for path in trials.whole.rglob("*"))
        row["flips"] = trials.damage(trials.flip, options.trials)
        row["cuts"] = trials.damage(trials.cut, options.cuts)
        if shutil.which("strace"):
            row["kills"] = trials.kills()
    return row


def version(package: str) -> str:
    root = package.split(".")[0].replace("_", "-")
    return importlib.metadata.version("faiss-cpu" if root == "faiss" else root)


def measure_apart(name: str, options: argparse.Namespace) -> dict[str, object] | str:
    """measure() in a new process, or why that did not work."""
    command = [sys.executable, "-W", "ignore", "-B", __file__, "--worker", name]
    command += ["--trials", str(options.trials), "--cuts", str(options.cuts)]
    command += ["--seed", str(options.seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


COLUMNS = {
    "flips": ("trials", "error", "named", "same", "wrong", "crash"),
    "cuts": ("trials", "error", "named", "same", "wrong", "crash"),
    "kills": ("points", "old", "new", "lost", "wrong", "syncs"),
}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    groups = [f"{group:<{7 * len(names)}}" for group, names in COLUMNS.items()]
    print(f"{'':24}| " + "| ".join(groups))
    heads = ["".join(f"{shown(name):>7}" for name in names) for names in COLUMNS.values()]
    print(f"{'':24}|" + " |".join(heads))
    for row in rows:
        print(f"{row['store'] + ' ' + row['version']:<24}|", end="")
        print(" |".join(cells(row.get(group), names) for group, names in COLUMNS.items()))


def shown(name: str) -> str:
    return name.upper() if name in ("wrong", "lost") else name


def cells(counts: dict[str, int] | None, names: Sequence[str]) -> str:
    return "".join(f"{'-' if counts is None else counts.get(name, 0):>7}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="flips of each store")
    parser.add_argument("--cuts", type=int, default=25, help="cuts of each store")
    parser.add_argument("--only", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=STORES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker, options)))
        return
    found = {name: measure_apart(name, options) for name in options.only}
    rows = [row for row in found.values() if not isinstance(row, str)]
    print_table(rows)
    for name, why in found.items():
        if isinstance(why, str):
            print(f"skipped {name}: {why}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
