"""TREC runs and judgements, in and out.

    a run    query-id Q0 passage-id rank score tag      one hit a line
    qrels    query-id 0 passage-id relevance            one judgement a line

Fields stand between white space; empty lines and lines that begin with # are skipped, as in
trec_eval. A run becomes a list of Rankings (the texts of the queries are not in it), so what was
read can be fused, reranked and measured like anything else.

Left out: the iteration, the rank and the tag, which trec_eval does not read either. Scores are held
as float32, as trec_eval 9 and pytrec_eval hold them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import quote

import numpy as np

from ..errors import DuplicateId, InputError
from ..records import Query, Ranking
from .files import lines, replacing

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Judgements: query id -> passage id -> relevance. Above 0 is relevant, and larger is better."""

Value = TypeVar("Value", int, float)

RUN_LINE = "query-id Q0 passage-id rank score tag"
QRELS_LINE = "query-id 0 passage-id relevance"
TOO_LARGE = (2 - 2**-24) * 2.0**127  # from here on a number rounds to infinity as float32
WHITE_SPACE = re.compile(r"\s")


def read_run(path: Path) -> list[Ranking]:
    """The rankings of a TREC run, queries in the order of the file.

    Raises InputError with file and line for a malformed line, DuplicateId for a passage that
    stands twice under a query.
    """
    run: dict[str, dict[str, float]] = {}
    for where, fields in _rows(path):
        if len(fields) < 6:  # what follows the tag is ignored, as trec_eval does
            raise _malformed(where, f"{len(fields)} fields", RUN_LINE)
        _enter(run, where, fields[0], fields[2], _score(where, fields[4]))
    return [ranked(Query(query, ""), hits) for query, hits in run.items()]


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """The judgements of a TREC qrels file; raises what `read_run` raises."""
    qrels: dict[str, dict[str, int]] = {}
    for where, fields in _rows(path):
        if len(fields) != 4:
            raise _malformed(where, f"{len(fields)} fields", QRELS_LINE)
        _enter(qrels, where, fields[0], fields[2], _relevance(where, fields[3]))
    return qrels


def write_run(path: Path, rankings: Sequence[Ranking], *, tag: str) -> None:
    """Writes rankings as a TREC run, gzipped if `path` ends in .gz.

    Scores have the nine digits that give the same float32 back. White space within an id, which
    the format cannot hold, is percent-encoded.
    """
    name = field(tag)
    with replacing(path) as file:
        for ranking in rankings:
            query = field(ranking.query.id)
            rows = zip(_fields(ranking.ids), ranking.scores.tolist(), strict=True)
            text = [
                f"{query} Q0 {id} {rank} {score:.9g} {name}\n"
                for rank, (id, score) in enumerate(rows, 1)
            ]
            file.write("".join(text).encode())


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Writes judgements as a TREC qrels file; ids as in `write_run`."""
    with replacing(path) as file:
        for query, judged in qrels.items():
            rows = zip(_fields(tuple(judged)), judged.values(), strict=True)
            text = [f"{field(query)} 0 {id} {relevance}\n" for id, relevance in rows]
            file.write("".join(text).encode())


def ranked(query: Query, hits: Mapping[str, float]) -> Ranking:
    """A Ranking from hits in any order: best first, equal scores by ascending id."""
    ids = sorted(hits)
    scores = np.array([hits[id] for id in ids], np.float32)
    order = np.argsort(-scores, kind="stable")
    return Ranking(query, tuple(ids[place] for place in order), scores[order])


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The fields of each line, with its place "file:line"."""
    for number, line in enumerate(lines(path), 1):
        # Bytes are split at ASCII white space only: an id may hold a no-break space.
        if (fields := line.split()) and not line.startswith(b"#"):
            where = f"{path}:{number}"
            yield where, _decoded(where, fields)


def _decoded(where: str, fields: list[bytes]) -> list[str]:
    try:
        return [field.decode() for field in fields]
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8", where=where, remedy="Convert the file to UTF-8") from error


def _malformed(where: str, what: str, wanted: str) -> InputError:
    return InputError(what, where=where, remedy=f"A line must read: {wanted}")


def _score(where: str, field: str) -> float:
    try:
        score = float(field)
    except ValueError:
        score = np.nan
    if abs(score) < TOO_LARGE:  # false for nan as well
        return score
    raise _malformed(where, f"the score '{field}' is no finite number", RUN_LINE)


def _relevance(where: str, field: str) -> int:
    try:
        return int(field)
    except ValueError as error:
        what = f"the relevance '{field}' is no whole number"
        raise _malformed(where, what, QRELS_LINE) from error


def _enter(
    table: dict[str, dict[str, Value]], where: str, query: str, passage: str, value: Value
) -> None:
    row = table.setdefault(query, {})
    if passage in row:
        raise DuplicateId(
            f"passage '{passage}' stands twice under query '{query}'",
            where=where,
            remedy="Keep one of the two lines",
        )
    row[passage] = value


def _fields(ids: Sequence[str]) -> Sequence[str]:
    """Ids as they can stand in a line; where nothing has to change it costs one scan."""
    if all(ids) and not WHITE_SPACE.search("".join(ids)):
        return ids
    return [field(id) for id in ids]


def field(id: str) -> str:
    """An id as it can stand in a line of fields: white space percent-encoded."""
    if not id:
        raise InputError("an empty id cannot stand in a TREC file", remedy="Name every record")
    return WHITE_SPACE.sub(lambda space: quote(space.group()), id)
