"""Passage quality against the formulas, and what pruning leaves out."""

import json
import os
from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import InputError, UsageError
from ragstone.models.analyzer import Analyzer
from ragstone.models.passage_quality import (
    SMOOTHING,
    CollectionDistance,
    InformationToNoise,
    ModelQuality,
    kept,
)

from . import sparse_folders as folders

TEXTS = ["fox dog fox bird", "fox", "", "zebra zebra zebra yak", "the of", "fox dog bird cow"]
COLLECTION = [*TEXTS[:3], "dog bird cow fox horse"]


def test_the_lowest_share_is_left_out() -> None:
    qualities = np.array([3, 1, 2, 1, 5, 1], np.float32)
    assert kept(qualities, 0).all()
    assert kept(qualities, 0.34).tolist() == [True, True, True, False, True, False]
    assert kept(qualities, 0.5).tolist() == [True, False, True, False, True, False]
    assert kept(qualities, 0.99).sum() == 1
    assert kept(np.zeros(0, np.float32), 0.5).shape == (0,)
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(UsageError, match="prune="):
            kept(qualities, share)
    with pytest.raises(InputError, match="the quality of text 1 is not a number"):
        kept(np.array([1, np.nan], np.float32), 0.5)


def test_information_to_noise_is_the_share_of_distinct_terms() -> None:
    found = InformationToNoise(Analyzer())(TEXTS)
    np.testing.assert_allclose(found, [3 / 4, 1, 0, 2 / 4, 0, 1])


def test_collection_distance_is_a_divergence() -> None:
    words = Counter(" ".join(COLLECTION).split())
    total = sum(words.values())
    quality = CollectionDistance(Analyzer(), COLLECTION)
    expected = []
    for text in TEXTS:
        own = Counter(word for word in text.split() if word not in ("the", "of"))
        size = max(sum(own.values()), 1)
        distance = 0.0
        for word, count in words.items():
            share = count / total
            mixed = (1 - SMOOTHING) * own[word] / size + SMOOTHING * share
            distance += share * log(share / mixed)
        expected.append(-distance)
    found = quality(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert min(found[0], found[5]) > found[1] > found[3] == pytest.approx(found[2])
    assert quality([]).shape == (0,)


def test_a_classifier_scores_passages_alone(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.BertConfig(
        vocab_size=len(folders.WORDS), intermediate_size=64, num_labels=2, **sizes
    )
    torch.manual_seed(0)
    network = transformers.BertForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer = folders.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    found = ModelQuality(tmp_path, label=1, max_length=12, dtype="float32")(folders.TEXTS)
    for text, quality in zip(folders.TEXTS, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        with torch.inference_mode():
            assert quality == pytest.approx(float(network(**ids).logits[0, 1]), abs=1e-5)
    assert ModelQuality(tmp_path)([]).shape == (0,)


@pytest.mark.skipif("RAGSTONE_DATA" not in os.environ, reason="needs RAGSTONE_DATA")
def test_scifact_without_its_worst_tenth_keeps_most_of_its_judged_passages() -> None:
    folder = Path(os.environ["RAGSTONE_DATA"]) / "beir-scifact"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_bytes().splitlines()]
    lines = (folder / "qrels/test.tsv").read_text().splitlines()[1:]
    judged = {line.split()[1] for line in lines}
    texts = [f"{row['title']} {row['text']}" for row in rows]
    stay = kept(CollectionDistance(Analyzer(), texts)(texts), 0.1)
    relevant = np.array([row["_id"] in judged for row in rows])
    assert (stay & relevant).sum() > 0.93 * relevant.sum()
