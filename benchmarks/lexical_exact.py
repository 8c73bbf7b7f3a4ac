"""Brute-force BM25 in NumPy's float64, to hold the best passages that were found against."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ragstone.indexes.bm25 import LENGTHS, norms
from ragstone.models.analyzer import Analyzer
from ragstone.records import Neighbours, WeightedTerms

K1, B = 0.9, 0.4


def entries(keys: WeightedTerms) -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
    """Each term with the rows that hold it and its frequencies there."""
    owner = np.repeat(np.arange(len(keys)), np.diff(keys.offsets))
    order = np.argsort(keys.ids, kind="stable")
    cuts = np.searchsorted(keys.ids[order], np.arange(len(keys.vocabulary) + 1))
    for term, start, end in zip(keys.vocabulary, cuts, cuts[1:], strict=False):
        yield term, owner[order[start:end]], keys.weights[order[start:end]]


class Corpus:
    """The postings of some terms, and the lengths of all passages."""

    def __init__(self, batches: Iterable[list[str]], analyzer: Analyzer, terms: set[bytes]) -> None:
        self.postings: dict[bytes, list[np.ndarray]] = {term: [] for term in terms}
        lengths, base = [np.zeros(0, np.int32)], 0
        for batch in batches:
            keys = analyzer.encode_passages(batch)
            for term, rows, frequencies in entries(keys):
                if term in self.postings:
                    self.postings[term].append(np.stack([rows + base, frequencies]))
            lengths.append(keys.lengths)
            base += len(batch)
        self.lengths = np.concatenate(lengths)

    def scores(self, query: dict[bytes, float]) -> np.ndarray:
        """(passages,) by the formula, 0 without any of the terms."""
        filled = self.lengths[self.lengths > 0]
        factor = K1 * (1 - B + B * LENGTHS[norms(self.lengths)] / filled.mean())
        scores = np.zeros(len(self.lengths))
        for term, weight in query.items():
            if self.postings[term]:
                places, frequencies = np.concatenate(self.postings[term], axis=1)
                rows = places.astype(np.int64)
                idf = np.log(1 + (len(filled) - len(rows) + 0.5) / (len(rows) + 0.5))
                scores[rows] += weight * idf * frequencies / (frequencies + factor[rows])
        return scores


def agrees(found: Neighbours, scores: np.ndarray) -> bool:
    """Whether the passages of one query are the best there are, with their scores."""
    k = found.numbers.shape[1]
    best = np.sort(scores[scores > 0])[::-1][:k]
    numbers = found.numbers[0][found.numbers[0] >= 0]
    if len(numbers) != len(best) or len(set(numbers.tolist())) != len(best):
        return False
    near = np.allclose(found.scores[0][: len(best)], best, rtol=1e-5)
    return bool(near and np.allclose(scores[numbers], best, rtol=1e-5))


def share_exact(
    batches: Iterable[list[str]], queries: list[str], ask: Callable[[list[str], int], Any], k: int
) -> float:
    """The share of queries whose best k are those of brute force."""
    analyzer = Analyzer()
    asked = [
        {term: float(frequencies[0]) for term, _, frequencies in entries(keys)}
        for keys in (analyzer.encode_queries([query]) for query in queries)
    ]
    corpus = Corpus(batches, analyzer, {term for query in asked for term in query})
    good = [
        agrees(ask([text], k), corpus.scores(query))
        for text, query in zip(queries, asked, strict=True)
    ]
    return sum(good) / len(good)
