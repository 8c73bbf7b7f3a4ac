"""The words that the command line understands."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from .. import __version__
from .wording import EPILOG, EXAMPLES, USING, WITH

Run: TypeAlias = Callable[[argparse.Namespace], None]


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar; each verb's function is imported only when it runs."""
    parser = argparse.ArgumentParser(
        prog="ragstone",
        description="From documents to ranked passages, cited answers and numbers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ragstone {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _demo(verbs)
    _index(verbs)
    _extend(verbs)
    _kinds(verbs)
    _search(verbs)
    _ask(verbs)
    _eval(verbs)
    _train(verbs)
    _care(verbs)
    return parser


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _verb(verbs: Verbs, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    examples = f"for example:\n  {EXAMPLES[name]}" if name in EXAMPLES else None
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _demo(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .demo import demo

        demo(arguments.folder)

    verb = _verb(verbs, "demo", run, "index the Python language reference, search it and ask it")
    verb.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("ragstone-demo"),
        help="where to put the documents and the collection (default: %(default)s)",
    )


def _index(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .index import index

        index(arguments)

    verb = _verb(verbs, "index", run, "read documents and make them searchable")
    verb.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder of .txt .md .html .pdf .py files, a BEIR folder, a KILT "
        "knowledge source, a .jsonl or a .tsv file",
    )
    verb.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="COLLECTION",
        help="the folder to build, such as handbook.ragstone",
    )
    verb.add_argument(
        "--with",
        dest="using",
        type=_names,
        metavar="INDEXES",
        help=WITH + " (default: bm25,dense where the extra 'dense' is installed, else bm25)",
    )
    _encoders(verb)
    verb.add_argument(
        "--chunk",
        type=_count,
        metavar="WORDS",
        help="cut documents into passages of at most WORDS words, 0 for whole "
        "documents (default: 150 for files of text, else 0)",
    )
    existing = verb.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume",
        dest="mode",
        action="store_const",
        const="resume",
        help="continue an interrupted build",
    )
    existing.add_argument(
        "--update",
        dest="mode",
        action="store_const",
        const="update",
        help="add to an existing collection, replacing documents by id",
    )
    verb.add_argument(
        "--duplicates",
        choices=("error", "replace", "keep"),
        help="a second document with the same id: refuse it, let it replace the "
        "first, or keep the first (default: error; replace with --update)",
    )
    verb.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="a document that cannot be read: stop, or skip it and write it to "
        "COLLECTION.rejects.jsonl (default: %(default)s)",
    )
    verb.add_argument(
        "--max-errors",
        type=_count,
        metavar="N",
        help="with --on-error skip: stop after N rejected documents",
    )
    verb.add_argument(
        "--memory",
        type=_count,
        default=256,
        metavar="MB",
        help="write a segment whenever this much is held (default: %(default)s)",
    )
    verb.set_defaults(mode="create")
    _json(verb)


def _extend(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .index import extend

        extend(arguments)

    verb = _verb(verbs, "extend", run, "give a collection more indexes over its passages")
    _collection(verb)
    verb.add_argument(
        "--with", dest="using", type=_names, required=True, metavar="INDEXES", help=WITH
    )
    _encoders(verb)
    _json(verb)


def _kinds(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .kinds import kinds

        kinds(arguments)

    verb = _verb(verbs, "kinds", run, "the kinds of indexes, their variants and options")
    verb.add_argument(
        "kind", nargs="?", metavar="KIND", help="one of them, such as dense: what its options mean"
    )
    _json(verb)


def _search(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .search import search

        search(arguments)

    verb = _verb(verbs, "search", run, "find the best passages for a query")
    _collection(verb)
    verb.add_argument("query", metavar="QUERY")
    _finding(verb, k=10, k_help="how many passages to show (default: %(default)s)")
    _json(verb)


def _ask(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .search import ask

        ask(arguments)

    verb = _verb(verbs, "ask", run, "answer a question from the collection, with citations")
    _collection(verb)
    verb.add_argument("question", metavar="QUESTION")
    _finding(verb, k=10, k_help="how many passages to read (default: %(default)s)")
    _json(verb)


def _eval(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .evaluate import run as evaluate

        evaluate(arguments)

    verb = _verb(verbs, "eval", run, "measure retrieval on a BEIR folder")
    verb.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv",
    )
    verb.add_argument(
        "--using",
        type=_names,
        metavar="SYSTEMS",
        help=f"what to measure, each {USING} (default: every index, and hybrid)",
    )
    verb.add_argument(
        "--with",
        dest="indexes",
        type=_names,
        metavar="INDEXES",
        help=WITH + " (default: those that --using names)",
    )
    _encoders(verb)
    verb.add_argument(
        "--split", default="test", help="which judgements: qrels/SPLIT.tsv (default: %(default)s)"
    )
    verb.add_argument(
        "-k", type=_count, default=1000, metavar="K", help="hits a query (default: %(default)s)"
    )
    verb.add_argument(
        "--keep-own-ids",
        action="store_true",
        help="count a document with the id of the query as a hit, as where queries and documents "
        "are numbered apart (BEIR does not, since some of its queries are documents)",
    )
    verb.add_argument(
        "--measures",
        type=_names,
        metavar="NAMES",
        help="for example nDCG@10,R@100,MRR@10,MAP (the default)",
    )
    verb.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where the index, the run files and the report go "
        "(default: ragstone-eval/NAME-OF-SOURCE); an index found there is used again",
    )
    _json(verb)


def _train(verbs: Verbs) -> None:
    def run(arguments: argparse.Namespace) -> None:
        from .train import train

        train(arguments)

    verb = _verb(verbs, "train", run, "learn something for an index of a collection")
    verb.add_argument(
        "what",
        choices=("adapter", "tower", "score-map"),
        metavar="WHAT",
        help="adapter: a map on the vectors of queries, from judged ones; tower: a light encoder "
        "of queries that imitates the full one; score-map: where relevance ends. Ask by it with "
        "--using INDEX:WHAT",
    )
    _collection(verb)
    verb.add_argument("source", type=Path, metavar="SOURCE", help="a BEIR folder: its queries, and "
                      "but for a tower its judgements")  # fmt: skip
    verb.add_argument(
        "--index",
        default="dense",
        metavar="NAME",
        help="which index, one of dense vectors (default: %(default)s)",
    )
    verb.add_argument(
        "--split", default="train", help="which judgements: qrels/SPLIT.tsv (default: %(default)s)"
    )
    _json(verb)


def _care(verbs: Verbs) -> None:
    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        def run(arguments: argparse.Namespace) -> None:
            from . import care

            getattr(care, name)(arguments)

        parser = _verb(verbs, name, run, summary)
        _collection(parser)
        _json(parser)
        return parser

    verb("info", "what a collection holds")
    verb("verify", "check every file of a collection against what was written").add_argument(
        "--deep", action="store_true", help="compare sha256 as well as crc32"
    )
    verb("log", "the generations that are kept")
    verb("compact", "merge the segments and drop what was deleted")
    prune = verb("prune", "leave out the passages that probably no query will want")
    prune.add_argument(
        "--share",
        type=float,
        required=True,
        metavar="P",
        help="how many to leave out, as a share of all passages, such as 0.1",
    )
    prune.add_argument(
        "--by",
        default="distance",
        choices=("distance", "noise", "model"),
        help="how quality is estimated: by the distance of a passage's words from the "
        "collection's, by repeated words, or by a sequence classifier (default: %(default)s)",
    )
    prune.add_argument("--model", metavar="NAME", help="the classifier, with --by model")
    verb("restore", "go back to an earlier generation").add_argument(
        "--to", type=_count, required=True, metavar="N", help="a generation that `log` shows"
    )


def _collection(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("collection", type=Path, metavar="COLLECTION", help="its folder")


def _finding(verb: argparse.ArgumentParser, *, k: int, k_help: str) -> None:
    verb.add_argument("-k", type=_count, default=k, metavar="K", help=k_help)
    verb.add_argument(
        "--using",
        metavar="NAME",
        help=USING + " (default: hybrid where there are several)",
    )
    verb.add_argument(
        "--filter",
        metavar="JSON",
        help='a condition on metadata, such as \'{"year": {"$gte": 2020}}\'',
    )


def _encoders(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[INDEX=]NAME",
        help="the encoder of an index: a folder, a Hugging Face name, or 'hashing' (default of "
        "dense and late: the embedded all-MiniLM-L6-v2); INDEX= where several indexes take one",
    )
    verb.add_argument(
        "--set",
        dest="options",
        action="append",
        default=[],
        metavar="INDEX.OPTION=VALUE",
        help="an option of an encoder or an index, such as dense.max_length=512; `ragstone kinds "
        "KIND` lists them",
    )


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="one JSON object a line")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


_count.__name__ = "count"  # argparse names the type in its message
