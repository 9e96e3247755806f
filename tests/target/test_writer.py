"""Targets: new files, files that are there, real block devices; and who must not be written over."""

import os
import pathlib
import shutil
import stat
import subprocess

import chains
import pytest
from devices import loop_device, mounted

from blockdiff import codecs, restore
from blockdiff.errors import TargetFailed, TargetRefused
from blockdiff.target import inuse, precheck
from blockdiff.target.precheck import DEVICE, FILE, NEW, TargetState, look
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


# what can never be a target


def test_neither_file_nor_device(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "dangling", tmp_path / "no" / "such", "/dev/null"):
        with pytest.raises(TargetRefused):
            look(str(path))


def test_an_empty_file_may_be_written_and_another_not(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"")
    assert look(str(path)) == TargetState(str(path), FILE)
    path.write_bytes(b"x" * 700)
    seen = look(str(path))
    assert seen.size == 700
    with pytest.raises(TargetRefused, match="700 bytes"):
        precheck.check(seen, 0)
    precheck.check(seen, 0, force=True)


def test_zeros_over_what_was_there(tmp_path):
    for size in (5, 4096, 10000, 3 * MIB + 17):
        path = tmp_path / f"out{size}"
        path.write_bytes(b"\xaa" * size)
        with target(path, size, force=True) as sink:
            sink.zero(1, size - 2)
            sink.finish(size)
        assert path.read_bytes() == b"\xaa" + bytes(size - 2) + b"\xaa"


# who uses it, from the kernel's own tables


def fake_tables(folder, number="8:16", partition="8:17"):
    """sysfs and proc as a machine with device mapper, md, swap and odd mounts shows them."""
    disk = folder / "sys" / "dev" / "block" / number
    (disk / "holders").mkdir(parents=True)
    part = disk / "sdb1"
    (part / "holders").mkdir(parents=True)
    (part / "partition").write_text("1\n")
    (part / "dev").write_text(partition + "\n")
    (folder / "sys" / "dev" / "block" / partition).symlink_to(part)
    (folder / "sys" / "block").mkdir()
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    (folder / "proc" / "self" / "mountinfo").write_text("21 1 0:20 / /proc rw - proc proc rw\n")
    return disk, part


def seen_by(folder, number=(8, 16)):
    return inuse.of_device(os.makedev(*number), str(folder / "sys"), str(folder / "proc"))


def test_nobody_holds_it(tmp_path):
    fake_tables(tmp_path)
    assert seen_by(tmp_path) == []


def test_device_mapper_and_md_are_named(tmp_path):
    disk, part = fake_tables(tmp_path)
    (disk / "holders" / "md127").mkdir()
    (part / "holders" / "dm-3" / "dm").mkdir(parents=True)
    (part / "holders" / "dm-3" / "dm" / "name").write_text("vg0-root\n")

    assert seen_by(tmp_path) == [
        "it is held by device md127",
        "its partition sdb1 is held by device mapper (vg0-root)",
    ]


def test_mounts_are_named_with_their_odd_letters(tmp_path):
    fake_tables(tmp_path)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "21 1 0:20 / /proc rw - proc proc rw\n"
        "30 1 8:17 / /srv/a\\040b rw,noatime shared:1 - ext4 /dev/sdb1 rw\n"
        "short line\n"
    )

    assert seen_by(tmp_path) == ["its partition sdb1 is mounted on /srv/a b"]
    assert seen_by(tmp_path, (8, 17)) == ["it is mounted on /srv/a b"]


# real devices


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"\xcc" * (4 * MIB))
    return path


@pytest.fixture
def loop(image):
    with loop_device(image) as device:
        yield device


def read_device(device):
    with open(device, "rb") as file:
        return file.read()


def test_a_device_is_looked_at(loop):
    seen = look(loop)

    assert (seen.kind, seen.size, seen.holds, seen.used) == (DEVICE, 4 * MIB, "", ())


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.ZSTD], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("block_size", [512, 4096, 1000, 65536])
def test_a_restore_to_a_larger_device_leaves_the_rest_alone(codec, block_size, loop, tmp_path):
    store = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(700_000) + bytes(800_000) + os.urandom(1234))
    chains.write_version(store, bytes(volume), block_size, codec)
    volume[3000:600_000] = bytes(597_000)
    chains.write_version(store, bytes(volume), block_size, codec)

    done = restore.restore(store, 2, loop)

    assert done.failure is None and done.exit_code == 0
    assert any(f"last {4 * MIB - len(volume)} bytes are left" in line for line in done.notes)
    data = read_device(loop)
    assert data[: len(volume)] == volume
    assert data[len(volume) :] == b"\xcc" * (4 * MIB - len(volume))


def test_a_device_that_is_too_small_is_refused_with_force_too(loop, tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, bytes(4 * MIB + 1), 65536)
    for force in (False, True):
        with pytest.raises(TargetRefused, match=f"it has {4 * MIB} bytes, the volume {4 * MIB + 1}"):
            restore.restore(store, 1, loop, force=force)
    assert read_device(loop) == b"\xcc" * (4 * MIB)


def test_the_originals_chain_on_a_device_one_byte_too_small(loop, tmp_path):
    """Its size is known only when its last block is read: then it fails, and says what is right."""
    store = chains.new_set(tmp_path)
    volume = os.urandom(4 * MIB + 1)
    chains.write_version(store, volume[:-1], MIB, codecs.PLAIN, original=True)
    assert restore.restore(store, 1, loop).failure is None
    odd = chains.new_set(tmp_path, "odd")
    chains.write_version(odd, volume, 3 * MIB, codecs.PLAIN, original=True)

    done = restore.restore(odd, 1, loop)

    assert isinstance(done.failure, TargetFailed) and done.right in ([(0, 3 * MIB)], [])


def test_a_mounted_device_is_refused_and_named(loop, tmp_path):
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    store = chains.new_set(tmp_path)
    chains.write_version(store, b"x" * MIB, 65536)
    with mounted("ext4", tmp_path / "a b", source=loop) as folder:
        assert look(loop, pause=now).used == (f"it is mounted on {folder}",)
        for force in (False, True):
            with pytest.raises(TargetRefused, match="mounted on"):
                restore.restore(store, 1, loop, force=force)
    # a namespace that was copied meanwhile may hold the mount still, but it is nobody's here
    assert not any("mounted" in who for who in look(loop, pause=now).used)


def test_a_device_that_an_unknown_one_holds_is_refused(loop, tmp_path):
    """As one that another container has mounted: only the kernel's answer tells."""
    seen = look(loop)
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    script = f"mount {loop} {tmp_path} && echo mounted && read line"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script], **pipes) as other:
        if other.stdout.readline() != "mounted\n":
            pytest.skip("no mount of one's own here")
        for force in (False, True):
            with pytest.raises(TargetRefused, match="device is busy; holder unknown"):
                target(loop, force=force)
        with pytest.raises(TargetRefused, match="device is busy; holder unknown"):
            Target(seen)  # claimed since it was looked at
        other.communicate("end\n")


def test_swap_is_refused(loop):
    subprocess.run(["mkswap", loop], check=True, capture_output=True)
    if subprocess.run(["swapon", loop], capture_output=True).returncode:
        pytest.skip("cannot swap on a loop device here")
    try:
        assert look(loop, pause=now).used == ("it is swap",)
    finally:
        subprocess.run(["swapoff", loop], check=True)


def test_a_disk_with_a_mounted_partition_is_refused(image, tmp_path):
    if shutil.which("sfdisk") is None:
        pytest.skip("sfdisk is not installed")
    subprocess.run(["sfdisk", "-q", str(image)], input=b"2048,4096\n", check=True, capture_output=True)
    with loop_device(image, "-P") as device:
        partition = device + "p1"
        if not os.path.exists(partition):
            pytest.skip("the kernel makes no partition device here")
        subprocess.run(["mkfs.ext4", "-q", partition], check=True, capture_output=True)
        with mounted("ext4", tmp_path / "mnt", source=partition) as folder:
            name = os.path.basename(partition)
            assert look(device, pause=now).used == (f"its partition {name} is mounted on {folder}",)
            assert look(partition, pause=now).used == (f"it is mounted on {folder}",)
            with pytest.raises(TargetRefused):
                target(device)


def test_the_file_behind_a_loop_device_is_refused(loop, image):
    seen = look(str(image), pause=now)

    assert f"it is behind {loop}" in seen.used


def test_a_loop_device_on_a_device_is_seen(loop):
    with loop_device(loop) as second:
        assert look(loop, pause=now).used == (f"it is behind {second}",)


def test_zeroing_a_device_keeps_its_neighbours(loop):
    with target(loop) as sink:
        for offset, length in ((1, 1), (511, 2), (5000, 9000), (MIB - 7, MIB + 14), (4 * MIB - 3, 3)):
            sink.zero(offset, length)
        sink.finish(0)
    data = bytearray(b"\xcc" * (4 * MIB))
    for offset, length in ((1, 1), (511, 2), (5000, 9000), (MIB - 7, MIB + 14), (4 * MIB - 3, 3)):
        data[offset : offset + length] = bytes(length)

    assert read_device(loop) == data


def test_kinds_are_told(tmp_path):
    assert look(str(tmp_path / "new")).kind == NEW
    assert pathlib.Path(tmp_path / "new").exists() is False
