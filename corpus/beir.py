"""A BEIR folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (Thakur et al. 2021, BEIR)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DuplicateId, InputError
from ..records import Query
from .identifiers import identifier
from .jsonl import string
from .lines import LIMIT, read_lines
from .problems import Problem, shown
from .strict import decode, parse


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """name: of the folder.  splits: the names of the files in qrels/, sorted."""

    path: Path
    name: str
    splits: tuple[str, ...]

    @property
    def queries(self) -> Path:
        return self.path / "queries.jsonl"

    def qrels(self, split: str) -> Path:
        """The judgements of a split. Raises InputError where there is no such split."""
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise InputError(
                f"there is no split '{shown(split)}'",
                where=shown(self.path / "qrels"),
                remedy=f"Give --split one of: {known}",
            )
        return self.path / "qrels" / f"{split}.tsv"


def open_beir(path: Path) -> BeirFolder:
    """Raises InputError where corpus.jsonl or queries.jsonl is missing."""
    present = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    wanted = [("corpus.jsonl", "corpus.jsonl.gz"), ("queries.jsonl",)]
    if missing := [names[0] for names in wanted if not present.intersection(names)]:
        raise InputError(
            f"this is no BEIR folder: {' and '.join(missing)} missing",
            where=shown(path),
            remedy="Wanted: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv",
        )
    splits = sorted(file.stem for file in (path / "qrels").glob("*.tsv"))
    return BeirFolder(path, path.resolve().name, tuple(splits))


def read_queries(path: Path) -> list[Query]:
    """JSON lines with "_id" (or "id") and "text". Raises InputError at the first bad line."""
    queries: dict[str, tuple[Query, int]] = {}
    for content, line in _lines(path):
        with _named(path, line):
            query = _query(content)
        if query.id in queries:
            before = queries[query.id][1]
            raise DuplicateId(
                f"query '{shown(query.id)}' stands here and in line {before}",
                where=f"{shown(path)}:{line}",
                remedy="Remove one of them",
            )
        queries[query.id] = query, line
    if not queries:
        raise InputError("there is no query in it", where=shown(path), remedy="Check the file")
    return [query for query, _ in queries.values()]


def _query(content: bytes) -> Query:
    record = parse(content)
    field = "_id" if "_id" in record else "id"
    id = identifier(record.get(field), field)
    text = string(record.get("text"), "text")
    if not text.strip():
        raise Problem("empty", f"the text of query '{shown(id)}' is empty")
    return Query(id, text)


def read_qrels_tsv(path: Path) -> dict[str, dict[str, int]]:
    """Judgements: query id -> document id -> relevance, from "query-id TAB corpus-id TAB score".

    The header line may be missing; a judgement may stand twice if both say the same.
    Raises InputError at the first bad line.
    """
    qrels: dict[str, dict[str, int]] = {}
    for content, line in _lines(path):
        with _named(path, line):
            fields = decode(content).split("\t")
            if line == 1 and fields[-1].strip().lower() in _SCORES:
                continue
            query, document, score = _judgement(fields)
            if qrels.setdefault(query, {}).setdefault(document, score) != score:
                names = f"query '{shown(query)}' and document '{shown(document)}'"
                raise Problem("duplicate", f"{names} were judged otherwise before")
    if not qrels:
        raise InputError("there is no judgement in it", where=shown(path), remedy="Check the file")
    return qrels


_SCORES = ("score", "relevance", "rel", "label")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


def _judgement(fields: list[str]) -> tuple[str, str, int]:
    if len(fields) != 3:
        raise Problem("columns", f"{len(fields)} columns, where query, document and score are 3")
    if not _INTEGER.fullmatch(fields[2].strip()):
        raise Problem("type", f"the score '{shown(fields[2])}' is no integer")
    return identifier(fields[0], "query-id"), identifier(fields[1], "corpus-id"), int(fields[2])


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    if not path.is_file():
        raise InputError("no such file", where=shown(path), remedy="Check the path")
    for content, number, _, _, _ in read_lines(path):
        if content is None:
            raise InputError(
                f"the line is longer than {LIMIT:,} bytes",
                where=f"{shown(path)}:{number}",
                remedy="Is this the right file?",
            )
        yield content, number


@contextmanager
def _named(path: Path, line: int) -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        remedy = problem.remedy or "Correct the line"
        raise InputError(problem.reason, where=f"{shown(path)}:{line}", remedy=remedy) from None
