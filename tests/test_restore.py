"""Restores: the right bytes and the right size, or an error that tells what is right."""

import hashlib
import os
import pathlib
import random
import struct

import chains
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff import codecs, restore, verify
from blockdiff.errors import (
    ChainBroken,
    DamagedFile,
    DigestMismatch,
    ForeignFiles,
    NoSuchSet,
    NoSuchVersion,
    StoreUnreadable,
    TargetRefused,
)

BLOCK = 512
OURS = [codecs.PLAIN, codecs.GZIP, codecs.ZSTD]
IDS = ["plain", "gzip", "zstd"]


def back(backup_set, number, path, **options):
    """Restore to a new file, insist that it went well, and return the bytes."""
    done = restore.restore(backup_set, number, str(path), **options)
    assert done.failure is None
    data = path.read_bytes()
    assert done.size == len(data) and done.path == str(path)
    path.unlink()
    return data


def history(seed, rounds, most=60):
    """Volumes that are edited, zeroed, grown and shrunk."""
    rnd = random.Random(seed)
    volume = bytearray(rnd.randbytes(rnd.randrange(most * BLOCK)))
    volumes = []
    for _ in range(rounds):
        volumes.append(bytes(volume))
        for _ in range(rnd.randrange(6)):
            what, place = rnd.randrange(5), rnd.randrange(len(volume) + 1)
            if what == 0:
                volume[place : place + 5] = rnd.randbytes(len(volume[place : place + 5]))
            elif what == 1:
                volume[place : place + 5 * BLOCK] = bytes(len(volume[place : place + 5 * BLOCK]))
            elif what == 2:
                volume += rnd.randbytes(rnd.randrange(4 * BLOCK))
            elif what == 3:
                volume += bytes(rnd.randrange(12 * BLOCK))
            else:
                del volume[place:]
    return volumes


@pytest.mark.parametrize("codec", OURS, ids=IDS)
@pytest.mark.parametrize("seed", range(6))
def test_every_version_restores(codec, seed, tmp_path):
    backup_set = chains.new_set(tmp_path)
    volumes = history(seed, 8)
    for number, volume in enumerate(volumes, 1):
        chains.write_version(backup_set, volume, BLOCK, codec, member=3000, full=number == 5)

    for number, volume in enumerate(volumes, 1):
        assert back(backup_set, number, tmp_path / "out") == volume
    assert back(backup_set, None, tmp_path / "out") == volumes[-1]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_history_in_any_mixture_restores(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    backup_set = chains.new_set(folder)
    block_size = data.draw(st.sampled_from([1, 3, 64, 512, 4096]))
    volumes = [v[: 300 if block_size == 1 else None] for v in history(data.draw(st.integers(0, 9999)), 5, 20)]
    for volume in volumes:
        original = data.draw(st.booleans())
        codec = data.draw(st.sampled_from([codecs.PLAIN, codecs.GZIP] if original else OURS))
        full = not original and data.draw(st.booleans())
        chains.write_version(backup_set, volume, block_size, codec, original=original, full=full, member=2000)

    for number, volume in enumerate(volumes, 1):
        assert back(backup_set, number, folder / "out") == volume


@pytest.mark.parametrize("codec", OURS, ids=IDS)
def test_zeros_are_holes_in_a_new_file(codec, tmp_path):
    backup_set = chains.new_set(tmp_path)
    size = 64 * 65536
    volume = os.urandom(65536) + bytes(size - 2 * 65536) + os.urandom(65536)
    chains.write_version(backup_set, volume, 65536, codec)

    done = restore.restore(backup_set, 1, str(tmp_path / "out"))

    assert done.failure is None and (done.written, done.zeros) == (2 * 65536, size - 2 * 65536)
    assert (tmp_path / "out").read_bytes() == volume
    assert (tmp_path / "out").stat().st_blocks * 512 < size // 4


@pytest.mark.parametrize("codec", OURS, ids=IDS)
@pytest.mark.parametrize("length", [0, 1, 7000, 90000])
def test_an_existing_file_gets_the_exact_bytes_and_size(codec, length, tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(5 * BLOCK) + bytes(90 * BLOCK) + os.urandom(BLOCK + 3)
    chains.write_version(backup_set, volume, BLOCK, codec)
    (tmp_path / "out").write_bytes(b"\xee" * length)

    done = restore.restore(backup_set, 1, str(tmp_path / "out"), force=True)

    assert done.failure is None
    assert (tmp_path / "out").read_bytes() == volume


def test_a_file_with_something_in_it_is_refused(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * 2000, BLOCK)
    (tmp_path / "out").write_bytes(b"precious")

    with pytest.raises(TargetRefused, match="8 bytes"):
        restore.restore(backup_set, 1, str(tmp_path / "out"))
    with pytest.raises(TargetRefused, match="8 bytes"):
        restore.restore(backup_set, 1, str(tmp_path / "out"), dry_run=True)

    assert (tmp_path / "out").read_bytes() == b"precious"


def test_the_sets_own_files_are_refused_even_with_force(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * 2000, BLOCK)
    before = pathlib.Path(backup_set.path(1, ".gz")).read_bytes()

    for suffix in (".gz", ".md5", ".json"):
        with pytest.raises(TargetRefused, match="of the set"):
            restore.restore(backup_set, 1, backup_set.path(1, suffix), force=True)

    assert pathlib.Path(backup_set.path(1, ".gz")).read_bytes() == before


def test_only_members_with_a_wanted_block_are_read(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(400 * BLOCK))
    chains.write_version(backup_set, bytes(volume), BLOCK, member=10 * BLOCK)
    volume[: 390 * BLOCK] = os.urandom(390 * BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, member=10 * BLOCK)

    done = restore.restore(backup_set, 2, str(tmp_path / "out"))

    assert (tmp_path / "out").read_bytes() == volume
    first, second = (os.path.getsize(backup_set.path(n, ".gz")) for n in (1, 2))
    assert second <= done.read < second + first // 10


def test_a_version_that_is_not_needed_any_more_is_not_read(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for _ in range(2):
        volume = os.urandom(20 * BLOCK)
        chains.write_version(backup_set, volume, BLOCK)
    with open(backup_set.path(1, ".gz"), "r+b") as file:
        file.write(b"\0" * 1000)

    done = restore.restore(backup_set, 2, str(tmp_path / "out"))

    assert done.failure is None and not done.warnings
    assert (tmp_path / "out").read_bytes() == volume


def test_a_dry_run_writes_nothing_and_tells_what_it_would_read(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * 5000, BLOCK)
    chains.write_version(backup_set, b"x" * 4000 + b"y" * 1000, BLOCK)

    done = restore.restore(backup_set, None, str(tmp_path / "out"), dry_run=True)

    assert done.dry_run and done.version == 2 and done.size == 5000
    assert [(n, path) for n, path, _ in done.files] == [(2, backup_set.path(2, ".gz")), (1, backup_set.path(1, ".gz"))]
    assert sorted(os.listdir(tmp_path)) == sorted(name for name in os.listdir(tmp_path) if name.startswith("vol."))


def damaged(backup_set, tmp_path):
    """Three versions; a block that only version 1 holds is damaged, its member's first byte of data."""
    volume = bytearray(os.urandom(40 * BLOCK))
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN, with_index=False)
    volume[:BLOCK] = os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    with open(backup_set.path(1, ""), "r+b") as file:
        file.seek(4 + 20 * (8 + BLOCK) + 8)
        file.write(b"\xff\x00")
    return volume


def test_a_failed_restore_tells_what_is_right(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = damaged(backup_set, tmp_path)

    done = restore.restore(backup_set, 2, str(tmp_path / "out"))

    assert isinstance(done.failure, DigestMismatch) and done.exit_code == 53
    assert f"bytes {20 * BLOCK} to {21 * BLOCK - 1}" in str(done.failure)
    assert not (tmp_path / "out").exists()
    data = pathlib.Path(done.path).read_bytes()
    assert done.right and done.right_bytes == sum(end - start for start, end in done.right)
    for start, end in done.right:
        assert data[start:end] == volume[start:end]
    assert all(not start <= 20 * BLOCK < end for start, end in done.right)


def test_force_goes_on_and_gives_everything_but_the_damage(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = damaged(backup_set, tmp_path)

    done = restore.restore(backup_set, 2, str(tmp_path / "out"), force=True)

    assert isinstance(done.failure, DigestMismatch)
    assert done.right == [(0, 20 * BLOCK), (21 * BLOCK, 40 * BLOCK)]
    data = pathlib.Path(done.path).read_bytes()
    assert all(data[start:end] == volume[start:end] for start, end in done.right)


def test_damage_that_this_version_does_not_need_is_a_warning(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(damaged(backup_set, tmp_path))
    volume[20 * BLOCK : 21 * BLOCK] = os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    with open(backup_set.path(2, ""), "r+b") as file:
        file.write(struct.pack("<I", BLOCK + 1))  # its header; its only record is overwritten below, too
    volume[:BLOCK] = os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)

    done = restore.restore(backup_set, 4, str(tmp_path / "out"))

    assert done.failure is None and done.exit_code == 3
    assert "does not need it" in done.warnings[0]
    assert (tmp_path / "out").read_bytes() == volume


def test_a_failed_restore_can_be_run_again(tmp_path):
    backup_set = chains.new_set(tmp_path)
    damaged(backup_set, tmp_path)
    assert restore.restore(backup_set, 2, str(tmp_path / "out")).failure
    (tmp_path / "other").mkdir()
    volume = os.urandom(3 * BLOCK)
    whole = chains.new_set(tmp_path / "other")
    chains.write_version(whole, volume, BLOCK)

    assert back(whole, 1, tmp_path / "out") == volume
    assert not [name for name in os.listdir(tmp_path) if "part" in name]


def test_a_link_that_does_not_join_stops_unless_forced(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(9 * BLOCK))
    chains.write_version(backup_set, bytes(volume), BLOCK)
    volume[:BLOCK] = os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK)
    other = chains.new_set(tmp_path, "other")
    chains.write_version(other, bytes(volume), BLOCK)
    for suffix in (".gz", ".md5", ".json", ".idx", ".xxh128"):
        os.rename(other.path(1, suffix), backup_set.path(1, suffix))

    with pytest.raises(ChainBroken, match="does not continue"):
        restore.restore(backup_set, 2, str(tmp_path / "out"))

    done = restore.restore(backup_set, 2, str(tmp_path / "out"), force=True)
    assert done.failure is None and done.exit_code == 3
    assert (tmp_path / "out").read_bytes() == volume


def test_a_missing_version_breaks_the_chain(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(9 * BLOCK))
    for number in range(3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK)
    for suffix in (".gz", ".md5", ".json", ".idx", ".xxh128"):
        os.unlink(backup_set.path(2, suffix))

    with pytest.raises(ChainBroken, match="version 2 is missing"):
        restore.restore(backup_set, 3, str(tmp_path / "out"))
    assert back(backup_set, 1, tmp_path / "out")

    done = restore.restore(backup_set, 3, str(tmp_path / "out"), force=True)
    assert done.failure is not None  # block 1 was only in version 2
    assert done.right == [(0, BLOCK), (2 * BLOCK, 9 * BLOCK)]


def test_no_such_set_or_version(tmp_path):
    backup_set = chains.new_set(tmp_path)
    with pytest.raises(NoSuchSet):
        restore.restore(backup_set, None, str(tmp_path / "out"))
    chains.write_version(backup_set, b"abc", BLOCK)
    with pytest.raises(NoSuchVersion):
        restore.restore(backup_set, 2, str(tmp_path / "out"))


@pytest.mark.parametrize("ver", [None, b"", b"x\n", b"7\n", b"2"])
def test_without_a_good_ver_nothing_is_guessed(ver, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"one", BLOCK)
    chains.write_version(backup_set, b"two", BLOCK)
    path = backup_set.name + ".ver"
    os.unlink(path)
    if ver is not None:
        with open(path, "wb") as file:
            file.write(ver)

    with pytest.raises(ForeignFiles):
        restore.restore(backup_set, None, str(tmp_path / "out"))
    with pytest.raises(ForeignFiles):
        restore.restore(backup_set, 2, str(tmp_path / "out"))
    assert back(backup_set, 1, tmp_path / "out", force=True) == b"one"


def test_versions_above_ver_are_told_and_not_taken(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"one", BLOCK)
    chains.write_version(backup_set, b"two", BLOCK)
    backup_set.publish_ver(1)

    done = restore.restore(backup_set, None, str(tmp_path / "out"))

    assert (done.version, done.exit_code) == (1, 3) and "version 2" in done.warnings[0]
    assert (tmp_path / "out").read_bytes() == b"one"
    with pytest.raises(NoSuchVersion):
        restore.restore(backup_set, 2, str(tmp_path / "out2"))


def test_a_digest_file_cut_on_a_digests_border_does_not_shrink_the_volume(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(5 * BLOCK), BLOCK)
    os.truncate(backup_set.path(1, ".md5"), 4 + 3 * 16)

    with pytest.raises(DamagedFile, match="md5"):
        restore.restore(backup_set, 1, str(tmp_path / "out"))


def test_what_the_original_overwrote_is_restored_as_the_originals(tmp_path):
    """A run of ours died after its renames, the original wrote the same number, ours went on."""
    backup_set = chains.new_set(tmp_path)
    one, ours, theirs, three = (os.urandom(6 * BLOCK) for _ in range(4))
    chains.write_version(backup_set, one, BLOCK)
    for codec, codec_theirs in ((codecs.ZSTD, codecs.GZIP), (codecs.GZIP, codecs.GZIP), (codecs.GZIP, codecs.PLAIN)):
        chains.write_version(backup_set, ours, BLOCK, codec)
        backup_set.publish_ver(1)
        chains.write_version(backup_set, theirs, BLOCK, codec_theirs, original=True)
        chains.write_version(backup_set, three, BLOCK, codec)

        assert back(backup_set, 2, tmp_path / "out") == theirs
        assert back(backup_set, 3, tmp_path / "out") == three
        for number in (2, 3):
            for suffix in backup_set.listing().versions[number]:
                os.unlink(backup_set.path(number, suffix))
        backup_set.publish_ver(1)


def test_a_block_size_of_16_mib_and_one_of_a_byte(tmp_path):
    big = chains.new_set(tmp_path, "big")
    volume = bytes(16 << 20) + hashlib.sha512(b"x").digest()
    chains.write_version(big, volume, 16 << 20, codecs.ZSTD)
    assert back(big, 1, tmp_path / "out") == volume
    small = chains.new_set(tmp_path, "small")
    chains.write_version(small, b"hello", 1)
    chains.write_version(small, b"hallo", 1)
    assert back(small, None, tmp_path / "out") == b"hallo"


def test_a_diff_file_that_cannot_be_opened_is_not_called_torn(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"one", BLOCK, original=True)
    os.unlink(backup_set.path(1, ".gz"))
    os.symlink("vol.1.gz", backup_set.path(1, ".gz"))

    with pytest.raises(StoreUnreadable, match=r"cannot read .*vol\.1\.gz: Too many levels"):
        restore.restore(backup_set, 1, str(tmp_path / "out"))


def test_a_restore_proves_a_version_if_all_that_its_own_file_must_have_was_there(tmp_path):
    backup_set = chains.new_set(tmp_path)
    first = os.urandom(6 * BLOCK)
    for volume in (first, os.urandom(BLOCK) + first[BLOCK:], first):
        chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN, original=True)

    def proof():
        done = restore.restore(backup_set, None, str(tmp_path / "out"), force=True)
        assert done.failure is None and (tmp_path / "out").read_bytes() == first
        return done.proof

    good = proof()
    assert good is not None and good.same_files(verify.verify(backup_set).proofs[3])
    os.truncate(backup_set.path(3, ""), 4)  # what it must have is also in version 1
    assert proof() is None and not verify.verify(backup_set).versions[2].earned
