"""Several processes: one writes at a time, readers see one generation, limits are respected."""

import os
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ragstone.errors import Locked
from ragstone.storage import Disk, Store
from ragstone.storage.faults import WRITES, FaultyDisk


def python(code, *arguments):
    """A Python process with a pipe either way."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


WRITER = """
    import sys
    from pathlib import Path
    from ragstone.storage import Store
    with Store.open(Path(sys.argv[1])).begin() as change:
        print("locked", flush=True)
        sys.stdin.readline()
        change.commit()
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    store = Store.create(tmp_path / "store", settings={})
    with python(WRITER, store.folder) as writer:
        assert writer.stdout.readline() == "locked\n"
        with pytest.raises(Locked, match=rf"process {writer.pid} on .* is writing"):
            store.begin().__enter__()
        with pytest.raises(Locked):
            Store.restore(store.folder, to=1)
        assert Store.open(store.folder).generation == 1  # readers need no lock
        writer.kill()
        writer.wait()
        with store.begin() as change:  # a dead process holds nothing
            change.commit()


def test_a_writer_in_the_same_process_counts_too(tmp_path):
    store = Store.create(tmp_path / "store", settings={})
    with store.begin(), pytest.raises(Locked, match=f"process {os.getpid()} "):
        store.begin().__enter__()
    with store.begin() as change:
        assert change.commit().generation == 2


RIVAL = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from ragstone.errors import Conflict, Locked
    from ragstone.storage import Store
    from ragstone.storage.faults import FaultyDisk

    class Lockless(FaultyDisk):
        def lock(self, handle):
            return False

    folder, rival, rounds, locks = Path(sys.argv[1]), *map(int, sys.argv[2:])
    refused = 0
    while rounds:
        try:
            with Store.open(folder, disk=FaultyDisk() if locks else Lockless()).begin() as change:
                with change.new_segment(1) as writer:
                    writer.part("p").array("values", np.array([100 * rival + rounds]))
                change.commit()
            rounds -= 1
        except (Locked, Conflict):
            refused += 1
            time.sleep(0.001 * rival)
    print(refused)
"""


@pytest.mark.parametrize("locks", [1, 0])
def test_rivals_lose_no_commit_with_locks_or_without(tmp_path, locks):
    store = Store.create(tmp_path / "store", settings={}, disk=FaultyDisk())
    rivals = [python(RIVAL, store.folder, rival, 12, locks) for rival in (1, 2, 3)]
    for process in rivals:
        with process:
            assert int(process.stdout.read()) >= 0
    store = store.refresh()
    values = [segment.part("p").array("values")[0] for segment in store.segments]
    assert sorted(values) == [100 * rival + r for rival in (1, 2, 3) for r in range(1, 13)]
    assert store.generation == 37
    assert Store.verify(store.folder, deep=True).ok


COMMITTER = """
    import sys
    from pathlib import Path
    import numpy as np
    from ragstone.storage import Store
    from ragstone.storage.faults import FaultyDisk
    store = Store.open(Path(sys.argv[1]), disk=FaultyDisk())
    for value in range(2, int(sys.argv[2]) + 2):
        with store.begin() as change:
            for segment in store.segments:
                change.drop(segment.name)
            for _ in range(3):
                with change.new_segment(4) as writer:
                    writer.part("p").array("values", np.full(4, value))
                change.delete(writer.name, np.array([value % 4]))
            store = change.commit()
    print("done", flush=True)
"""


def test_readers_see_one_generation_while_a_writer_replaces_everything(tmp_path):
    """Three commits per open are usual here, so the files of what is being opened do vanish."""
    store = Store.create(tmp_path / "store", settings={}, disk=FaultyDisk())
    seen, opened = set(), 0
    with python(COMMITTER, store.folder, 300) as writer:
        while writer.poll() is None:
            reader = Store.open(store.folder)
            values = {int(v) for s in reader.segments for v in s.part("p").array("values")}
            assert values <= {reader.generation}
            assert [s.deleted.tolist().index(True) for s in reader.segments] in (
                [reader.generation % 4] * 3,
                [],
            )
            seen.add(reader.generation)
            opened += 1
        assert writer.stdout.read() == "done\n"
    assert Store.open(store.folder).generation == 301
    assert len(seen) > 5 and opened >= len(seen)


def test_a_reader_that_is_overtaken_turns_to_the_newest_generation(tmp_path):
    class Overtaken(Disk):
        """While a file of the first look is opened, two commits replace everything."""

        def open(self, path):
            nonlocal store
            if path.suffix == ".npy" and store.generation < 6:
                for _ in range(2):
                    with store.begin() as change:
                        for segment in store.segments:
                            change.drop(segment.name)
                        with change.new_segment(1) as writer:
                            writer.part("p").array("values", np.full(1, store.generation + 1))
                        store = change.commit()
            return super().open(path)

    store = Store.create(tmp_path / "store", settings={}, disk=FaultyDisk())
    with store.begin() as change:
        with change.new_segment(1) as writer:
            writer.part("p").array("values", np.full(1, 2))
        store = change.commit()
    reader = Store.open(store.folder, disk=Overtaken())
    assert reader.generation == 6
    assert reader.segments[0].part("p").array("values").tolist() == [6]


def test_reading_makes_no_call_that_writes(tmp_path):
    store = Store.create(tmp_path / "store", settings={})
    with store.begin() as change:
        with change.new_segment(3) as writer:
            writer.part("p").array("values", np.arange(3))
        change.delete(writer.name, np.array([1]))
        change.commit()
    disk = FaultyDisk()
    reader = Store.open(store.folder, disk=disk)
    reader.refresh()
    reader.log()
    assert reader.segments[0].part("p").array("values").sum() == 3
    Store.verify(store.folder, deep=True, disk=disk)
    assert not WRITES & set(disk.calls)


def test_hundreds_of_segments_need_no_file_descriptors(tmp_path):
    store = Store.create(tmp_path / "store", settings={}, disk=FaultyDisk())
    with store.begin() as change:
        for value in range(150):
            with change.new_segment(1) as writer:
                writer.part("p").array("values", np.full(1, value))
                writer.part("p").blob("text", b"x")
        change.commit()
    before = len(os.listdir("/dev/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, hard))
    try:
        reader = Store.open(store.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/dev/fd")) == before
    values = [segment.part("p").array("values")[0] for segment in reader.segments]
    assert values == list(range(150))


def test_maps_are_given_back_with_the_last_array(tmp_path):
    store = Store.create(tmp_path / "store", settings={})
    with store.begin() as change:
        with change.new_segment(1) as writer:
            writer.part("p").array("values", np.arange(1000))
        change.commit()
    del store, change, writer
    reader = Store.open(tmp_path / "store")
    column = reader.segments[0].part("p").array("values")[500:].view(np.uint64)[::2]
    del reader
    assert column.sum() == sum(range(500, 1000, 2))  # a view of a view keeps the map
    assert mapped(tmp_path) == 1
    del column
    assert mapped(tmp_path) == 0


def mapped(folder):
    with open("/proc/self/maps") as maps:
        return sum(str(folder) in line for line in maps)
