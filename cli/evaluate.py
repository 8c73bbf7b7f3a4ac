"""`ragstone eval`: a BEIR folder in, a table and a report out."""

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..corpus import BeirFolder, open_beir, open_source, read_qrels_tsv, read_queries
from ..errors import UsageError
from ..eval.evaluate import Evaluation, add_cost, evaluate
from ..eval.measures import DEFAULT, parse_measure
from ..eval.report import entry, table, write_report
from ..eval.timing import TimedEncoder
from ..indexes.collection import Collection
from ..pipeline import Library, Mode, build
from ..pipeline.beside import LUCENE
from ..pipeline.encoders import encoder_of
from ..pipeline.learned import index_and_way
from ..pipeline.library import HYBRID
from ..pipeline.recipes import default_names
from ..pipeline.wanted import Wanted, parse_models, parse_options, wanted
from ..records import JSON
from .notices import announce_compilation
from .output import json_line, notice, print_table, progress_bar


def run(arguments: argparse.Namespace) -> None:
    """Index the corpus (or take the index of an earlier run), measure, print and write."""
    announce_compilation()
    dataset = open_beir(arguments.source)
    measures = [parse_measure(name) for name in arguments.measures or ()] or DEFAULT
    queries, qrels = read_queries(dataset.queries), read_qrels_tsv(dataset.qrels(arguments.split))
    folder = arguments.out or Path("ragstone-eval") / dataset.name
    collection = _collection(arguments, dataset, folder / "index.ragstone")
    timed = {name: TimedEncoder(encoder_of(collection, name)) for name in collection.families}
    library = Library(collection, encoders=timed)
    systems = arguments.using or library.systems
    with progress_bar() as progress:
        evaluation = evaluate(
            {name: library.retriever(name) for name in systems},
            queries,
            qrels,
            measures=measures,
            k=arguments.k,
            drop_own_id=not arguments.keep_own_ids,
            encode_seconds={name: _clock(timed, library.legs(name)) for name in systems},
            progress=progress.queries,
        )
    for name in systems:
        evaluation = add_cost(evaluation, name, _cost(collection, library.legs(name)))
    report = write_report(folder, evaluation, dataset=dataset.name, facts=_facts(collection))
    _show(arguments.json, dataset, collection, evaluation)
    notice(f"runs, values per query and the report: {report.parent}")


def _collection(arguments: argparse.Namespace, dataset: BeirFolder, folder: Path) -> Collection:
    """The index of an earlier run where it still fits, else a new one."""
    specs = arguments.indexes or _legs(arguments.using or default_names())
    models, options = parse_models(arguments.model), parse_options(arguments.options)
    mode = _mode(folder, dataset, wanted(specs, models, options))
    if mode is not None:
        notice(f"indexing {dataset.path} ({', '.join(specs)})")
        with progress_bar() as progress:
            build(dataset.path, folder, using=specs, model=models, options=options, mode=mode,
                  progress=progress.build)  # fmt: skip
    return Collection.open(folder)


def _legs(systems: Sequence[str]) -> tuple[str, ...]:
    """The indexes that the systems need; a fusion of all needs all that can be built."""
    legs = [leg for name in systems if name not in (HYBRID, LUCENE) for leg in name.split("+")]
    names = [index_and_way(leg)[0] for leg in legs]
    if HYBRID in systems:
        names += [name for name in default_names() if name not in names]
        if len(names) < 2:
            remedy = "Run: pip install 'ragstone[dense]'"
            raise UsageError("a hybrid needs two indexes, and only BM25 is here", remedy=remedy)
    return tuple(sorted(set(names) or default_names()))


def _mode(folder: Path, dataset: BeirFolder, asked: Sequence[Wanted]) -> Mode | None:
    """What to do about an index that may be there: None = use it, else how to build."""
    if not folder.exists():
        return "create"
    collection = Collection.open(folder, check="size")
    fits = all(one.is_in(collection) for one in asked)
    if fits and collection.note.get("source") == open_source(dataset.path).signature():
        return None if collection.note.get("complete") else "resume"
    shutil.rmtree(folder)  # a derived index in our own report folder, of another corpus or model
    return "create"


def _clock(
    timed: Mapping[str, TimedEncoder[object, object]], legs: Sequence[str]
) -> Callable[[], float]:
    return lambda: sum(timed[leg].seconds() for leg in legs)


def _cost(collection: Collection, legs: Sequence[str]) -> dict[str, float]:
    """What the indexes of a system cost: bytes, and seconds to encode their passages."""
    seconds = collection.note.get("seconds")
    taken = seconds if isinstance(seconds, Mapping) else {}
    size = sum(collection.indexes[leg].nbytes for leg in legs)
    return {
        "index_s": sum(float(str(taken.get(f"encode {leg}", 0.0))) for leg in legs),
        "index_bytes_per_passage": size / max(1, len(collection)),
    }


def _facts(collection: Collection) -> dict[str, JSON]:
    """What the report keeps of the index: settings and encoders."""
    return {
        "passages": len(collection),
        "indexes": {name: dict(one.settings) for name, one in collection.families.items()},
        "encoders": {name: dict(one.settings) for name, one in collection.encoders.items()},
    }


def _show(
    as_json: bool, dataset: BeirFolder, collection: Collection, evaluation: Evaluation
) -> None:
    if as_json:
        for name in evaluation.systems:
            json_line(entry(dataset.name, evaluation, name))
        return
    shown = table(evaluation)
    size = f"{len(evaluation.queries):,} queries, {len(collection):,} passages"
    print_table(shown.header, shown.rows, title=f"{dataset.name}: {size}")
    for note in shown.notes:
        notice(f"note: {note}")
