"""Blocks out of a chain into a target: each written once, none that is not proved."""

import os

import chains
import pytest

from blockdiff import codecs
from blockdiff.blocks.restorer import Restorer
from blockdiff.errors import BlockdiffError, ChainBroken

BLOCK = 4096


class Memory:
    """A target in memory that refuses a second write of a byte."""

    def __init__(self, size):
        self.data = bytearray(b"\xff" * size)
        self.written = set()

    def write(self, offset, parts):
        data = b"".join(parts)
        self._put(offset, data)

    def zero(self, offset, length):
        self._put(offset, bytes(length))

    def _put(self, offset, data):
        new = set(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))
        assert not new & self.written
        self.written |= new
        self.data[offset : offset + len(data)] = data


def chain(tmp_path, codec):
    """Three versions of a volume, and what the last one is."""
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(40 * BLOCK) + bytes(20 * BLOCK) + b"end")
    chains.write_version(backup_set, bytes(volume), BLOCK, codec)
    volume[5 * BLOCK : 9 * BLOCK] = os.urandom(4 * BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codec)
    volume[7 * BLOCK : 20 * BLOCK] = bytes(13 * BLOCK)
    volume += os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codec)
    return backup_set, bytes(volume)


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
def test_every_block_is_written_once_and_right(codec, tmp_path):
    backup_set, volume = chain(tmp_path, codec)
    sink, told = Memory(len(volume)), []
    work = Restorer(backup_set.name, [chains.files_of(backup_set, n) for n in (1, 2, 3)], sink, told.append)

    work.run(2)

    assert bytes(sink.data) == volume
    assert work.size() == len(volume) == work.written + work.zeros == sum(told)
    assert list(work.right()) == [(0, len(volume))]
    assert not work.warnings


def test_a_version_whose_blocks_are_all_newer_is_not_read(tmp_path):
    backup_set, volume = chain(tmp_path, codecs.GZIP)
    chains.write_version(backup_set, volume, BLOCK, codecs.GZIP, full=True)
    sink = Memory(len(volume))
    os.unlink(backup_set.path(1, ".gz"))
    old = chains.files_of(backup_set, 2)
    work = Restorer(backup_set.name, [old, chains.files_of(backup_set, 4)], sink)
    os.unlink(old.diff)

    work.run(1)

    assert bytes(sink.data) == volume


def test_what_no_version_holds_is_an_error_and_the_rest_is_right(tmp_path):
    backup_set, volume = chain(tmp_path, codecs.ZSTD)
    sink = Memory(len(volume))
    work = Restorer(backup_set.name, [chains.files_of(backup_set, n) for n in (2, 3)], sink)

    with pytest.raises(ChainBroken, match="bytes 0 to 20479 and others"):
        work.run(2)

    assert sink.written == {*range(5, 20), 60, 61}
    for start, end in work.right():
        assert sink.data[start:end] == volume[start:end]


@pytest.mark.parametrize("go_on", [False, True])
def test_a_block_without_its_digest_is_not_written(go_on, tmp_path):
    backup_set, volume = chain(tmp_path, codecs.PLAIN)
    files = [chains.files_of(backup_set, n) for n in (1, 2, 3)]
    with open(files[0].diff, "r+b") as file:
        file.seek(4 + 30 * (8 + BLOCK) + 8)
        file.write(b"\0\0\0\0")
    sink = Memory(len(volume))
    work = Restorer(backup_set.name, files, sink)

    with pytest.raises(BlockdiffError, match="bytes 122880 to 126975 do not have the digests of version 3") as caught:
        work.run(2, go_on=go_on)

    assert caught.value.exit_code == 53
    assert 30 not in sink.written
    if go_on:
        assert sink.written == set(range(62)) - {30}


@pytest.mark.parametrize("go_on", [False, True])
def test_damage_is_what_is_reported_where_the_digests_before_it_are_gone(go_on, tmp_path):
    """Which blocks a version changed is not known then: each may be needed."""
    backup_set, volume = chain(tmp_path, codecs.PLAIN)
    files = [chains.files_of(backup_set, n) for n in (1, 2, 3)]
    with open(files[1].diff, "r+b") as file:
        file.seek(4 + 8)  # the first record, of block 5
        file.write(b"\0\0\0\0")
    os.unlink(files[0].digests)
    sink = Memory(len(volume))
    work = Restorer(backup_set.name, files, sink)

    with pytest.raises(BlockdiffError, match="bytes 20480 to 24575 do not have the digests of version 3"):
        work.run(2, go_on=go_on)

    if go_on:
        assert sink.written == set(range(62)) - {5}
