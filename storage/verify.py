"""Verification: what in a folder is damaged, and which generations are whole."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import Damaged, RagstoneError
from .disk import MISSING, Disk
from .files import Check, check_file, in_threads
from .folder import FORMAT, check_format, generations, manifest_path, no_generation, read_manifest
from .garbage import leftovers
from .manifest import UUID, FileRecord, Manifest

_SEGMENT = re.compile(rf"(?:segments/|deletes/\d+-)({UUID.pattern})")


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file, by its path in the folder; `problem` is empty when it is what was written."""

    path: str
    bytes: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a folder.

    generation: the newest, damaged or not.  good: the generations that are whole, newest first.
    bytes: how many were read.  unused: paths that the next commit will remove.
    """

    folder: Path
    generation: int
    files: tuple[FileReport, ...]
    good: tuple[int, ...]
    bytes: int
    unused: tuple[str, ...]

    @property
    def damaged(self) -> tuple[FileReport, ...]:
        """The files that are not what was written."""
        return tuple(file for file in self.files if file.problem)

    @property
    def ok(self) -> bool:
        return not self.damaged

    @property
    def remedy(self) -> str:
        """What to do, in one sentence; empty when all is well or the newest generation is."""
        if self.ok or self.generation in self.good:
            return ""
        return _remedy(self.folder, self.good[0] if self.good else None)


def verify(disk: Disk, folder: Path, *, deep: bool) -> Report:
    """Checks every file of every kept generation: crc32, or sha256 if `deep`.

    Damage is reported, not raised. Raises UsageError for what is no ragstone folder.
    """
    while True:
        numbers = generations(disk, folder)
        report = _examine(disk, folder, numbers, "sha256" if deep else "crc")
        gone = any(file.problem == "missing" for file in report.files)
        if not gone or generations(disk, folder) == numbers:
            return report  # else a commit removed what was about to be read


def explained(disk: Disk, folder: Path, error: Damaged, generation: int, check: Check) -> Damaged:
    """The error of a damaged file with its segment, its generation and the way out."""
    segment = _SEGMENT.search(error.where)
    where = f"segment {segment[1]}, generation" if segment else "generation"
    good = next(_good(disk, folder, generation, check), None)
    return Damaged(
        f"{error.what} ({where} {generation})", where=error.where, remedy=_remedy(folder, good)
    )


def _good(disk: Disk, folder: Path, but: int, check: Check) -> Iterator[int]:
    """The generations that are whole, newest first, `but` one left out."""
    for number in reversed(generations(disk, folder)):
        manifest, _ = _read(disk, folder, number)
        if number != but and manifest is not None:
            if not any(_problem(disk, folder, entry, check) for entry in manifest.paths()):
                yield number


def _remedy(folder: Path, good: int | None) -> str:
    if good is None:
        return (
            f"No other kept generation is whole. Run: ragstone verify {folder}; then bring the "
            "file back from a copy, or index again"
        )
    return (
        f"Last good generation: {good}. Run: ragstone verify {folder}; "
        f"ragstone restore {folder} --to {good}"
    )


def _examine(disk: Disk, folder: Path, numbers: list[int], check: Check) -> Report:
    files = [FileReport(FORMAT, 0, _format_problem(disk, folder))]
    if not numbers:
        raise no_generation(disk, folder)
    manifests: list[Manifest] = []
    for number in reversed(numbers):
        manifest, problem = _read(disk, folder, number)
        files.append(FileReport(manifest_path(folder, number).name, 0, problem))
        manifests += [manifest] if manifest else []
    entries = list(dict.fromkeys(entry for one in manifests for entry in one.paths()))
    found = in_threads(lambda entry: _problem(disk, folder, entry, check), entries)
    problems = dict(zip(entries, found, strict=True))
    files += (FileReport(path, file.bytes, problems[path, file]) for path, file in entries)
    good = (one.generation for one in manifests if not any(problems[e] for e in one.paths()))
    unused = _unused(disk, folder, manifests) if len(manifests) == len(numbers) else ()
    size = sum(file.bytes for _, file in entries)
    return Report(folder, numbers[-1], tuple(files), tuple(good), size, unused)


def _format_problem(disk: Disk, folder: Path) -> str:
    try:
        check_format(disk, folder)
    except Damaged as error:
        return error.what
    return ""


def _read(disk: Disk, folder: Path, generation: int) -> tuple[Manifest | None, str]:
    try:
        return read_manifest(disk, folder, generation), ""
    except MISSING:
        return None, "missing"
    except RagstoneError as error:
        return None, error.what


def _problem(disk: Disk, folder: Path, entry: tuple[str, FileRecord], check: Check) -> str:
    path, file = entry
    try:
        check_file(disk, folder / path, file, check)
    except MISSING:
        return "missing"
    except RagstoneError as error:
        return error.what
    return ""


def _unused(disk: Disk, folder: Path, manifests: list[Manifest]) -> tuple[str, ...]:
    with suppress(*MISSING):
        paths = leftovers(disk, folder, manifests)
        return tuple(sorted(str(path.relative_to(folder)) for path in paths))
    return ()
