"""A process that takes a part in the life of a collection, and others that watch or break it.

Operations run in a process of their own, and strace (if it is there) makes the K-th call of one
kind kill it or fail. Processes are forked from one that has loaded everything:
python -m tests.real_process reads "FAMILY FOLDER OPERATION REPORT", answers with a process id,
waits for a line, and answers with the exit status.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ragstone.errors import RagstoneError
from ragstone.indexes import compaction
from ragstone.storage import LOCAL
from ragstone.storage.power import MemoryDisk

from .lives import FOLDER, OPERATIONS, Acts, Life, survey
from .test_contract import CASES, Case

ROOT = Path(__file__).parent.parent
STRACE = shutil.which("strace")
CALLS = (
    "openat,close,newfstatat,fstat,statx,getdents64,pread64,mmap,munmap,"
    "pwrite64,write,fsync,mkdir,link,linkat,unlink,rmdir,flock"
)
"""All that a writer asks of the file system, under the names that they have on Linux."""


def read(folder: Path, case: Case, disk: object) -> Acts:
    """Open and search: what a reader does."""
    survey(folder, case)
    return iter(())


NAMED = {operation.__name__: operation for operation in (*OPERATIONS, read)}


@dataclass(frozen=True)
class End:
    """How a process ended: the exit status (-9: killed), what it acknowledged, its error."""

    status: int
    acknowledged: int
    error: str


class Server:
    """Forks processes that run one operation each."""

    def __init__(self, pipe: subprocess.Popen[str], folder: Path) -> None:
        self._pipe, self._folder = pipe, folder

    def run(self, name: str, folder: Path, operation: str, *strace: str) -> tuple[End, str]:
        """Run it, under strace with these options if any; also returns what strace wrote."""
        report, log = self._folder / "report", self._folder / "log"
        report.unlink(missing_ok=True)
        process = int(self._ask(f"{name} {folder} {operation} {report}"))
        tracer = _attach(process, log, strace) if strace else None
        status = int(self._ask("go"))
        if tracer is not None:
            tracer.wait()
        text = report.read_text() if report.exists() else ""
        marks, _, error = text.partition("|")
        return End(status, len(marks), error), log.read_text() if strace else ""

    def _ask(self, line: str) -> str:
        assert self._pipe.stdin is not None and self._pipe.stdout is not None
        self._pipe.stdin.write(line + "\n")
        self._pipe.stdin.flush()
        return self._pipe.stdout.readline()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server; `folder` is for its own files."""
    command = [sys.executable, "-W", "error", "-m", "tests.real_process"]
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as pipe:
        yield Server(pipe, folder)
        assert pipe.stdin is not None
        pipe.stdin.close()


def _attach(process: int, log: Path, options: tuple[str, ...]) -> "subprocess.Popen[str]":
    command = ["strace", "-f", "-y", "-o", str(log), *options, "-p", str(process)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    with tracer.stderr as stderr:
        line = stderr.readline()
    assert "attached" in line, line
    return tracer


def can_trace() -> bool:
    """Whether strace is there and may look at other processes."""
    if STRACE is None:
        return False
    command = ["strace", "-qq", "-e", "trace=none", "true"]
    return subprocess.run(command, capture_output=True).returncode == 0


def calls_on(folder: Path, log: str) -> list[tuple[str, int]]:
    """The calls in a log that concern a folder: the name, and the how-manieth of that name."""
    counts: dict[str, int] = {}
    found = []
    for line in log.splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if match:
            counts[match[1]] = counts.get(match[1], 0) + 1
            if str(folder) in line:
                found.append((match[1], counts[match[1]]))
    return found


def _serve(stdin: IO[bytes]) -> None:
    compaction.MOST_SEGMENTS = 2  # so that the commits of a short life merge segments too
    for case in CASES.values():  # compiled code is loaded before the first fork
        Life(case).live(FOLDER, MemoryDisk())
    while line := os.read(stdin.fileno(), 4096).decode():
        name, folder, operation, report = line.split()
        process = os.fork()
        if process == 0:
            _report(os.getpid())
            os.read(stdin.fileno(), 4096)
            _take_part(name, Path(folder), operation, report)
        _, status = os.waitpid(process, 0)
        _report(os.waitstatus_to_exitcode(status))


def _take_part(name: str, folder: Path, operation: str, report: str) -> None:
    handle = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in NAMED[operation](folder, CASES[name], LOCAL):
            os.write(handle, b".")
    except RagstoneError as error:
        os.write(handle, f"|{error}".encode())
        os._exit(error.exit_code)
    os._exit(0)


def _report(number: int) -> None:
    os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    _serve(sys.stdin.buffer)
