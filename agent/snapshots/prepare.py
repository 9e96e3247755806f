"""Decide whether a volume is read from a snapshot; prepare, describe or clean up snapshots.

The modules that snapshots need are loaded only for a logical volume.
"""

import os

from ..errors import AgentError
from . import lvm
from .runner import Runner


def prepare(path, wanted, timeout_s, last_received, log, hints=None):
    """Return the SnapshotVolume of a logical volume's path (bytes), or None: read the volume itself.

    `wanted` is a SnapshotRequest, `hints` a HintRequest; `log(line)` takes lines for the log.  Snapshots of
    dead runs are removed before, and bases that are of no use.  Raises AgentError.
    """
    run = Runner(log, wanted.verbose)
    name = os.fsdecode(path)
    found, rows = lvm.find(name, run)
    if found is None:
        if wanted.must:
            raise AgentError("NoSuchVolume", name, "it is not a logical volume")
        return None
    from . import sweep, volume

    notes = sweep.sweep(run, rows, of_set=wanted.set, hints=hints)
    for note in notes:
        log(note)
    if notes:  # it has changed something
        found, rows = lvm.find(name, run)
        if found is None:
            raise AgentError("NoSuchVolume", name, "it was removed")
    return volume.SnapshotVolume(found, wanted, timeout_s, last_received, log, rows)


def look(path, wanted, log):
    """Return what a snapshot of a path would be (sizing.plan), or None if it is no logical volume; makes nothing.

    Raises AgentError.
    """
    name = os.fsdecode(path)
    found, _ = lvm.find(name, Runner(log, wanted.verbose))
    if found is None:
        if wanted.must:
            raise AgentError("NoSuchVolume", name, "it is not a logical volume")
        return None
    from . import sizing

    return sizing.plan(found, sizing.extents(found, wanted.size))


def clear(ended, log):
    """Remove the snapshots that a run left which is over; `log` takes what was done."""
    from . import sweep

    for note in sweep.sweep(Runner(log), ended=(ended,)):
        log(note)
