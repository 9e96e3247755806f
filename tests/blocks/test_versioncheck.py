"""One version's diff file, read from end to end: what is right, what is wrong, and where."""

import concurrent.futures
import os

import chains

from blockdiff import codecs
from blockdiff.blocks.versioncheck import VersionCheck
from blockdiff.errors import DamagedFile, DigestMismatch, StoreUnreadable
from blockdiff.sets.digests import Digests

BLOCK = 4096
VOLUME = os.urandom(40 * BLOCK) + bytes(20 * BLOCK) + b"end"


def version(tmp_path, codec=codecs.PLAIN):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codec)
    return chains.files_of(backup_set)


def check(files):
    with (
        Digests(files.digests, files.version.count) as own,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        out = VersionCheck(files, own, lambda length: None)
        out.run(pool)
    return out


def test_a_sound_version_is_found_whole(tmp_path):
    for number, codec in enumerate((codecs.PLAIN, codecs.GZIP, codecs.ZSTD)):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = version(folder, codec)
        out = check(files)

        assert list(out.found.runs()) == [(0, 61)]
        assert (out.faults, out.warnings, out.missing()) == ([], [], [])
        assert out.read == os.path.getsize(files.diff)


def test_wrong_blocks_are_not_found_and_named_once(tmp_path):
    files = version(tmp_path)
    with open(files.diff, "r+b") as file:
        for index in (3, 4):
            file.seek(4 + index * (8 + BLOCK) + 8)
            file.write(b"\0\0\0\0")
    out = check(files)

    assert list(out.found.runs()) == [(0, 3), (5, 61)]
    assert [type(fault) for fault in out.faults] == [DigestMismatch]
    assert "bytes 12288 to 20479 do not have their digest" in str(out.faults[0])
    out.miss((3, 5))
    assert out.missing() == []  # a fault names them already
    out.miss((9, 10))
    assert "bytes 36864 to 40959" in str(out.missing()[0])


def test_a_file_that_ends_early_is_damaged_and_its_beginning_found(tmp_path):
    files = version(tmp_path, codecs.ZSTD)
    os.truncate(files.diff, os.path.getsize(files.diff) // 2)
    out = check(files)

    assert any(isinstance(fault, DamagedFile) for fault in out.faults)
    assert 0 < len(out.found) < 61


def test_another_file_with_the_same_blocks_is_a_warning(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, VOLUME, BLOCK, codecs.GZIP)
    with open(backup_set.path(1, ".gz"), "r+b") as file:
        file.seek(8)
        file.write(bytes([file.read(1)[0] ^ 2]))  # the first member's extra flags, which say nothing of the data
    out = check(chains.files_of(backup_set))

    assert len(out.found) == 61 and not out.faults
    assert "is not the file that the manifest describes" in out.warnings[0]


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    files = version(tmp_path)
    os.unlink(files.diff)
    out = check(files)

    assert [type(fault) for fault in out.faults] == [StoreUnreadable]
    assert not out.found and not out.forbidden
