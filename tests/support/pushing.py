"""Restores to a host in tests: the real engine with the real agent in a process of its own."""

import hashlib

import chains
import pytest

from blockdiff import codecs, restore
from blockdiff.formats import digestfile
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.source.hosttarget import HostTarget
from blockdiff.source.wanted import Wanted
from blockdiff.transport.local import LocalTransport

BLOCK = 100
OLD = b"".join(bytes([65 + n]) * BLOCK for n in range(20)) + b"tail"
NEW = OLD[:200] + b"edited by " * 20 + OLD[400:900] + bytes(300) + OLD[1200:1900] + b"the end" * 5
MD5 = b"".join(chains.md5(block) for block in chains.blocks_of(NEW, BLOCK))
SHA256 = hashlib.sha256(digestfile.encode_header(BLOCK) + MD5).hexdigest()


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    """A set whose version 2 is NEW; without XXH3-128, so that conversations are the same everywhere."""
    backup_set = chains.new_set(tmp_path_factory.mktemp("backups"))
    for volume in (OLD, NEW):
        chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN)
    return backup_set.name


def agent(python=None, argv=()):
    """What starts the agent on this machine, as on another."""
    return lambda: LocalTransport([*argv, *push.local_command(python)])


def pushed(name, number, path, *, connect=None, rescan=False, lines=None, **options):
    """Push a version to a target; returns (what was done, the target)."""
    told = [] if lines is None else lines
    how = {key: options.pop(key) for key in ("timeout_s", "progress_s", "bwlimit", "threads") if key in options}
    goal = HostTarget(Wanted(path=str(path), **how), connect or agent(), md5=rescan, warn=told.append, note=told.append)
    with goal:
        return restore.restore(BackupSet(str(name)), number, goal, **options), goal
