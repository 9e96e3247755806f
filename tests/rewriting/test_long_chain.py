"""A long chain: the files that are open at once and the memory have the same bounds as for a short one."""

import os
import random
import resource

import chains
import places
import pytest
from memory import MIB, measured
from rewrites import faults, rewrite

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


@pytest.mark.long
@pytest.mark.parametrize("links", [15, 400, 1000])
def test_memory_is_bounded_however_long_the_chain(links, disk):
    backup_set = chain_of(disk, links, 4096, 0.05)  # drafts of some versions are as large as the volume
    peak, _ = measured(places.ROOT / "bin" / "blockdiff-consolidate", backup_set.name)
    assert peak < 128 * MIB, f"{peak / MIB:.0f} MiB"
    assert faults(backup_set) == []
