"""Every damaged byte is found, and the message names the file and the way out."""

import json
import random
import re
import shutil

import numpy as np
import pytest

from ragstone.errors import Damaged, DiskError, Mismatch, RagstoneError, UsageError
from ragstone.storage import Store
from ragstone.storage.faults import FaultyDisk


def build(folder, generations=3):
    """A tiny store: generation 2 adds a segment; each further one deletes a row of it."""
    store = Store.create(folder, settings={"k1": 0.9}, disk=FaultyDisk())
    with store.begin() as change:
        with change.new_segment(11) as segment:
            part = segment.part("p")
            part.array("a", np.arange(4, dtype=np.uint8).reshape(2, 2))
            part.blob("b", b"text")
            part.blob("none", b"")
        store = change.commit(note={"read": 11})
        for row in range(generations - 2):
            change.delete(segment.name, np.array([row]))
            store = change.commit()
    return store


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "write.lock")


def damage(path, data):
    """Puts other bytes in place of a file, as a new file: a map of the old one must not change."""
    path.unlink()
    path.write_bytes(data)


def check_found(folder, path, head):
    """Opening finds it if the newest generation needs the file, verifying finds it anyway."""
    if path.name in head:
        with pytest.raises((Damaged, Mismatch)) as caught:
            Store.open(folder)
        assert caught.value.where == str(path)
        assert caught.value.remedy
    else:
        assert Store.open(folder).generation == 3
    try:
        report = Store.verify(folder, deep=True)
        assert [file.path for file in report.damaged] == [str(path.relative_to(folder))]
    except Mismatch:
        assert path.name == "FORMAT"  # the 1 became another digit


def needed(store):
    paths = {path.rsplit("/")[-1] for path, _ in store.manifest.paths()}
    return {*paths, "FORMAT", f"manifest-{store.generation:012d}.json"}


def flips(path, bits):
    original = path.read_bytes()
    for place in range(len(original)):
        for bit in bits(place):
            data = bytearray(original)
            data[place] ^= 1 << bit
            yield data
    damage(path, original)


def check_flips(folder, bits):
    store = build(folder)
    head, count = needed(store), 0
    assert len(files(folder)) == 7
    for path in files(folder):
        for data in flips(path, bits):
            damage(path, data)
            check_found(folder, path, head)
            count += 1
    assert Store.verify(folder, deep=True).ok
    return count


def test_every_byte_is_watched(tmp_path):
    """One random bit of every byte of every file."""
    draw = random.Random(4)
    assert check_flips(tmp_path / "store", lambda _: [draw.randrange(8)]) > 1800


@pytest.mark.long
def test_every_bit_is_watched(tmp_path):
    assert check_flips(tmp_path / "store", lambda _: range(8)) > 14_000


def test_every_truncation_and_extension_is_found(tmp_path):
    folder = tmp_path / "store"
    head = needed(build(folder))
    for path in files(folder):
        original = path.read_bytes()
        lengths = {0, 1, *range(0, len(original), 7), len(original) - 1} - {len(original), -1}
        for changed in [original[:length] for length in lengths if length >= 0] + [
            original + b"\0",
            original + original,
            bytes(len(original)),
        ]:
            if changed != original:
                damage(path, changed)
                check_found(folder, path, head)
        damage(path, original)


def test_a_missing_file_is_named(tmp_path):
    folder = tmp_path / "store"
    store = build(folder)
    for path in files(folder):
        original = path.read_bytes()
        path.unlink()
        if path.name == "manifest-000000000003.json":
            assert Store.open(folder).generation == 2  # as if it had never been committed
        elif path.name in needed(store):
            with pytest.raises(Damaged, match="missing") as caught:
                Store.open(folder)
            assert caught.value.where == str(path)
        path.write_bytes(original)


def test_swapped_files_are_found(tmp_path):
    store, other = build(tmp_path / "store", 4), build(tmp_path / "other", 4)
    mine, theirs = files(store.folder), files(other.folder)
    for path, stranger in [(p, q) for p in mine for q in [*mine, *theirs] if p.suffix == q.suffix]:
        if path.read_bytes() != stranger.read_bytes():
            original = path.read_bytes()
            damage(path, stranger.read_bytes())
            damaged = [file.path for file in Store.verify(store.folder, deep=True).damaged]
            if path.name == stranger.name:  # the manifest of the other store: its files are missing
                assert damaged and all(store.segments[0].name not in one for one in damaged)
            else:
                assert damaged == [str(path.relative_to(store.folder))]
            damage(path, original)


def test_the_message_names_segment_generation_and_the_last_good_one(tmp_path):
    folder = tmp_path / "store"
    store = build(folder, 4)
    [tombstones] = folder.glob("deletes/000000000004-*")
    damage(tombstones, bytes(2))
    with pytest.raises(Damaged) as caught:
        Store.open(folder)
    assert str(caught.value) == (
        f"{tombstones}: crc32 mismatch (segment {store.segments[0].name}, generation 4). "
        f"Last good generation: 3. Run: ragstone verify {folder}; ragstone restore {folder} --to 3"
    )
    report = Store.verify(folder)
    assert (report.ok, report.good, report.remedy) == (False, (3,), caught.value.remedy)


def test_no_good_generation_is_said_when_both_share_the_damaged_file(tmp_path):
    folder = tmp_path / "store"
    build(folder, 4)
    [path] = folder.rglob("p.b.bin")
    damage(path, b"tent")
    with pytest.raises(Damaged, match="No other kept generation is whole"):
        Store.open(folder)
    assert Store.verify(folder).good == ()
    with pytest.raises(Damaged):
        Store.restore(folder, to=3)


def test_a_damaged_head_is_refused_and_restored_away(tmp_path):
    folder = tmp_path / "store"
    build(folder, 4)
    head = folder / "manifest-000000000004.json"
    damage(head, head.read_bytes().replace(b'"parent":3', b'"parent":2'))
    with pytest.raises(Damaged, match="sha256 mismatch .generation 4.. Last good generation: 3"):
        Store.open(folder)
    old = Store.open(folder, generation=3)
    with pytest.raises(RagstoneError), old.begin():
        pass
    restored = Store.restore(folder, to=3)
    assert (restored.generation, restored.manifest.parent) == (5, 3)
    assert restored.segments[0].deleted.tolist() == old.segments[0].deleted.tolist()
    assert [one.generation for one in restored.log()] == [5, 3]
    with restored.begin() as change:
        change.delete(restored.segments[0].name, np.array([10]))
        change.commit()
    assert Store.verify(folder, deep=True).ok
    assert [one.generation for one in Store.open(folder).log()] == [6, 5]


def resigned(path, change):
    """The manifest after `change`, with a checksum that fits: what a forger would write."""
    import hashlib

    content = json.loads(path.read_bytes())
    del content["sha256"]
    change(content)
    dump = {"sort_keys": True, "separators": (",", ":")}
    digest = hashlib.sha256(json.dumps(content, **dump).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, **dump).encode()


FORGERIES = {
    "another generation": lambda m: m.update(generation=7),
    "unknown field": lambda m: m.update(more=1),
    "missing field": lambda m: m.pop("note"),
    "bool for a count": lambda m: m["segments"][0].update(rows=True),
    "negative rows": lambda m: m["segments"][0].update(rows=-1),
    "segment outside": lambda m: m["segments"][0].update(name="../../etc"),
    "segment twice": lambda m: m["segments"].append(m["segments"][0]),
    "part outside": lambda m: m["segments"][0]["parts"].update(
        {"../x": m["segments"][0]["parts"]["p"]}
    ),
    "file outside": lambda m: m["segments"][0]["parts"]["p"]["files"].update(
        {"/x": m["segments"][0]["parts"]["p"]["files"]["b"]}
    ),
    "object array": lambda m: m["segments"][0]["parts"]["p"]["files"]["a"].update(dtype="|O"),
    "huge shape": lambda m: m["segments"][0]["parts"]["p"]["files"]["a"].update(
        shape=[2**62, 2**62]
    ),
    "other shape": lambda m: m["segments"][0]["parts"]["p"]["files"]["a"].update(shape=[4]),
    "deletes outside": lambda m: m["segments"][0]["deletes"].update(name="../FORMAT"),
    "other count": lambda m: m["segments"][0]["deletes"].update(count=2),
    "too many": lambda m: m["segments"][0]["deletes"].update(count=12),
    "more rows": lambda m: m["segments"][0].update(rows=17),
    "segments no list": lambda m: m.update(segments={}),
    "parts a list": lambda m: m["segments"][0].update(parts=[]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_manifest_with_a_right_checksum_is_still_checked(tmp_path, name):
    folder = tmp_path / "store"
    build(folder)
    head = folder / "manifest-000000000003.json"
    damage(head, resigned(head, FORGERIES[name]))
    with pytest.raises(Damaged, match="Last good generation: 2"):
        Store.open(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b.replace(b'":', b'": '),
        lambda b: b + b"\n",
        lambda b: b.replace(b"0.9", b"9e-1"),
        lambda b: b[:-1] + b',"sha256":' + b[-67:],
        lambda b: b"[" * 100_000,
        lambda b: b"null",
        lambda b: b"\xff" + b,
        lambda b: b.replace(b"0.9", b"NaN"),
    ],
)
def test_only_canonical_bytes_are_a_manifest(tmp_path, spoil):
    folder = tmp_path / "store"
    build(folder)
    head = folder / "manifest-000000000003.json"
    damage(head, spoil(head.read_bytes()))
    with pytest.raises(Damaged, match="manifest of generation 3"):
        Store.open(folder)


def test_a_newer_format_is_refused_naming_both(tmp_path):
    folder = tmp_path / "store"
    build(folder)
    head = folder / "manifest-000000000003.json"
    original = head.read_bytes()
    damage(head, resigned(head, lambda m: m.update(format=2, more="x")))
    with pytest.raises(Mismatch, match="format 2; this version reads format 1"):
        Store.open(folder)
    damage(head, original)
    damage(folder / "FORMAT", b"ragstone 12\n")
    for call in (Store.open, Store.verify, lambda folder: Store.restore(folder, to=2)):
        with pytest.raises(Mismatch, match="format 12; this version reads format 1.*pip install"):
            call(folder)


def test_what_is_no_store_is_said_to_be_none(tmp_path):
    for path in (tmp_path / "absent", tmp_path, tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match="no ragstone folder.*ragstone index"):
            Store.open(path)


def test_all_manifests_gone_is_damage(tmp_path):
    folder = tmp_path / "store"
    build(folder)
    for path in folder.glob("manifest-*"):
        path.unlink()
    with pytest.raises(Damaged, match="no manifest is left"):
        Store.open(folder)
    with pytest.raises(Damaged, match="no manifest is left"):
        Store.verify(folder)


def test_the_level_of_checking_can_be_chosen(tmp_path):
    folder = tmp_path / "store"
    build(folder)
    [path] = folder.rglob("p.a.npy")
    original = path.read_bytes()
    for data, finds in [
        (original[:-1] + b"x", ["crc", "sha256"]),
        (b"y" + original[1:], ["size", "crc", "sha256"]),
        (original + b"z", ["none", "size", "crc", "sha256"]),
    ]:
        damage(path, data)
        for check in ["none", "size", "crc", "sha256"]:
            if check in finds:
                with pytest.raises(Damaged, match=re.escape(str(path))):
                    Store.open(folder, check=check)
            else:
                Store.open(folder, check=check)
    with pytest.raises(UsageError, match="check='md5'.*none, size, crc, sha256"):
        Store.open(folder, check="md5")


def test_an_unreadable_sector_is_an_error_and_no_crash(tmp_path):
    """Opening reads the files; it does not learn of a bad sector by a signal from a map."""
    folder = tmp_path / "store"
    build(folder)
    probe = FaultyDisk()
    Store.open(folder, disk=probe)
    for at in range(1, len(probe.calls) + 1):
        with pytest.raises(DiskError, match="Input/output error.*ragstone verify"):
            Store.open(folder, disk=FaultyDisk(at, 5))


def test_an_open_store_does_not_notice_that_its_files_are_gone(tmp_path):
    store = build(tmp_path / "store")
    shutil.rmtree(store.folder)
    part = store.segments[0].part("p")
    assert part.array("a").tolist() == [[0, 1], [2, 3]]
    assert part.blob("b").tobytes() == b"text"
