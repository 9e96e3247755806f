"""Targets: new files, existing files, real block devices."""

import os
import stat

import chains
import pytest
from devices import mounted

from blockdiff import codecs, restore
from blockdiff.errors import TargetFailed, TargetRefused
from blockdiff.target import precheck
from blockdiff.target.precheck import look
from blockdiff.target.writer import PART, Target

MIB = 1024 * 1024


def now(seconds):
    """Wait for nobody."""


def target(path, size=None, force=False):
    seen = look(str(path), pause=now)
    precheck.check(seen, size or 0, force)
    return Target(seen, size)


# new files


def test_a_new_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "out"
    with target(path, 10000) as sink:
        sink.write(4096, [b"abc", b"", memoryview(b"defg")])
        assert not path.exists() and (tmp_path / ("out" + PART)).exists()
        sink.finish(10000)

    assert path.read_bytes() == bytes(4096) + b"abcdefg" + bytes(10000 - 4103)
    assert os.listdir(tmp_path) == ["out"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_dead_run_left_is_replaced_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "out"
    (tmp_path / ("out" + PART)).write_bytes(b"old" * 5000)
    with target(path) as sink:
        with pytest.raises(TargetRefused, match="another run"):
            target(path)
        sink.finish(3)

    assert path.read_bytes() == bytes(3)


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out"
    with target(path, 5) as sink:
        path.write_bytes(b"theirs")
        with pytest.raises(TargetRefused, match="created meanwhile"):
            sink.finish(5)

    assert path.read_bytes() == b"theirs" and (tmp_path / ("out" + PART)).stat().st_size == 5


def test_more_buffers_than_one_call_takes(tmp_path):
    parts = [bytes([i % 256]) * (i % 7) for i in range(3000)]
    with target(tmp_path / "out") as sink:
        sink.write(0, parts)
        sink.finish(sum(map(len, parts)))

    assert (tmp_path / "out").read_bytes() == b"".join(parts)


def test_a_full_disk_is_an_error(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with mounted("tmpfs", tmp_path / "small", "-o", "size=64k") as folder, target(folder / "out", 4 * MIB) as sink:
        with pytest.raises(TargetFailed, match="No space"):
            sink.write(0, [bytes(MIB)])
        assert not (folder / "out").exists()


def test_zeros_over_what_was_there(tmp_path):
    for size in (5, 4096, 10000, 3 * MIB + 17):
        path = tmp_path / f"out{size}"
        path.write_bytes(b"\xaa" * size)
        with target(path, size, force=True) as sink:
            sink.zero(1, size - 2)
            sink.finish(size)
        assert path.read_bytes() == b"\xaa" + bytes(size - 2) + b"\xaa"


# real devices


def read_device(device):
    with open(device, "rb") as file:
        return file.read()


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("block_size", [512, 4096, 1000, 65536])
def test_a_restore_to_a_larger_device_leaves_the_rest_alone(codec, block_size, loop, tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(700_000) + bytes(800_000) + os.urandom(1234))
    chains.write_version(backup_set, bytes(volume), block_size, codec)
    volume[3000:600_000] = bytes(597_000)
    chains.write_version(backup_set, bytes(volume), block_size, codec)

    done = restore.restore(backup_set, 2, loop)

    assert done.failure is None and done.exit_code == 0
    assert any(f"last {4 * MIB - len(volume)} bytes are left" in line for line in done.notes)
    data = read_device(loop)
    assert data[: len(volume)] == volume
    assert data[len(volume) :] == b"\xcc" * (4 * MIB - len(volume))


def test_a_device_that_is_too_small_is_refused_with_force_too(loop, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, bytes(4 * MIB + 1), 65536)
    for force in (False, True):
        with pytest.raises(TargetRefused, match=f"it has {4 * MIB} bytes, the volume {4 * MIB + 1}"):
            restore.restore(backup_set, 1, loop, force=force)
    assert read_device(loop) == b"\xcc" * (4 * MIB)


def test_the_originals_chain_on_a_device_one_byte_too_small(loop, tmp_path):
    """Its size is known only when its last block is read: then it fails, and says what is right."""
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(4 * MIB + 1)
    chains.write_version(backup_set, volume[:-1], MIB, codecs.PLAIN, original=True)
    assert restore.restore(backup_set, 1, loop).failure is None
    odd = chains.new_set(tmp_path, "odd")
    chains.write_version(odd, volume, 3 * MIB, codecs.PLAIN, original=True)

    done = restore.restore(odd, 1, loop)

    assert isinstance(done.failure, TargetFailed) and done.right in ([(0, 3 * MIB)], [])


def test_zeroing_a_device_keeps_its_neighbours(loop):
    with target(loop) as sink:
        for offset, length in ((1, 1), (511, 2), (5000, 9000), (MIB - 7, MIB + 14), (4 * MIB - 3, 3)):
            sink.zero(offset, length)
        sink.finish(0)
    data = bytearray(b"\xcc" * (4 * MIB))
    for offset, length in ((1, 1), (511, 2), (5000, 9000), (MIB - 7, MIB + 14), (4 * MIB - 3, 3)):
        data[offset : offset + length] = bytes(length)

    assert read_device(loop) == data
