"""Weighted terms that another program made, as JSON lines: one passage, or one query, a line.

{"id" or "_id", "contents" or "text"?, "title"?, "vector" or "weights": {term: weight}}, plain or
.gz: the JsonVectorCollection of Anserini, as SPLADE, uniCOIL, DeepImpact and others are published.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..records import JSON, Passage, WeightedTerms
from .identifiers import identifier, kind
from .jsonl import string
from .lines import Line, read_lines
from .problems import Problem, shown
from .strict import Object, parse

REMEDY = 'Write {"id": ..., "contents": ..., "vector": {"term": weight, ...}}, weights above 0'


class WeightedPassage(NamedTuple):
    """A passage, whose text may be empty, and what its terms weigh; all weights are above 0."""

    passage: Passage
    weights: Mapping[str, float]


def read_weights(path: Path) -> Iterator[WeightedPassage]:
    """The passages of a file, in order.

    A weight of 0 is left out. Raises InputError naming the line, and DiskError.
    """
    for line in read_lines(path):
        try:
            yield _understood(line)
        except Problem as problem:
            of = f"passage '{shown(problem.id)}': " if problem.id else ""
            where = f"{shown(path)}:{line.number}"
            raise InputError(f"{of}{problem}", where=where, remedy=REMEDY) from None


def _understood(line: Line) -> WeightedPassage:
    if line.content is None:
        raise Problem("too-large", "the line is longer than 16 MB")
    record = parse(line.content)
    field = "_id" if "_id" in record else "id"
    id = identifier(record.get(field), field)
    try:
        text = string(record.get("contents", record.get("text")) or "", "contents")
        title = string(record.get("title") or "", "title")
        return WeightedPassage(Passage(id, text, title), _weights(record))
    except Problem as problem:
        raise problem.of(id) from None


def _weights(record: Object) -> Mapping[str, float]:
    field = "vector" if "vector" in record else "weights"
    given = record.get(field)
    if not isinstance(given, dict):
        raise Problem("type", f"field '{field}' is {kind(given)}, not an object of weights")
    found = {term: _number(term, weight) for term, weight in given.items()}
    return {term: weight for term, weight in found.items() if weight}


def _number(term: str, weight: JSON) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise Problem("type", f"the weight of '{shown(term)}' is {kind(weight)}, not a number")
    if not 0 <= weight < math.inf:
        raise Problem("number", f"the weight of '{shown(term)}' is {weight}")
    return weight


def weighted(texts: Sequence[Mapping[str, float]]) -> WeightedTerms:
    """Texts given as {term: weight} as one batch of keys."""
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(term, len(numbers)) for text in texts for term in text]
    weights = [weight for text in texts for weight in text.values()]
    return WeightedTerms(
        np.cumsum([0, *map(len, texts)], dtype=np.int64),
        np.array(ids, np.int32),
        np.array(weights, np.float32),
        [term.encode() for term in numbers],
        np.zeros(len(texts), np.int32),
    )
