"""The passage store gives back what was put in, by number and by id, whatever was deleted."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.errors import Damaged, InputError, UsageError
from ragstone.indexes import passage_builder, passages
from ragstone.indexes.family import OpenPart
from ragstone.indexes.passage_builder import PassageBuilder, check_passage, merge_passages
from ragstone.indexes.passages import PassageStore
from ragstone.records import Passage
from ragstone.storage import MemoryPart

PASSAGES = [
    Passage("a", "one", "The first", {"year": 2020, "tags": ["x", "y"]}),
    Passage("b é", "", "", {}),
    Passage("日本/1", "text\nwith lines\r\n", "t", {"deep": {"er": [1, {"x": None}]}}),
    Passage("d" * 512, "\U0001f600" * 3, "", {"": 0.5}),
]


def written(batch: list[Passage]) -> MemoryPart:
    builder = PassageBuilder()
    for passage in batch:
        builder.add([check_passage(passage)])
    part = MemoryPart()
    builder.write(part)
    return part


def opened(*segments: tuple[list[Passage], list[int]]) -> list[OpenPart]:
    """Parts of these passages, less the rows that are listed."""
    parts, base = [], 0
    for batch, gone in segments:
        deleted = np.zeros(len(batch), dtype=np.bool_)
        deleted[gone] = True
        parts.append(OpenPart(written(batch), base, len(batch), deleted if gone else None))
        base += len(batch)
    return parts


def test_gives_back_what_was_put_in() -> None:
    store = PassageStore(opened((PASSAGES[:3], []), (PASSAGES[3:], [])))
    assert list(store) == PASSAGES and len(store) == store.rows == 4 and store.live is None
    assert store.ids(np.array([3, 0, 3, 2])) == [PASSAGES[i].id for i in (3, 0, 3, 2)]
    assert store.numbers([PASSAGES[3].id, "no", "a", "a"]).tolist() == [3, -1, 0, 0]
    assert store.fetch([p.id for p in reversed(PASSAGES)]) == PASSAGES[::-1]
    assert store.fetch([]) == [] and store.ids(np.array([], dtype=np.int64)) == []


def test_an_empty_store() -> None:
    store = PassageStore([])
    assert list(store) == [] and len(store) == 0 and store.select({"a": 1}).tolist() == []
    assert store.numbers(["a"]).tolist() == [-1] and store.numbers([]).tolist() == []


def test_the_newest_live_row_of_an_id_is_found() -> None:
    old, new = Passage("a", "old"), Passage("a", "new")
    newest = PassageStore(opened(([old, new], [0]), ([Passage("b", "")], [])))
    assert newest.fetch(["a"]) == [new]
    across = PassageStore(opened(([old], [0]), ([new, old], [1])))
    assert across.numbers(["a"]).tolist() == [1] and across.live.tolist() == [False, True, False]
    gone = PassageStore(opened(([old], [0]), ([new], [0])))
    assert gone.numbers(["a"]).tolist() == [-1] and list(gone) == [] and len(gone) == 0


@pytest.mark.parametrize("hashes", [1, 3])
def test_ids_whose_hashes_collide_are_told_apart(monkeypatch, hashes) -> None:
    def few(ids):
        return np.array([sum(id) % hashes for id in ids], dtype=np.uint64)

    monkeypatch.setattr(passage_builder, "hash_ids", few)
    monkeypatch.setattr(passages, "hash_ids", few)
    batch = [Passage(str(i), f"text {i}") for i in range(40)]
    parts = opened((batch[:20], [3, 4]), (batch[20:], [0]))
    expected = [-1 if i in (3, 4, 20) else i for i in range(40)] + [-1]
    store = PassageStore(parts)
    assert store.numbers([*map(str, range(40)), "41"]).tolist() == expected
    merged = MemoryPart()
    merge_passages(parts, merged)
    kept = [i for i in range(40) if expected[i] >= 0]
    assert PassageStore([OpenPart(merged, 0, 37)]).numbers([str(i) for i in kept]).tolist() == list(
        range(37)
    )


def test_many_numbers_are_decoded_as_few(monkeypatch) -> None:
    monkeypatch.setattr(passages, "_STRETCH", 7)
    batch = [Passage(f"p{i}" * (i % 5 + 1), "") for i in range(200)]
    store = PassageStore(opened((batch[:90], []), (batch[90:], [])))
    draw = random.Random(1)
    for n in (1, 2, 50, 1000):
        numbers = np.array([draw.randrange(200) for _ in range(n)])
        assert store.ids(numbers) == [batch[i].id for i in numbers.tolist()]


def test_padding_and_unknown_ids_are_refused_by_name() -> None:
    store = PassageStore(opened((PASSAGES, [])))
    with pytest.raises(UsageError, match="no passage number -1.*from 0 to 3"):
        store.ids(np.array([0, -1]))
    with pytest.raises(UsageError, match="no passage number 4"):
        store.ids(np.array([4]))
    with pytest.raises(InputError, match="no passage has the id 'nope'"):
        store.fetch(["a", "nope"])


@pytest.mark.parametrize(
    ("passage", "words"),
    [
        (Passage("", "t"), "at least one character"),
        (Passage(7, "t"), "not 7"),  # type: ignore[arg-type]
        (Passage("a\nb", "t"), "control character"),
        (Passage("a\x85", "t"), "control character"),
        (Passage("a\ud800", "t"), "surrogate"),
        (Passage("é" * 257, "t"), "514 bytes.*at most 512"),
        (Passage("a", "x\0y"), "passage 'a': the text has a NUL"),
        (Passage("a", "xy\udc00"), "passage 'a': the text .* surrogate pair at character 2"),
        (Passage("a", "t", "\ud800"), "passage 'a': the title .* surrogate"),
        (Passage("a", None), "passage 'a': the text is None"),  # type: ignore[arg-type]
        (Passage("a", "t", "", {"x": float("nan")}), "passage 'a': the metadata is not JSON"),
        (Passage("a", "t", "", {"x": {1: 2}}), "a key is no string"),  # type: ignore[dict-item]
        (Passage("a", "t", "", {"x": {"y"}}), "not JSON"),  # type: ignore[dict-item]
        (Passage("a", "t", "", {"x": "\ud800"}), "not JSON"),
        (Passage("a", "t", "", {"x": 10**5000}), "not JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_id(passage, words) -> None:
    with pytest.raises(InputError, match=words):
        check_passage(passage)


def test_endless_metadata_is_refused() -> None:
    endless: dict = {}
    endless["x"] = endless
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for metadata in (endless, {"x": deep}):
        with pytest.raises(InputError, match="not JSON"):
            check_passage(Passage("a", "t", "", metadata))


def test_unusual_ids_are_taken() -> None:
    for id in ("../../etc", " ", "a b", "\u00a0", "<dbpedia:É>", "\u202e"):
        assert PassageStore(opened(([Passage(id, "")], []))).fetch([id])[0].id == id


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.builds(Passage, IDS, TEXTS, TEXTS), st.booleans()),
        unique_by=lambda row: row[0].id,
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 20),
    st.integers(1, 5),
)
def test_merging_keeps_the_live_passages_in_order(rows, cut, stretch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passage_builder, "_STRETCH", stretch)
        segments = [
            ([passage for passage, _ in part], [i for i, (_, gone) in enumerate(part) if gone])
            for part in (rows[:cut], rows[cut:])
        ]
        merged = MemoryPart()
        merge_passages(opened(*segments), merged)
    live = [passage for passage, gone in rows if not gone]
    store = PassageStore([OpenPart(merged, 0, len(live))])
    assert list(store) == live
    assert store.numbers([passage.id for passage in live]).tolist() == list(range(len(live)))
    gone = [passage.id for passage, dead in rows if dead]
    assert store.numbers(gone).tolist() == [-1] * len(gone)


def test_merging_writes_what_building_would_have_written() -> None:
    batch = [Passage(f"p{i}", f"t{i}", "", {"n": i % 7, "s": str(i)}) for i in range(50)]
    merged = MemoryPart()
    merge_passages(opened((batch[:20], [1, 2]), (batch[20:], [29])), merged)
    built = written([p for i, p in enumerate(batch) if i not in (1, 2, 49)])
    assert merged.facts == built.facts
    for name in ("ids", "id_offsets", "records", "record_offsets", "hashes", "order"):
        assert np.array_equal(merged.array(name), built.array(name))
    for name in ("column_values", "column_offsets", "column_rows", "column_codes"):
        assert np.array_equal(merged.array(name), built.array(name))


@pytest.mark.parametrize("name", ["id_offsets", "record_offsets", "hashes", "order", "column_rows"])
@pytest.mark.parametrize(
    "spoil", [lambda x: x[:-1], lambda x: x[::-1], lambda x: x - 1, lambda x: x * 2]
)
def test_arrays_that_do_not_fit_together_are_damage(name, spoil) -> None:
    """Whoever wrote a part may have lied: lookups fail by name and never leave the arrays."""
    part, broken = written(PASSAGES), MemoryPart()
    broken.facts(part.facts)
    for one in (
        *("ids", "id_offsets", "records", "record_offsets", "hashes", "order"),
        *("column_values", "column_offsets", "column_rows", "column_codes"),
    ):
        broken.array(one, spoil(part.array(one)) if one == name else part.array(one))
    try:
        store = PassageStore([OpenPart(broken, 0, len(PASSAGES))])
        store.numbers(["a", "b é", "x"])
        store.select({"year": 2020, "tags": "x"})
        list(store)
    except Damaged:
        return
    assert name in ("hashes", "order", "column_rows"), "the wrong rows, at worst"
