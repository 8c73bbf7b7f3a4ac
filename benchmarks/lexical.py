"""BM25 beside bm25s and tantivy: queries and passages a CPU second, latency, memory, bytes.

    python benchmarks/lexical.py --passages 100000 1000000
    python benchmarks/lexical.py --beir path/to/scifact

Generated text is Zipf over 200,000 made-up words, 60 a passage; queries are 8 words drawn alike
("full"), or without the 100 commonest ("nostop"). Every system builds, opens and searches in
processes of its own, one thread, and the rounds take turns; figures are medians. What ragstone
finds is compared with brute force (lexical_exact.py), on stderr. Query time has the
analysis of the query in it. Peers as their makers advise: bm25s with its numba backend and memory
maps, its words split at blanks; tantivy with English stemming, one writer thread, the passage
number as its only fast field, and queries put together without its parser where they are plain
words. k1=0.9, b=0.4 where it can be set.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

WORDS, VOCABULARY, STOP, QUERY_WORDS, BATCH = 60, 200_000, 100, 8, 4096
DEPTHS = (10, 100, 1000)
SYSTEMS = ("ragstone", "bm25s", "tantivy")
CHECKED = 50  # queries of each kind that are compared with brute force
SEGMENT = 256 << 20  # bytes that ragstone holds before it writes a segment

Batches = Iterator[list[str]]


# --- texts ---------------------------------------------------------------------------------------


def made_up() -> np.ndarray:
    """(VOCABULARY,) distinct words; the digit at the end keeps every stemmer away."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = []
    for rank in range(VOCABULARY):
        word, left = syllables[rank % 70], rank // 70
        while left:
            word, left = word + syllables[left % 70], left // 70
        words.append(f"{word}{rank % 10}")
    return np.array(words, dtype=object)


def drawn(random: np.random.Generator, count: int) -> np.ndarray:
    """Word numbers by Zipf's law."""
    shares = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    return np.minimum(np.searchsorted(shares / shares[-1], random.random(count)), VOCABULARY - 1)


def passages_of(options: argparse.Namespace) -> Batches:
    """The passages in batches."""
    if options.beir:
        lines = (options.beir / "corpus.jsonl").open(encoding="utf-8")
        texts = [f"{one['title']} {one['text']}".strip() for one in map(json.loads, lines)]
        yield from (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return
    random, words = np.random.default_rng(0), made_up()
    for start in range(0, options.size, BATCH):
        rows = min(BATCH, options.size - start)
        numbers = drawn(random, rows * WORDS).reshape(rows, WORDS)
        yield [" ".join(row) for row in words[numbers].tolist()]


def queries_of(options: argparse.Namespace, kind: str) -> list[str]:
    """Query texts of a kind."""
    if options.beir:
        lines = (options.beir / "queries.jsonl").open(encoding="utf-8")
        return [json.loads(line)["text"] for line in lines][: options.queries]
    random, words, queries = np.random.default_rng(1), made_up(), []
    while len(queries) < options.queries:
        numbers = drawn(random, QUERY_WORDS)
        numbers = numbers[numbers >= STOP] if kind == "nostop" else numbers
        if len(numbers):
            queries.append(" ".join(words[numbers]))
    return queries


# --- systems: build into a folder; open it and give back a search --------------------------------

Search = Callable[[list[str], int], Any]


class Clock:
    """CPU seconds of the blocks it is held around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begin = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begin


def build_ragstone(batches: Batches, folder: Path, clock: Clock) -> None:
    from ragstone.indexes.inverted import Inverted
    from ragstone.models.analyzer import Analyzer
    from ragstone.storage import Store

    analyzer, family = Analyzer(), Inverted()
    builder, rows = family.builder(), 0
    with Store.create(folder / "index", settings={}).begin() as change:

        def write() -> None:
            with change.new_segment(rows) as segment:
                builder.write(segment.part("bm25"))

        for texts in batches:
            with clock:
                builder.add(analyzer.encode_passages(texts))
                rows += len(texts)
                if builder.nbytes > SEGMENT:
                    write()
                    builder, rows = family.builder(), 0
        with clock:
            if rows:
                write()
            change.commit()


def open_ragstone(folder: Path) -> Search:
    from ragstone.indexes.family import OpenPart
    from ragstone.indexes.inverted import Inverted
    from ragstone.models.analyzer import Analyzer
    from ragstone.storage import Store

    parts, base = [], 0
    for segment in Store.open(folder / "index").segments:
        parts.append(OpenPart(segment.part("bm25"), base, segment.rows, segment.deleted))
        base += segment.rows
    index, analyzer = Inverted().open(parts), Analyzer()
    return lambda queries, k: index.search(analyzer.encode_queries(queries), k)


def _split(text: str) -> list[str]:
    return text.split()


def build_bm25s(batches: Batches, folder: Path, clock: Clock) -> None:
    import bm25s
    from bm25s.tokenization import Tokenizer

    texts = [text for batch in batches for text in batch]
    with clock:
        tokenizer = Tokenizer(splitter=_split, lower=False, stopwords=None)
        tokens = tokenizer.tokenize(texts, show_progress=False, return_as="tuple")
        index = bm25s.BM25(k1=0.9, b=0.4, method="lucene", backend="numba")
        index.index(tokens, show_progress=False)
        index.save(folder / "index")
        tokenizer.save_vocab(folder / "index")


def open_bm25s(folder: Path) -> Search:
    import bm25s
    from bm25s.tokenization import Tokenizer

    index = bm25s.BM25.load(folder / "index", mmap=True)
    index.backend = "numba"
    tokenizer = Tokenizer(splitter=_split, lower=False, stopwords=None)
    tokenizer.load_vocab(folder / "index")

    def search(queries: list[str], k: int) -> Any:
        tokens = tokenizer.tokenize(
            queries, show_progress=False, return_as="tuple", update_vocab=False
        )
        return index.retrieve(tokens, k=k, show_progress=False, n_threads=1, sorted=True)

    return search


def _schema() -> Any:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body", stored=False, tokenizer_name="en_stem", index_option="freq")
    builder.add_unsigned_field("number", fast=True, stored=False)
    return builder.build()


def build_tantivy(batches: Batches, folder: Path, clock: Clock) -> None:
    import tantivy

    (folder / "index").mkdir()
    with clock:
        index = tantivy.Index(_schema(), path=str(folder / "index"))
        writer, number = index.writer(heap_size=512_000_000, num_threads=1), 0
    for texts in batches:
        with clock:
            for text in texts:
                document = tantivy.Document()
                document.add_text("body", text)
                document.add_unsigned("number", number)
                writer.add_document(document)
                number += 1
    with clock:
        writer.commit()
        writer.wait_merging_threads()


def open_tantivy(folder: Path) -> Search:
    import tantivy

    schema = _schema()
    index = tantivy.Index.open(str(folder / "index"))
    searcher = index.searcher()
    parse = index.parse_query

    def asked(text: str) -> Any:
        if not text.isascii() or not text.replace(" ", "").isalnum():
            return parse("".join(c if c.isalnum() else " " for c in text), ["body"])
        should = tantivy.Occur.Should
        terms = [tantivy.Query.term_query(schema, "body", word, "freq") for word in text.split()]
        return tantivy.Query.boolean_query([(should, term) for term in terms])

    return lambda queries, k: [
        searcher.search(asked(text), limit=k, count=False).hits for text in queries
    ]


BUILD = {"ragstone": build_ragstone, "bm25s": build_bm25s, "tantivy": build_tantivy}
OPEN = {"ragstone": open_ragstone, "bm25s": open_bm25s, "tantivy": open_tantivy}


# --- measuring: each job is a process -------------------------------------------------------------


def build(options: argparse.Namespace, system: str, folder: Path) -> dict[str, float]:
    """Rate, bytes a passage and peak memory of one build."""
    clock, count = Clock(), 0

    def counted() -> Batches:
        nonlocal count
        for batch in passages_of(options):
            count += len(batch)
            yield batch

    BUILD[system](counted(), folder, clock)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"passages/s": count / clock.seconds, "bytes": size / count, "build MB": peak}


def search(options: argparse.Namespace, system: str, folder: Path) -> dict[str, float]:
    """Rates and latencies of one round, in a process that has warmed up once."""
    begin = time.perf_counter()
    ask = OPEN[system](folder)
    figures = {"open s": time.perf_counter() - begin}
    for kind in ("real",) if options.beir else ("full", "nostop"):
        queries = queries_of(options, kind)
        for k in DEPTHS:
            ask(queries, k)
            clock = Clock()
            with clock:
                ask(queries, k)
            figures[f"{kind} k={k}"] = len(queries) / clock.seconds
        taken = []
        for query in queries[:200]:
            start = time.perf_counter()
            ask([query], 10)
            taken.append(1000 * (time.perf_counter() - start))
        p50, p99 = np.percentile(taken, [50, 99])
        figures |= {f"{kind} p50 ms": float(p50), f"{kind} p99 ms": float(p99)}
    figures["search MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def check(options: argparse.Namespace, system: str, folder: Path) -> dict[str, float]:
    """The share of some queries whose best passages equal brute force."""
    from lexical_exact import share_exact

    kinds = ("real",) if options.beir else ("full", "nostop")
    queries = [query for kind in kinds for query in queries_of(options, kind)[:CHECKED]]
    ask = OPEN[system](folder)
    return {f"exact k={k}": share_exact(passages_of(options), queries, ask, k) for k in (10, 1000)}


JOBS = {"build": build, "search": search, "check": check}


def in_process(arguments: list[str], job: str, system: str, folder: Path) -> dict[str, float]:
    """Run a job in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--job", job, system, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{system} {job} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compared(options: argparse.Namespace, size: int) -> dict[str, dict[str, float]]:
    """Every system on one corpus: built once, searched in rounds that take turns."""
    arguments = ["--size", str(size), "--queries", str(options.queries)]
    arguments += ["--beir", str(options.beir)] if options.beir else []
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ragstone-lexical-") as root:
        for system in options.systems:
            folder = Path(root) / system
            folder.mkdir()
            found[system] = in_process(arguments, "build", system, folder)
        if "ragstone" in options.systems:
            exact = in_process(arguments, "check", "ragstone", Path(root) / "ragstone")
            print(f"ragstone against brute force: {exact}", file=sys.stderr)
        rounds: dict[str, list[dict[str, float]]] = {system: [] for system in options.systems}
        for _ in range(options.rounds):
            for system in options.systems:
                rounds[system].append(in_process(arguments, "search", system, Path(root) / system))
    for system, results in rounds.items():
        for name in results[0]:
            found[system][name] = statistics.median(result[name] for result in results)
    return found


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """A row a figure, a column a system; for rates, ragstone against the faster of its peers."""
    systems = list(found)
    print(f"\n{title}\n{'':>16}" + "".join(f"{name:>12}" for name in systems) + f"{'ratio':>8}")
    for name in found[systems[0]]:
        values = [found[system][name] for system in systems]
        rate = "k=" in name or name == "passages/s"
        ratio = f"{values[0] / max(values[1:]):>8.1f}" if rate and len(values) > 1 else ""
        width = ",.0f" if max(values) >= 100 else ",.3f"
        print(f"{name:>16}" + "".join(f"{value:>12{width}}" for value in values) + ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--beir", type=Path, help="real text: a folder in BEIR layout")
    parser.add_argument("--json", type=Path, help="write all figures here as well")
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job, system, folder = options.job
        print(json.dumps(JOBS[job](options, system, Path(folder))))
        return
    everything = {}
    for size in [0] if options.beir else options.passages:
        title = str(options.beir.name) if options.beir else f"{size:,} passages"
        everything[title] = compared(options, size)
        show(title, everything[title])
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
