"""Lucene indexes of our passages: as files for others, and beside a collection to search it.

The index beside a collection is derived: it stands in the collection's folder, in `lucene/`, is
named after the generation it was made from, and is built again when there is none of that one. It
is no index family, because it could not keep their contract: Lucene counts deleted passages in its
statistics until it merges, so a score would depend on how the passages came in.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import DiskError, InputError, UsageError
from ..indexes.collection import Collection
from ..records import Passage, WeightedTerms
from ..storage.disk import writing
from .generation import generation_stamp
from .java import java, java_errors, start_java
from .lucene import Feedback, LuceneRetriever, whole_weights

BATCH = 1000
"""Passages that Java is given at once: Ctrl-C is heard between two batches."""

LONGEST = 255
"""Characters of a term; Lucene cuts longer ones at this length."""

_BLANK = re.compile(r"\s")
_OURS = re.compile(r"\d{12}-[0-9a-f]{16}(-vectors)?(-[0-9a-f-]{36})?")


def build_lucene(
    texts: Iterable[tuple[str, str]], folder: Path, *, vectors: bool = False, threads: int = 1
) -> int:
    """Write a Lucene index of (id, text) pairs into a new folder, with Anserini's English analysis.

    vectors: store what `feedback` of a LuceneRetriever needs. Returns how many went in: texts
    without a character other than blanks do not.
    Ids have to be distinct: Lucene would keep both.  threads: of Java.
    UsageError: the folder exists.  MissingExtra.  DiskError.
    """
    options = ["-storeDocvectors"] if vectors else []
    return _build(texts, folder, options, threads)


def build_lucene_impacts(
    batches: Iterable[tuple[Sequence[str], WeightedTerms]],
    folder: Path,
    *,
    scale: float = 100,
    threads: int = 1,
) -> int:
    """Write an impact index of batches of ids with their weighted terms into a new folder.

    scale: a weight is stored as the whole number nearest to `scale` times it.
    InputError: a term with white space, at which Lucene would cut it.
    """
    return _build(_repeated(batches, scale), folder, ["-impact", "-pretokenized"], threads)


def lucene_beside(
    collection: Collection,
    text_of: Callable[[Passage], str],
    *,
    feedback: Feedback | None = None,
    **settings: Any,
) -> LuceneRetriever:
    """A retriever over the Lucene index of this generation, which is built if it is not there.

    text_of: what is indexed of a passage, the same at every call.  feedback needs an index of its
    own, four times as large.  settings: the others of LuceneRetriever; filters work.
    """
    name = generation_stamp(collection) + ("-vectors" if feedback else "")
    folder = collection.folder / "lucene" / name
    if not folder.is_dir():
        _rebuild(collection, text_of, folder, vectors=bool(feedback))
    passages = collection.passages
    return LuceneRetriever(folder, passages=passages, feedback=feedback, **settings)


def _rebuild(
    collection: Collection, text_of: Callable[[Passage], str], folder: Path, vectors: bool
) -> None:
    """Build under a name of its own and rename, so that what has the name is whole."""
    building = folder.with_name(f"{folder.name}-{uuid4()}")
    with writing(folder):
        folder.parent.mkdir(exist_ok=True)
    texts = ((one.id, text_of(one)) for one in collection.passages)
    build_lucene(texts, building, vectors=vectors)
    try:
        with writing(folder):
            building.rename(folder)
    except DiskError:
        shutil.rmtree(building, ignore_errors=True)
        if not folder.is_dir():  # if it is there now, another process was faster
            raise
    _remove_older(folder)


def _remove_older(folder: Path) -> None:
    """Remove the indexes of earlier generations, and what interrupted builds left of them."""
    for other in folder.parent.iterdir():
        if _OURS.fullmatch(other.name) and other.name[:12] < folder.name[:12]:
            shutil.rmtree(other, ignore_errors=True)


def _build(
    texts: Iterable[tuple[str, str]], folder: Path, options: Sequence[str], threads: int
) -> int:
    filled = ((id, text) for id, text in texts if text and not text.isspace())
    added = 0
    with _indexer(folder, [*options, "-threads", str(threads)]) as indexer:
        while batch := list(islice(filled, BATCH)):
            documents = [json.dumps({"id": id, "contents": text}) for id, text in batch]
            with java_errors(folder):
                added += indexer.addRawDocuments(documents)
    return added


@contextmanager
def _indexer(folder: Path, options: Sequence[str]) -> Iterator[Any]:
    """Anserini's indexer; when it is left by an exception, the folder goes away again."""
    if folder.exists():
        raise UsageError("the folder exists", where=str(folder), remedy="Name one that does not")
    start_java()
    needed = ["-collection", "JsonCollection", "-input", str(folder), "-index", str(folder)]
    with java_errors(folder):
        indexer = java("io.anserini.index.SimpleIndexer")([*needed, *options])
    try:
        yield indexer
        with java_errors(folder):
            indexer.close(True)  # merged into one segment
    except BaseException:
        with suppress(Exception):
            indexer.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _repeated(
    batches: Iterable[tuple[Sequence[str], WeightedTerms]], scale: float
) -> Iterator[tuple[str, str]]:
    """Ids with texts in which each term stands as often as its weight says."""
    for ids, terms in batches:
        for id, weights in zip(ids, whole_weights(terms, scale), strict=True):
            for term, _ in weights:
                _check_term(id, term)
            yield id, " ".join(" ".join([term] * weight) for term, weight in weights)


def _check_term(id: str, term: str) -> None:
    if len(term) > LONGEST or _BLANK.search(term):
        raise InputError(
            f"Lucene would cut the term {term[:40]!r}",
            where=f"passage '{id}'",
            remedy=f"Use terms without white space, of at most {LONGEST} characters",
        )
