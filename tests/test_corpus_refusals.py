"""Every bad input is refused in one line that names the file, the line and the way out."""

import gzip
import json
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.corpus import open_source
from ragstone.corpus.problems import Problem
from ragstone.corpus.strict import parse
from ragstone.errors import DiskError, InputError, UsageError

GOOD = b'{"_id": "good", "text": "a text"}\n'

# name -> (line, code, what the reason says)
BAD_LINES = {
    "latin 1": (b'{"_id": "a", "text": "caf\xe9"}', "utf-8", "byte 25 (0xe9)"),
    "encoded surrogate": (b'{"_id": "a", "text": "\xed\xa0\x80"}', "utf-8", "not valid UTF-8"),
    "overlong": (b'{"_id": "a", "text": "\xc0\xaf"}', "utf-8", "not valid UTF-8"),
    "cut character": (b'{"_id": "a", "text": "\xe2\x82"}', "utf-8", "not valid UTF-8"),
    "lone surrogate": (b'{"_id": "a", "text": "x\\ud800"}', "surrogate", "'text' holds the lone"),
    "lone low surrogate": (b'{"_id": "a", "text": "\\uDC00"}', "surrogate", "U+DC00"),
    "surrogate inside": (
        b'{"_id": "a", "text": "t", "metadata": {"k": ["\\udfff"]}}',
        "surrogate",
        "'metadata.k[0]'",
    ),
    "surrogate as key": (b'{"_id": "a", "text": "t", "\\ud800": 1}', "surrogate", "lone"),
    "escaped NUL": (
        b'{"_id": "a", "text": "x\\u0000"}',
        "nul",
        "'text' holds a NUL at character 1",
    ),
    "raw NUL": (b'{"_id": "a", "text": "\x00"}', "nul", "UTF-16"),
    "raw control": (b'{"_id": "a", "text": "\x01"}', "json", "control character"),
    "not JSON": (b"hello", "json", "not valid JSON at character 1"),
    "cut JSON": (b'{"_id": "a", "text": "t"', "json", "not valid JSON"),
    "two objects": (b'{"_id": "a", "text": "t"} {}', "json", "Extra data"),
    "single quotes": (b"{'_id': 'a', 'text': 't'}", "json", "not valid JSON"),
    "list": (b'["a", "t"]', "type", "the line is a list"),
    "string": (b'"a"', "type", "the line is a string"),
    "null line": (b"null", "type", "the line is null"),
    "NaN": (b'{"_id": "a", "text": "t", "metadata": {"x": NaN}}', "number", "'metadata.x' is NaN"),
    "infinity": (b'{"_id": "a", "text": "t", "y": -Infinity}', "number", "'y' is -Infinity"),
    "1e999": (b'{"_id": "a", "text": "t", "z": [1, 1e999]}', "number", "'z[1]' is 1e999"),
    "NaN and no JSON": (b'{"_id": NaN} {}', "number", "the line holds NaN"),
    "NaN and deep": (b"[NaN, " + b"[" * 9000, "number", "the line holds NaN"),
    "huge integer": (b'{"_id": "a", "text": "t", "n": ' + b"9" * 5000 + b"}", "number", "digits"),
    "key twice": (
        b'{"_id": "a", "text": "t", "text": "u"}',
        "duplicate-key",
        "'text' stands twice",
    ),
    "inner key twice": (
        b'{"_id": "a", "text": "t", "metadata": {"k": 1, "k": 1}}',
        "duplicate-key",
        "'k' stands twice",
    ),
    "deep": (
        b'{"_id": "a", "text": "t", "d": ' + b"[" * 64 + b"]" * 64 + b"}",
        "depth",
        "'d' is nested more than 64",
    ),
    "very deep": (b'{"_id": "a", "d": ' + b'{"a":' * 10_000, "depth", "nested more than 64"),
    "no id": (b'{"text": "t"}', "missing-id", "'id' is missing"),
    "null id": (b'{"_id": null, "text": "t"}', "missing-id", "'_id' is missing or null"),
    "empty id": (b'{"_id": "", "text": "t"}', "id", "'_id' is empty"),
    "blank id": (b'{"_id": " ", "text": "t"}', "id", "'_id' is empty"),
    "float id": (b'{"_id": 31.0, "text": "t"}', "type", "'_id' is a number"),
    "boolean id": (b'{"_id": true, "text": "t"}', "type", "'_id' is a boolean"),
    "list id": (b'{"_id": ["a"], "text": "t"}', "type", "'_id' is a list"),
    "control in id": (b'{"_id": "a\\nb", "text": "t"}', "id", "U+000A"),
    "escape in id": (b'{"_id": "a\\u001b[2J", "text": "t"}', "id", "U+001B"),
    "bidi in id": (b'{"_id": "a\\u202eb", "text": "t"}', "id", "U+202E"),
    "tag in id": (b'{"_id": "a\\udb40\\udc41", "text": "t"}', "id", "U+E0041"),
    "decomposed id": (b'{"_id": "e\\u0301", "text": "t"}', "id", "NFC"),
    "endless id": (b'{"_id": "' + b"a" * 1025 + b'", "text": "t"}', "id", "1,025 characters"),
    "no text": (b'{"_id": "a", "title": "t"}', "missing-text", "'text' (or 'contents')"),
    "null text": (b'{"_id": "a", "text": null}', "type", "'text' is null, not a string"),
    "number text": (b'{"_id": "a", "text": 5}', "type", "'text' is an integer"),
    "list text": (b'{"_id": "a", "text": ["t"]}', "type", "'text' is a list"),
    "list title": (b'{"_id": "a", "text": "t", "title": ["x"]}', "type", "'title' is a list"),
    "list metadata": (
        b'{"_id": "a", "text": "t", "metadata": [1]}',
        "type",
        "'metadata' is a list",
    ),
    "field twice": (
        b'{"_id": "a", "text": "t", "url": "x", "metadata": {"url": "y"}}',
        "type",
        "'url' stands beside and inside",
    ),
    "long line": (b'{"_id": "a", "text": "' + b"x" * 70_000 + b'"}', "too-large", "65,536 bytes"),
}


def write(tmp_path, line):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD.replace(b"good", b"last"))
    return path


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_stops_the_run_and_is_named(tmp_path, name):
    line, _, reason = BAD_LINES[name]
    path = write(tmp_path, line)
    with pytest.raises(InputError) as caught:
        list(open_source(path, limit=65_536).documents())
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert reason in message and "--on-error skip" in message
    assert "\n" not in message and len(message) < 700 and message.isprintable()


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_skipped_and_reported(tmp_path, name):
    line, code, reason = BAD_LINES[name]
    path = write(tmp_path, line)
    rejects = []
    source = open_source(path, limit=65_536, on_error="skip", rejects=rejects.append)
    assert [passage.id for passage, _ in source.documents()] == ["good", "last"]
    (reject,) = rejects
    assert (reject.file, reject.line, reject.code) == (str(path), 3, code)
    assert path.read_bytes()[reject.offset :].startswith(line)
    assert reason in reject.reason
    knows = code not in ("utf-8", "json", "number", "duplicate-key", "depth", "id", "missing-id")
    if knows and b'"_id": "a"' in line and code not in ("nul", "surrogate", "too-large"):
        assert reject.id == "a"


ACCEPTED = {
    "integer id": (b'{"_id": 31, "text": "t"}', ("31", "t", "", {})),
    "id": (b'{"id": "x", "text": "t"}', ("x", "t", "", {})),
    "Anserini": (b'{"id": "x", "contents": "t"}', ("x", "t", "", {})),
    "null title": (b'{"_id": "x", "text": "t", "title": null}', ("x", "t", "", {})),
    "title alone": (b'{"_id": "x", "text": " ", "title": "T"}', ("x", " ", "T", {})),
    "null metadata": (b'{"_id": "x", "text": "t", "metadata": null}', ("x", "t", "", {})),
    "further fields": (b'{"_id": "x", "text": "t", "u": 1}', ("x", "t", "", {"u": 1})),
    "same twice": (
        b'{"id": "x", "text": "t", "u": 1, "metadata": {"u": 1}}',
        ("x", "t", "", {"u": 1}),
    ),
    "carriage return": (b'{"_id": "x", "text": "t"}\r', ("x", "t", "", {})),
    "surrogate pair": (b'{"_id": "x", "text": "\\ud83d\\ude00"}', ("x", "\U0001f600", "", {})),
    "escaped backslash": (b'{"_id": "x", "text": "\\\\u0000"}', ("x", "\\u0000", "", {})),
    "composed id": ('{"_id": "é", "text": "t"}'.encode(), ("é", "t", "", {})),
    "path as id": (b'{"_id": "../../etc/passwd", "text": "t"}', ("../../etc/passwd", "t", "", {})),
    "deep enough": (
        b'{"_id": "x", "text": "t", "d": ' + b"[" * 63 + b"]" * 63 + b"}",
        ("x", "t", "", {"d": json.loads("[" * 63 + "]" * 63)}),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_but_clear_is_accepted(tmp_path, name):
    line, expected = ACCEPTED[name]
    (passage,) = [passage for passage, _ in open_source(write(tmp_path, line)).documents()][1:2]
    assert (passage.id, passage.text, passage.title, passage.metadata) == expected


def message_of(path, **options):
    with pytest.raises(InputError) as caught:
        list(open_source(path, **options).documents())
    assert "\n" not in str(caught.value)
    return str(caught.value)


BAD_FILES = {
    "empty": ("a.jsonl", b"", "the file is empty"),
    "blank": ("a.jsonl", b"\n \r\n\n", "the file is empty"),
    "mark alone": ("a.jsonl", b"\xef\xbb\xbf", "the file is empty"),
    "empty compressed": ("a.jsonl.gz", gzip.compress(b""), "the file is empty"),
    "UTF-16": ("a.jsonl", '{"_id": "a"}'.encode("utf-16"), "iconv -f UTF-16"),
    "UTF-16 without a mark": (
        "a.jsonl",
        '{"_id": "a"}'.encode("utf-16-le"),
        "NUL; is the file UTF-16",
    ),
    "UTF-16 columns": ("a.tsv", "1\ttext\n".encode("utf-16"), "iconv -f UTF-16"),
    "JSON list": ("a.json", b'[{"_id": "a", "text": "t"}]', "one object a line"),
    "pretty JSON": ("a.json", b'{\n "_id": "a"\n}', "one object a line"),
    "columns": ("a.tsv", b"1\turl\ttitle\tbody\n", "the first line has 4 columns"),
    "one column": ("a.tsv", b"text\n", "the first line has 1 columns"),
    "archive": ("a.zip", b"PK", "archives are never unpacked"),
    "compressed archive": ("a.tar.gz", gzip.compress(b""), "archives are never unpacked"),
    "other type": ("a.docx", b"PK", "Looked for: a folder with corpus.jsonl"),
    "all empty": ("a.jsonl", b'{"_id": 1, "text": ""}\n' * 3, "none of its 3 documents"),
    "not gzip": ("a.jsonl.gz", GOOD, "not a whole gzip file"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(GOOD * 9000)[:-40], "not a whole gzip file"),
    "damaged gzip": (
        "a.jsonl.gz",
        gzip.compress(os.urandom(4000).hex().encode())[:-2000] + bytes(2000),
        "not a whole gzip file",
    ),
    "explosive gzip": ("a.jsonl.gz", gzip.compress(GOOD + b" " * (80 << 20)), "200 times"),
    "header alone": ("a.tsv", b"id\ttext\ttitle\n", "there is no document in it"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_as_a_whole(tmp_path, name):
    file, content, reason = BAD_FILES[name]
    path = tmp_path / file
    path.write_bytes(content)
    message = message_of(path, on_error="stop")
    assert message.startswith(str(path)) and reason in message


def test_whole_file_faults_are_not_skipped(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD * 9000)[:-40])
    assert "gzip" in message_of(path, on_error="skip")


def test_nothing_there(tmp_path):
    assert "no such file or folder" in message_of(tmp_path / "nowhere")
    assert "nothing in it is recognised" in message_of(tmp_path)


def test_options_that_make_no_sense(tmp_path):
    path = write(tmp_path, GOOD)
    for options in ({"on_error": "ignore"}, {"limit": 0}, {"max_errors": -1}):
        with pytest.raises(UsageError):
            open_source(path, **options)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission(tmp_path):
    path = write(tmp_path, GOOD)
    path.chmod(0)
    with pytest.raises(DiskError, match="cannot be read: Permission denied"):
        list(open_source(path).documents())


def test_an_empty_document_never_stops_the_run(tmp_path):
    rejects = []
    path = write(tmp_path, b'{"_id": "void", "text": " ", "title": ""}')
    source = open_source(path, max_errors=0, rejects=rejects.append)
    assert [passage.id for passage, _ in source.documents()] == ["good", "last"]
    assert [(reject.id, reject.code) for reject in rejects] == [("void", "empty")]


def test_max_errors(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"bad\n" * 3)
    rejects = []
    source = open_source(path, on_error="skip", max_errors=3, rejects=rejects.append)
    assert len(list(source.documents())) == 1 and len(rejects) == 3
    message = message_of(path, on_error="skip", max_errors=2)
    assert "more than 2 documents were refused" in message and f"{path}:4" in message


def test_a_byte_order_mark_is_dropped_and_noted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD)
    source = open_source(path)
    assert [passage.id for passage, _ in source.documents()] == ["good"]
    assert "byte order mark" in source.notes[0]
    (tmp_path / "b.jsonl").write_bytes(GOOD)
    assert open_source(tmp_path / "b.jsonl").notes == ()


@pytest.mark.parametrize("extra", range(-3, 4))
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_line_limit_is_exact(tmp_path, extra, end, mark):
    head, tail = b'{"_id": 1, "text": "', b'"}'
    limit = 1000
    line = head + b"x" * (limit + extra - len(head + tail)) + tail
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark + line + end + (GOOD if end else b""))
    rejects = []
    source = open_source(path, limit=limit, on_error="skip", rejects=rejects.append)
    ids = []
    try:
        ids = [passage.id for passage, _ in source.documents()]
    except InputError:
        assert not end and extra > 0
    assert ids == ["1"] * (extra <= 0) + ["good"] * bool(end)
    assert len(rejects) == (extra > 0)


def test_a_line_cut_inside_carriage_returns_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.strip() + b"\r" * 2000 + GOOD)
    rejects = []
    source = open_source(path, limit=1000, on_error="skip", rejects=rejects.append)
    with pytest.raises(InputError, match="none of its 1 documents"):
        list(source.documents())
    assert [reject.code for reject in rejects] == ["too-large"]


def test_a_huge_line_is_never_held(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(GOOD)
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + GOOD.replace(b"good", b"last"))
    rejects = []
    source = open_source(path, limit=1 << 20, on_error="skip", rejects=rejects.append)
    tracemalloc.start()
    assert [passage.id for passage, _ in source.documents()] == ["good", "last"]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert [(reject.line, reject.code) for reject in rejects] == [(2, "too-large")]


ANY_TEXT = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))


TOKENS = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b'"', b'"_id"', b'"text"', b":", b",", b"1", b"-1e5", b"NaN"]
        + [b"1e999", b"null", b"\\u0000", b"\\ud800", b"\xff", b"\\", b" ", b'"a"']
    ),
    max_size=25,
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80) | ANY_TEXT | TOKENS | TOKENS.map(lambda inner: b"{" + inner + b"}"))
def test_any_bytes_end_in_an_object_or_in_a_problem(content):
    try:
        record = parse(content)
    except Problem as problem:
        assert problem.code and problem.reason
    else:
        assert isinstance(record, dict)


JSON_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(JSON_TEXT, JSON, max_size=4), st.booleans())
def test_any_valid_object_is_read_as_json_reads_it(record, ascii):
    content = json.dumps(record, ensure_ascii=ascii).encode()
    assert parse(content) == json.loads(content)
