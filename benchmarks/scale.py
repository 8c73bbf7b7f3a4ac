"""The command line at size: memory, time and bytes of `ragstone index`, and of a first search.

    python benchmarks/scale.py --passages 1000000

Writes generated Zipf text (60 words a passage) as .jsonl, indexes it with BM25 in a process of its
own, and prints that process's peak memory, the rate, the size, the time to open, and the wall time
of `ragstone search` in a new process (the best of several: what a person waits for).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS, VOCABULARY = 60, 200_000


def write_corpus(path: Path, passages: int, seed: int = 7) -> None:
    """Zipf text over made-up words, streamed to a .jsonl file."""
    random = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, VOCABULARY + 1)
    cumulative = np.cumsum(weights / weights.sum())
    words = np.array([word(number) for number in range(VOCABULARY)])
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, passages, 10_000):
            rows = min(10_000, passages - start)
            picked = np.searchsorted(cumulative, random.random((rows, WORDS)))
            for row, text in enumerate(words[np.minimum(picked, VOCABULARY - 1)]):
                file.write(json.dumps({"id": f"p{start + row}", "text": " ".join(text)}) + "\n")


def word(number: int) -> str:
    """A pronounceable made-up word, a different one for every number."""
    syllables = []
    number += 1
    while number:
        number, digit = divmod(number, 100)
        syllables.append("bdfgklmnprstvzhjcwxy"[digit // 5] + "aeiou"[digit % 5])
    return "".join(syllables)


def run(*arguments: str) -> tuple[float, float, str]:
    """Run `ragstone` in a new process: wall seconds, peak memory in MB, stdout."""
    code = (
        "import resource, sys; from ragstone.cli import main; status = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr);"
        "sys.exit(status)"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"ragstone {' '.join(arguments)} failed: {done.stderr}")
    return took, int(done.stderr.split()[-1]) / 1024, done.stdout


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def opening(collection: Path) -> float:
    """Seconds to open the collection, in a process that has imported everything."""
    code = (
        "import sys, time; from ragstone.indexes.collection import Collection;"
        "import ragstone.indexes.inverted; from pathlib import Path; begin = time.perf_counter();"
        "c = Collection.open(Path(sys.argv[1])); c.indexes; print(time.perf_counter() - begin)"
    )
    command = [sys.executable, "-c", code, str(collection)]
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--memory", type=int, default=256, help="MB a segment (default 256)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ragstone-scale-"))
    try:
        measure(folder, options)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Build, open and search, and print a line for each figure."""
    source, collection = folder / "corpus.jsonl", folder / "scale.ragstone"
    write_corpus(source, options.passages)
    took, peak, _ = run("index", str(source), "--to", str(collection), "--with", "bm25",
                        "--memory", str(options.memory))  # fmt: skip
    print(f"passages                      {options.passages:>12,}")
    print(f"index, passages a second      {options.passages / took:>12,.0f}")
    print(f"index, peak memory MB         {peak:>12,.0f}")
    print(f"bytes a passage, texts too    {size(collection) / options.passages:>12,.0f}")
    print(f"open, seconds                 {opening(collection):>12.3f}")
    query = " ".join(word(number) for number in (0, 30, 500, 7000))
    times = [run("search", str(collection), query, "--json")[0] for _ in range(options.rounds)]
    print(f"search, new process, seconds  {statistics.median(times):>12.3f}")


if __name__ == "__main__":
    main()
