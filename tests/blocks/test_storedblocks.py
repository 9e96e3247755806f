import os

import pytest
from chains import files_of, new_set, write_version

from blockdiff import codecs
from blockdiff.blocks import storedblocks
from blockdiff.blocks.membercache import MemberCache
from blockdiff.blocks.storedblocks import StoredBlocks
from blockdiff.codecs import base
from blockdiff.errors import DamagedFile, DigestMismatch, MissingFile, StoreUnreadable

BLOCK = 16


@pytest.fixture
def written(tmp_path):
    """A set of one version of 30 blocks, three of them in a member."""
    backup_set = new_set(tmp_path)
    volume = os.urandom(30 * BLOCK)
    write_version(backup_set, volume, BLOCK, codecs.GZIP, member=3 * (8 + BLOCK))
    return backup_set, volume


def block_of(stored, block):
    records = stored.records(block)
    first, after = records.run(block, 1)
    assert after == first + 1
    start, end = records.span(first)
    return records.payload[start:end]


def test_a_block_is_among_the_records_of_its_member(written):
    backup_set, volume = written
    cache = MemberCache(10_000)
    stored = StoredBlocks(files_of(backup_set), cache)
    assert all(block_of(stored, n) == volume[n * BLOCK : (n + 1) * BLOCK] for n in range(30))
    assert stored.records(4) is stored.records(3)
    assert 29 * (8 + BLOCK) < cache.used < 10_000


def test_of_a_large_member_only_a_part_is_kept(written, monkeypatch):
    monkeypatch.setattr(base, "MAX_MEMBER", 2 * (8 + BLOCK))
    monkeypatch.setattr(base, "MEMBER_SIZE", 8 + BLOCK)
    backup_set, volume = written
    stored = StoredBlocks(files_of(backup_set), MemberCache(10_000))
    assert all(block_of(stored, n) == volume[n * BLOCK : (n + 1) * BLOCK] for n in range(30))
    assert {stored.records(n).count for n in range(30)} == {1}


def test_what_it_has_no_record_of(written):
    backup_set, _ = written
    stored = StoredBlocks(files_of(backup_set), MemberCache(10_000))
    with pytest.raises(DigestMismatch, match=r"vol\.1\.gz.* no record of the block at byte 480"):
        stored.records(30)


def test_damage_names_the_member(written):
    backup_set, _ = written
    files = files_of(backup_set)
    place = StoredBlocks(files, MemberCache(0))._directory.find(20).place
    with open(files.diff, "r+b") as file:
        file.seek(place + 12)
        file.write(bytes(4))
    stored = StoredBlocks(files, MemberCache(10_000))
    with pytest.raises(DigestMismatch, match=f"member at byte {place}"):
        stored.records(20)
    assert stored.records(5).count == 3
    os.truncate(files.diff, place)
    with pytest.raises(DamagedFile, match="ends before it"):
        stored.records(20)


def test_a_file_that_cannot_be_read(written):
    backup_set, _ = written
    files = files_of(backup_set)
    stored = StoredBlocks(files, MemberCache(0))
    os.unlink(files.diff)
    with pytest.raises(StoreUnreadable, match=r"vol\.1\.gz"):
        stored.records(0)
    os.unlink(files.index)
    with pytest.raises((StoreUnreadable, MissingFile)):
        StoredBlocks(files, MemberCache(0))


def test_a_header_of_another_block_size(written, monkeypatch):
    backup_set, _ = written
    write_version(backup_set, bytes(range(64)), BLOCK, codecs.GZIP, full=True, original=True)
    files = files_of(backup_set, 2)
    stored = StoredBlocks(files, MemberCache(0))
    monkeypatch.setattr(storedblocks.difffile, "decode_header", lambda data: 32)
    with pytest.raises(DigestMismatch, match="block size is 32"):
        stored.records(0)


@pytest.mark.parametrize("original", [False, True])
def test_what_is_under_way_counts_with_its_compressed_bytes(original, tmp_path, monkeypatch):
    backup_set = new_set(tmp_path)
    write_version(backup_set, os.urandom(30 * BLOCK), BLOCK, codecs.GZIP, original=original)
    files, cache = files_of(backup_set), MemberCache(10_000)
    stored, seen = StoredBlocks(files, cache), []
    inner = StoredBlocks._decompress

    def decompress(self, member):
        seen.append(cache.used)
        return inner(self, member)

    monkeypatch.setattr(StoredBlocks, "_decompress", decompress)
    stored.records(0)
    payload = 30 * (8 + BLOCK)
    assert seen[0] >= payload + 30 * BLOCK  # random bytes take as many compressed
    assert payload <= cache.used < seen[0]
