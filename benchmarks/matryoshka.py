"""What fewer dimensions, fewer layers, titles and late chunking do to quality and speed.

    python benchmarks/matryoshka.py [--data FOLDER] [--part dimensions layers chunks] [--json FILE]

BEIR SciFact (FOLDER/beir-scifact; default: $RAGSTONE_DATA) with the embedded model, brute force
over its vectors. `dimensions`: the first 384, 256, 128 and 64, with titles and without. `layers`:
the first 6, 5, 4 and 3, with passages a second of processor time, taken in turns. `chunks`: every
abstract in chunks of 150 words, in sentences, and whole, each chunk encoded by itself after the
title (as an index does it) and within its document; a document scores as its best chunk. One
thread. About 3, 5 and 12 minutes of processor time.
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
from encode import ndcg, read_judgements
from numpy.typing import NDArray

from ragstone.corpus import Chunker
from ragstone.corpus.sentences import sentences
from ragstone.models.bi_encoder import BiEncoder
from ragstone.models.late_chunking import ChunkedText
from ragstone.models.matryoshka import unit
from ragstone.records import Passage

Vectors = NDArray[np.float32]
Row = dict[str, object]
Spans = list[list[tuple[int, int]]]
DIMENSIONS = (384, 256, 128, 64)
LAYERS = (6, 5, 4, 3)


class SciFact:
    """The corpus, the judged queries and their judgements."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "corpus.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        self.ids = [str(row["_id"]) for row in rows]
        self.titles = [str(row["title"]) for row in rows]
        self.texts = [str(row["text"]) for row in rows]
        lines = (folder / "queries.jsonl").read_text("utf-8").splitlines()
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines)}
        self.judged = read_judgements(folder)
        self.queries = [queries[id] for id in self.judged]

    @property
    def titled(self) -> list[str]:
        return [f"{a} {b}".strip() for a, b in zip(self.titles, self.texts, strict=True)]

    def quality(self, queries: Vectors, passages: Vectors, of: Sequence[int] | None = None) -> Row:
        """nDCG@10 and R@100; `of`: how many rows each document has, of which the best counts."""
        scores = queries @ passages.T
        if of is not None:
            scores = np.maximum.reduceat(scores, np.cumsum([0, *of[:-1]]), axis=1)
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :100].tolist()
        found = [[self.ids[place] for place in row] for row in ranked]
        pairs = list(zip(found, self.judged.values(), strict=True))
        recall = [len({*row} & {*grades}) / len(grades) for row, grades in pairs]
        gain = [ndcg(row[:10], grades) for row, grades in pairs]
        return {"nDCG@10": float(np.mean(gain)), "R@100": float(np.mean(recall))}


def by_dimensions(data: SciFact) -> list[Row]:
    encoder = BiEncoder()
    queries = encoder.encode_queries(data.queries)
    rows = []
    for what, texts in (("with title", data.titled), ("text alone", data.texts)):
        passages = encoder.encode_passages(texts)
        for count in DIMENSIONS:
            measured = data.quality(unit(queries[:, :count]), unit(passages[:, :count]))
            rows.append({"": f"{count} dimensions, {what}", **measured, "bytes": 4 * count})
    return rows


def by_layers(data: SciFact) -> list[Row]:
    encoders = {count: BiEncoder(layers=count) for count in LAYERS}
    speeds = {count: 0.0 for count in LAYERS}
    sample = data.titled[:256]
    for _ in range(3):
        for count, encoder in encoders.items():
            speeds[count] = max(speeds[count], rate(encoder.encode_passages, sample))
    rows = []
    for count, encoder in encoders.items():
        passages = encoder.encode_passages(data.titled)
        measured = data.quality(encoder.encode_queries(data.queries), passages)
        rows.append({"": f"{count} layers", **measured, "passages/s": speeds[count]})
    return rows


def rate(encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str]) -> float:
    """Texts a second of processor time."""
    begin = time.process_time()
    encode(texts)
    return len(texts) / (time.process_time() - begin)


def by_chunks(data: SciFact) -> list[Row]:
    plain, late = BiEncoder(), BiEncoder(late_chunking=True)
    queries = plain.encode_queries(data.queries)
    spans = all_spans(data.texts)
    rows = []
    for name, places in spans.items():
        pairs = zip(data.titles, data.texts, places, strict=True)
        texts = [f"{title} {text[a:b]}" for title, text, own in pairs for a, b in own]
        measured = data.quality(queries, plain.encode_passages(texts), [len(p) for p in places])
        rows.append({"": f"{name}, by themselves", **measured})
    each = list(zip(*spans.values(), strict=True))
    together = [[span for own in document for span in own] for document in each]
    documents = map(ChunkedText, data.texts, together, data.titles)
    vectors = late.encode_documents(list(documents))
    kinds = np.array([kind for document in each for kind, own in enumerate(document) for _ in own])
    for kind, (name, places) in enumerate(spans.items()):
        measured = data.quality(queries, vectors[kinds == kind], [len(p) for p in places])
        rows.append({"": f"{name}, in their document", **measured})
    return rows


def all_spans(texts: Sequence[str]) -> dict[str, Spans]:
    cut = [Chunker().chunks(Passage("", text)) for text in texts]
    words = [[(one.metadata["start"], one.metadata["end"]) for one in chunks] for chunks in cut]
    return {
        "150 words": words,
        "sentences": [sentences(text) or [(0, len(text))] for text in texts],
        "whole abstracts": [[(0, len(text))] for text in texts],
    }


PARTS = {"dimensions": by_dimensions, "layers": by_layers, "chunks": by_chunks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("RAGSTONE_DATA"))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.data:
        parser.error("name the folder that holds beir-scifact: --data FOLDER or $RAGSTONE_DATA")
    import torch

    torch.set_num_threads(1)
    data = SciFact(Path(options.data) / "beir-scifact")
    rows = [row for part in options.part for row in PARTS[part](data)]
    for row in rows:
        numbers = (f"{key} {number:.4g}" for key, number in row.items() if key)
        print(f"{row['']:36}", *numbers, sep="  ")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
