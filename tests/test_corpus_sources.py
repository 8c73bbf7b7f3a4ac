"""What is in a path is recognised, read whole, and can be read on from any position."""

import gzip
import json
import os
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragstone.corpus import Position, open_source
from ragstone.errors import InputError
from ragstone.records import Passage


def passages(source, start=None):
    return [passage for passage, _ in source.documents(start)]


def write_lines(path, records):
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


RECORDS = [
    {"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}", "metadata": {"n": n}} for n in range(5)
]
PASSAGES = [Passage(f"d{n}", f"text {n}", f"T{n}", {"n": n}) for n in range(5)]


def test_a_beir_folder(tmp_path):
    write_lines(tmp_path / "corpus.jsonl", RECORDS)
    write_lines(tmp_path / "queries.jsonl", [{"_id": "q", "text": "?"}])
    source = open_source(tmp_path)
    assert (source.kind, source.path, source.chunked) == ("beir", tmp_path, False)
    assert passages(source) == PASSAGES


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.JSONL", "a.ndjson", "a.json", "a.jsonl.gz", "a.json.gz"]
)
def test_json_lines(tmp_path, name):
    source = open_source(write_lines(tmp_path / name, RECORDS))
    assert (source.kind, source.chunked) == ("jsonl", False)
    assert passages(source) == PASSAGES
    assert source.total_bytes == (tmp_path / name).stat().st_size


def test_a_folder_of_json_lines_is_read_in_the_order_of_names(tmp_path):
    write_lines(tmp_path / "part-1.jsonl.gz", RECORDS[2:])
    write_lines(tmp_path / "part-0.jsonl", RECORDS[:2])
    (tmp_path / "part-2.jsonl").write_bytes(b"")
    source = open_source(tmp_path)
    assert source.kind == "jsonl" and passages(source) == PASSAGES
    *_, (_, last) = source.documents()
    assert last.bytes == source.total_bytes


def test_a_corpus_that_is_compressed(tmp_path):
    write_lines(tmp_path / "corpus.jsonl.gz", RECORDS)
    assert open_source(tmp_path).kind == "beir" and passages(open_source(tmp_path)) == PASSAGES


TSV = {
    "two columns": ('1\talpha\n2\tbe"ta"\n', [Passage("1", "alpha"), Passage("2", 'be"ta"')]),
    "three columns": (
        "1\talpha\tA\r\n2\tbeta\t\r\n",
        [Passage("1", "alpha", "A"), Passage("2", "beta")],
    ),
    "quotes without a header are text": ('1\t"alpha"\n', [Passage("1", '"alpha"')]),
    "header of DPR": (
        'id\ttext\ttitle\n1\t"say ""a"" twice"\tA\n2\tplain "b"\tB\n',
        [Passage("1", 'say "a" twice', "A"), Passage("2", 'plain "b"', "B")],
    ),
    "further columns": (
        "docid\turl\ttitle\tbody\nD1\thttp://x\tA\talpha\n",
        [Passage("D1", "alpha", "A", {"url": "http://x"})],
    ),
    "title alone": ("1\t\tA\n", [Passage("1", "", "A")]),
}


@pytest.mark.parametrize("name", TSV)
@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_columns(tmp_path, name, suffix):
    content, expected = TSV[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if suffix == ".tsv.gz" else content.encode())
    source = open_source(path)
    assert source.kind == "tsv" and passages(source) == expected


def test_bad_rows_are_named(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"1\talpha\n2\n\tbeta\n3\ta\tb\n4\t\n5\tx\x00\n6\t\xff\n7\tok\n")
    rejects = []
    source = open_source(path, on_error="skip", rejects=rejects.append)
    assert [passage.id for passage in passages(source)] == ["1", "7"]
    found = [(reject.line, reject.code, reject.id) for reject in rejects]
    assert found == [(2, "columns", ""), (3, "id", ""), (4, "columns", ""), (5, "empty", "4")] + [
        (6, "nul", "5"),
        (7, "utf-8", ""),
    ]
    with pytest.raises(InputError, match=r"a.tsv:2: 1 columns, where 2 were expected"):
        passages(open_source(path))


def test_files_with_different_columns(tmp_path):
    (tmp_path / "a.tsv").write_text("1\talpha\n")
    (tmp_path / "b.tsv").write_text("1\talpha\ttitle\n")
    with pytest.raises(InputError, match=r"b.tsv: the columns are not those of 'a.tsv'"):
        open_source(tmp_path)


KILT_PAGE = {
    "_id": "290",
    "wikipedia_id": "290",
    "wikipedia_title": "A",
    "text": [
        "A\n",
        "A is the first letter.\n",
        "Section::::History.\n",
        "The earliest ancestor.\n",
        "Section::::History.:Typographic variants.\n",
        "BULLET::::- one;\n",
        "\n",
        "BULLET::::- two.\n",
    ],
    "anchors": [{"text": "letter", "href": "x", "paragraph_id": 1, "start": 0, "end": 2}],
    "categories": "Vowel letters",
}


@pytest.mark.parametrize("name", ["kilt_knowledgesource.json", "k.jsonl", "k.jsonl.gz"])
def test_a_kilt_knowledge_source(tmp_path, name):
    source = open_source(write_lines(tmp_path / name, [KILT_PAGE]))
    (page,) = passages(source)
    assert (source.kind, source.chunked) == ("kilt", True)
    assert (page.id, page.title) == ("290", "A")
    lines = page.text.split("\n")
    # Line n of the text is paragraph n of KILT, from 1: judgements name paragraphs.
    assert lines == [
        "A is the first letter.",
        "History",
        "The earliest ancestor.",
        "Typographic variants",
        "- one;",
        "",
        "- two.",
    ]
    outline = page.metadata["outline"]
    assert [(level, title) for _, level, title in outline] == [(1, "History"), (2, lines[3])]
    assert all(page.text.startswith(title, offset) for offset, _, title in outline)
    assert page.metadata["wikipedia_id"] == "290"


def test_bad_kilt_pages(tmp_path):
    bad = [
        {"wikipedia_id": "1", "wikipedia_title": "x", "text": "no list"},
        {"wikipedia_id": "2", "wikipedia_title": "x", "text": ["x", 5]},
        {"wikipedia_id": "3", "wikipedia_title": "", "text": ["x"]},
        {"wikipedia_title": "x", "text": ["x", "y"]},
    ]
    rejects = []
    path = write_lines(tmp_path / "k.jsonl", [KILT_PAGE, *bad])
    assert len(passages(open_source(path, on_error="skip", rejects=rejects.append))) == 1
    found = [(reject.id, reject.code) for reject in rejects]
    assert found == [("1", "type"), ("2", "type"), ("3", "empty"), ("", "missing-id")]
    assert "text[1]" in rejects[1].reason


# --- resuming


def sources(folder: Path):
    """One of each kind, with bad and empty documents between the good ones."""
    mixed = [b'{"_id": "a", "text": "1"}', b"bad", '{"_id": "é", "text": "2"}\r'.encode(), b""]
    mixed += [b'{"_id": "v", "text": ""}', b"x" * 300, b'{"_id": "b", "text": "3"}', b"bad"]
    content = b"\xef\xbb\xbf" + b"\n".join(mixed)
    (folder / "one").mkdir()
    (folder / "one" / "a.jsonl").write_bytes(content)
    (folder / "one" / "a.jsonl.gz").write_bytes(gzip.compress(content))
    (folder / "one" / "a.tsv").write_bytes(b"\nid\ttext\n1\ta\n2\n3\t\n4\td\n")
    (folder / "shards").mkdir()
    for number in range(3):
        (folder / "shards" / f"{number}.jsonl").write_bytes(content.replace(b"_id", b"id"))
    for name in (
        "docs/a.txt",
        "docs/b/c.md",
        "docs/b/z.txt",
        "docs/b.txt",
        "docs/d.py",
        "docs/e.txt",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(name)
    (folder / "docs" / "b" / "d.txt").write_bytes(b"\xff")
    (folder / "docs" / "c.txt").write_bytes(b"")
    return ["one/a.jsonl", "one/a.jsonl.gz", "one/a.tsv", "shards", "docs", "docs/b/c.md"]


def test_from_every_position_the_same_rest_is_read(tmp_path):
    for name in sources(tmp_path):
        rejects = []
        source = open_source(tmp_path / name, on_error="skip", rejects=rejects.append, limit=200)
        whole = list(source.documents())
        all_rejects = list(rejects)
        ids = [passage.id for passage, _ in whole]
        for number, (_, position) in enumerate(whole):
            assert Position.from_json(json.loads(json.dumps(position.as_json()))) == position
            assert position.records == number + 1 + position.rejected
            rejects.clear()
            again = open_source(tmp_path / name, on_error="skip", rejects=rejects.append, limit=200)
            assert list(again.documents(position)) == whole[number + 1 :], (name, number)
            assert rejects == all_rejects[position.rejected :], (name, number)
        assert list(source.documents(Position())) == whole
        assert len(set(ids)) >= 1 and 0 < whole[-1][1].bytes <= source.total_bytes


def test_a_position_of_something_else_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", RECORDS)
    with pytest.raises(InputError, match=r"--resume"):
        list(open_source(path).documents(Position("other.jsonl", 5, 1, 1)))
    for note in ({}, {"file": "a"}, {**Position().as_json(), "line": 1.5}):
        with pytest.raises(InputError, match="no position"):
            Position.from_json(note)


def test_a_resumed_run_that_finds_nothing_more_is_whole(tmp_path):
    source = open_source(write_lines(tmp_path / "a.jsonl", RECORDS))
    *_, (_, last) = source.documents()
    assert list(source.documents(last)) == []


def test_a_large_compressed_file_is_read_on(tmp_path):
    records = [{"_id": n, "text": f"{n} " * 900} for n in range(1000)]
    source = open_source(write_lines(tmp_path / "a.jsonl.gz", records))
    whole = list(source.documents())
    assert whole[-1][1].offset > 3 << 20
    for number in (1, 500, 998):
        assert passages(source, whole[number][1]) == [p for p, _ in whole[number + 1 :]]


@pytest.mark.parametrize("name", ["one/a.jsonl", "shards", "docs"])
def test_the_signature_tells_a_changed_source(tmp_path, name):
    sources(tmp_path)
    before = open_source(tmp_path / name).signature()
    assert open_source(tmp_path / name).signature() == before
    assert json.loads(json.dumps(before)) == before
    path = tmp_path / name
    path = sorted(path.rglob("*.*"))[0] if path.is_dir() else path
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert open_source(tmp_path / name).signature() != before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert open_source(tmp_path / name).signature() == before


def test_memory_does_not_grow_with_the_source(tmp_path):
    def peak(lines):
        path = tmp_path / f"{lines}.jsonl"
        with path.open("w") as file:
            for number in range(lines):
                file.write(json.dumps({"_id": str(number), "text": "word " * 40}) + "\n")
        source = open_source(path)
        tracemalloc.start()
        assert sum(1 for _ in source.documents()) == lines
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = peak(4_000), peak(16_000)
    assert large < small * 1.05 + 100_000


VALID = st.characters(codec="utf-8", exclude_characters="\0")
TEXT = st.text(VALID, min_size=1).filter(str.strip)
ID = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1)
DOCUMENT = st.fixed_dictionaries(
    {"_id": ID | st.integers(), "text": TEXT},
    optional={
        "title": st.text(VALID),
        "metadata": st.dictionaries(st.text(VALID), TEXT | st.integers()),
    },
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(DOCUMENT, min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_what_was_written_is_read_back(tmp_path, records, ascii, end):

    records = [
        {**record, "_id": unicodedata.normalize("NFC", str(record["_id"]))} for record in records
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes("".join(json.dumps(r, ensure_ascii=ascii) + end for r in records).encode())
    expected = [
        Passage(r["_id"], r["text"], r.get("title", ""), r.get("metadata", {})) for r in records
    ]
    assert passages(open_source(path)) == expected
