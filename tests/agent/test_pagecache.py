"""The host's page cache after a backup: what was in memory is there still, what was not is not."""

import ctypes
import os
import pathlib
import random
import subprocess
import time

import pytest
from engine import back_up, restored

from agent import pagecache, scan, volume
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport

PAGE = os.sysconf("SC_PAGESIZE")
MIB = 1 << 20
SIZE = 24 * MIB + 3 * PAGE + 100


def resident(path):
    """Which pages of a file are in memory."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        found = ctypes.create_string_buffer(-(-size // PAGE))
        base = library.mmap(None, size, 1, 1, fd, 0)
        assert library.mincore(base, size, found) == 0
        library.munmap(base, size)
    finally:
        os.close(fd)
    return {number for number, byte in enumerate(found.raw) if byte & 1}


@pytest.fixture
def cold(tmp_path):
    """A file on a disk of which nothing is in memory."""
    path = tmp_path / "volume"
    path.write_bytes(random.Random(5).randbytes(SIZE))
    subprocess.run(["sync", path], check=True)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    if resident(path):
        pytest.skip("the temporary folder lies in memory")
    return path


def warm(path, runs):
    """Have these bytes in memory, and none beside them."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for start, length in runs:
        os.pread(fd, length, start)
    os.close(fd)


@pytest.mark.parametrize("block_size", [1000, 65536, 3 * MIB + 5])
def test_nothing_stays_in_memory_that_was_not_there(block_size, cold, tmp_path):
    back_up(tmp_path / "set", cold, block_size=block_size)
    assert not resident(cold)
    assert restored(tmp_path / "set", 1, tmp_path / "out") == cold.read_bytes()


@pytest.mark.parametrize(
    "runs",
    [
        [(0, SIZE)],
        [(0, 8 * MIB), (16 * MIB, 4 * MIB)],
        [(place, PAGE) for place in range(0, SIZE, MIB // 2)],
        [(place, MIB - PAGE) for place in range(PAGE, SIZE, MIB)],
    ],
    ids=["all", "in parts", "single pages", "all but single pages"],
)
def test_what_production_has_in_memory_stays_there(runs, cold, tmp_path):
    warm(cold, runs)
    before = resident(cold)
    assert before
    back_up(tmp_path / "set", cold)
    after = resident(cold)
    assert after <= before
    assert len(before - after) <= len(before) // 5  # the kernel may take pages back at any time, and some machines' do


def test_what_is_read_next_is_asked_for_before(cold, monkeypatch):
    """And never more than a bounded distance ahead."""
    source = volume.Volume(os.fsencode(cold))
    asked = []
    fetch = source.cache.fetch
    monkeypatch.setattr(source.cache, "fetch", lambda *bytes_: asked.append(bytes_) or fetch(*bytes_))
    distances = []
    for extent, _ in scan._ahead(source, scan.plan(source, 65536)):
        distances.append(sum(asked[-1]) - extent.offset - extent.length)
    source.close()
    assert max(distances) == scan.READ_AHEAD and distances[-1] == 0


def test_a_long_row_of_what_is_in_memory_is_not_gathered(cold, monkeypatch):
    monkeypatch.setattr(scan, "_MOST_AHEAD", 6)
    warm(cold, [(MIB, SIZE - MIB)])
    source = volume.Volume(os.fsencode(cold))
    extents = scan.plan(source, 4096)
    ahead = scan._ahead(source, extents)
    next(ahead)
    assert next(extents).first * 4096 == 7 * MIB
    ahead.close()
    source.close()


def test_a_closed_volume_is_not_in_use(cold):
    """A snapshot that is could not be removed."""
    source = volume.Volume(os.fsencode(cold))
    source.cache.fetch(0, MIB)
    maps = pathlib.Path("/proc/self/maps")
    assert str(cold) in maps.read_text()
    source.close()
    assert str(cold) not in maps.read_text()


def test_where_the_kernel_cannot_be_asked_nothing_is_ours(cold, monkeypatch):
    monkeypatch.setattr(pagecache, "ctypes", None)
    source = volume.Volume(os.fsencode(cold))
    assert source.cache.fetch(0, MIB) == []
    source.cache.drop([])
    source.close()


# memory that is short

LIMIT = 160 * MIB  # the agent itself, with what it shares, takes some 50 of it, and what is hot 24


@pytest.fixture
def short_memory():
    """A memory control group in which page cache, too, must give way beyond LIMIT; a command that enters it."""
    for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = pathlib.Path(parent, f"blockdiff-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / limit).exists():
            break
        group.rmdir()
    else:
        pytest.skip("no memory control group can be made")
    (group / limit).write_text(str(LIMIT))
    yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    for _ in range(100):  # what ran in it may take a moment to be gone
        try:
            group.rmdir()
            break
        except OSError:
            time.sleep(0.1)


def test_a_backup_of_more_than_fits_drives_out_nothing(short_memory, cold, tmp_path):
    hot = cold
    everything = -(-SIZE // PAGE)
    large = tmp_path / "large"
    large.write_bytes(2 * random.Random(6).randbytes(LIMIT))
    subprocess.run(["sync", large], check=True)

    def read_once(*paths):
        subprocess.run([*short_memory, "cat", *paths], check=True, stdout=subprocess.DEVNULL)

    def forget():
        for path in (hot, large):
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
            assert not resident(path)

    forget()
    read_once(hot, large)
    assert len(resident(hot)) < everything / 2, "reading drives out nothing here, so this test would show nothing"
    forget()
    read_once(hot)
    back_up(tmp_path / "set", large, connect=lambda: LocalTransport([*short_memory, *push.local_command()], share=True))
    assert len(resident(hot)) > everything * 0.7
    assert not resident(large)
