"""Records that are split and checked: what cannot be is named, and a block is right only with its digest."""

import os
import struct

import chains
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff import codecs
from blockdiff.blocks import blockset, checker, diffreader, md5many
from blockdiff.formats import FormatError
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import Version

BLOCK = 8192
VOLUME = os.urandom(3 * BLOCK) + bytes(30 * BLOCK) + os.urandom(2 * BLOCK) + bytes(BLOCK) + b"tail"
ZEROS = {*range(3, 33), 35}


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
    version = Version(1, None, "", block_size, len(blocks), Sized(size) if known else None)
    faults = checker.Faults()

    piece = diffreader.Piece(0, payload, len(payload), False, skip=4)
    got = [(i, payload[a:b]) for i, a, b in checker.split(payload, piece, version, faults)]

    assert got == [(i, blocks[i]) for i in chosen] and not faults.lines()


class Sized:
    """As much of a manifest as tells a volume's size."""

    def __init__(self, size):
        self.size = size


def split(payload, count=4, size=None, run=None):
    version = Version(1, None, "", 4, count, None if size is None else Sized(size))
    faults = checker.Faults()
    piece = diffreader.Piece(0, payload, len(payload), False, run=run)
    return [i for i, _, _ in checker.split(payload, piece, version, faults)], faults.lines()


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


def checked(backup_set, wanted=None, block_size=BLOCK):
    """What the checker gives of version 1, as {index: (kind, block)}, and the faults."""
    got, faults = {}, checker.Faults()
    with chains.diff_file(backup_set) as file, Digests(backup_set.path(1, ".md5"), file.version.count) as digests:
        blocks = checker.BlockChecker(digests, block_size)
        for piece in file.pieces():
            for kind, first, stop, block in blocks.check(file, piece, faults, wanted):
                for index in range(first, stop):
                    assert index not in got
                    got[index] = kind, bytes(block)
    return got, faults.lines()


def corrupt_digests(backup_set, *indexes):
    with open(backup_set.path(1, ".md5"), "r+b") as file:
        for index in indexes:
            file.seek(4 + 16 * index)
            file.write(b"\xee" * 16)


def original_set(tmp_path, codec):
    """A set that has nothing but its diff file and its digest file, so that the latter may be changed."""
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec, original=codec.suffix != ".zst")
    for suffix in (".json", ".idx", ".xxh128"):
        if os.path.exists(backup_set.path(1, suffix)):
            os.unlink(backup_set.path(1, suffix))
    return backup_set


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
def test_every_block_has_its_kind(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec)
    blocks = chains.blocks_of(VOLUME, BLOCK)

    got, faults = checked(backup_set)

    assert not faults
    assert got == {i: (checker.ZERO, b"") if i in ZEROS else (checker.DATA, block) for i, block in enumerate(blocks)}


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
def test_blocks_without_their_digest_are_wrong(codec, tmp_path):
    backup_set = original_set(tmp_path, codec)
    corrupt_digests(backup_set, 0, 7, 8, 34, 36)

    got, faults = checked(backup_set)

    assert not faults and len(got) == 37
    assert {index for index, (kind, _) in got.items() if kind == checker.WRONG} == {0, 7, 8, 34, 36}


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
def test_blocks_that_are_not_wanted_are_left_out_right_or_wrong(codec, tmp_path):
    backup_set = original_set(tmp_path, codec)
    corrupt_digests(backup_set, 1, 20)
    wanted = blockset.Blocks(34)  # fewer than the version has
    wanted.add(0, 1)
    wanted.add(10, 15)
    wanted.add(33, 34)

    got, _ = checked(backup_set, wanted)

    assert set(got) == {0, *range(10, 15), 33}
    assert checker.WRONG not in {kind for kind, _ in got.values()}


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
def test_each_of_many_blocks_is_compared_with_its_own_digest(codec, tmp_path):
    """Small blocks, some of them zero: more than are checked at once."""
    blocks = [bytes(64) if i % 5 == 2 else os.urandom(64) for i in range(3000)] + [b"tail"]
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"".join(blocks), 64, codec, original=codec.suffix != ".zst")
    for suffix in (".json", ".idx", ".xxh128"):
        if os.path.exists(backup_set.path(1, suffix)):
            os.unlink(backup_set.path(1, suffix))
    wrong = {0, 1, 2, 511, 512, 513, 1024, 2999, 3000}
    corrupt_digests(backup_set, *wrong)

    got, faults = checked(backup_set, block_size=64)

    assert not faults
    assert [got[i][1] for i in range(3001) if i % 5 != 2 or i in wrong] == [
        block for i, block in enumerate(blocks) if i % 5 != 2 or i in wrong
    ]
    assert {i for i, (kind, _) in got.items() if kind == checker.WRONG} == wrong
    assert {i for i, (kind, _) in got.items() if kind == checker.ZERO} == {*range(2, 3000, 5)} - wrong


def test_the_md5s_of_a_piece_are_computed_together(tmp_path, monkeypatch):
    calls = []

    def compute(buffer, stride, length, count):
        calls.append(count)
        return md5many.with_hashlib(buffer, stride, length, count)

    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(300 * 64), 64, codecs.PLAIN)
    monkeypatch.setattr(md5many, "md5_many", compute)
    checked(backup_set, block_size=64)
    assert calls == [300]


def test_a_piece_that_cannot_be_read_raises_before_its_first_block(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codecs.GZIP)
    with open(backup_set.path(1, ".gz"), "r+b") as file:
        file.seek(-3 * BLOCK, os.SEEK_END)
        file.write(bytes(64))

    with pytest.raises(FormatError):
        checked(backup_set)


def test_zeros_are_counted_by_their_digests_alone(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codecs.PLAIN)
    with Digests(backup_set.path(1, ".md5"), 37) as digests:
        blocks = checker.BlockChecker(digests, BLOCK)

        assert list(blocks.not_zero(0, 37)) == [(0, 3), (33, 35), (36, 37)]
        assert blocks.count_not_zero() == 6
