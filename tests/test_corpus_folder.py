"""A folder of files: which are read, which are left out, and that none leads elsewhere."""

import inspect
import os
import shutil
import sys
import unicodedata

import pytest

from ragstone.corpus import open_source
from ragstone.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Documents of each type in a folder and below it, and much that is not to be read."""
    root = tmp_path / "docs"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"\xef\xbb\xbfplain\r\ntext\rhere")
    (root / "b" / "c.md").write_text("# Title\n\nmarkdown\n")
    (root / "b" / "deep" / "d.HTML").write_text("<h1>Page</h1><p>html")
    (root / "b.py").write_text("def f():\n    return 1\n")
    (root / "c.rst").write_text("Head\n====\n\nrst\n")
    for hidden in (".git", "b/.cache"):
        (root / hidden).mkdir()
        (root / hidden / "x.txt").write_text("hidden")
    (root / ".hidden.txt").write_text("hidden")
    (root / "data.bin").write_bytes(b"\0")
    (root / "noext").write_text("no suffix")
    (tmp_path / "secret.txt").write_text("outside")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.txt")
    return root


def test_documents_of_a_folder(folder):
    source = open_source(folder)
    found = {passage.id: passage for passage, _ in source.documents()}
    assert list(found) == ["a.txt", "b/c.md", "b/deep/d.HTML", "b.py", "c.rst"]
    assert (source.kind, source.chunked) == ("files", True)
    assert found["a.txt"].text == "plain\ntext\nhere"
    assert (found["b/c.md"].title, found["b/deep/d.HTML"].title) == ("Title", "Page")
    assert found["b/c.md"].metadata["source"] == (folder / "b" / "c.md").as_posix()
    assert "outside" not in "".join(passage.text for passage in found.values())


def test_what_is_left_out_is_counted(folder):
    assert open_source(folder).notes == (
        "1 devices, pipes and sockets were left out",
        "2 files of other types were left out",
        "3 hidden files and folders were left out",
        "2 symbolic links were left out",
    )


def test_progress_ends_at_the_whole(folder):
    source = open_source(folder)
    done = [position.bytes for _, position in source.documents()]
    assert done == sorted(done) and done[-1] == source.total_bytes


def test_a_link_to_a_folder_may_be_named_itself(folder, tmp_path):
    (tmp_path / "alias").symlink_to(folder)
    assert sum(1 for _ in open_source(tmp_path / "alias").documents()) == 5


def test_a_single_file(folder):
    source = open_source(folder / "b" / "c.md")
    assert [passage.id for passage, _ in source.documents()] == ["c.md"]
    assert [passage.id for passage, _ in open_source(folder / ".hidden.txt").documents()]


BAD_FILES = {
    "latin 1": ("x.txt", b"one\ntwo\ncaf\xe9\n", "utf-8", 3),
    "UTF-16": ("x.txt", "text".encode("utf-16"), "utf-16", 0),
    "NUL": ("x.md", b"one\ntw\0o\n", "nul", 2),
    "empty": ("x.py", b"", "empty", 0),
    "blank": ("x.html", b"<p> </p><script>x</script>", "empty", 0),
    "long": ("x.txt", b"x" * 5000, "too-large", 0),
    "broken PDF": ("x.pdf", b"%PDF-1.4\ngarbage", "pdf-broken", 0),
    "no PDF": ("x.pdf", b"hello", "pdf-broken", 0),
    "empty PDF": ("x.pdf", b"", "pdf-broken", 0),
    "newline in its name": ("x\ny.txt", b"text", "id", 0),
    "no UTF-8 in its name": (os.fsdecode(b"x\xff.txt"), b"text", "id", 0),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(folder, name):
    file, content, code, line = BAD_FILES[name]
    (folder / file).write_bytes(content)
    rejects = []
    source = open_source(folder, limit=4096, on_error="skip", rejects=rejects.append)
    assert sum(1 for _ in source.documents()) == 5
    (reject,) = rejects
    assert (reject.code, reject.line) == (code, line)
    assert reject.file.isprintable() and str(folder) in reject.file
    if code not in ("empty", "id"):
        with pytest.raises(InputError) as caught:
            list(open_source(folder, limit=4096).documents())
        where = f"{folder / file}:{line}" if line else f"{folder / file}"
        assert str(caught.value).startswith(f"{where}: document '{file}': ")
        assert "--on-error skip" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission_is_a_reject(folder):
    (folder / "a.txt").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        list(open_source(folder).documents())


def test_a_file_that_became_a_pipe_does_not_hang(folder):
    source = open_source(folder, on_error="skip")
    documents = source.documents()
    next(documents)
    (folder / "b.py").unlink()
    os.mkfifo(folder / "b.py")
    assert "b.py" not in [passage.id for passage, _ in documents]


def test_ids_are_composed_though_the_file_system_is_not(tmp_path):
    name = unicodedata.normalize("NFD", "é.txt")
    (tmp_path / name).write_text("text")
    ((passage, position),) = open_source(tmp_path).documents()
    assert passage.id == "é.txt" and passage.metadata["source"].endswith(name)
    assert position.file == name


def test_the_signature_sees_every_file(folder):
    before = open_source(folder).signature()
    assert open_source(folder).signature() == before
    moved = shutil.copytree(folder, folder.parent / "copy", symlinks=True, ignore=only_files)
    assert open_source(moved).signature() == before  # wherever it lies
    (folder / "b" / "deep" / "new.txt").write_text("new")
    assert open_source(folder).signature() != before


def only_files(folder, names):
    return ["pipe.txt"]


def test_deeper_than_python_may_recurse(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("text")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        ((passage, _),) = open_source(tmp_path).documents()
    finally:
        sys.setrecursionlimit(limit)
    assert passage.id == "d/" * 300 + "a.txt"


def test_nothing_to_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"nothing in it is recognised.*Looked for: a folder with"):
        open_source(tmp_path)
