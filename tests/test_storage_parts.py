"""What is written into a part comes back, from memory and from disk alike."""

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ragstone.errors import UsageError
from ragstone.storage import MemoryPart, Part, PartWriter, Store
from ragstone.storage.faults import FaultyDisk
from ragstone.storage.npy import DTYPES, HEADER, header


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store", settings={}, disk=FaultyDisk())


def on_disk(store, write, rows=1) -> tuple[Store, Part]:
    """The part that `write` writes, after commit and reopening."""
    with store.begin() as change:
        with change.new_segment(rows) as segment:
            write(segment.part("part"))
        change.commit()
    store = Store.open(store.folder, check="sha256", disk=store.disk)
    return store, store.segments[-1].part("part")


def in_memory(store, write) -> tuple[Store, Part]:
    part = MemoryPart()
    write(part)
    return store, part


WAYS = [on_disk, in_memory]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_number_type_comes_back(store, way, dtype):
    values = np.arange(-3, 9).reshape(4, 3).astype(dtype)

    def write(part: PartWriter):
        part.array("whole", values)
        part.array("flipped", values.byteswap().view(values.dtype.newbyteorder()))
        part.array("transposed", values.T)
        part.array("strided", values[::2, 1])
        with part.stream("counted", dtype, 3) as stream:
            for start in range(4):
                stream.append(values[start : start + 1])
        with part.stream("announced", dtype, 3, rows=4) as stream:
            stream.append(values[:3])
            stream.append(values[3:])

    _, part = way(store, write)
    for name in ("whole", "flipped", "counted", "announced"):
        assert part.array(name).dtype.str == dtype
        np.testing.assert_array_equal(part.array(name), values)
        assert part.array(name).flags.c_contiguous and part.array(name).flags.aligned
    np.testing.assert_array_equal(part.array("transposed"), values.T)
    np.testing.assert_array_equal(part.array("strided"), values[::2, 1])
    assert part.nbytes == values.nbytes * 5 + values[::2, 1].nbytes


@pytest.mark.parametrize("way", WAYS)
def test_nothing_at_all_can_be_stored(store, way):
    def write(part):
        part.array("flat", np.empty(0, np.int64))
        part.array("no-rows", np.empty((0, 5), np.float16))
        part.array("no-columns", np.empty((5, 0), np.float16))
        with part.stream("stream", "f4", 7):
            pass
        with part.stream("announced", "f4", None, rows=0) as stream:
            stream.append(np.empty(0, np.float32))
        part.blob("bytes", b"")
        part.blob("pieces", [])

    _, part = way(store, write)
    assert part.array("flat").shape == (0,)
    assert part.array("no-rows").shape == (0, 5)
    assert part.array("no-columns").shape == (5, 0)
    assert part.array("stream").shape == (0, 7)
    assert part.array("announced").shape == (0,)
    assert len(part.blob("bytes")) == len(part.blob("pieces")) == part.nbytes == 0


@pytest.mark.parametrize("way", WAYS)
def test_facts_add_up_and_are_read_like_a_mapping(store, way):
    def write(part):
        part.facts({"rows": 3, "nested": {"a": [1, 2.5, None, True], "ü": "Ä\ud800"}})
        part.facts({"rows": 4})

    _, part = way(store, write)
    assert dict(part.facts) == {"rows": 4, "nested": {"a": [1, 2.5, None, True], "ü": "Ä\ud800"}}


@pytest.mark.parametrize("way", WAYS)
def test_blobs_come_back_however_they_were_cut(store, way):
    large = bytes(range(256)) * 9000  # more than is collected before a write

    def write(part):
        part.blob("one", large)
        part.blob("view", memoryview(large))
        part.blob("small", (large[i : i + 1000] for i in range(0, len(large), 1000)))
        part.blob("mixed", [b"", b"a", bytearray(large), b"b", memoryview(b"c")])

    _, part = way(store, write)
    for name in ("one", "view", "small"):
        assert part.blob(name).tobytes() == large
    assert part.blob("mixed").tobytes() == b"a" + large + b"bc"


@pytest.mark.parametrize("way", WAYS)
def test_what_comes_back_cannot_be_changed(store, way):
    mine = np.arange(3)
    _, part = way(store, lambda part: (part.array("a", mine), part.blob("b", b"xyz")))
    mine[0] = 99
    assert part.array("a")[0] == 0
    for array in (part.array("a"), part.blob("b")):
        with pytest.raises(ValueError):
            array[0] = 1
    assert "a" in part and "b" in part and "c" not in part


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "write, says",
    [
        (lambda p: p.array("../up", np.zeros(1)), "cannot be a name"),
        (lambda p: p.array("Upper", np.zeros(1)), "cannot be a name"),
        (lambda p: p.array("", np.zeros(1)), "cannot be a name"),
        (lambda p: p.blob("a.b", b""), "cannot be a name"),
        (lambda p: (p.array("x", np.zeros(1)), p.blob("x", b"")), "stored already"),
        (lambda p: p.array("x", np.array([None])), "object cannot be stored"),
        (lambda p: p.array("x", np.array(["text"])), "cannot be stored"),
        (lambda p: p.array("x", np.zeros(1, complex)), "complex128 cannot be stored"),
        (lambda p: p.array("x", np.float32(3)), "0 dimensions"),
        (lambda p: p.array("x", np.zeros((1, 1, 1))), "3 dimensions"),
        (lambda p: p.facts({"x": float("nan")}), "facts.x|part.x"),
        (lambda p: p.facts({"x": [np.float32(1)]}), r"x\[0\]: .*float32"),
        (lambda p: p.facts({1: 2}), "key 1 is no string"),
    ],
)
def test_what_cannot_be_stored_is_refused(store, way, write, says):
    with pytest.raises(UsageError, match=says):
        way(store, write)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "chunk, says",
    [
        (np.zeros((1, 2)), "float64 .1, 2. in an array of <f4"),
        (np.zeros((1, 3), "f4"), "float32 .1, 3. in an array of <f4 .rows, 2."),
        (np.zeros(2, "f4"), "float32 .2,. in an array"),
        (np.zeros((4, 2), "f4"), "4 rows came, 3 were announced"),
        (np.zeros((2, 2), "f4"), "2 rows came, 3 were announced"),
    ],
)
def test_a_stream_takes_only_what_was_announced(store, way, chunk, says):
    def write(part):
        with part.stream("s", "f4", 2, rows=3) as stream:
            stream.append(chunk)

    with pytest.raises(UsageError, match=says):
        way(store, write)


@pytest.mark.parametrize("way", WAYS)
def test_unknown_names_are_answered_with_the_known_ones(store, way):
    store, part = way(store, lambda part: (part.array("one", np.zeros(1)), part.blob("b", b"")))
    with pytest.raises(UsageError, match="no array 'two'. There are: one"):
        part.array("two")
    with pytest.raises(UsageError, match="no blob 'one'. There are: b"):
        part.blob("one")
    for segment in store.segments:
        with pytest.raises(UsageError, match="no part 'other'. There are: part"):
            segment.part("other")


def test_maps_cannot_be_made_writable(store):
    _, part = on_disk(store, lambda part: part.array("a", np.arange(3)))
    with pytest.raises(ValueError):
        part.array("a").flags.writeable = True


def test_a_file_is_what_its_record_says_and_numpy_reads_it(store):
    values = np.arange(70_000, dtype=np.float64).reshape(-1, 7)

    def write(part):
        part.array("whole", values)
        with part.stream("stream", "f8", 7) as stream:
            stream.append(values[:6000])
            stream.append(values[6000:])

    store, _ = on_disk(store, write)
    for path, record in store.manifest.paths():
        data = (store.folder / path).read_bytes()
        assert len(data) == record.bytes
        assert f"{zlib.crc32(data):08x}" == record.crc32
        assert hashlib.sha256(data).hexdigest() == record.sha256
        np.testing.assert_array_equal(np.load(store.folder / path, allow_pickle=False), values)


def test_headers_have_one_length():
    for dtype in DTYPES:
        for shape in [(0,), (2**63, 2**63), (10**18,)]:
            assert len(header(dtype, shape)) == HEADER


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        arrays.arrays(
            st.sampled_from(["<i8", "<f4", "|u1"]),
            st.tuples(st.integers(0, 5), st.integers(0, 3)),
        ),
        max_size=4,
    ),
    st.lists(st.binary(max_size=40), max_size=5),
)
def test_memory_and_disk_agree(tmp_path_factory, tables, blobs):
    def write(part):
        for number, table in enumerate(tables):
            part.array(f"t{number}", table)
        part.blob("all", blobs)

    store = Store.create(tmp_path_factory.mktemp("s"), settings={}, disk=FaultyDisk())
    _, disk = on_disk(store, write)
    _, memory = in_memory(store, write)
    for number in range(len(tables)):
        left, right = disk.array(f"t{number}"), memory.array(f"t{number}")
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes()
        assert left.shape == right.shape
    assert disk.blob("all").tobytes() == memory.blob("all").tobytes()
    assert disk.nbytes == memory.nbytes
