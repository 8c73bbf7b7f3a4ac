"""From rankings and judgements to numbers: measures, runs, evaluations and their reports."""

from .compare import Comparison, against_best, compare
from .evaluate import Evaluation, SystemResult, add_cost, evaluate
from .measures import DEFAULT, Measure, judged_queries, measure, parse_measure
from .report import Table, entry, table, write_report
from .timing import TimedEncoder
from .trec import Qrels, read_qrels, read_run, write_qrels, write_run

__all__ = [
    "DEFAULT",
    "Comparison",
    "Evaluation",
    "Measure",
    "Qrels",
    "SystemResult",
    "Table",
    "TimedEncoder",
    "add_cost",
    "against_best",
    "compare",
    "entry",
    "evaluate",
    "judged_queries",
    "measure",
    "parse_measure",
    "read_qrels",
    "read_run",
    "table",
    "write_qrels",
    "write_report",
    "write_run",
]
