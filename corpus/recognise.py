"""Finds out what a path is: a BEIR folder, a KILT source, JSON lines, columns, or documents."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ..errors import InputError, UsageError
from ..records import Passage
from . import jsonl, kilt, tsv
from .folder import SUFFIXES, Folder
from .linefiles import LineFile, LineFiles
from .lines import LIMIT, Line, opened, read_lines, unreadable
from .problems import OnError, Problem, Reject, shown
from .source import Source
from .strict import BOM, UTF16, decode, parse

Parse: TypeAlias = Callable[[bytes], Passage]
_JSON = (".jsonl", ".ndjson", ".json")
_TSV = (".tsv",)
_LOOKED_FOR = (
    "Looked for: a folder with corpus.jsonl (BEIR); a .jsonl or .tsv (or .gz of them), or a folder"
    f" of such files alone; documents ending in {' '.join(SUFFIXES)}, alone or in a folder"
)


def open_source(
    path: Path,
    *,
    on_error: OnError = "stop",
    max_errors: int | None = None,
    rejects: Callable[[Reject], None] | None = None,
    limit: int = LIMIT,
) -> Source:
    """The documents at `path`, which is recognised by what is in it.

    limit: bytes of a line, or of a file that is one document.
    Raises InputError where nothing is there or nothing is recognised, where a file is empty, a
    JSON list or UTF-16; UsageError; DiskError.
    """
    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error is '{on_error}'", remedy="Give 'stop' or 'skip'")
    if limit < 1 or (max_errors is not None and max_errors < 0):
        raise UsageError("a limit below zero", remedy="Give positive limits")
    try:
        if not path.exists():
            raise InputError("no such file or folder", where=shown(path), remedy="Check the path")
        source = _of_folder(path, limit) if path.is_dir() else _of_file(path, limit)
    except OSError as error:
        raise unreadable(path, error) from error
    return replace(source, on_error=on_error, max_errors=max_errors, rejects=rejects)


def _of_folder(path: Path, limit: int) -> Source:
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (path / name).is_file():
            return replace(_of_lines([path / name], limit), kind="beir", path=path)
    folder = Folder(path, None, limit)
    survey = folder.survey()
    if survey.files:
        skipped = sorted(survey.skipped.items())
        notes = tuple(f"{number:,} {what} were left out" for what, number in skipped)
        return Source("files", path, survey.bytes, True, notes, folder)
    for kinds in (_JSON, _TSV):
        if files := [file for file in sorted(path.iterdir()) if _is_lines(file, kinds)]:
            return replace(_of_lines(files, limit), path=path)
    raise _unrecognised(path)


def _of_file(path: Path, limit: int) -> Source:
    if path.suffix.lower() in SUFFIXES:
        folder = Folder(path.parent, path.name, limit)
        return Source("files", path, path.stat().st_size, True, (), folder)
    if _is_lines(path, (*_JSON, *_TSV)):
        return _of_lines([path], limit)
    raise _unrecognised(path)


def _is_lines(path: Path, suffixes: Sequence[str]) -> bool:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix in suffixes and not path.name.startswith(".") and path.is_file()


def _unrecognised(path: Path) -> InputError:
    if path.suffix.lower() in (".zip", ".tar", ".tgz", ".7z", ".rar") or ".tar." in path.name:
        return InputError(
            "an archive; archives are never unpacked",
            where=shown(path),
            remedy="Unpack it and give the folder",
        )
    return InputError("nothing in it is recognised", where=shown(path), remedy=_LOOKED_FOR)


def _of_lines(paths: Sequence[Path], limit: int) -> Source:
    firsts = [(path, line) for path in paths if (line := _first_line(path, limit)) is not None]
    if not firsts:
        raise InputError("the file is empty", where=shown(paths[0]), remedy="Check the path")
    marked = sum(_head(path).startswith(BOM) for path, _ in firsts)
    notes = (f"{marked} byte order mark(s) at the beginning of a file dropped",) if marked else ()
    build = _columns if _is_lines(paths[0], _TSV) else _records
    kind, understand, header = build(firsts)
    stats = [path.stat() for path, _ in firsts]
    files = tuple(
        LineFile(path, stat.st_size, stat.st_mtime_ns, line.number if header else 0)
        for (path, line), stat in zip(firsts, stats, strict=True)
    )
    total = sum(file.size for file in files)
    return Source(kind, paths[0], total, kind == "kilt", notes, LineFiles(files, understand, limit))


def _first_line(path: Path, limit: int) -> Line | None:
    if _head(path).startswith(UTF16):
        raise InputError(
            "the file is UTF-16; UTF-8 is wanted",
            where=shown(path),
            remedy="Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        )
    return next(read_lines(path, limit=limit), None)


def _head(path: Path) -> bytes:
    with opened(path) as (stream, _):
        return stream.read(4)


def _records(firsts: Sequence[tuple[Path, Line]]) -> tuple[str, Parse, bool]:
    """JSON lines, of KILT where the first record is a page of it."""
    path, line = firsts[0]
    content = line.content or b""
    if content.lstrip().startswith(b"[") or content.strip() == b"{":
        raise InputError(
            "one JSON document over many lines; one object a line is wanted",
            where=shown(path),
            remedy="Convert it: jq -c '.[]' FILE > FILE.jsonl",
        )
    try:
        is_kilt = kilt.is_page(parse(content))
    except Problem:
        is_kilt = False  # reading names what is wrong with the line
    return ("kilt", kilt.document, False) if is_kilt else ("jsonl", jsonl.document, False)


def _columns(firsts: Sequence[tuple[Path, Line]]) -> tuple[str, Parse, bool]:
    """Columns, the same in every file."""
    found = [_columns_of(path, line) for path, line in firsts]
    for (path, _), columns in zip(firsts, found, strict=True):
        if columns != found[0]:
            raise InputError(
                f"the columns are not those of '{firsts[0][0].name}'",
                where=shown(path),
                remedy="Give the files one by one, or the same columns",
            )
    return "tsv", partial(tsv.document, columns=found[0]), found[0].header


def _columns_of(path: Path, line: Line) -> tsv.Columns:
    where = f"{shown(path)}:{line.number}"
    try:
        return tsv.columns(decode(line.content or b""), where)
    except Problem as problem:
        raise InputError(problem.reason, where=where, remedy=problem.remedy) from None
