"""Records of a diff file: the same whether the index counts or not, and strict about what cannot be."""

import concurrent.futures
import functools
import io
import os
import struct

import chains
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff import codecs
from blockdiff.blocks import diffreader, parallel
from blockdiff.formats import FormatError, TornError, difffile, index
from blockdiff.sets import versions
from blockdiff.sets.version import Version

CODECS = [codecs.PLAIN, codecs.GZIP, codecs.ZSTD]
IDS = ["plain", "gzip", "zstd"]
BLOCK = 512
VOLUME = b"".join(os.urandom(BLOCK) if i % 3 else bytes(BLOCK) for i in range(40)) + bytes(9 * BLOCK) + b"tail"


def found(store, number, wants=None, drop=()):
    """All records of a version as {index: block}, and the faults."""
    for suffix in drop:
        os.unlink(store.path(number, suffix))
    version = versions.version(store, number, store.listing())
    blocks, faults = {}, diffreader.Faults()
    with diffreader.DiffFile(store, version) as file:
        for piece in file.pieces(wants):
            if piece.zeros:
                for i in range(*piece.zeros):
                    blocks[i] = bytes(version.block_size)
                continue
            payload = file.payload(piece)
            for i, start, end in diffreader.split(payload, piece, version, faults):
                blocks[i] = payload[start:end]
    return blocks, faults.lines()


def expected(volume, block_size=BLOCK):
    return dict(enumerate(chains.blocks_of(volume, block_size)))


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
@pytest.mark.parametrize("drop", [(), (".idx",)], ids=["as written", "without index"])
def test_all_records_are_found(codec, drop, tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, VOLUME, BLOCK, codec, member=2000)
    if codec.suffix == "":
        drop = ()

    assert found(store, 1, drop=drop) == (expected(VOLUME), [])


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.LZOP], ids=["plain", "gzip", "lzop"])
def test_the_originals_one_stream_is_found(codec, tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, VOLUME, BLOCK, codec, original=True)

    assert found(store, 1) == (expected(VOLUME), [])


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
def test_an_empty_volume_has_no_records(codec, tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, b"", BLOCK, codec)

    assert found(store, 1) == ({}, [])


def test_members_that_nobody_wants_are_not_read(tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, VOLUME, BLOCK, codecs.GZIP, member=2000)
    asked = []

    def wants(first, stop):
        asked.append((first, stop))
        return first <= 20 < stop

    blocks, faults = found(store, 1, wants)

    assert 20 in blocks and len(blocks) < 8 and not faults
    assert asked[0][0] == 0 and asked[-1][1] == len(expected(VOLUME))


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_a_stale_index_is_not_used(codec, tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, VOLUME, BLOCK, codec, member=2000)
    with open(store.path(1, ".idx"), "r+b") as file:
        file.write(b"\xff" * 60)

    assert found(store, 1) == (expected(VOLUME), [])


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_split_gives_what_a_payload_holds(data):
    block_size = data.draw(st.integers(1, 9))
    size = data.draw(st.integers(0, 60))
    volume = bytes(i % 251 for i in range(size))
    blocks = chains.blocks_of(volume, block_size)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(blocks)))) if blocks else st.just(set())))
    payload = chains.payload_of(blocks, chosen, block_size)
    known = data.draw(st.booleans())
    version = Version(1, True, "", block_size, len(blocks), Sized(size) if known else None)
    faults = diffreader.Faults()

    piece = diffreader.Piece(0, payload, len(payload), False, skip=4)
    got = [(i, payload[a:b]) for i, a, b in diffreader.split(payload, piece, version, faults)]

    assert got == [(i, blocks[i]) for i in chosen] and not faults.lines()


class Sized:
    """As much of a manifest as tells a volume's size."""

    def __init__(self, size):
        self.size = size


def split(payload, count=4, size=None, run=None):
    version = Version(1, True, "", 4, count, None if size is None else Sized(size))
    faults = diffreader.Faults()
    piece = diffreader.Piece(0, payload, len(payload), False, run=run)
    return [i for i, _, _ in diffreader.split(payload, piece, version, faults)], faults.lines()


def record(offset, block):
    return struct.pack("<Q", offset) + block


@pytest.mark.parametrize(
    "payload, kwargs, indexes, word",
    [
        (record(0, b"aaaa")[:8], {}, [], "inside its offset"),
        (record(0, b"aaaa")[:5], {}, [], "inside its offset"),
        (record(0, b"aaa"), {}, [], "inside its block"),
        (record(12, b"aaa"), {"size": 16}, [], "inside its block"),
        (record(2, b"aaaa") + record(4, b"bbbb"), {}, [1], "offset 2"),
        (record(16, b"aaaa") + record(4, b"bbbb"), {}, [1], "offset 16"),
        (record((1 << 64) - 4, b"aaaa"), {}, [], "offset 18446744073709551612"),
        (record(4, b"aaaa") + record(0, b"bbbb"), {}, [1, 0], "out of order"),
        (record(0, b"aaaa") + record(0, b"bbbb"), {}, [0, 0], "out of order"),
        (record(0, b"aaaa") + record(8, b"bbbb"), {"run": (1, 3)}, [2], "index does not expect"),
        (record(12, b"aaaa") + b"rest of it", {"size": 16}, [3], "where no block"),
    ],
)
def test_records_that_cannot_be_are_named(payload, kwargs, indexes, word):
    got, faults = split(payload, **kwargs)

    assert got == indexes
    assert faults and any(word in line for line in faults)


def test_the_short_last_record_is_right_only_where_it_fits():
    assert split(record(12, b"aa")) == ([3], [])  # the size is not known: it may be
    assert split(record(12, b"aa"), size=14) == ([3], [])
    assert split(record(12, b"aaaa"), size=14)[1]  # two bytes too many


def test_many_faults_are_counted_not_kept():
    _, faults = split(record(999999, b"aaaa") * 1000)

    assert len(faults) < 20 and "and 992 more" in faults


def test_a_block_size_that_is_not_the_sets_is_refused(tmp_path):
    for codec in CODECS:
        store = chains.new_set(tmp_path, f"set{codec.suffix}")
        chains.write_version(store, VOLUME, BLOCK, codec, with_index=False)
        data = codec.compress(difffile.encode_header(BLOCK * 2) + record(0, VOLUME[:BLOCK]))
        with open(store.path(1, codec.suffix), "wb") as file:
            file.write(data)

        with pytest.raises(FormatError, match="block size is 1024"):
            found(store, 1)


def test_a_stream_gives_what_came_before_the_damage(tmp_path):
    store = chains.new_set(tmp_path)
    volume = os.urandom(3 << 20)
    chains.write_version(store, volume, 65536, codecs.GZIP, original=True)
    path = store.path(1, ".gz")
    os.truncate(path, os.path.getsize(path) * 2 // 3)
    version = versions.version(store, 1, store.listing())
    seen = set()

    with diffreader.DiffFile(store, version) as file, pytest.raises(TornError):
        for piece in file.pieces():
            seen |= {i for i, _, _ in diffreader.split(file.payload(piece), piece, version, diffreader.Faults())}

    assert len(seen) > 20 and seen == set(range(len(seen)))


def test_zero_members_are_known_without_decompressing(tmp_path):
    store = chains.new_set(tmp_path)
    block_size, count = 16 * 1024 * 1024, 1000
    header = difffile.encode_header(block_size)
    data = codecs.ZSTD.compress(header)
    for first in range(0, count, 200):
        data += codecs.ZSTD.zeros(first, block_size, 200)
    with open(store.path(1, ".zst"), "wb") as file:
        file.write(data)
    with open(store.path(1, ".md5"), "wb") as file:
        file.write(header + chains.md5(bytes(block_size)) * count)
    version = versions.version(store, 1, store.listing())

    with diffreader.DiffFile(store, version) as file:
        head, *pieces = file.pieces()
        assert file.payload(head) == header

    assert [piece.zeros for piece in pieces] == [(first, first + 200) for first in range(0, count, 200)]
    assert sum(piece.cost for piece in pieces) == 0


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_zero_members_are_known_by_the_index_too(codec, tmp_path):
    store = chains.new_set(tmp_path)
    volume = os.urandom(2 * 8192) + bytes(400 * 8192) + os.urandom(8192) + bytes(50 * 8192)
    for size, end in ((len(volume), 453), (len(volume) - 1, 452)):  # a short last block is not among them
        number = chains.write_version(store, volume[:size], 8192, codec, full=True)
        version = versions.version(store, number, store.listing())

        with diffreader.DiffFile(store, version) as file:
            pieces = [piece for piece in file.pieces() if piece.zeros]

        assert [piece.zeros for piece in pieces] == [(2, 402), (403, end)]
        assert sum(piece.cost for piece in pieces) == 0
        assert found(store, number) == (expected(volume[:size], 8192), [])


def test_an_index_is_read_in_bounded_steps():
    entries = [index.Member(i * 10, i * 12 + (4 if i else 0), i, i) for i in range(10000)]
    data = index.encode_header(4) + b"".join(map(index.encode, entries))
    asked = []
    place = 0

    def read(size):
        nonlocal place
        asked.append(size)
        place += min(size, 1000)  # short reads, as a pipe gives them
        return data[place - min(size, 1000) : place]

    assert len(list(index.spans(read, len(data), 4))) == 9999
    assert max(asked) <= 4096 * index.ENTRY_SIZE
    for cut in (0, 11, 12, 43, len(data) - 1, len(data) - 31):
        with pytest.raises(TornError):
            list(index.spans(io.BytesIO(data[:cut]).read, cut, 4))


class Job:
    def __init__(self, number, cost=1):
        self.number, self.cost = number, cost


def test_results_come_in_order_and_what_the_source_raises_comes_last():
    def jobs():
        for number in range(50):
            yield Job(number, number % 3)
        raise TornError("here it ends")

    got = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool, pytest.raises(TornError):
        for job, result in parallel.in_order(pool, jobs(), lambda job: job.number * 2):
            got.append((job.number, result))

    assert got == [(number, number * 2) for number in range(50)]


def test_what_is_in_flight_is_bounded_by_bytes():
    taken = 0

    def jobs():
        nonlocal taken
        for number in range(100):
            taken += 1
            yield Job(number, parallel.IN_FLIGHT // 4)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = parallel.in_order(pool, jobs(), lambda job: None)
        next(rows)
        assert taken <= 5
        rows.close()
    assert taken <= 5


def test_a_closed_pipeline_closes_its_source():
    closed = []

    def jobs():
        try:
            while True:
                yield Job(0)
        finally:
            closed.append(True)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        rows = parallel.in_order(pool, jobs(), functools.partial(lambda job: None))
        next(rows)
        rows.close()

    assert closed == [True]
