import dataclasses
import os
import shutil

import pytest
from chains import files_of, new_set, write_version

from blockdiff import codecs
from blockdiff.blocks import directory
from blockdiff.blocks.directory import Indexed, Listed, Plain, directory_of
from blockdiff.codecs import base
from blockdiff.errors import NotOurFormat
from blockdiff.formats import FormatError

BLOCK = 16
ZSTD, GZIP, PLAIN = (codecs.BY_SUFFIX[suffix] for suffix in (".zst", ".gz", ""))


def written(folder, codec, **options):
    """A set whose version 2 has records of blocks 1, 4 to 9, which are zero, 20 and 21."""
    backup_set = new_set(folder)
    before = bytearray(os.urandom(40 * BLOCK))
    write_version(backup_set, bytes(before), BLOCK, codec)
    for block in (1, 20, 21):
        before[block * BLOCK : (block + 1) * BLOCK] = os.urandom(BLOCK)
    before[4 * BLOCK : 10 * BLOCK] = bytes(6 * BLOCK)
    write_version(backup_set, bytes(before), BLOCK, codec, member=20, **options)
    return files_of(backup_set, 2)


def payload_of(files, member, codec):
    with open(files.diff, "rb") as file:
        file.seek(member.place)
        return codec.decompress(file.read(member.stored), member.length)


@pytest.mark.parametrize(("codec", "indexed"), [(ZSTD, True), (ZSTD, False), (GZIP, True)])
def test_it_finds_the_member_of_a_block(codec, indexed, tmp_path):
    files = written(tmp_path, codec, with_index=indexed)
    found = directory_of(files)
    assert isinstance(found, Indexed if indexed else Listed)
    for block in (1, 4, 9, 20, 21):
        payload = payload_of(files, found.find(block), codec)
        step = 8 + BLOCK
        assert (block * BLOCK).to_bytes(8, "little") in [payload[at : at + 8] for at in range(0, len(payload), step)]
    assert len({found.find(block) for block in range(4, 10)}) == 1 or codec is GZIP
    if indexed:
        assert found.find(2) is None
        assert found.find(39) is None


def test_members_near_one_that_was_found_are_found_without_reading_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "_PAGE", 2)
    files = written(tmp_path, ZSTD)
    opened = []
    found = Indexed(dataclasses.replace(files, open=lambda path: opened.append(path) or files.open(path)), files.index)
    one, *others = (found.find(block) for block in (20, 4, 21, 9, 20))
    assert others[-1] == one and None not in others
    assert len(opened) == 3  # at its start, and for each of the two pages


def test_groups_of_a_plain_file(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "MEMBER_SIZE", 2 * (8 + BLOCK))
    files = written(tmp_path, PLAIN)
    found = directory_of(files)
    assert isinstance(found, Plain)
    assert [found.find(block).place for block in (1, 4, 5, 6, 9, 20, 21)] == [4, 4, 52, 52, 148, 148, 196]
    assert found.find(21).stored == 24
    assert found.find(0) is None


@pytest.mark.parametrize("suffix", [".gz", pytest.param(".lzop", marks=pytest.mark.skipif(not shutil.which("lzop"), reason="no lzop"))])
def test_a_long_file_without_an_index_is_refused_with_a_way_out(suffix, tmp_path, monkeypatch):
    files = written(tmp_path, codecs.BY_SUFFIX[suffix], original=True)
    member = directory_of(files).find(4)
    assert (member.place, member.stream, member.large) == (0, True, False)
    monkeypatch.setattr(base, "MAX_MEMBER", member.length - 1)
    with pytest.raises(NotOurFormat, match="no index") as caught:
        directory_of(files)
    assert caught.value.exit_code == 50
    assert "blockdiff-merge" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 11, 13, 44, -1, -32])
def test_an_index_that_cannot_be_is_damage(cut, tmp_path):
    files = written(tmp_path, ZSTD)
    size = os.path.getsize(files.index)
    os.truncate(files.index, cut % size if cut else 0)
    try:
        found = Indexed(files, files.index)
    except FormatError:
        return
    assert found.find(21) is None or found.find(1) is None or cut == -32
