"""The host's page cache after a backup: what was in memory is there still, what was not is not."""

import os
import pathlib
import random
import subprocess
import time

import pytest
from engine import back_up, restored
from residency import MIB, PAGE, SIZE, resident, warm

from agent import pagecache, volume
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport


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


def test_a_backup_of_more_than_fits_drives_out_nothing(short_memory, cold, disk, tmp_path):
    hot = cold
    everything = -(-SIZE // PAGE)
    large = disk / "large"
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
