"""Measures against worked examples, a plain-Python reading of their definitions, pytrec_eval (by
ir-measures), ranx, trec_eval's own expected output, and published figures."""

import os
import random
from math import log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstone.errors import DuplicateId, InputError, UsageError
from ragstone.eval.measures import Measure, judged_queries, measure, parse_measure
from ragstone.eval.trec import ranked, read_qrels, read_run
from ragstone.records import Query, Ranking

NAMES = (
    "nDCG nDCG@1 nDCG@10 nDCG@100 MAP MAP@5 MAP@100 MRR MRR@2 MRR@10 "
    "P@1 P@5 P@30 R@1 R@10 R@100 Success@1 Success@5 Judged@1 Judged@10"
).split()
ALL = [parse_measure(name) for name in NAMES]


def means(rankings, qrels, names):
    measures = [parse_measure(name) for name in names]
    return [float(values.mean()) for values in measure(rankings, qrels, measures).values()]


def test_a_worked_example():
    rankings = [
        ranked(Query("a", ""), {"p1": 9.0, "p2": 8.0, "p3": 7.0, "p4": 6.0}),
        ranked(Query("nobody judged this", ""), {"p1": 1.0}),
    ]
    qrels = {
        "a": {"p2": 1, "p4": 3, "p5": 2, "p3": 0},
        "no hits": {"p1": 1},
        "none relevant": {"p1": 0},
    }
    values = measure(
        rankings,
        qrels,
        [parse_measure(n) for n in ("nDCG@4", "MAP", "MRR", "P@5", "R@2", "Judged@3")],
    )
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    expected = [
        (1 / log2(3) + 3 / log2(5)) / ideal,
        (1 / 2 + 2 / 4) / 3,
        1 / 2,
        2 / 5,
        1 / 3,
        2 / 3,
    ]
    assert judged_queries(qrels) == ("a", "no hits", "none relevant")
    for of_queries, first in zip(values.values(), expected, strict=True):
        np.testing.assert_allclose(of_queries, [first, 0, 0], rtol=0, atol=1e-15)


def test_ties_stand_by_descending_id_in_utf8_order():
    hits = {"a": 1.0, "z": 1.0, "é": 1.0, "漢": 1.0, "best": 2.0}
    for id, rank in {"best": 1, "漢": 2, "é": 3, "z": 4, "a": 5}.items():
        assert means([ranked(Query("q", ""), hits)], {"q": {id: 1}}, ["MRR"]) == [1 / rank]


def test_the_order_within_a_ranking_does_not_count_its_scores_do():
    backwards = Ranking(Query("q", ""), ("low", "high"), np.array([1, 2], np.float32))
    assert means([backwards], {"q": {"high": 1}}, ["MRR"]) == [1.0]


def test_scores_closer_than_float32_are_ties():
    hits = {"a": 1.0 + 1e-9, "b": 1.0}
    assert means([ranked(Query("q", ""), hits)], {"q": {"a": 1}}, ["MRR"]) == [0.5]


# --- a plain reading of the definitions ----------------------------------------------------------


def plain(ranking, judged, name, cutoff):
    """One value, from the definition, in plain Python."""
    hits = sorted(zip(ranking.scores.tolist(), ranking.ids, strict=True), reverse=True)
    listed = [judged.get(id, 0) for _, id in hits]
    gains = [max(value, 0) for value in listed][:cutoff]
    ideal = sorted((value for value in judged.values() if value > 0), reverse=True)
    right = [gain > 0 for gain in gains]
    if name == "nDCG":
        dcg = [sum(g / log2(r + 2) for r, g in enumerate(part)) for part in (gains, ideal[:cutoff])]
        return dcg[0] / dcg[1] if dcg[1] else 0.0
    if name == "MAP":
        precisions = [sum(right[: r + 1]) / (r + 1) for r, is_right in enumerate(right) if is_right]
        return sum(precisions) / len(ideal) if ideal else 0.0
    if name == "MRR":
        return 1 / (right.index(True) + 1) if any(right) else 0.0
    if name == "Judged":
        return sum(id in judged for _, id in hits[:cutoff]) / cutoff
    if name == "Success":
        return float(any(right))
    return sum(right) / (cutoff if name == "P" else max(len(ideal), 1))


ids = st.integers(0, 30).map("d{}".format)
judgements = st.dictionaries(ids, st.integers(-2, 4), min_size=1, max_size=12)
hits = st.dictionaries(ids, st.integers(-3, 3).map(float), max_size=30)


@given(st.lists(st.tuples(hits, judgements), min_size=1, max_size=5))
def test_every_measure_is_what_its_definition_says(queries):
    rankings = [ranked(Query(str(i), ""), found) for i, (found, _) in enumerate(queries)]
    qrels = {str(i): judged for i, (_, judged) in enumerate(queries)}
    for each, values in measure(rankings, qrels, ALL).items():
        expected = [
            plain(ranking, judged, each.name, each.cutoff)
            for ranking, judged in zip(rankings, qrels.values(), strict=True)
        ]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12, err_msg=str(each))


# --- peers ---------------------------------------------------------------------------------------


def random_runs(seed, queries, depth, *, pool=400, levels=60):
    """Graded judgements (some negative, some of one level) and runs full of ties."""
    chance = random.Random(seed)
    passages = [f"passage-{chance.randrange(10**9)}" for _ in range(pool)]
    qrels, run = {}, {}
    for query in range(queries):
        judged = chance.sample(passages, chance.randint(1, 80))
        best = chance.choice([0, 1, 3])
        qrels[f"q{query}"] = {id: chance.randint(-1, best) for id in judged}
        if query % 7:
            found = chance.sample(passages, chance.randint(1, depth))
            run[f"q{query}"] = {id: chance.randint(0, levels) / 4 for id in found}
    return qrels, run


def rankings_of(run):
    return [ranked(Query(query, ""), found) for query, found in run.items()]


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_pytrec_eval(seed):
    ir_measures = pytest.importorskip("ir_measures")
    qrels, run = random_runs(seed, queries=60, depth=300)
    names = [n for n in NAMES if not n.startswith(("MRR@", "Judged"))]  # not in pytrec_eval
    theirs = {n: n.replace("MAP", "AP").replace("MRR", "RR") for n in names}
    parsed = {name: ir_measures.parse_measure(other) for name, other in theirs.items()}
    expected = {
        (metric.query_id, metric.measure): metric.value
        for metric in ir_measures.pytrec_eval.iter_calc(list(parsed.values()), qrels, run)
    }
    ours = measure(rankings_of(run), qrels, [parse_measure(name) for name in names])
    for (each, values), other in zip(ours.items(), parsed.values(), strict=True):
        reference = [expected.get((query, other), 0.0) for query in judged_queries(qrels)]
        np.testing.assert_allclose(values, reference, rtol=0, atol=1e-12, err_msg=str(each))


@pytest.mark.long  # ranx compiles for half a minute where its cache is cold
@pytest.mark.filterwarnings("ignore")  # numba's, about casts inside ranx
def test_equal_to_ranx():
    ranx = pytest.importorskip("ranx")
    qrels, run = random_runs(7, queries=20, depth=100)
    qrels = {q: {id: max(value, 0) for id, value in judged.items()} for q, judged in qrels.items()}
    qrels = {q: judged for q, judged in qrels.items() if any(judged.values())}
    # The order of equal scores is undefined in ranx (a quicksort): it gets trec_eval's order.
    order = {q: sorted(found, key=lambda id: (found[id], id)) for q, found in run.items()}
    ordered = {q: {id: float(place) for place, id in enumerate(o)} for q, o in order.items()}
    names = {"nDCG@10": "ndcg@10", "MAP": "map", "MRR@10": "mrr@10", "R@100": "recall@100"}
    theirs = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(ordered), list(names.values()), make_comparable=True
    )
    ours = means(rankings_of(run), qrels, list(names))
    np.testing.assert_allclose(ours, list(theirs.values()), rtol=0, atol=1e-12)


# --- trec_eval's own tests and published figures -------------------------------------------------

DATA = Path(os.environ.get("RAGSTONE_DATA", "none"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="RAGSTONE_DATA is not set")


def covered(name):
    """Our measure for a line of trec_eval's output, or None."""
    simple = {"map": Measure("MAP"), "recip_rank": Measure("MRR"), "ndcg": Measure("nDCG")}
    cut = {"P": "P", "recall": "R", "ndcg_cut": "nDCG", "map_cut": "MAP", "success": "Success"}
    stem, _, cutoff = name.rpartition("_")
    if name in simple:
        return simple[name]
    return Measure(cut[stem], int(cutoff)) if stem in cut and cutoff.isdigit() else None


def expected_output(path):
    """(query or "all", measure) -> value, of the lines that we cover."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return {(query, covered(name)): float(value) for name, query, value in rows if covered(name)}


def assert_prints(rankings, qrels, path, *, only=lambda each: True):
    expected = {key: value for key, value in expected_output(path).items() if only(key[1])}
    measures = sorted({each for _, each in expected}, key=str)
    values = measure(rankings, qrels, measures)
    place = {query: i for i, query in enumerate(judged_queries(qrels))}
    assert len(expected) >= 10
    for (query, each), value in expected.items():
        ours = values[each].mean() if query == "all" else values[each][place[query]]
        assert abs(ours - value) <= 0.5001e-4, (path.name, query, each, ours, value)


@needs_data
@pytest.mark.parametrize(
    ("qrels", "run", "out"),
    [
        ("qrels.test", "results.test", "out.test"),
        ("qrels.test.with-comments", "results.test", "out.test"),
        ("qrels.comment.test", "results.comment.test", "out.comment.test"),
        ("qrels.test", "results.test", "out.test.a"),
        ("qrels.test", "results.test", "out.test.aq"),
        ("qrels.test", "results.trunc", "out.test.aqc"),
        ("qrels.test", "results.test", "out.test.meas_params"),
    ],
)
def test_prints_what_trec_eval_prints(qrels, run, out):
    folder = DATA / "trec_eval-test"
    judged, rankings = read_qrels(folder / qrels), read_run(folder / run)
    if out == "out.comment.test":  # made without -c: over the queries that have hits
        found = {ranking.query.id for ranking in rankings}
        judged = {query: judged[query] for query in judged if query in found}
    assert_prints(rankings, judged, folder / out)


@needs_data
def test_prints_what_trec_eval_prints_for_the_first_100_hits():
    folder = DATA / "trec_eval-test"
    rankings = [
        Ranking(ranking.query, ranking.ids[:100], ranking.scores[:100])
        for ranking in read_run(folder / "results.trunc")
    ]
    assert_prints(rankings, read_qrels(folder / "qrels.test"), folder / "out.test.aqcM")


@needs_data
def test_prints_what_trec_eval_prints_at_relevance_level_2():
    folder = DATA / "trec_eval-test"
    qrels = {
        query: {id: value if value >= 2 else 0 for id, value in judged.items()}
        for query, judged in read_qrels(folder / "qrels.rel_level").items()
    }
    rankings = read_run(folder / "results.test")
    # A level changes what is relevant, not the gains of nDCG.
    assert_prints(rankings, qrels, folder / "out.test.aql", only=lambda each: each.name != "nDCG")


@needs_data
@pytest.mark.parametrize(
    ("run", "qrels", "ndcg", "recall"),
    [
        ("bm25.scifact.trec", "beir-v1.0.0-scifact.test.txt", 0.6789, 0.9253),
        ("bm25.trec-covid.top100.trec", "beir-v1.0.0-trec-covid.test.txt.gz", 0.5947, 0.1091),
        ("bm25.signal1m.top100.trec", "beir-v1.0.0-signal1m.test.txt", 0.3304, 0.3703),
        ("bm25.dl19.top100.trec", "dl19-passage.txt", 0.5058, None),
    ],
)
def test_published_figures_to_four_decimals(run, qrels, ndcg, recall):
    rankings = read_run(DATA / "reference-runs" / run)
    judged = read_qrels(DATA / "qrels" / f"qrels.{qrels}")
    got = means(rankings, judged, ["nDCG@10", "R@100"])
    assert round(got[0], 4) == ndcg
    assert recall is None or round(got[1], 4) == recall


# --- names and refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_name_reads_as_it_is_written(name):
    assert str(parse_measure(name)) == name
    assert parse_measure(name.lower()) == parse_measure(name)


def test_other_names():
    assert parse_measure("AP@5") == Measure("MAP", 5)
    assert parse_measure("RR") == Measure("MRR")


@pytest.mark.parametrize(
    "name", ["", "nDCG@", "nDCG@0", "nDCG@-1", "R", "P", "F1", "MAP@1.5", "@10"]
)
def test_an_unknown_name_is_refused_with_the_list(name):
    with pytest.raises(UsageError, match=r"There are: nDCG\[@k\], .*Judged@k"):
        parse_measure(name)


def test_a_query_ranked_twice_is_refused():
    twice = [ranked(Query("q", ""), {"a": 1.0})] * 2
    with pytest.raises(DuplicateId, match="'q' stands twice"):
        means(twice, {"q": {"a": 1}}, ["MAP"])


def test_a_passage_found_twice_is_refused():
    twice = Ranking(Query("q", ""), ("a", "b", "a"), np.array([3, 2, 1], np.float32))
    with pytest.raises(DuplicateId, match="'a' stands twice"):
        means([twice], {"q": {"a": 1}}, ["MAP"])


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(score):
    bad = Ranking(Query("q", ""), ("a", "b"), np.array([score, 1], np.float32))
    with pytest.raises(InputError, match="query 'q': a score is not finite"):
        means([bad], {"q": {"a": 1}}, ["MAP"])


def test_no_rankings_and_no_judgements():
    assert means([], {"q": {"a": 1}}, NAMES) == [0.0] * len(NAMES)
    assert all(len(values) == 0 for values in measure([], {}, ALL).values())
