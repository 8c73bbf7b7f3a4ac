"""Evaluations: which queries are asked, what counts as a hit, what is reported, what is written."""

import hashlib
import json
import random

import numpy as np
import pytest

from ragstone.errors import DiskError, DuplicateId, InputError, UsageError
from ragstone.eval import (
    TimedEncoder,
    add_cost,
    against_best,
    compare,
    entry,
    evaluate,
    measure,
    parse_measure,
    read_qrels,
    read_run,
    table,
    write_report,
)
from ragstone.eval.trec import ranked
from ragstone.records import Fingerprint, Query

MEASURES = tuple(parse_measure(name) for name in ("nDCG@10", "R@3", "MRR@10", "MAP"))
QUERIES = [Query(f"q{i}", f"text {i}") for i in range(40)]
QRELS = {f"q{i}": {f"p{i}": 2, f"p{i + 1}": 1, "p99": 0} for i in range(40)}


class Scripted:
    """A retriever that finds what it is told to, and remembers what it was asked."""

    def __init__(self, hits):
        self.hits, self.calls = hits, []

    def retrieve(self, queries, k, *, filter=None):
        self.calls.append(([query.id for query in queries], k))
        found = [ranked(query, self.hits(query)) for query in queries]
        return [type(r)(r.query, r.ids[:k], r.scores[:k]) for r in found]


def good(query):
    number = int(query.id[1:])
    return {f"p{number}": 3.0, f"p{number + 1}": 2.0, f"p{number + 2}": 1.0}


def bad(query):
    return {} if query.id == "q7" else {"p99": 2.0, f"p{query.id[1:]}": 1.0}


@pytest.fixture
def evaluation():
    systems = {"good": Scripted(good), "bad": Scripted(bad)}
    return evaluate(systems, QUERIES, QRELS, measures=MEASURES)


def test_every_system_is_measured_on_the_same_queries(evaluation):
    assert evaluation.queries == tuple(QRELS)
    assert list(evaluation.systems) == ["good", "bad"]
    assert evaluation.systems["good"].measures == {"nDCG@10": 1, "R@3": 1, "MRR@10": 1, "MAP": 1}
    worse = evaluation.systems["bad"]
    expected = measure(worse.rankings, QRELS, MEASURES)
    for each in MEASURES:
        np.testing.assert_array_equal(worse.per_query[str(each)], expected[each])
        assert worse.measures[str(each)] == expected[each].mean()
    assert worse.without_hits == ("q7",)
    assert worse.per_query["MAP"][7] == 0


def test_only_judged_queries_are_asked_in_batch_and_then_one_by_one():
    system, seen = Scripted(good), []
    unjudged = [Query("q500", "nobody judged this"), *QUERIES]
    evaluate(
        {"s": system},
        unjudged,
        QRELS,
        k=7,
        latency_queries=10,
        latency_k=3,
        progress=lambda *state: seen.append(state),
    )
    asked, k = system.calls[0]
    assert asked == list(QRELS) and k == 8
    singles = system.calls[1:]
    assert len(singles) == 10 and all(len(ids) == 1 and k == 3 for ids, k in singles)
    assert seen == [("s", 40, 40)]


def test_the_cost_says_how_long_it_took():
    clock = iter([5.0, 7.5])
    result = evaluate(
        {"s": Scripted(good)}, QUERIES, QRELS, encode_seconds={"s": lambda: next(clock)}
    ).systems["s"]
    assert result.cost["encode_s"] == 2.5
    assert result.cost["queries_per_s"] > 0
    assert 0 < result.cost["p50_ms"] <= result.cost["p99_ms"]
    nothing = evaluate({"s": Scripted(good)}, QUERIES, QRELS, latency_queries=0).systems["s"]
    assert set(nothing.cost) == {"search_s", "queries_per_s"}


def test_a_timed_encoder_encodes_and_counts():
    class Lengths:
        fingerprint = Fingerprint("lengths", "0")

        def encode_passages(self, texts):
            return np.array([[len(text)] for text in texts])

        encode_queries = encode_passages

    timed = TimedEncoder(Lengths())
    assert timed.seconds() == 0
    assert timed.encode_queries(["abc"]).tolist() == [[3]]
    after_one = timed.seconds()
    assert timed.encode_passages(["a", "bb"]).tolist() == [[1], [2]]
    assert 0 < after_one < timed.seconds()
    assert timed.fingerprint.name == "lengths"


# --- a query's own id is not a hit ----------------------------------------------------------------


def itself(query):
    return {query.id: 9.0, "x": 2.0, "y": 1.0}


def test_the_own_id_is_dropped_before_cutting_at_k():
    qrels = {"a": {"y": 1}}
    system = Scripted(itself)
    result = evaluate({"s": system}, [Query("a", "")], qrels, measures=MEASURES, k=2).systems["s"]
    assert result.rankings[0].ids == ("x", "y")
    assert result.rankings[0].scores.tolist() == [2, 1]
    assert (result.measures["MRR@10"], result.own_ids, result.own_ids_judged) == (0.5, ("a",), ())
    kept = evaluate({"s": system}, [Query("a", "")], qrels, k=2, drop_own_id=False).systems["s"]
    assert kept.rankings[0].ids == ("a", "x") and kept.own_ids == ()


def test_a_ranking_without_the_own_id_is_cut_at_k_as_well():
    result = evaluate({"s": Scripted(good)}, QUERIES, QRELS, k=2).systems["s"]
    assert {len(ranking) for ranking in result.rankings} == {2}


def test_a_dropped_own_id_that_is_judged_relevant_is_told():
    shared = evaluate({"s": Scripted(itself)}, [Query("1", "")], {"1": {"1": 3, "x": 1}})
    assert shared.systems["s"].own_ids_judged == ("1",)
    assert "drop_own_id=False keeps them" in " ".join(table(shared).notes)


# --- refusals -------------------------------------------------------------------------------------


def test_judgements_without_their_queries_are_refused_by_id():
    with pytest.raises(
        InputError, match=r"40 of 40 .* \(missing: q0, q1, q10 \.\.\.; queries: other\)"
    ):
        evaluate({"s": Scripted(good)}, [Query("other", "")], QRELS)
    with pytest.raises(InputError, match=r"1 of 40 .* \(missing: q3; "):
        evaluate({"s": Scripted(good)}, QUERIES[:3] + QUERIES[4:], QRELS)
    with pytest.raises(InputError, match="missing: none; queries: q0"):
        evaluate({"s": Scripted(good)}, QUERIES, {})
    with pytest.raises(DuplicateId):
        evaluate({"s": Scripted(good)}, [*QUERIES, QUERIES[0]], QRELS)


def test_a_retriever_that_loses_queries_is_refused():
    class Forgetful(Scripted):
        def retrieve(self, queries, k, *, filter=None):
            return super().retrieve(queries, k)[1:]

    with pytest.raises(UsageError, match="'s' gave 39 rankings for 40 queries"):
        evaluate({"s": Forgetful(good)}, QUERIES, QRELS)
    with pytest.raises(UsageError, match="k=0"):
        evaluate({"s": Scripted(good)}, QUERIES, QRELS, k=0)


# --- table and report -----------------------------------------------------------------------------


def test_the_table_has_a_row_a_system_and_stars_what_differs(evaluation):
    shown = table(add_cost(evaluation, "bad", {"index_bytes_per_passage": 1234.4}))
    assert shown.header[:6] == ["system", "nDCG@10", "R@3", "MRR@10", "MAP", "no hits"]
    assert shown.header[-1] == "bytes/passage"
    first, second = shown.rows
    assert first[:3] == ["good", "1.0000", "1.0000"] and first[5] == "0" and first[-1] == ""
    assert second[1].endswith("*") and second[5] == "1" and second[-1] == "1,234"
    assert {len(row) for row in shown.rows} == {len(shown.header)}
    assert shown.notes[0].startswith("* differs")


def test_an_entry_is_json(evaluation):
    line = json.loads(json.dumps(entry("toy", evaluation, "bad")))
    assert (line["dataset"], line["system"], line["without_hits"]) == ("toy", "bad", 1)
    assert set(line["measures"]) == {"nDCG@10", "R@3", "MRR@10", "MAP"}
    assert {"search_s", "queries_per_s", "p50_ms", "p99_ms"} <= set(line["cost"])


def test_a_report_can_be_found_again_from_its_files(tmp_path, evaluation):
    folder = tmp_path / "new" / "report"
    path = write_report(folder, evaluation, dataset="toy", facts={"model": "none"})
    report = json.loads(path.read_text())
    assert (report["dataset"], report["facts"]) == ("toy", {"model": "none"})
    assert report["parameters"]["k"] == 1000 and report["parameters"]["drop_own_id"] is True
    assert {"ragstone", "numpy", "python"} <= set(report["versions"])
    for name, digest in report["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    qrels = read_qrels(folder / "qrels.trec")
    for record in report["systems"]:
        values = measure(read_run(folder / record["run"]), qrels, MEASURES)
        assert record["measures"] == {str(each): v.mean() for each, v in values.items()}
    assert report["systems"][1]["queries_without_hits"] == ["q7"]
    assert report["systems"][1]["against_best"]["MAP"]["worse"] == 40


def test_values_of_every_query_are_written(tmp_path, evaluation):
    write_report(tmp_path, evaluation, dataset="toy")
    header, *lines = (tmp_path / "per_query.tsv").read_text().splitlines()
    assert header == "query\tsystem\tnDCG@10\tR@3\tMRR@10\tMAP"
    assert len(lines) == 80 and lines[0] == "q0\tgood" + "\t1.000000" * 4
    assert lines[15] == "q7\tbad" + "\t0.000000" * 4


def test_a_second_report_replaces_the_first_and_nothing_else(tmp_path, evaluation):
    (tmp_path / "notes.txt").write_text("mine")
    first = write_report(tmp_path, evaluation, dataset="toy").read_text()
    second = write_report(tmp_path, evaluation, dataset="toy").read_text()
    assert json.loads(first)["sha256"] == json.loads(second)["sha256"]
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == [
        "bad.trec",
        "good.trec",
        "notes.txt",
        "per_query.tsv",
        "qrels.trec",
        "report.json",
    ]


def test_a_system_may_have_any_name_and_ids_may_have_spaces(tmp_path):
    qrels = {"who is it": {"Ada Byron": 1}}
    hits = Scripted(lambda query: {"Ada Byron": 1.0})
    one = evaluate({"../a b": hits}, [Query("who is it", "")], qrels, measures=MEASURES)
    report = json.loads(write_report(tmp_path / "r", one, dataset="toy").read_text())
    run = tmp_path / "r" / report["systems"][0]["run"]
    assert run.parent == tmp_path / "r" / "runs"
    values = measure(read_run(run), read_qrels(tmp_path / "r" / "qrels.trec"), MEASURES)
    assert {v.mean() for v in values.values()} == {1.0}


def test_a_report_that_cannot_be_written_says_where(tmp_path, evaluation):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="file/runs"):
        write_report(tmp_path / "file", evaluation, dataset="toy")


# --- significance ---------------------------------------------------------------------------------


def test_the_p_value_is_that_of_all_swaps():
    chance = random.Random(3)
    first, second = (np.array([chance.randint(0, 8) / 8 for _ in range(12)]) for _ in range(2))
    signs = 1 - 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1)
    exact = (np.abs(signs @ (first - second)) >= abs((first - second).sum()) - 1e-9).mean()
    result = compare(first, second, permutations=100_000, seed=1)
    assert abs(result.p_value - exact) < 0.005
    assert result.difference == (first - second).mean()
    assert result.better + result.worse + result.equal == 12
    assert compare(second, first, permutations=100_000, seed=1).p_value == result.p_value


def test_equal_systems_do_not_differ_and_a_clear_winner_does():
    values = np.linspace(0, 1, 50)
    assert compare(values, values).p_value == 1
    assert compare(values + 0.1, values, permutations=999).p_value == 1 / 1000
    assert compare(values, values[::-1], seed=2) == compare(values, values[::-1], seed=2)


def test_against_best_compares_as_pairs_do(evaluation):
    best, worse = evaluation.systems.values()
    others = against_best(evaluation, seed=5)
    assert {tuple(of_measure) for of_measure in others.values()} == {("bad",)}
    pair = compare(worse.per_query["MAP"], best.per_query["MAP"], seed=5)
    assert others["MAP"]["bad"] == pair


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(seed).beta(0.5, 0.5, (2, 80))
    values[0] += 0.04 * seed
    theirs = stats.permutation_test(
        (values[0] - values[1],), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert abs(compare(*values, permutations=20_000).p_value - theirs.pvalue) < 0.02


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(InputError, match="3 and 2 queries cannot be paired"):
        compare(np.zeros(3), np.zeros(2))
    with pytest.raises(UsageError, match="permutations=0"):
        compare(np.zeros(3), np.zeros(3), permutations=0)
