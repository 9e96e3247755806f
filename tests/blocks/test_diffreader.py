"""Records of a diff file: the same whether the index counts or not, and strict about what cannot be."""

import io
import os

import chains
import pytest

from blockdiff import codecs
from blockdiff.blocks import checker
from blockdiff.formats import FormatError, TornError, difffile, index

CODECS = [codecs.PLAIN, codecs.GZIP, codecs.ZSTD]
IDS = ["plain", "gzip", "zstd"]
BLOCK = 512
VOLUME = b"".join(os.urandom(BLOCK) if i % 3 else bytes(BLOCK) for i in range(40)) + bytes(9 * BLOCK) + b"tail"


def found(backup_set, number, wants=None, drop=()):
    """All records of a version as {index: block}, and the faults."""
    for suffix in drop:
        os.unlink(backup_set.path(number, suffix))
    blocks, faults = {}, checker.Faults()
    with chains.diff_file(backup_set, number) as file:
        version = file.version
        for piece in file.pieces(wants):
            if piece.zeros:
                for i in range(*piece.zeros):
                    blocks[i] = bytes(version.block_size)
                continue
            payload = file.payload(piece)
            for i, start, end in checker.split(payload, piece, version, faults):
                blocks[i] = payload[start:end]
    return blocks, faults.lines()


def expected(volume, block_size=BLOCK):
    return dict(enumerate(chains.blocks_of(volume, block_size)))


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
@pytest.mark.parametrize("drop", [(), (".idx",)], ids=["as written", "without index"])
def test_all_records_are_found(codec, drop, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec, member=2000)
    if codec.suffix == "":
        drop = ()

    assert found(backup_set, 1, drop=drop) == (expected(VOLUME), [])


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.LZOP], ids=["plain", "gzip", "lzop"])
def test_the_originals_one_stream_is_found(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec, original=True)

    assert found(backup_set, 1) == (expected(VOLUME), [])


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
def test_an_empty_volume_has_no_records(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"", BLOCK, codec)

    assert found(backup_set, 1) == ({}, [])


def test_members_that_nobody_wants_are_not_read(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codecs.GZIP, member=2000)
    asked = []

    def wants(first, stop):
        asked.append((first, stop))
        return first <= 20 < stop

    blocks, faults = found(backup_set, 1, wants)

    assert 20 in blocks and len(blocks) < 8 and not faults
    assert asked[0][0] == 0 and asked[-1][1] == len(expected(VOLUME))


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_a_stale_index_is_not_used(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec, member=2000)
    with open(backup_set.path(1, ".idx"), "r+b") as file:
        file.write(b"\xff" * 60)

    assert found(backup_set, 1) == (expected(VOLUME), [])


def test_a_block_size_that_is_not_the_sets_is_refused(tmp_path):
    for codec in CODECS:
        backup_set = chains.new_set(tmp_path, f"set{codec.suffix}")
        chains.write_version(backup_set, VOLUME, BLOCK, codec, with_index=False)
        data = codec.compress(difffile.encode_header(BLOCK * 2) + difffile.encode_offset(0) + VOLUME[:BLOCK])
        with open(backup_set.path(1, codec.suffix), "wb") as file:
            file.write(data)

        with pytest.raises(FormatError, match="block size is 1024"):
            found(backup_set, 1)


def test_a_stream_gives_what_came_before_the_damage(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(3 << 20)
    chains.write_version(backup_set, volume, 65536, codecs.GZIP, original=True)
    path = backup_set.path(1, ".gz")
    os.truncate(path, os.path.getsize(path) * 2 // 3)
    seen = set()

    with chains.diff_file(backup_set) as file, pytest.raises(TornError):
        for piece in file.pieces():
            seen |= {i for i, _, _ in checker.split(file.payload(piece), piece, file.version, checker.Faults())}

    assert len(seen) > 20 and seen == set(range(len(seen)))


def test_zero_members_are_known_without_decompressing(tmp_path):
    backup_set = chains.new_set(tmp_path)
    block_size, count = 16 * 1024 * 1024, 1000
    header = difffile.encode_header(block_size)
    data = codecs.ZSTD.compress(header)
    for first in range(0, count, 200):
        data += codecs.ZSTD.zeros(first, block_size, 200)
    with open(backup_set.path(1, ".zst"), "wb") as file:
        file.write(data)
    with open(backup_set.path(1, ".md5"), "wb") as file:
        file.write(header + chains.md5(bytes(block_size)) * count)

    with chains.diff_file(backup_set) as file:
        head, *pieces = file.pieces()
        assert file.payload(head) == header

    assert [piece.zeros for piece in pieces] == [(first, first + 200) for first in range(0, count, 200)]
    assert sum(piece.cost for piece in pieces) == 0


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_zero_members_are_known_by_the_index_too(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(2 * 8192) + bytes(400 * 8192) + os.urandom(8192) + bytes(50 * 8192)
    for size, end in ((len(volume), 453), (len(volume) - 1, 452)):  # a short last block is not among them
        number = chains.write_version(backup_set, volume[:size], 8192, codec, full=True)

        with chains.diff_file(backup_set, number) as file:
            pieces = [piece for piece in file.pieces() if piece.zeros]

        assert [piece.zeros for piece in pieces] == [(2, 402), (403, end)]
        assert sum(piece.cost for piece in pieces) == 0
        assert found(backup_set, number) == (expected(volume[:size], 8192), [])


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
