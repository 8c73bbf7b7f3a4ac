"""What is read adds up, and the file of refused documents tells of one run."""

import json

import pytest

from ragstone.corpus import Counts, Reject, RejectsFile, Tally, open_source
from ragstone.errors import DiskError


def reject(number):
    return Reject("a.jsonl", number, 10 * number, f"d{number}", "empty", "the text is empty")


def lines(path):
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


def test_documents_are_read_when_they_are_settled(tmp_path):
    tally = Tally()
    tally.index(5)
    tally.reject(reject(1))
    tally.duplicate(2)
    assert tally.counts == Counts(indexed=5, rejected=1, duplicate=2)
    assert tally.counts.read == 8
    note = json.loads(json.dumps(tally.counts.as_json()))
    assert note == {"read": 8, "indexed": 5, "rejected": 1, "duplicate": 2}
    resumed = Tally(Counts.from_json(note))
    resumed.index(1)
    assert resumed.counts.read == 9


def test_the_counts_of_a_source_add_up(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"_id": 1, "text": "a"}\nbad\n{"_id": 1, "text": "b"}\n{"_id": 2, "text": ""}\n'
    )
    tally, seen = Tally(), set()
    for passage, position in open_source(path, on_error="skip", rejects=tally.reject).documents():
        if passage.id in seen:
            tally.duplicate(1)
        else:
            tally.index(1)
        seen.add(passage.id)
        assert tally.counts.read == position.records
    assert tally.counts == Counts(indexed=1, rejected=2, duplicate=1)


def test_rejects_are_lines_of_json(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(path) as file:
        tally = Tally(file=file)
        tally.reject(reject(1))
        tally.reject(Reject("b", 0, 0, "\ud800\x1b\n", "id", "not an id"))
    first, second = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert first == {
        "file": "a.jsonl",
        "line": 1,
        "offset": 10,
        "id": "d1",
        "code": "empty",
        "reason": "the text is empty",
    }
    assert second["id"] == "\ud800\x1b\n"


def test_a_rejects_file_tells_of_one_run(tmp_path):
    path = tmp_path / "rejects.jsonl"
    for numbers in ([1, 2, 3], [4]):
        with RejectsFile(path) as file:
            for number in numbers:
                file(reject(number))
        assert lines(path) == numbers
    with RejectsFile(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("keep", range(5))
def test_a_resumed_run_keeps_what_its_position_counts(tmp_path, keep):
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(path) as file:
        for number in (1, 2, 3):
            file(reject(number))
        file.flush()
        assert lines(path) == [1, 2, 3]
    with RejectsFile(path, keep=keep) as file:
        file(reject(9))
    assert lines(path) == [1, 2, 3][:keep] + [9]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(DiskError, match="the rejects cannot be written: Is a directory"):
        RejectsFile(tmp_path)
