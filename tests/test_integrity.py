"""A small collection of every index family: no damage goes unnoticed, and all of it heals.

Families come from the contract suite: one that is added there is covered here.
"""

import hashlib
import random
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from ragstone.cli import main
from ragstone.errors import Damaged, Mismatch
from ragstone.indexes.collection import Collection
from ragstone.records import Passage
from ragstone.storage import LOCAL, Disk, Store
from ragstone.storage.files import check_file
from ragstone.storage.folder import manifest_path
from ragstone.storage.manifest import decode

from .test_contract import CASES, ENOUGH, Case

SEED = 11


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here: the medium need not confirm every commit."""
    monkeypatch.setattr(Disk, "sync", lambda *_: None)
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: None)


@pytest.fixture(params=ENOUGH)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def build(folder: Path, case: Case) -> Path:
    """Generations 2 to 4: passages, more of them, and two deleted; the last two are kept."""
    rng = np.random.default_rng(SEED)
    with Collection.create(folder, {"one": case.family}).writer() as writer:
        for first in (0, 4):
            passages = [
                Passage(f"p{i}", f"text {i}", "", {"n": i}) for i in range(first, first + 4)
            ]
            writer.add(passages, {"one": case.encode(rng, 4)})
            writer.commit(note={})
        writer.delete(["p1", "p6"])
        writer.commit(note={})
    return folder


def answers(folder: Path, case: Case, generation: int | None = None) -> str:
    """A digest of all that a generation holds and finds."""
    collection = Collection.open(folder, generation=generation)
    found = collection.indexes["one"].search(case.encode(np.random.default_rng(1), 3), 8)
    held = repr([(one.id, one.text, dict(one.metadata)) for one in collection.passages])
    raw = held.encode() + found.numbers.tobytes() + found.scores.tobytes()
    return hashlib.sha256(raw).hexdigest()


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "write.lock")


def needed(folder: Path) -> set[Path]:
    """The files that opening the newest generation reads."""
    store = Store.open(folder)
    head = {folder / path for path, _ in store.manifest.paths()}
    return head | {folder / "FORMAT", folder / f"manifest-{store.generation:012d}.json"}


def put(path: Path, data: bytes) -> None:
    """Other bytes as a new file: a map of the old one must not change."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def check_found(folder: Path, path: Path, head: set[Path], *, deep: bool) -> None:
    """Opening finds it if the newest generation needs the file; verifying finds it anyway."""
    if path in head:
        with pytest.raises((Damaged, Mismatch)) as caught:
            Collection.open(folder)
        assert caught.value.where == str(path)
        assert caught.value.remedy
    if deep or path not in head:
        try:
            report = Collection.verify(folder, deep=True)
            assert [one.path for one in report.damaged] == [str(path.relative_to(folder))]
        except Mismatch:
            assert path.name == "FORMAT"  # the 1 became another digit


def check_flips(folder: Path, case: Case, places: Iterator[tuple[Path, int]]) -> int:
    before, head, count = answers(folder, case), needed(folder), 0
    originals = {path: path.read_bytes() for path in files(folder)}
    for path, bit in places:
        data = bytearray(originals[path])
        data[bit // 8] ^= 1 << bit % 8
        put(path, bytes(data))
        check_found(folder, path, head, deep=count % 16 == 0)
        put(path, originals[path])
        count += 1
    assert answers(folder, case) == before
    return count


def test_a_flipped_bit_is_found(case: Case, tmp_path: Path) -> None:
    """Three bits of every file, wherever they are."""
    folder = build(tmp_path / "c", case)
    draw = random.Random(SEED)
    places = ((p, draw.randrange(8 * p.stat().st_size)) for p in filled(folder) for _ in range(3))
    assert check_flips(folder, case, iter(list(places))) >= 60


@pytest.mark.long
def test_a_flipped_bit_of_every_byte_is_found(case: Case, tmp_path: Path) -> None:
    folder, draw = build(tmp_path / "c", case), random.Random(SEED)
    sizes = ((path, path.stat().st_size) for path in filled(folder))
    places = [(path, 8 * at + draw.randrange(8)) for path, size in sizes for at in range(size)]
    assert check_flips(folder, case, iter(places)) > 5_000


@pytest.mark.long
def test_every_flipped_bit_is_found(case: Case, tmp_path: Path) -> None:
    """By the very checks that opening makes of a file, without what is around them."""
    folder = build(tmp_path / "c", case)
    store, count = Store.open(folder), 0
    for name, record in store.manifest.paths():
        data = (folder / name).read_bytes()
        for flipped in every_bit(data):
            put(tmp_path / "file", flipped)
            with pytest.raises(Damaged, match="crc32"):
                check_file(LOCAL, tmp_path / "file", record, "crc")
            count += 1
    for generation in (3, 4):
        for flipped in every_bit(manifest_path(folder, generation).read_bytes()):
            with pytest.raises(Damaged):
                decode(flipped, generation, "here")
            count += 1
    assert count > 40_000


def every_bit(data: bytes) -> Iterator[bytes]:
    changed = bytearray(data)
    for bit in range(8 * len(data)):
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
        changed[bit // 8] ^= 1 << bit % 8


def filled(folder: Path) -> list[Path]:
    return [path for path in files(folder) if path.stat().st_size]


def test_a_file_that_is_cut_or_longer_is_found(case: Case, tmp_path: Path) -> None:
    folder = build(tmp_path / "c", case)
    head = needed(folder)
    for path in files(folder):
        original = path.read_bytes()
        size = len(original)
        for other in {original[: size // 2], original[:-1], original[:128], b"", bytes(size)} | {
            original + b"\0",
            original * 2 or b"\n",
        }:
            if other != original:
                put(path, other)
                check_found(folder, path, head, deep=False)
        put(path, original)


def test_two_files_that_changed_places_are_found(case: Case, tmp_path: Path) -> None:
    folder = build(tmp_path / "c", case)
    originals = {path: path.read_bytes() for path in files(folder)}
    pairs = [
        (one, other)
        for one, other in permutations(originals, 2)
        if one < other and originals[one] != originals[other]
    ]
    for one, other in random.Random(SEED).sample(pairs, 40):
        put(one, originals[other])
        put(other, originals[one])
        if (named := blamed(folder)) is not None:
            assert named in (str(one), str(other))
        found = {folder / file.path for file in damaged(folder)}
        # A damaged manifest cannot tell what the files should be that only it knows.
        assert found == {one, other} or (found < {one, other} and "manifest" in found.pop().name)
        put(one, originals[one])
        put(other, originals[other])


def blamed(folder: Path) -> str | None:
    """The file that opening names, if it minds."""
    try:
        Collection.open(folder)
    except (Damaged, Mismatch) as error:
        return error.where
    return None


def damaged(folder: Path):
    return Collection.verify(folder, deep=True).damaged


def test_a_splice_of_two_collections_is_found(case: Case, tmp_path: Path) -> None:
    """Each file in turn is that of another collection with the same names and other content."""
    mine, other = build(tmp_path / "c", case), build(tmp_path / "d", case)
    with Collection.open(other).writer(duplicates="replace") as writer:
        writer.add(
            [Passage("p0", "another text")], {"one": case.encode(np.random.default_rng(5), 1)}
        )
        writer.commit(note={})
    strangers = {stem(path): path.read_bytes() for path in files(other)}
    head, spliced = needed(mine), 0
    for path in files(mine):
        stranger, original = strangers.get(stem(path), b""), path.read_bytes()
        if stranger and stranger != original and not path.name.startswith("manifest"):
            put(path, stranger)
            check_found(mine, path, head, deep=True)
            put(path, original)
            spliced += 1
    assert spliced >= 3
    manifest = mine / "manifest-000000000004.json"
    put(manifest, (other / manifest.name).read_bytes())
    with pytest.raises(Damaged, match="missing"):  # its segments are not here
        Collection.open(mine)


def stem(path: Path) -> str:
    """What a file is, whatever its segment is called."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", path.name)


def test_a_splice_of_two_generations_is_found(case: Case, tmp_path: Path) -> None:
    folder = build(tmp_path / "c", case)
    old, new = (folder / f"manifest-{generation:012d}.json" for generation in (3, 4))
    original = new.read_bytes()
    put(new, old.read_bytes())
    check_found(folder, new, {new}, deep=True)
    put(new, original)
    bits = sorted(folder.glob("deletes/*"))[0]
    put(bits, bytes(len(bits.read_bytes())))  # nothing is deleted, as it was in generation 3
    check_found(folder, bits, {bits}, deep=True)


def commands(message: str) -> list[list[str]]:
    """The command lines that a message names, as arguments of the program."""
    said = re.findall(r"ragstone ((?:verify|restore|log|compact) [^;]*?)(?=;|\. |$)", message)
    return [shlex.split(one) for one in said]


def test_the_commands_of_the_message_heal(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage to what only the newest generation has: back to the one before, as promised."""
    for own in ("manifest-000000000004.json", "deletes"):
        folder = build(tmp_path / own, case)
        before = answers(folder, case, generation=3)
        path = sorted((folder / own).iterdir())[0] if own == "deletes" else folder / own
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        put(path, bytes(data))
        with pytest.raises(Damaged) as caught:
            Collection.open(folder)
        [verify, restore] = commands(str(caught.value))
        assert (verify[0], restore) == ("verify", ["restore", str(folder), "--to", "3"])
        assert main(verify) == 4
        assert str(path.relative_to(folder)) in (said := capsys.readouterr()).out + said.err
        assert main(restore) == 0
        assert answers(folder, case) == before
        compacted = Collection.open(folder).compact()
        assert len(compacted) == 8
        assert main(verify) == 0 or own == "deletes"


def test_a_copy_of_the_file_heals_what_no_generation_can(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage to what both generations share, and to FORMAT, which has no generation."""
    folder = build(tmp_path / "c", case)
    before = answers(folder, case)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (*sorted(folder.glob("segments/*/*"))[::5], folder / "FORMAT"):
        put(path, path.read_bytes() + b"x")
        with pytest.raises(Damaged) as caught:
            Collection.open(folder)
        assert "copy" in caught.value.remedy
        for command in commands(str(caught.value)):
            assert main(command) == 4
        capsys.readouterr()
        put(path, (tmp_path / "copy" / path.relative_to(folder)).read_bytes())
        assert answers(folder, case) == before
