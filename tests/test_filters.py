"""Filters hold what a plain evaluation, passage by passage, says they hold."""

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import UsageError
from ragstone.indexes import columns
from ragstone.indexes.family import OpenPart
from ragstone.indexes.passage_builder import PassageBuilder, check_passage, merge_passages
from ragstone.indexes.passages import PassageStore
from ragstone.records import Passage
from ragstone.storage import MemoryPart


def part_of(metadata: list[dict[str, Any]]) -> MemoryPart:
    builder = PassageBuilder()
    rows = [check_passage(Passage(f"p{i}", "", "", one)) for i, one in enumerate(metadata)]
    builder.add(rows)
    part = MemoryPart()
    builder.write(part)
    return part


def store_of(*segments: list[dict[str, Any]]) -> PassageStore:
    parts, base = [], 0
    for metadata in segments:
        parts.append(OpenPart(part_of(metadata), base, len(metadata)))
        base += len(metadata)
    return PassageStore(parts)


def selected(filter: Any, metadata: list[dict[str, Any]]) -> list[int]:
    return np.flatnonzero(store_of(metadata).select(filter)).tolist()


# A second, naive reading of the rules, one passage at a time.


def at(value: Any, path: list[str]) -> list[Any]:
    """Every value at a path; lists count with their elements, and objects in them are entered."""
    if not path:
        return [value, *value] if isinstance(value, list) else [value]
    inners = value if isinstance(value, list) else [value]
    return [
        found
        for inner in inners
        if isinstance(inner, dict) and path[0] in inner
        for found in at(inner[path[0]], path[1:])
    ]


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def same(a: Any, b: Any) -> bool:
    if kind(a) != kind(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return a == b


ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def test_one(values: list[Any], name: str, operand: Any) -> bool:
    match name:
        case "$eq":
            return any(same(v, operand) for v in values) or (operand is None and not values)
        case "$ne":
            return not test_one(values, "$eq", operand)
        case "$in":
            return any(test_one(values, "$eq", one) for one in operand)
        case "$nin":
            return not test_one(values, "$in", operand)
        case "$exists":
            return bool(values) == operand
        case "$not":
            return not all(test_one(values, *entry) for entry in operand.items())
        case _:
            return any(kind(v) == kind(operand) and ORDER[name](v, operand) for v in values)


test_one.__test__ = False  # type: ignore[attr-defined]


def holds(filter: Any, metadata: dict[str, Any]) -> bool:
    for name, value in filter.items():
        match name:
            case "$and":
                fits = all(holds(one, metadata) for one in value)
            case "$or":
                fits = any(holds(one, metadata) for one in value)
            case "$not":
                fits = not holds(value, metadata)
            case _:
                values = at(metadata, name.split("."))
                operators = isinstance(value, dict) and any(key[0] == "$" for key in value)
                tests = value if operators else {"$eq": value}
                fits = all(test_one(values, *entry) for entry in tests.items())
        if not fits:
            return False
    return True


PATHS = ["a", "b", "c", "a.b", "a.c", "b.c", "a.b.c", "none"]
NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, 1.0, -0.0, 1e300, 2**60, float(2**60)])
)
STRINGS = st.sampled_from(["", "1", "true", "x", "y", "é", "z" * 300, "\U0001f600", "null"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)
METADATA = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
TESTS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=4)),
    st.tuples(st.sampled_from(list(ORDER)), st.one_of(NUMBERS, STRINGS)),
    st.tuples(st.just("$exists"), st.booleans()),
)
OPERATORS = st.lists(TESTS, min_size=1, max_size=2).map(dict)
FIELDS = st.one_of(VALUES, OPERATORS, OPERATORS.map(lambda one: {"$not": one}))
LEAVES = st.dictionaries(st.sampled_from(PATHS), FIELDS, max_size=2)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(METADATA, max_size=12), st.lists(FILTERS, min_size=1, max_size=8), st.data())
def test_filters_hold_as_read_one_by_one(metadata, filters, data) -> None:
    cut = data.draw(st.integers(0, len(metadata)))
    store = store_of(metadata[:cut], metadata[cut:])
    for filter in filters:
        assert store.select(filter).tolist() == [holds(filter, one) for one in metadata]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(METADATA, st.booleans()), min_size=1, max_size=12),
    st.lists(FILTERS, min_size=1, max_size=8),
    st.integers(0, 12),
    st.integers(1, 4),
)
def test_merged_columns_answer_as_before(rows, filters, cut, most) -> None:
    """Also where there are more paths than columns may be: those are read row by row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MOST_PATHS", most)
        parts, base = [], 0
        for segment in (rows[:cut], rows[cut:]):
            deleted = np.array([gone for _, gone in segment], dtype=np.bool_)
            part = part_of([one for one, _ in segment])
            parts.append(OpenPart(part, base, len(segment), deleted))
            base += len(segment)
        merged = MemoryPart()
        merge_passages(parts, merged)
        live = [one for one, gone in rows if not gone]
        assert len(merged.facts["columns"]) <= most
        store = PassageStore([OpenPart(merged, 0, len(live))])
        for filter in filters:
            wanted = [holds(filter, one) for one in live]
            assert store.select(filter).tolist() == wanted
            before = PassageStore(parts).select(filter)
            assert np.count_nonzero(before) == sum(wanted)


def test_kinds_never_compare() -> None:
    values: list[Any] = [1, True, "1", None, [1], {"x": 1}, 1.0, 0, False]
    metadata = [{"v": value} for value in values]
    assert selected({"v": 1}, metadata) == [0, 4, 6]
    assert selected({"v": True}, metadata) == [1]
    assert selected({"v": "1"}, metadata) == [2]
    assert selected({"v": {"$gte": 0}}, metadata) == [0, 4, 6, 7]
    assert selected({"v": {"$gte": "0"}}, metadata) == [2]
    assert selected({"v": {"$in": [[1], {"x": 1}]}}, metadata) == [4, 5]


def test_null_is_null_or_missing_and_opposites_hold_where_nothing_stands() -> None:
    metadata: list[dict[str, Any]] = [{}, {"v": None}, {"v": 3}, {"v": []}]
    assert selected({"v": None}, metadata) == [0, 1]
    assert selected({"v": {"$ne": 3}}, metadata) == [0, 1, 3]
    assert selected({"v": {"$not": {"$gt": 1}}}, metadata) == [0, 1, 3]
    assert selected({"v": {"$exists": True}}, metadata) == [1, 2, 3]
    assert selected({"other": 3}, metadata) == []
    assert selected({"other": {"$exists": False}}, metadata) == [0, 1, 2, 3]
    assert selected({}, metadata) == [0, 1, 2, 3]


def test_dotted_paths_enter_objects_and_lists_of_objects() -> None:
    metadata = [
        {"a": {"b": 1}},
        {"a": [{"b": 1}, {"b": [2, 3]}]},
        {"a": [[{"b": 1}]]},
        {"a.b": 1},
    ]
    assert selected({"a.b": 1}, metadata) == [0, 1, 3]
    assert selected({"a.b": 3}, metadata) == [1]
    assert selected({"a": {"b": 1}}, metadata) == [0, 1]


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({"a": {"$regex": "x"}}, r"'\$regex' is unknown.*\$eq \$ne \$gt"),
        ({"$nor": [{}]}, r"'\$nor' is unknown"),
        ({"a": {"$gt": 1, "b": 2}}, "'b' is unknown"),
        ({"a": {"$gt": [1]}}, "a number or a string"),
        ({"a": {"$lt": True}}, "a number or a string"),
        ({"a": {"$in": "x"}}, "take a list"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"a": {"$not": 3}}, "takes operators"),
        ({"$and": []}, "list of filters"),
        ({"$or": {"a": 1}}, "list of filters"),
        ({"$and": ["a"]}, "a filter is a dictionary"),
        ({"a": float("nan")}, "not JSON"),
        ({"a": np.int64(3)}, "not JSON"),
        ({"a": {1, 2}}, "not JSON"),
    ],
)
@pytest.mark.parametrize("segments", [[], [[{"a": 1}]]])
def test_what_makes_no_sense_is_refused_by_name(filter, words, segments) -> None:
    with pytest.raises(UsageError, match=words):
        store_of(*segments).select(filter)


def test_a_filter_nested_without_end_is_refused() -> None:
    filter: dict[str, Any] = {"a": 1}
    for _ in range(100):
        filter = {"$not": filter}
    with pytest.raises(UsageError, match="nests deeper"):
        store_of().select(filter)
    for _ in range(100_000):
        filter = {"$not": filter}
    with pytest.raises(UsageError):
        store_of().select(filter)


def test_a_selection_is_kept_and_cannot_be_changed() -> None:
    store = store_of([{"a": 1}, {"a": 2}])
    first = store.select({"a": 1})
    assert store.select({"a": 1}) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = False
    for i in range(20):
        store.select({"a": i})
    assert store.select({"a": 1}).tolist() == [True, False]


def test_long_strings_and_many_paths_are_read_row_by_row() -> None:
    metadata = [{f"k{i}": i, "long": "x" * 1000 + str(i)} for i in range(300)]
    store = store_of(metadata)
    facts = part_of(metadata).facts
    assert len(facts["columns"]) == 255 and facts["scanned"] == ["long"] and facts["overflow"]
    for i in (0, 299):
        assert np.flatnonzero(store.select({f"k{i}": i})).tolist() == [i]
        assert np.flatnonzero(store.select({"long": "x" * 1000 + str(i)})).tolist() == [i]
    assert store.select({"none": {"$exists": False}}).all()
