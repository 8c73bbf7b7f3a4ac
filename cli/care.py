"""The verbs that look after a collection: info, verify, log, compact, restore."""

import argparse
from collections.abc import Mapping
from typing import Any

from ..errors import Damaged
from ..indexes.collection import Collection
from .notices import announce_compilation
from .output import json_line, notice, out, print_table


def info(arguments: argparse.Namespace) -> None:
    """Print what a collection holds."""
    collection = Collection.open(arguments.collection)
    record = _description(collection)
    if arguments.json:
        json_line(record)
        return
    out().print(f"{collection.folder}", style="bold", markup=False)
    passages, segments = record["passages"], record["segments"]
    text = f"{passages:,} passages in {segments} segment{'s' if segments != 1 else ''}"
    out().print(f"{text}, generation {record['generation']}", markup=False)
    rows = [
        (name, _kind(one), one["encoder"], f"{one['bytes']:,}", f"{one['bytes_per_passage']:,.0f}")
        for name, one in record["indexes"].items()
    ]
    print_table(("index", "kind", "encoder", "bytes", "a passage"), rows)
    for name, value in record["counts"].items():
        out().print(f"{name:<10} {value:,}", markup=False)


def verify(arguments: argparse.Namespace) -> None:
    """Check every file; damage ends in exit code 4 with a line for each file."""
    report = Collection.verify(arguments.collection, deep=arguments.deep)
    for file in report.damaged:
        if arguments.json:
            json_line({"file": file.path, "problem": file.problem})
        else:
            out().print(f"{file.path}: {file.problem}", markup=False)
    if not report.ok:
        raise Damaged(
            f"{len(report.damaged)} of {len(report.files)} files are damaged",
            where=str(arguments.collection),
            remedy=report.remedy,
        )
    if arguments.json:
        json_line({"ok": True, "files": len(report.files), "bytes": report.bytes})
    else:
        checked = "sha256" if arguments.deep else "crc32"
        text = f"ok: {len(report.files)} files, {report.bytes:,} bytes, every {checked} as written"
        out().print(text, markup=False)


def log(arguments: argparse.Namespace) -> None:
    """Print the generations that can still be opened, newest first."""
    manifests = Collection.open(arguments.collection, check="size").log()
    records = [
        {
            "generation": one.generation,
            "created": one.created,
            "created_by": one.created_by,
            "passages": one.rows - one.deleted,
            "deleted": one.deleted,
            "segments": len(one.segments),
            "bytes": one.nbytes,
        }
        for one in manifests
    ]
    if arguments.json:
        for record in records:
            json_line(record)
        return
    headers = tuple(records[0])
    print_table(headers, [tuple(_shown(value) for value in one.values()) for one in records])


def compact(arguments: argparse.Namespace) -> None:
    """Merge the segments into one without what was deleted."""
    announce_compilation()
    before = Collection.open(arguments.collection)
    bytes_before = before.log()[0].nbytes
    after = before.compact()
    record = {
        "generation": after.generation,
        "segments_before": before.segments,
        "segments": after.segments,
        "bytes_before": bytes_before,
        "bytes": after.log()[0].nbytes,
    }
    if arguments.json:
        json_line(record)
        return
    merged = f"{before.segments} segments are now {after.segments}"
    sizes = f"{bytes_before:,} bytes are now {record['bytes']:,}"
    out().print(f"{merged}, {sizes} (generation {after.generation})", markup=False)


def restore(arguments: argparse.Namespace) -> None:
    """Make an earlier generation the newest again."""
    collection = Collection.restore(arguments.collection, to=arguments.to)
    if arguments.json:
        json_line({"generation": collection.generation, "restored": arguments.to})
    else:
        notice(f"generation {collection.generation} has the content of {arguments.to}")


def _description(collection: Collection) -> dict[str, Any]:
    passages = len(collection)
    indexes = {
        name: {
            "kind": family.kind,
            "settings": dict(family.settings),
            "encoder": collection.encoders[name].name if name in collection.encoders else "",
            "bytes": collection.indexes[name].nbytes,
            "bytes_per_passage": collection.indexes[name].nbytes / max(1, passages),
        }
        for name, family in collection.families.items()
    }
    counts = collection.note.get("counts")
    return {
        "collection": str(collection.folder),
        "generation": collection.generation,
        "passages": passages,
        "segments": collection.segments,
        "indexes": indexes,
        "counts": dict(counts) if isinstance(counts, dict) else {},
    }


def _kind(index: Mapping[str, Any]) -> str:
    """The family of an index, and how it searches where that was chosen."""
    search = index["settings"].get("search", "exact")
    return str(index["kind"]) if search in ("auto", "exact") else f"{index['kind']}, {search}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def prune(arguments: argparse.Namespace) -> None:
    """Delete the passages of lowest quality, and say how many they were."""
    announce_compilation()
    from ..pipeline.prune import prune as leave_out

    after, gone = leave_out(
        arguments.collection, arguments.share, by=arguments.by, model=arguments.model
    )
    if arguments.json:
        json_line({"generation": after.generation, "pruned": gone, "passages": len(after)})
        return
    left, restored = "passage" if gone == 1 else "passages", after.generation - 1
    out().print(
        f"{gone:,} {left} left out, {len(after):,} kept, generation {after.generation}; "
        f"`ragstone restore {after.folder} --to {restored}` takes it back",
        markup=False,
    )
