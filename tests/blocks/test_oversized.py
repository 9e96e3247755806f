"""Members that are larger than any that is written: they are read as streams, and nothing is lost."""

import os
import pathlib
import shutil

import chains
import pytest
from engine import back_up, files_of, restored
from memory import peak_below
from oversized import BLOCK, VECTORS, volume_of

from blockdiff import codecs, restore, verify
from blockdiff.blocks import diffreader
from blockdiff.codecs import base
from blockdiff.formats import FormatError, difffile
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet

MIB = 1 << 20
INDEX = pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "without index"])


def restores(backup_set, number, volume, target):
    """Whether a version restores as this volume, in little memory."""
    target.unlink(missing_ok=True)
    with peak_below(45 * MIB):
        assert restore.restore(backup_set, number, str(target)).failure is None
    return target.read_bytes() == volume


@INDEX
@pytest.mark.parametrize("name", ["gz", "zst"])
def test_a_set_that_has_one_restores_verifies_and_is_continued(name, indexed, tmp_path):
    for path in VECTORS.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    backup_set = BackupSet(str(tmp_path / name))
    spans = chains.spans_of(backup_set, 2, BLOCK)
    assert max(span.length for span in spans) > base.MAX_MEMBER  # it is what it is about
    if not indexed:
        os.unlink(backup_set.path(2, ".idx"))
    with peak_below(45 * MIB):
        report = verify.verify(backup_set)
    assert not report.faults
    assert [(v.number, v.restores, v.faults) for v in report.versions] == [(n, True, []) for n in (1, 2, 3)]
    assert bool(report.all_warnings) is not indexed  # that the index is gone is said
    assert restores(backup_set, 2, volume_of(2), tmp_path / "out")
    if indexed:
        volume = volume_of(3)
        volume[7 * BLOCK : 8 * BLOCK] = b"y" * BLOCK
        (tmp_path / "vol").write_bytes(volume)
        done = back_up(tmp_path / name, tmp_path / "vol")
        assert (done.version, done.kind, done.changed) == (4, "incremental", 1)
        assert restores(backup_set, 4, volume, tmp_path / "out")


# any set is read as such a one where the limit is small


def mixed(count, block_size):
    """Blocks of noise and single zero ones, and a short one at the end."""
    blocks = [os.urandom(block_size) if i % 3 else bytes(block_size) for i in range(count)]
    return b"".join(blocks) + b"tail"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(base, "MAX_MEMBER", 10_000)
    monkeypatch.setattr("blockdiff.blocks.diffreader._STREAM_PIECE", 3000)


@INDEX
@pytest.mark.parametrize("block_size", [1, 512, 4096, 20_000])
@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_every_member_may_be_too_large(codec, block_size, indexed, small, tmp_path):
    backup_set = chains.new_set(tmp_path)
    first = mixed(40 if block_size > 1 else 30_000, block_size)
    second = first[: len(first) // 3] + os.urandom(3 * block_size) + first[len(first) // 3 + 3 * block_size :]
    for volume in (first, second):
        chains.write_version(backup_set, volume, block_size, codec, with_index=indexed, member=1 << 20)

    for number, volume in ((1, first), (2, second)):
        assert restored(backup_set.name, number, tmp_path / "out") == volume
    report = verify.verify(backup_set)
    assert [(v.restores, v.faults, v.warnings) for v in report.versions] == [(True, [], [])] * 2


@INDEX
@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_damage_in_one_spoils_no_other(codec, indexed, small, tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(100 * 512)
    chains.write_version(backup_set, volume, 512, codec, with_index=indexed, member=20 * 512)
    path = pathlib.Path(backup_set.path(1, codec.suffix))
    good = path.read_bytes()
    whole = codec.compress(difffile.encode_header(512))
    second = len(whole) + (len(good) - len(whole)) // 5  # about where the second large member begins
    for place in (second + 6000, second + 100):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        (found,) = verify.verify(backup_set).versions
        assert not found.restores and found.faults
        if indexed or codec is codecs.ZSTD:
            assert found.lost_bytes <= 22 * 512
    for cut in (len(good) - 1, second + 6000):
        path.write_bytes(good[:cut])
        (found,) = verify.verify(backup_set).versions
        assert not found.restores and found.faults and found.lost_bytes < len(volume)


@pytest.mark.parametrize("more, less", [(True, False), (False, True)], ids=["longer", "shorter"])
@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_one_that_holds_what_its_index_does_not_say_is_damaged(codec, more, less, small, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(100 * 512), 512, codec, member=1 << 20)
    data = pathlib.Path(backup_set.path(1, ".idx")).read_bytes()
    *entries, end = [data[place : place + 32] for place in range(12, len(data), 32)]
    payload = int.from_bytes(end[8:16], "little") + (-520 if more else 520)
    if less:  # a block more, so that the index may say so
        entries[-1] = entries[-1][:24] + (100).to_bytes(8, "little")
    wrong = data[:12] + b"".join(entries) + end[:8] + payload.to_bytes(8, "little") + end[16:]
    pathlib.Path(backup_set.path(1, ".idx")).write_bytes(wrong)
    version = versions.version(backup_set, 1, backup_set.listing())
    with diffreader.DiffFile(backup_set.path(1, version.suffix), backup_set.path(1, ".idx"), version) as file:
        *_, last = file.pieces()
        with pytest.raises(FormatError, match="does not have"):
            file.payload(last)


def test_zeros_are_known_at_sight_however_many_they_are(small, tmp_path):
    """No member of zeros is decompressed, whatever it would come to."""
    for codec in (codecs.GZIP, codecs.ZSTD):
        backup_set = chains.new_set(tmp_path, f"set{codec.suffix}")
        chains.write_version(backup_set, bytes(60 * 8192), 8192, codec)
        with chains.diff_file(backup_set) as file:
            assert [piece.zeros for piece in file.pieces() if piece.run != (0, 0)] == [(0, 60)]


def test_a_member_that_no_reader_takes_is_never_published(tmp_path, monkeypatch):
    (tmp_path / "to").mkdir()
    (tmp_path / "vol").write_bytes(os.urandom(200_000))
    back_up(tmp_path / "to" / "set", tmp_path / "vol")
    before = files_of(tmp_path / "to")
    (tmp_path / "vol").write_bytes(os.urandom(200_000))
    for limit in ("MAX_MEMBER", "MAX_STORED"):
        with monkeypatch.context() as patch:
            patch.setattr(base, limit, 100_000)
            with pytest.raises(OverflowError, match="no reader takes"):
                back_up(tmp_path / "to" / "set", tmp_path / "vol")
        assert files_of(tmp_path / "to") == before
