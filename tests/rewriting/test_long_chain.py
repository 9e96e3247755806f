"""A long chain: the files that are open at once and the memory have the same bounds as for a short one."""

import contextlib
import os
import random
import resource

import chains
import places
import pytest
from memory import MIB, measured
from rewrites import faults, rewrite

from blockdiff.rewriting.draft import draft

BLOCK = 4096


def chain_of(folder, links, blocks, share):
    """A set of so many links, of each of which a share of the blocks is changed."""
    rng = random.Random(links)
    backup_set = chains.new_set(folder)
    volume = bytearray(rng.randbytes(blocks * BLOCK))
    for _ in range(links):
        chains.write_version(backup_set, bytes(volume), BLOCK, member=4 * MIB)
        for _ in range(max(1, int(blocks * share))):
            place = rng.randrange(blocks) * BLOCK
            volume[place : place + BLOCK] = rng.randbytes(BLOCK)
    return backup_set


def test_a_chain_that_is_longer_than_the_files_that_may_be_open(tmp_path):
    backup_set = chain_of(tmp_path, 100, 40, 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 60, hard))
    try:
        rewrite(backup_set, 100, None)
        rewrite(backup_set, 99, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert faults(backup_set) == []


@pytest.mark.parametrize("number, onto, passes", [(12, None, 1), (100, None, 2), (99, 3, 2)])
def test_progress_ends_at_its_total(number, onto, passes, tmp_path):
    """What is read twice, as drafts of a chain that is too long to be merged at once, is a pass of its own."""
    backup_set = chain_of(tmp_path, number, 40, 0.05)
    seen = []

    @contextlib.contextmanager
    def progress(total_bytes):
        seen.append([total_bytes, 0])

        def done(count):
            seen[-1][1] += count

        yield done

    draft(backup_set, number, onto, threads=2, progress=progress).discard()

    assert len(seen) == passes
    for total, done in seen:
        assert 0.8 * total < done <= total  # members of a full that are not needed are not read


@pytest.mark.long
@pytest.mark.parametrize("links", [15, 400, 1000])
def test_memory_is_bounded_however_long_the_chain(links, disk):
    backup_set = chain_of(disk, links, 4096, 0.05)  # drafts of some versions are as large as the volume
    peak, _ = measured(places.ROOT / "bin" / "blockdiff-consolidate", backup_set.name)
    assert peak < 128 * MIB, f"{peak / MIB:.0f} MiB"
    assert faults(backup_set) == []
