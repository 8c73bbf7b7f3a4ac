"""TREC files: what is written reads back the same, and what is wrong is named with its line."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import DiskError, DuplicateId, InputError
from ragstone.eval.trec import ranked, read_qrels, read_run, write_qrels, write_run
from ragstone.records import Query, Ranking

RUN = "q1 Q0 a 1 2.5 tag\nq1\tQ0  b\t2 1.25 tag with more words\n\n# a comment\nq2 Q0 a 1 -3e-2 t\n"


def test_a_run_reads_as_rankings(tmp_path):
    (tmp_path / "run").write_text(RUN)
    first, second = read_run(tmp_path / "run")
    assert (first.query, first.ids, first.scores.tolist()) == (
        Query("q1", ""),
        ("a", "b"),
        [2.5, 1.25],
    )
    assert (second.query.id, second.ids) == ("q2", ("a",))
    assert second.scores.dtype == np.float32 and second.scores[0] == np.float32(-0.03)


def test_hits_are_sorted_by_score_whatever_the_order_and_rank_say(tmp_path):
    lines = ["q Q0 c 1 1.0 t", "other Q0 x 1 1 t", "q Q0 b 9 1.0 t", "q Q0 a 9 2.0 t"]
    (tmp_path / "run").write_text("\n".join(lines))
    assert [ranking.ids for ranking in read_run(tmp_path / "run")] == [("a", "b", "c"), ("x",)]


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
plain_words = words.filter(lambda word: not word.startswith("#"))
scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
runs = st.dictionaries(
    plain_words, st.dictionaries(words, scores, min_size=1, max_size=6), max_size=4
)


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
@given(run=runs)
def test_a_run_comes_back_bit_for_bit(tmp_path_factory, name, run):
    path = tmp_path_factory.mktemp("runs") / name
    rankings = [ranked(Query(query, ""), hits) for query, hits in run.items()]
    write_run(path, rankings, tag="a system")
    assert read_run(path) == rankings
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")


@given(
    qrels=st.dictionaries(
        plain_words, st.dictionaries(words, st.integers(-5, 5), min_size=1, max_size=6), max_size=4
    )
)
def test_judgements_come_back(tmp_path_factory, qrels):
    path = tmp_path_factory.mktemp("qrels") / "qrels.trec"
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


def test_gzip_is_known_by_its_bytes_and_written_reproducibly(tmp_path):
    (tmp_path / "run").write_bytes(gzip.compress(RUN.encode()))
    rankings = read_run(tmp_path / "run")
    assert [len(ranking) for ranking in rankings] == [2, 1]
    for name in ("one.gz", "two.gz"):
        write_run(tmp_path / name, rankings, tag="t")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_the_layout_is_trec_evals(tmp_path):
    ranking = Ranking(Query("q 1", "?"), ("Ada Byron", "b"), np.array([1.1, -0.5], np.float32))
    write_run(tmp_path / "run", [ranking], tag="bm25")
    write_qrels(tmp_path / "qrels", {"q 1": {"Ada Byron": 2, "b": -1}})
    assert (tmp_path / "run").read_text() == (
        "q%201 Q0 Ada%20Byron 1 1.10000002 bm25\nq%201 Q0 b 2 -0.5 bm25\n"
    )
    assert (tmp_path / "qrels").read_text() == "q%201 0 Ada%20Byron 2\nq%201 0 b -1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 c 3 1.0", ":6: 5 fields. A line must read: query-id Q0 passage-id rank score tag"),
        ("q1 Q0 c 3 high t", ":6: the score 'high' is no finite number"),
        ("q1 Q0 c 3 nan t", ":6: the score 'nan' is no finite number"),
        ("q1 Q0 c 3 -inf t", ":6: the score '-inf' is no finite number"),
        ("q1 Q0 c 3 1e39 t", ":6: the score '1e39' is no finite number"),
        ("q1 Q0 a 3 1.0 t", ":6: passage 'a' stands twice under query 'q1'. Keep one"),
        ("q1 Q0 \udcff 3 1.0 t", ":6: not UTF-8. Convert"),
    ],
)
def test_a_bad_run_line_is_named(tmp_path, line, message):
    (tmp_path / "run").write_bytes((RUN + line).encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_run(tmp_path / "run")
    assert f"{tmp_path / 'run'}{message}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 0 a", ":2: 3 fields. A line must read: query-id 0 passage-id relevance"),
        ("q1 0 a 1 1", ":2: 5 fields"),
        ("q1 0 a 1.5", ":2: the relevance '1.5' is no whole number"),
        ("q1 0 x 0", ":2: passage 'x' stands twice under query 'q1'"),
    ],
)
def test_a_bad_judgement_is_named(tmp_path, line, message):
    (tmp_path / "qrels").write_text(f"q1 0 x 1\n{line}\n")
    with pytest.raises(InputError, match=r"[^ ]") as caught:
        read_qrels(tmp_path / "qrels")
    assert message in str(caught.value)


def test_duplicates_have_their_own_error(tmp_path):
    (tmp_path / "qrels").write_text("q 0 x 1\nq 0 x 1\n")
    with pytest.raises(DuplicateId):
        read_qrels(tmp_path / "qrels")


def test_damaged_gzip_and_missing_files_are_named(tmp_path):
    whole = gzip.compress(b"".join(b"q Q0 p%d 1 1.5 t\n" % number for number in range(999)))
    for damaged in (whole[:-12], whole[:60] + b"\0\0\0\0" + whole[64:]):
        (tmp_path / "run.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"run\.gz: the gzip data is damaged"):
            read_run(tmp_path / "run.gz")
    with pytest.raises(InputError, match="absent: no such file"):
        read_run(tmp_path / "absent")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "run"
    write_run(path, [ranked(Query("q", ""), {"a": 1.0})], tag="t")
    before = path.read_bytes()
    with pytest.raises(InputError, match="empty id"):
        write_run(path, [ranked(Query("q", ""), {"": 1.0})], tag="t")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    with pytest.raises(DiskError, match="No such file"):
        write_run(tmp_path / "absent" / "run", [], tag="t")
