"""Sources with bytes changed at random, indexed whole: every document is accounted for.

What is counted is compared with the lines or files that are there, with the file of refused
documents, and with what can be fetched afterwards; reading itself is tested in test_corpus_*.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from unicodedata import category

import pytest

from ragstone.errors import RagstoneError
from ragstone.indexes.collection import Collection
from ragstone.pipeline import build
from ragstone.storage import Disk

BOMBS: list[bytes] = [
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"NaN",
    b"1e999", b"-Infinity", b"[" * 3000, b'{"a":' * 2000, b'"', b"\\", b"\t", b"\r", b"}", b",",
    b'"_id":"again",', "\u202e\u2066".encode(), "\U000e0041\u200b".encode(), b"x" * 70_000,
    b"<", b"<!--", b"</script>", b"<title>", b"&#0;", b"&#xD800;", b"```", b"# ", b"(a+)+$",
]  # fmt: skip


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here: the medium need not confirm every commit."""
    monkeypatch.setattr(Disk, "sync", lambda *_: None)
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: None)


def objects(draw: random.Random) -> list[bytes]:
    records = [
        {"_id": f"d{draw.randrange(40)}", "title": "t", "text": f"é text {i}", "metadata": {"n": i}}
        for i in range(30)
    ]
    return [json.dumps(one, ensure_ascii=draw.random() < 0.5).encode() for one in records]


def columns(draw: random.Random) -> list[bytes]:
    return [f"d{draw.randrange(40)}\té text {i}\ttitle".encode() for i in range(30)]


def page(draw: random.Random) -> list[bytes]:
    return [
        f"<html><title>é {draw.random()}</title><p>text".encode(),
        b"<ul><li>a</ul>",
        b"</html>",
    ]


def note(draw: random.Random) -> list[bytes]:
    return [
        f"# Heading {draw.random()}".encode(),
        b"",
        "A é sentence. Another.".encode(),
        b"- item",
    ]


def spoiled(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, put in or taken out; lines stay lines."""
    changed = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 2, 5, 20))):
        changed = changed or bytearray(b"x")
        at = draw.randrange(len(changed))
        match draw.randrange(4):
            case 0:
                changed[at] = draw.choice([byte for byte in range(256) if byte != 10])
            case 1:
                changed[at:at] = draw.choice(BOMBS)
            case 2:
                del changed[at : at + draw.choice((1, 3, 30))]
            case _:
                changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed) or b"x"


def write_lines(folder: Path, name: str, lines: list[bytes], draw: random.Random) -> int:
    """How many documents are there: lines with anything but blanks."""
    lines += draw.choices(lines, k=3)
    data = spoiled(b"\n".join(lines), draw)
    (folder / name).write_bytes(data)
    return sum(bool(line.strip(b" \t\r\f\v")) for line in data.split(b"\n"))


def write_pages(
    folder: Path, name: str, lines: Callable[..., list[bytes]], draw: random.Random
) -> int:
    for i in range(12):
        (folder / name.format(i)).write_bytes(spoiled(b"\n".join(lines(draw)), draw))
    return 12


SOURCES: dict[str, Callable[[Path, random.Random], int]] = {
    "jsonl": lambda folder, draw: write_lines(folder, "x.jsonl", objects(draw), draw),
    "tsv": lambda folder, draw: write_lines(folder, "x.tsv", columns(draw), draw),
    "html": lambda folder, draw: write_pages(folder, "{}.html", page, draw),
    "md": lambda folder, draw: write_pages(folder, "{}.md", note, draw),
}


def check(folder: Path, kind: str, seed: int) -> bool:
    """Index one source; whether it was taken, perhaps in part, or refused as a whole."""
    source, to = folder / f"s{seed}", folder / f"c{seed}"
    source.mkdir()
    there = SOURCES[kind](source, random.Random(seed))
    options = {"using": ("bm25",), "chunk": 0, "on_error": "skip", "duplicates": "keep"}
    try:
        report = build(source, to, **options)
    except RagstoneError as error:
        assert "\n" not in str(error) and (error.where or error.remedy)
        return False
    counts = report.counts
    assert counts.read == counts.indexed + counts.rejected + counts.duplicate == there
    assert Collection.open(to).note["counts"] == counts.as_json()
    check_rejects(report.rejects, source, counts.rejected)
    held = list(Collection.open(to).passages)
    assert len({one.id for one in held}) == len(held) == counts.indexed == report.passages
    for one in held:
        assert (one.text + one.title).strip() and "\0" not in one.text + one.title
        assert one.id.encode() and "Cc" not in map(category, one.id)
    return True


def check_rejects(rejects: Path | None, source: Path, count: int) -> None:
    """Each refused document is named with its file, its line and a reason."""
    lines = [] if rejects is None else rejects.read_text().splitlines()
    assert len(lines) == count
    for record in map(json.loads, lines):
        assert Path(record["file"]).name in {path.name for path in source.iterdir()}
        assert record["line"] >= 0 and record["code"] and record["reason"]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_document_is_accounted_for(tmp_path: Path, kind: str) -> None:
    taken = sum(check(tmp_path, kind, seed) for seed in range(25))
    assert taken > 8


@pytest.mark.long
@pytest.mark.parametrize("kind", SOURCES)
def test_every_document_of_many_is_accounted_for(tmp_path: Path, kind: str) -> None:
    assert sum(check(tmp_path, kind, seed) for seed in range(100, 2_100)) > 500
