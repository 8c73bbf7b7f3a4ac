"""The n-gram index beside infini-gram: build, bytes, counts, continuations, decoding, ranking.

    python benchmarks/ngram.py --tokens 1000000 10000000
    python benchmarks/ngram.py --tokens 10000000 --data source
    python benchmarks/ngram.py --tokens 10000000 --peer-python /path/to/venv/bin/python

zipf: 50,000 token ids, the i-th most frequent in proportion to i^-1.07.  source: the Python source
of the standard library and what is installed beside it, as words, signs and white space, of which
the 65,000 most frequent are told apart (with more, infini-gram takes 32 GB to build). Passages have
129 tokens. One core; CPU microseconds a call, medians of rounds that take turns; "many" are
asked at once. infini-gram needs an environment of its own (pip install infini-gram), which
--peer-python names. What follows an n-gram is asked of it by its default, which drops most, and
exactly. --fm measures the FM-index too, which ranks only with limits here.

step: which of the 256 likeliest tokens may follow each of 300 prefixes of so many tokens.
rank: a query of about 400 n-grams, all prefixes of 48 spans of ten tokens from eight passages, and
5,000 tokens: all passages that have an n-gram, exactly, and with the limits of the paper, 1,500
occurrences and 1,500 passages.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from ragstone.indexes.family import OpenPart
from ragstone.indexes.ngram.family import Ngram
from ragstone.indexes.ngram.index import NgramIndex
from ragstone.indexes.ngram.scoring import Scoring
from ragstone.indexes.ngram.suffix_sort import by_doubling
from ragstone.indexes.ngram.texts import TokenText, WeightedNgrams, flat
from ragstone.storage import MemoryPart

LENGTH, LENGTHS, SIZES = 129, (1, 2, 4, 8), (10, 100, 1_000, 10_000, 100_000, 1_000_000)
ROUNDS, CALLS, BEAMS, CANDIDATES, QUERIES = 3, 500, 300, 256, 10
MOST = 65_000
LIMITED = Scoring(most_hits=1500, depth=1500)

Took = dict[str, float]


def zipf(n: int) -> np.ndarray:
    random = np.random.default_rng(0)
    odds = np.cumsum(np.arange(1, 50_001) ** -1.07)
    ranks = np.searchsorted(odds / odds[-1], random.random(n)).clip(0, 49_999)
    return random.permutation(50_000).astype(np.int32)[ranks]


def source(n: int) -> np.ndarray:
    root = Path(os.__file__).parent
    folders = [root, *(Path(path) for path in sys.path if path.endswith("site-packages"))]
    numbers: dict[str, int] = {}
    parts, size = [], 0
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        words = re.findall(r"\w+|\s+|[^\w\s]", path.read_text(errors="replace"))
        parts.append(np.array([numbers.setdefault(w, len(numbers)) for w in words], np.int32))
        size += len(words)
        if size >= n:
            break
    tokens = np.concatenate(parts)[:n]
    order = np.argsort(np.argsort(-np.bincount(tokens), kind="stable"))
    return np.minimum(order[tokens], MOST).astype(np.int32)


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of an action, and its result."""
    begin = time.process_time()
    result = action()
    return time.process_time() - begin, result


def build(tokens: np.ndarray, vocabulary: int, layout: str) -> tuple[NgramIndex, float]:
    """The index and the CPU seconds of making it, reading and coding the tokens included."""
    family = Ngram(vocabulary, layout)
    offsets = np.append(np.arange(0, len(tokens), LENGTH), len(tokens)).astype(np.int64)

    def make() -> NgramIndex:
        builder, part = family.builder(), MemoryPart()
        builder.add(TokenText(offsets, tokens))
        builder.write(part)
        return family.open([OpenPart(part, 0, len(offsets) - 1)])

    took, index = seconds(make)
    return index, took


def asked_of(index: NgramIndex, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """N-grams to be counted, and prefixes that occur about so many times."""
    random = np.random.default_rng(1)
    asked = {f"count {size}": spans(tokens, random, CALLS, size) for size in LENGTHS}
    pool = np.arange(tokens.max() + 1)[:, None]
    counts = index.counts(pool)
    for size in SIZES:
        near = np.argsort(np.abs(np.log(np.maximum(counts, 1) / size)))[:20]
        if counts[near].min() > size / 2 and counts[near].max() < size * 2:
            asked[f"next {size}"] = pool[near]
    return asked


def spans(tokens: np.ndarray, random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, size) int64 spans that lie in a passage."""
    starts = random.integers(0, len(tokens) // LENGTH, count) * LENGTH
    starts += random.integers(0, LENGTH - size, count)
    return tokens[starts[:, None] + np.arange(size)].astype(np.int64)


def ours(index: NgramIndex, asked: dict[str, np.ndarray]) -> Took:
    """Microseconds a call of one round."""
    took = {}
    for name, ngrams in asked.items():
        call = index.counts if name.startswith("count") else index.continuations
        single, _ = seconds(lambda call=call, rows=ngrams: [call(row[None]) for row in rows])
        many, _ = seconds(lambda call=call, rows=ngrams: call(rows))
        took[name], took[name + " many"] = (1e6 * x / len(ngrams) for x in (single, many))
    return took


def steps(index: NgramIndex, tokens: np.ndarray) -> Took:
    """Microseconds of testing candidates, drawn by their frequency, for all beams."""
    random, took = np.random.default_rng(2), {}
    counts = np.bincount(tokens)
    for size in (1, 2, 3, 5, 8):
        prefixes = spans(tokens, random, BEAMS, size)
        likely = [np.argsort(-counts * random.random(len(counts))) for _ in range(BEAMS)]
        candidates = np.stack([order[:CANDIDATES] for order in likely])
        action = partial(index.allowed, prefixes, candidates)
        action()
        runs = [seconds(action)[0] for _ in range(ROUNDS)]
        took[f"step {size}"] = 1e6 * statistics.median(runs)
    return took


def ranking(index: NgramIndex, tokens: np.ndarray, exact: bool) -> Took:
    """Microseconds a query of ranking passages."""
    random, took = np.random.default_rng(3), {}
    queries, weights = [], []
    for _ in range(QUERIES):
        some = spans(tokens, random, 48, 10)
        ngrams = {tuple(span[:size].tolist()) for span in some for size in range(2, 11)}
        queries.append(sorted(ngrams))
        weights.append(random.random(len(ngrams)) * 10)
    most = int(tokens.max()) + 1
    singles = [random.permutation(most)[:5000].tolist() for _ in range(QUERIES)]
    ends = np.cumsum([0, *map(len, queries)])
    ngrams = flat([ngram for query in queries for ngram in query])
    given = np.concatenate(weights).astype(np.float32)
    unigrams = flat(singles)
    chances = random.random(len(unigrams.tokens), dtype=np.float32)
    for name, keys in (
        ("n-grams", WeightedNgrams(ends, ngrams, given)),
        ("tokens too", WeightedNgrams(ends, ngrams, given, unigrams, chances)),
    ):
        for how, scoring in [("exact", Scoring())] * exact + [("limited", LIMITED)]:
            action = partial(index.search, keys, 100, scoring=scoring)
            action()
            runs = [seconds(action)[0] / QUERIES for _ in range(ROUNDS)]
            took[f"rank {name} {how}"] = 1e6 * statistics.median(runs)
    return took


class Peer:
    """infini-gram in its own process."""

    def __init__(self, python: str, tokens: np.ndarray, asked: dict[str, np.ndarray]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder, width = Path(self._folder.name), 2 if tokens.max() < 65_534 else 4
        rows = np.array_split(tokens, range(LENGTH, len(tokens), LENGTH))
        end = np.array([-1], np.int64)
        text = np.concatenate([part for row in rows for part in (end, row)])
        text.astype(f"<u{width}").tofile(folder / "tokenized.0")
        offsets = np.arange(len(rows), dtype=np.uint64) * np.uint64((LENGTH + 1) * width)
        offsets.tofile(folder / "offset.0")
        np.savez(folder / "asked.npz", **asked)
        command = [python, str(Path(__file__).with_name("ngram_peer.py")), str(folder), str(width)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = subprocess.Popen(command, **pipes)
        self.built = self._read()

    def _read(self) -> Took:
        line = self._process.stdout.readline()
        while not line.startswith("{"):
            line = self._process.stdout.readline()
        return json.loads(line)

    def round(self) -> Took:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def measure(n: int, args: argparse.Namespace) -> None:
    tokens = {"zipf": zipf, "source": source}[args.data](n)
    vocabulary, n = int(tokens.max()) + 1, len(tokens)
    by_doubling(np.array([1, 0], np.uint16), 2)
    by_doubling(np.array([1, 0], np.uint32), 2)
    print(f"\n{args.data}, {n:,} tokens, {len(np.unique(tokens)):,} different")
    systems = {}
    for layout in ("suffixes", "fm") if args.fm else ("suffixes",):
        build(tokens[:1000], vocabulary, layout)
        index, took = build(tokens, vocabulary, layout)
        systems[layout] = index
        print(f"{layout:12} {n / took / 1e6:6.2f} M tokens/s {index.nbytes / n:6.2f} bytes/token")
    asked = asked_of(systems["suffixes"], tokens)
    peer = Peer(args.peer_python, tokens, asked) if args.peer_python else None
    if peer:
        rate, size = n / peer.built["build"] / 1e6, peer.built["bytes"] / n
        print(f"{'infini-gram':12} {rate:6.2f} M tokens/s {size:6.2f} bytes/token")
    rounds: dict[str, list[Took]] = defaultdict(list)
    for index in systems.values():
        ours(index, asked)
    for _ in range(ROUNDS):
        for name, index in systems.items():
            rounds[name].append(ours(index, asked))
        if peer:
            rounds["infini-gram"].append(peer.round())
    if peer:
        peer.close()
    for name, index in systems.items():
        ranked = ranking(index, tokens, exact=name == "suffixes")
        rounds[name].append({**steps(index, tokens), **ranked})
    table(rounds)


def table(rounds: dict[str, list[Took]]) -> None:
    """Medians, a row a measure."""
    names = list(Counter(key for runs in rounds.values() for run in runs for key in run))
    print(f"{'microseconds':28}" + "".join(f"{system:>14}" for system in rounds))
    for name in names:
        cells = []
        for runs in rounds.values():
            found = [run[name] for run in runs if name in run]
            cells.append(f"{statistics.median(found):14,.2f}" if found else " " * 14)
        print(f"{name:28}" + "".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--data", choices=["zipf", "source"], default="zipf")
    parser.add_argument("--peer-python", help="a Python in which infini-gram is installed")
    parser.add_argument("--fm", action="store_true", help="measure the FM-index too")
    args = parser.parse_args()
    for n in args.tokens:
        measure(n, args)


if __name__ == "__main__":
    main()
