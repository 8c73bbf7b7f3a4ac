"""Lucene as a retriever: any index that Anserini or Pyserini built, the prebuilt ones included.

    LuceneRetriever(folder)                     BM25 over texts that Lucene analysed
    LuceneRetriever(folder, encoder=encoder)    impacts: the encoder gives the query's terms

Needs the extra `lucene`, which brings a Java runtime; Java starts with the first retriever.

Yang, Fang and Lin, "Anserini: Enabling the Use of Lucene for Information Retrieval Research" (SIGIR
2017); Lin et al., "Pyserini: A Python Toolkit for Reproducible Information Retrieval Research with
Sparse and Dense Representations" (SIGIR 2021).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DiskError, MissingExtra, UsageError
from ..records import Bitmap, Filter, Query, Ranking, WeightedTerms
from ..stages import Encoder
from .index_retriever import require_positive
from .java import java, java_errors, start_java
from .ordering import ranked

Feedback = Literal["rm3", "rocchio"]
TermEncoder = Encoder[WeightedTerms, WeightedTerms]
Hits = tuple[list[str], NDArray[np.float64]]
SLICE = 256
"""Queries that Java is given at once: Ctrl-C is heard between two slices."""


class FilteredPassages(Protocol):
    """What knows the metadata of the passages in an index: a collection's `passages`."""

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]: ...

    def select(self, filter: Filter) -> Bitmap: ...


class LuceneRetriever:
    """Searches one Lucene index; scores are Anserini's, rounded to four decimals.

    folder: of the index, as Lucene wrote it.  k1, b: of BM25.
    encoder: makes this a search by impacts, where a passage scores the sum over terms of the
    query's weight times the stored one; `scale` multiplies the query's weights before they are
    rounded to whole numbers, so it multiplies the scores too.
    feedback: "rm3" or "rocchio" expand the query from the first hits, with Anserini's defaults;
    the index needs stored document vectors for it.
    passages: of the same ids, for filters. Lucene knows nothing of metadata, so a filtered search
    goes down the ranking until k are found: exact, but slow where few are allowed.
    threads: of Java, for a batch of queries.

    Raises MissingExtra; UsageError for a folder without an index or settings without sense;
    Mismatch, Damaged and DiskError for an index that cannot be read.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        encoder: TermEncoder | None = None,
        scale: float = 100,
        feedback: Feedback | None = None,
        passages: FilteredPassages | None = None,
        threads: int = 1,
    ) -> None:
        _require_settings(k1, b, scale, feedback)
        require_positive("threads", threads)
        self._folder, self._encoder, self._scale = Path(folder), encoder, scale
        self._passages, self._threads = passages, threads
        start_java()
        with java_errors(self._folder):
            kind = "SimpleSearcher" if encoder is None else "SimpleImpactSearcher"
            self._searcher = java(f"io.anserini.search.{kind}")(str(folder))
            self.rows = int(self._searcher.get_total_num_docs())
            if encoder is None:
                self._searcher.set_bm25(k1, b)
            if feedback is not None:
                getattr(self._searcher, f"set_{feedback}")()

    @classmethod
    def from_prebuilt(cls, name: str, **settings: Any) -> "LuceneRetriever":
        """A retriever over one of Pyserini's prebuilt indexes, downloaded when it is not there yet.

        Pyserini keeps them in ~/.cache/pyserini, or where PYSERINI_CACHE says.
        Raises UsageError for an unknown name, DiskError when the download fails.
        """
        return cls(_prebuilt(name), **settings)

    def retrieve(
        self, queries: Sequence[Query], k: int, *, filter: Filter | None = None
    ) -> list[Ranking]:
        """One ranking of at most `k` passages a query: those with a term of it.

        UsageError: k < 1, or a filter without `passages`.  What Java raises comes as in the class.
        """
        require_positive("k", k)
        asked = self._asked(queries)
        if filter is not None:
            return self._filtered(queries, asked, k, self._allowed(filter))
        hits = self._search(asked, k)
        return [ranked(query, *found, k) for query, found in zip(queries, hits, strict=True)]

    def close(self) -> None:
        """Give the files back; the retriever is of no use afterwards."""
        self._searcher.close()

    def _asked(self, queries: Sequence[Query]) -> list[Any]:
        """Each query as Java takes it: a text, or a map from terms to whole numbers."""
        texts = [query.text for query in queries]
        if self._encoder is None:
            return [text.encode(errors="replace").decode() for text in texts]
        return [_term_map(terms) for terms in whole_weights(self._encode(texts), self._scale)]

    def _encode(self, texts: Sequence[str]) -> WeightedTerms:
        assert self._encoder is not None
        return self._encoder.encode_queries(texts)

    def _search(self, asked: Sequence[Any], k: int) -> Iterator[Hits]:
        """The hits of each query, best first."""
        depth = max(1, min(k, self.rows))  # Java makes room for that many
        for start in range(0, len(asked), SLICE):
            some, names = java("java.util.ArrayList")(), java("java.util.ArrayList")()
            for place, one in enumerate(asked[start : start + SLICE]):
                some.add(one)
                names.add(str(place))
            with java_errors(self._folder):
                found = self._searcher.batch_search(some, names, depth, self._threads)
                hits = [_hits(found.get(str(place))) for place in range(names.size())]
            yield from hits

    def _allowed(self, filter: Filter) -> Bitmap:
        if self._passages is None:
            raise UsageError(
                "a Lucene index holds no metadata to filter by",
                remedy="Give the retriever the passages: LuceneRetriever(folder, passages=...)",
            )
        return self._passages.select(filter)

    def _filtered(
        self, queries: Sequence[Query], asked: Sequence[Any], k: int, allowed: Bitmap
    ) -> list[Ranking]:
        """As many hits as it takes to find `k` that are allowed, four times as many each round."""
        found: dict[int, Ranking] = {}
        waiting = list(range(len(queries)))
        depth = k * max(1, len(allowed) // max(1, int(allowed.sum())))
        while waiting:
            hits = dict(zip(waiting, self._search([asked[i] for i in waiting], depth), strict=True))
            for i, (ids, scores) in hits.items():
                kept = self._kept(ids, allowed)
                found[i] = ranked(queries[i], [ids[j] for j in kept.tolist()], scores[kept], k)
            more = depth < self.rows
            waiting = [
                i for i in waiting if more and len(hits[i][0]) == depth and len(found[i]) < k
            ]
            depth *= 4
        return [found[i] for i in range(len(queries))]

    def _kept(self, ids: Sequence[str], allowed: Bitmap) -> NDArray[np.int64]:
        """The places of the ids that are allowed."""
        assert self._passages is not None
        numbers = self._passages.numbers(ids)
        known = np.flatnonzero(numbers >= 0)
        return known[allowed[numbers[known]]]


def whole_weights(terms: WeightedTerms, scale: float) -> Iterator[list[tuple[str, int]]]:
    """Each text's terms with their weights times `scale`, rounded; those below 1 are left out."""
    numbers = np.rint(terms.weights.astype(np.float64) * scale).astype(np.int64)
    for start, end in zip(terms.offsets[:-1].tolist(), terms.offsets[1:].tolist(), strict=True):
        pairs = zip(terms.ids[start:end].tolist(), numbers[start:end].tolist(), strict=True)
        yield [
            (terms.vocabulary[id].decode(errors="replace"), number)
            for id, number in pairs
            if number > 0
        ]


def _term_map(terms: Sequence[tuple[str, int]]) -> Any:
    integer, asked = java("java.lang.Integer"), java("java.util.HashMap")()
    for term, weight in terms:
        asked.put(term, integer(min(weight, 2**31 - 1)))
    return asked


def _hits(documents: Any) -> Hits:
    """Ids and scores of Anserini's documents, in their order."""
    ids = [document.docid for document in documents]
    return ids, evened(np.array([document.score for document in documents], np.float64))


def evened(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (hits,), best first, with those that Anserini told apart made equal again.

    It rounds to four decimals and takes a millionth more from each further hit of a run of equal
    scores, in float32.
    """
    even = scores.copy()
    head, run = -np.inf, 0
    for place, score in enumerate(scores.tolist()):
        near = max(5e-5, 2.0**-23 * abs(head)) if run else 0.0
        if run and abs(score + 1e-6 * run - head) < near:
            even[place], run = head, run + 1
        else:
            head, run = score, 1
    return even


def _require_settings(k1: float, b: float, scale: float, feedback: str | None) -> None:
    if not (0 <= k1 < np.inf and 0 <= b <= 1):
        raise UsageError(f"k1={k1}, b={b}", remedy="Use k1 >= 0 and b from 0 to 1")
    if not 0 < scale < np.inf:
        raise UsageError(f"scale={scale}", remedy="Use one above 0, such as 100")
    if feedback not in (None, "rm3", "rocchio"):
        raise UsageError(f"no feedback '{feedback}'", remedy="Use 'rm3' or 'rocchio'")


def _prebuilt(name: str) -> Path:
    """The folder of a prebuilt index; Pyserini's messages and progress go to stderr."""
    start_java()
    try:
        pyserini = import_module("pyserini.util")
    except ImportError as error:
        raise MissingExtra(error.name or "pyserini", "lucene") from error
    known = {*pyserini.TF_INDEX_INFO, *pyserini.IMPACT_INDEX_INFO}
    if name not in known:
        raise UsageError(
            f"Pyserini has no prebuilt index '{name}' of this kind",
            remedy="Its names stand in Pyserini's docs/prebuilt-indexes.md",
        )
    try:
        with redirect_stdout(sys.stderr):
            return Path(pyserini.download_prebuilt_index(name))
    except (ValueError, OSError, AssertionError) as error:
        raise DiskError(
            f"the prebuilt index '{name}' cannot be fetched ({error})",
            remedy="Check the network, or unpack the index yourself and name its folder",
        ) from error
