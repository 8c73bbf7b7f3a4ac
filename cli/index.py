"""`ragstone index`: documents in, a collection out; `ragstone extend`: more indexes for it."""

import argparse
import time

from ..pipeline import BuildReport, build
from ..pipeline.beside import LUCENE, open_lucene
from ..pipeline.extend import extend as give
from ..pipeline.wanted import parse_models, parse_options, wanted
from .notices import announce_compilation
from .output import json_line, notice, out, progress_bar


def index(arguments: argparse.Namespace) -> None:
    """Build, resume or update a collection and say what became of each document."""
    announce_compilation()
    begin = time.perf_counter()
    try:
        with progress_bar() as progress:
            report = build(
                arguments.source,
                arguments.to,
                using=arguments.using,
                model=parse_models(arguments.model),
                options=parse_options(arguments.options),
                chunk=arguments.chunk,
                mode=arguments.mode,
                duplicates=arguments.duplicates,
                on_error=arguments.on_error,
                max_errors=arguments.max_errors,
                memory=arguments.memory << 20,
                progress=progress.build,
            )
    except KeyboardInterrupt:
        notice("ragstone: what was indexed so far is kept; the same command with --resume goes on")
        raise
    seconds = time.perf_counter() - begin
    if arguments.json:
        json_line(_record(report, seconds))
    else:
        _show(report, seconds)


def extend(arguments: argparse.Namespace) -> None:
    """Encode the passages that a collection holds for one more index, or several."""
    announce_compilation()
    specs = [spec for spec in arguments.using if spec != LUCENE]
    models, options = parse_models(arguments.model), parse_options(arguments.options)
    asked = wanted(specs, models, options) if specs else ()
    begin = time.perf_counter()
    with progress_bar() as progress:
        collection = give(arguments.collection, asked, progress=progress.passages)
    if LUCENE in arguments.using:
        open_lucene(collection).close()
    seconds, names = time.perf_counter() - begin, list(collection.families)
    if arguments.json:
        facts = {"collection": str(collection.folder), "generation": collection.generation}
        json_line({**facts, "indexes": names, "seconds": seconds})
        return
    out().print(
        f"{collection.folder}, generation {collection.generation}: {len(collection):,} passages, "
        f"indexes {', '.join(names)} ({seconds:.1f} s)",
        markup=False,
    )


def _show(report: BuildReport, seconds: float) -> None:
    screen, counts = out(), report.counts
    settled = f"{counts.indexed:,} indexed, {counts.rejected:,} rejected"
    screen.print(
        f"{counts.read:,} documents read = {settled}, {counts.duplicate:,} duplicate", markup=False
    )
    screen.print(
        f"{report.passages:,} passages in {report.collection}, generation {report.generation}, "
        f"indexes {', '.join(report.indexes)} ({seconds:.1f} s)",
        markup=False,
    )
    for text in report.notes:
        notice(f"note: {text}")
    if report.rejects:
        notice(f"note: the rejected documents are listed in {report.rejects}")


def _record(report: BuildReport, seconds: float) -> dict[str, object]:
    return {
        "collection": str(report.collection),
        "generation": report.generation,
        "indexes": list(report.indexes),
        "counts": report.counts.as_json(),
        "passages": report.passages,
        "seconds": {**report.seconds, "all": seconds},
        "rejects": str(report.rejects) if report.rejects else None,
        "notes": list(report.notes),
    }
