"""Is one system better than another, or lucky? The paired randomisation test.

If two systems were equally good, swapping their values on any query would be as likely as not. The
p-value is the share of random swaps after which the means differ at least as much as they do now.

Smucker, Allan and Carterette, A Comparison of Statistical Significance Tests for Information
Retrieval Evaluation, CIKM 2007.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from .evaluate import Evaluation
from .measures import PerQuery

BLOCK = 1 << 21  # swaps drawn at once: 16 MB as float64

Differences: TypeAlias = NDArray[np.float64]
"""Values of one system minus another's: a row a query, a column a pair of systems or a measure."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean difference (first minus second), its p-value, and on how many queries which won."""

    difference: float
    p_value: float
    better: int
    worse: int
    equal: int


def compare(
    first: PerQuery, second: PerQuery, *, permutations: int = 10_000, seed: int = 0
) -> Comparison:
    """Compares two systems by their values on the same queries in the same order; two-sided.

    Raises InputError when the two arrays are not of one length.
    """
    if first.shape != second.shape or not len(first):
        raise InputError(
            f"{len(first)} and {len(second)} queries cannot be paired",
            remedy="Compare systems of one evaluation",
        )
    if permutations < 1:
        raise UsageError(f"permutations={permutations}", remedy="Ask for 1 or more")
    return _comparisons((first - second)[:, None], permutations, seed)[0]


def best_systems(evaluation: Evaluation) -> dict[str, str]:
    """For each measure the system with the highest mean, the first of equals."""
    systems = evaluation.systems.values()
    measures = next(iter(systems)).measures if systems else {}
    return {each: max(systems, key=lambda system: system.measures[each]).name for each in measures}


def against_best(
    evaluation: Evaluation, *, permutations: int = 10_000, seed: int = 0
) -> dict[str, dict[str, Comparison]]:
    """Every system but the best against the best: measure -> system -> system minus best."""
    systems = evaluation.systems
    pairs = [
        (measure, name, systems[name].per_query[measure] - systems[best].per_query[measure])
        for measure, best in best_systems(evaluation).items()
        for name in systems
        if name != best
    ]
    table: dict[str, dict[str, Comparison]] = {}
    if pairs:  # all columns share the swaps: they are drawn and multiplied once
        columns = np.stack([difference for _, _, difference in pairs], axis=1)
        compared = _comparisons(columns, permutations, seed)
        for (measure, name, _), comparison in zip(pairs, compared, strict=True):
            table.setdefault(measure, {})[name] = comparison
    return table


def _comparisons(columns: Differences, permutations: int, seed: int) -> list[Comparison]:
    p_values = _p_values(columns, permutations, np.random.default_rng(seed))
    return [
        Comparison(
            difference=float(column.mean()),
            p_value=p_value,
            better=int((column > 0).sum()),
            worse=int((column < 0).sum()),
            equal=int((column == 0).sum()),
        )
        for column, p_value in zip(columns.T, p_values.tolist(), strict=True)
    ]


def _p_values(
    columns: Differences, permutations: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """(1 + swaps as extreme as what was seen) / (1 + permutations), a column each."""
    # Sums of the same numbers in another order differ in the last digits: that is no difference.
    seen = np.abs(columns.sum(axis=0)) - 1e-12 * np.abs(columns).sum(axis=0)
    extreme = np.zeros(columns.shape[1], np.int64)
    block = max(1, BLOCK // len(columns))
    for drawn in range(0, permutations, block):
        rows = min(block, permutations - drawn)
        signs = 2.0 * random.integers(0, 2, (rows, len(columns)), np.int8) - 1
        extreme += (np.abs(signs @ columns) >= seen).sum(axis=0)
    return (1 + extreme) / (1 + permutations)
