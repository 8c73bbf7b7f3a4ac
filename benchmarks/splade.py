"""Texts a second of a SPLADE model: our forward pass beside sentence-transformers'.

The network has the size of DistilBERT or BERT and random weights, which cost as much to run as
trained ones; its tokenizer is that of the embedded model. Rounds take turns; CPU time, medians.

    python benchmarks/splade.py [--texts 40] [--dtype bfloat16] [--kind DistilBert] [--rounds 3]
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers

from ragstone.models.loaded_encoder import load, no_progress_bars
from ragstone.models.model_folder import EMBEDDED, find_model
from ragstone.models.sparse_splade import SpladeEncoder

LENGTH = 256
TERMS = 128


def folder_of(kind: str, where: Path) -> Path:
    """A bare masked language model of full size."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=30522)
    with no_progress_bars():
        getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(where)
    embedded = find_model(EMBEDDED).folder
    for path in embedded.glob("tokenizer*.json"):
        shutil.copy(path, where)
    return where


def texts_of(count: int) -> list[str]:
    """Lengths from a sentence to what the model reads."""
    sentence = "retrieval finds the passages of a collection that answer a question "
    return [sentence * (1 + 7 * i % 24) for i in range(count)]


def seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--kind", default="DistilBert", choices=["DistilBert", "Bert"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = folder_of(given.kind, Path(name))
        ours = SpladeEncoder(folder, dtype=given.dtype, max_length=LENGTH, passage_terms=TERMS)
        number_type = getattr(torch, given.dtype)
        theirs = load(find_model(name), number_type, torch.device("cpu"), "SparseEncoder")
        theirs.max_seq_length = LENGTH
        measure(ours, theirs, texts_of(given.texts), given)


def measure(ours: SpladeEncoder, theirs: Any, texts: list[str], given: argparse.Namespace) -> None:
    options = {"show_progress_bar": False, "max_active_dims": TERMS}
    runs: dict[str, Callable[[], Any]] = {
        "ragstone": lambda: ours.encode_passages(texts),
        "sentence-transformers, 8 a batch": lambda: theirs.encode_document(
            texts, batch_size=8, **options
        ),
        "sentence-transformers, 32 a batch": lambda: theirs.encode_document(
            texts, batch_size=32, **options
        ),
    }
    ours.encode_passages(texts[:4])
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    base = statistics.median(taken["ragstone"])
    print(f"{given.kind}, {given.dtype}, {len(texts)} texts of up to {LENGTH} tokens, one thread")
    for name, times in taken.items():
        middle = statistics.median(times)
        print(f"  {name:34} {len(texts) / middle:7.2f} texts/s   ours is {middle / base:.2f} x")


if __name__ == "__main__":
    main()
