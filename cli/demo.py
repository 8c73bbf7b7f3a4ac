"""`ragstone demo`: from documents to a cited answer, on text that every machine has."""

import shutil
import time
from pathlib import Path

from ..errors import UsageError
from ..pipeline import Library, build
from .notices import announce_compilation
from .output import out, progress_bar
from .search import show_answer, show_found

QUERY = "run cleanup code after an exception"
QUESTIONS = (
    "What happens when a generator function is called?",
    "How are default parameter values evaluated?",
)


def demo(folder: Path) -> None:
    """Write CPython's language reference as text files, index it, search it and ask it."""
    announce_compilation()
    documents, collection = folder / "documents", folder / "python.ragstone"
    count = _write_documents(documents)
    _say(f"Documents: the Python language reference, {count} files in {documents}")
    _command(f"ragstone index {documents} --to {collection}")
    if collection.exists():
        shutil.rmtree(collection)
    begin = time.perf_counter()
    with progress_bar() as progress:
        report = build(documents, collection, progress=progress.build)
    seconds = time.perf_counter() - begin
    indexes = " and ".join(report.indexes)
    _say(f"{report.passages} passages indexed with {indexes} in {seconds:.1f} s")
    library = Library.open(collection)
    _command(f'ragstone search {collection} "{QUERY}" -k 3')
    for rank, found in enumerate(library.search(QUERY, 3), 1):
        show_found(rank, found)
    for question in QUESTIONS:
        _command(f'ragstone ask {collection} "{question}"')
        show_answer(library, library.ask(question))
    _say("\nNow ask it something yourself, or index a folder of your own.")


def _write_documents(folder: Path) -> int:
    from pydoc_data.topics import topics

    if folder.is_symlink() or (folder.exists() and not (folder / ".ragstone-demo").exists()):
        raise UsageError(
            "the folder exists and is not a demo's", where=str(folder), remedy="Name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".ragstone-demo").touch()
    for name, text in topics.items():
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
    return len(topics)


def _command(text: str) -> None:
    out().print(f"\n$ {text}", style="bold cyan", markup=False)


def _say(text: str) -> None:
    out().print(text, markup=False)
