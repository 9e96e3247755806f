"""Restores to a host in tests: the real engine with the real agent in a process of its own."""

from blockdiff import restore
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.source.hosttarget import HostTarget
from blockdiff.source.wanted import Wanted
from blockdiff.transport.local import LocalTransport


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
