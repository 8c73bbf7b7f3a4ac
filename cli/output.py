"""What people and programs see: tables and JSON lines on stdout, progress and notices on stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..pipeline.intake import Step

PLAIN_WIDTH = 1000
"""Columns of a pipe, which has none: tables are never cut there."""


def out() -> Console:
    """Results; as wide as the terminal, and without colour or wrapping surprises in a pipe."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def indented(text: str, columns: int = 4) -> None:
    """A paragraph on stdout; on a terminal all of its lines are indented."""
    if sys.stdout.isatty():
        out().print(Padding(Text(text), (0, 0, 0, columns)))
    else:
        out().print(" " * columns + text, markup=False)


def notice(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def json_line(record: Mapping[str, Any]) -> None:
    """One object, one line, on stdout."""
    print(json.dumps(record, ensure_ascii=False, allow_nan=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout: the first column to the left, figures to the right."""
    if title:
        out().print(title, style="bold", markup=False)
    shown = Table(box=None, pad_edge=False)
    for number, header in enumerate(headers):
        shown.add_column(header, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(highlight=False, width=width).print(shown)


class Bars:
    """Draws how far a build or an evaluation has come; without a terminal it draws nothing."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def build(self, step: Step) -> None:
        """One bar for a build: bytes of the source."""
        rate = f"{step.passages:,} passages, {step.rate:,.0f}/s, {step.stage}"
        self._draw("indexing", step.bytes_done, step.bytes_total, rate)

    def passages(self, step: Step) -> None:
        """One bar for a new index: passages."""
        self._draw(step.stage, step.bytes_done, step.bytes_total, f"{step.rate:,.0f} passages/s")

    def queries(self, system: str, done: int, total: int) -> None:
        """One bar for each system that is measured: its queries."""
        self._draw(f"asking {system}", done, total, f"{done:,} queries")

    def _draw(self, name: str, done: int, total: int, rate: str) -> None:
        if self._bar is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=None, rate="")
        self._bar.update(self._tasks[name], completed=done, total=total or None, rate=rate)


@contextmanager
def progress_bar() -> Iterator[Bars]:
    """Bars on stderr while the block runs, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bars(bar)
