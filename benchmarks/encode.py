"""How fast the bi-encoder is beside sentence-transformers with its own defaults, in one run.

    python benchmarks/encode.py [--data FOLDER] [--passages 256] [--quality] [--json FILE]

Texts: the passages of BEIR SciFact (title and text; about 240 tokens as the model reads them) and
its titles (about 22). FOLDER holds beir-scifact (default: $RAGSTONE_DATA); without it, words drawn
at random. One thread; rates are texts a second of processor time, so that other load on the machine
matters little. --quality encodes the whole corpus with each system (minutes) and adds nDCG@10 and
R@100 of brute-force search.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from numpy.typing import NDArray

from ragstone.models.bi_encoder import EMBEDDED, BiEncoder
from ragstone.models.model_folder import find_model

Vectors = NDArray[np.float32]
System = Callable[[Sequence[str]], Vectors]
BASE = "sentence-transformers"


def systems(model: str) -> dict[str, System]:
    """The peer with its defaults first, then ours in the number types of this processor."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    peer = SentenceTransformer(str(find_model(model).folder), local_files_only=True)
    auto = BiEncoder(model)
    ours = {f"ragstone {auto.number_type} (auto)": auto.encode_passages}
    if auto.number_type != "float32":
        ours["ragstone float32"] = BiEncoder(model, dtype="float32").encode_passages
    return {BASE: lambda texts: np.asarray(peer.encode(list(texts))), **ours}


def measure(system: System, texts: Sequence[str], repeats: int) -> tuple[Vectors, float, float]:
    """The vectors, and texts a second of processor time and of wall time: the best of `repeats`."""
    system(texts[: len(texts) // 8])
    best_cpu = best_wall = 0.0
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = system(texts)
        best_cpu = max(best_cpu, len(texts) / (time.process_time() - cpu))
        best_wall = max(best_wall, len(texts) / (time.perf_counter() - wall))
    return vectors, best_cpu, best_wall


def read_scifact(folder: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Passages and test queries by id, and the titles."""
    lines = (folder / "corpus.jsonl").read_text("utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    passages = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in documents}
    lines = (folder / "queries.jsonl").read_text("utf-8").splitlines()
    queries = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    return passages, queries, [row["title"] for row in documents]


def read_judgements(folder: Path) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, passage, grade = line.split("\t")
        judged.setdefault(query, {})[passage] = int(grade)
    return judged


def random_texts(count: int, words: int) -> list[str]:
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    vocabulary = ["".join(random.choice(letters, random.integers(2, 9))) for _ in range(5000)]
    return [" ".join(random.choice(vocabulary, words)) for _ in range(count)]


def quality(system: System, folder: Path) -> dict[str, float]:
    """nDCG@10 and R@100 over the judged queries, by the definitions of trec_eval."""
    passages, queries, _ = read_scifact(folder)
    judged = read_judgements(folder)
    ids = np.array(sorted(passages))
    keys = system([passages[id] for id in ids])
    scores = system([queries[id] for id in judged]) @ keys.T
    ranked = ids[np.argsort(-scores, axis=1, kind="stable")[:, :100]]
    rows = list(zip(ranked.tolist(), judged.values(), strict=True))
    gain = [ndcg(found[:10], grades) for found, grades in rows]
    recall = [len({*found} & {*grades}) / len(grades) for found, grades in rows]
    return {"nDCG@10": float(np.mean(gain)), "R@100": float(np.mean(recall))}


def ndcg(found: Sequence[str], grades: dict[str, int]) -> float:
    ideal = sorted(grades.values(), reverse=True)[: len(found)]
    return dcg([grades.get(id, 0) for id in found]) / dcg(ideal)


def dcg(grades: Sequence[int]) -> float:
    return float((np.array(grades) / np.log2(np.arange(len(grades)) + 2)).sum())


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    folder = Path(options.data or ".") / "beir-scifact"
    if (folder / "corpus.jsonl").exists():
        passages, _, titles = read_scifact(folder)
        samples = {"passages": list(passages.values()), "short": titles}
    else:
        samples = {"passages": random_texts(1000, 160), "short": random_texts(4000, 15)}
    counts = {"passages": options.passages, "short": 4 * options.passages}
    rows = []
    reference: dict[str, tuple[Vectors, float]] = {}
    for name, system in systems(options.model).items():
        row: dict[str, object] = {"system": name}
        for kind, texts in samples.items():
            vectors, cpu, wall = measure(system, texts[: counts[kind]], options.repeats)
            base, base_cpu = reference.setdefault(kind, (vectors, cpu))
            cosine = float((vectors * base).sum(1).min())
            row |= {f"{kind} a CPU s": cpu, f"{kind} a second": wall}
            row |= {f"{kind} ratio": cpu / base_cpu, f"{kind} lowest cosine": cosine}
        if options.quality:
            row |= quality(system, folder)
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, object]]) -> str:
    header = list(rows[0])
    cells = [[v if isinstance(v, str) else f"{v:.5g}" for v in row.values()] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("RAGSTONE_DATA"))
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--passages", type=int, default=256, help="and four times as many titles")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = run(options)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
