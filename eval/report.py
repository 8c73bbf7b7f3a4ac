"""An evaluation on disk and on screen.

    folder/report.json     data set, parameters, versions, measures, cost, sha256 of the files
    folder/qrels.trec      the judgements
    folder/per_query.tsv   a line for each query and system
    folder/runs/NAME.trec  a run for each system

Every figure can be found again with `trec_eval -c qrels.trec runs/NAME.trec`. A second report into
the same folder replaces the files that have its names and touches no other.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np

from .. import __version__
from ..errors import DiskError
from ..records import JSON
from .compare import Comparison, against_best, best_systems
from .evaluate import Evaluation, SystemResult
from .files import replacing
from .trec import field, write_qrels, write_run

SIGNIFICANT = 0.05

COST_COLUMNS: Mapping[str, tuple[str, str]] = {
    "index_s": ("index s", ".1f"),
    "encode_s": ("encode s", ".2f"),
    "search_s": ("search s", ".2f"),
    "queries_per_s": ("queries/s", ",.0f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "index_bytes_per_passage": ("bytes/passage", ",.0f"),
}
"""Entries of the cost that have a column: its title and how its numbers are written."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells ready to print: the first column is text, the others are numbers."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def table(evaluation: Evaluation) -> Table:
    """A row a system: measures, queries without a hit, cost; `notes` say what needs saying."""
    systems = list(evaluation.systems.values())
    measures, stars = list(best_systems(evaluation)), _stars(evaluation)
    costs = [name for name in COST_COLUMNS if any(name in system.cost for system in systems)]
    rows = []
    for system in systems:
        values = [
            f"{system.measures[each]:.4f}{stars.get((each, system.name), '')}" for each in measures
        ]
        spent = [_cost_cell(system, name) for name in costs]
        rows.append([system.name, *values, str(len(system.without_hits)), *spent])
    titles = [COST_COLUMNS[name][0] for name in costs]
    return Table(["system", *measures, "no hits", *titles], rows, _notes(evaluation, stars))


def entry(dataset: str, evaluation: Evaluation, system: str) -> dict[str, JSON]:
    """One system as a JSON object: data set, measures and cost."""
    result = evaluation.systems[system]
    return {
        "dataset": dataset,
        "system": system,
        "measures": dict(result.measures),
        "cost": dict(result.cost),
        "queries": len(evaluation.queries),
        "without_hits": len(result.without_hits),
    }


def write_report(
    folder: Path,
    evaluation: Evaluation,
    *,
    dataset: str,
    facts: Mapping[str, JSON] | None = None,
) -> Path:
    """Writes the files described above and returns the path of report.json, written last.

    facts: what else belongs on record: index settings, encoders, options of the caller.
    Raises DiskError when the folder cannot be written.
    """
    runs = {name: f"runs/{quote(name, safe='+,=')}.trec" for name in evaluation.systems}
    _make(folder / "runs")
    for name, result in evaluation.systems.items():
        write_run(folder / runs[name], result.rankings, tag=name)
    write_qrels(folder / "qrels.trec", evaluation.qrels)
    _write_text(folder / "per_query.tsv", _per_query(evaluation))
    files, compared = [*runs.values(), "qrels.trec", "per_query.tsv"], against_best(evaluation)
    report = {
        "dataset": dataset,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "parameters": evaluation.parameters,
        "facts": facts or {},
        "systems": [
            entry(dataset, evaluation, name) | _record(result, compared) | {"run": runs[name]}
            for name, result in evaluation.systems.items()
        ],
        "sha256": {name: _sha256(folder / name) for name in files},
    }
    _write_text(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return folder / "report.json"


# --- parts of the table --------------------------------------------------------------------------


def _cost_cell(system: SystemResult, name: str) -> str:
    return format(system.cost[name], COST_COLUMNS[name][1]) if name in system.cost else ""


def _stars(evaluation: Evaluation) -> dict[tuple[str, str], str]:
    return {
        (measure, system): "*"
        for measure, others in against_best(evaluation).items()
        for system, comparison in others.items()
        if comparison.p_value < SIGNIFICANT
    }


def _notes(evaluation: Evaluation, stars: Mapping[tuple[str, str], str]) -> list[str]:
    notes = []
    if stars:
        notes.append(
            "* differs from the best value of its column "
            f"(paired randomisation test, p < {SIGNIFICANT})"
        )
    for result in evaluation.systems.values():
        if result.own_ids_judged:
            notes.append(
                f"{result.name}: dropped {len(result.own_ids)} hits with the id of their query, "
                f"{len(result.own_ids_judged)} of them judged relevant (query "
                f"'{result.own_ids_judged[0]}'): ids of queries and passages seem to be unrelated "
                "here; drop_own_id=False keeps them"
            )
    return notes


# --- parts of the report -------------------------------------------------------------------------


def _record(
    result: SystemResult, compared: Mapping[str, Mapping[str, Comparison]]
) -> dict[str, JSON]:
    """What report.json says of a system, beyond its `entry`."""
    return {
        "queries_without_hits": list(result.without_hits),
        "own_ids_dropped": list(result.own_ids),
        "against_best": {
            measure: asdict(others[result.name])
            for measure, others in compared.items()
            if result.name in others
        },
    }


def _per_query(evaluation: Evaluation) -> str:
    measures = list(best_systems(evaluation))
    lines = ["\t".join(["query", "system", *measures])]
    for place, query in enumerate(evaluation.queries):
        for name, result in evaluation.systems.items():
            values = [f"{result.per_query[each][place]:.6f}" for each in measures]
            lines.append("\t".join([field(query), field(name), *values]))
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    return {
        "ragstone": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Choose a folder that can be written"
        raise DiskError(str(error.strerror), where=str(folder), remedy=remedy) from error


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
