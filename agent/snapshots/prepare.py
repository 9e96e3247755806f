"""The image that is read: the volume itself as it lives, or a snapshot of a logical volume.

What snapshots need is loaded where there is a logical volume; most of it is LVM's.
"""

import os

from ..errors import AgentError
from . import lvm
from .runner import Runner


def prepare(path, wanted, timeout_s, heard, say):
    """Return the SnapshotVolume for a path (bytes) that is a logical volume's, else None: it is read as it lives.

    `wanted` is a SnapshotRequest; `say(line)` takes lines for the log.  Snapshots
    of dead runs are swept before.  Raises AgentError.
    """
    run = Runner(say, wanted.verbose)
    name = os.fsdecode(path)
    if lvm.find(name, run) is None:
        if wanted.must:
            raise AgentError("NoSuchVolume", name, "it is not a logical volume")
        return None
    from . import sweep, volume

    for note in sweep.sweep(run):
        say(note)
    found = lvm.find(name, run)
    if found is None:
        raise AgentError("NoSuchVolume", name, "it is gone")
    return volume.SnapshotVolume(found, wanted, timeout_s, heard, say)


def look(path, wanted, say):
    """Return what a snapshot of a path would be (room.plan), None if it is no logical volume's; makes nothing.

    Raises AgentError.
    """
    name = os.fsdecode(path)
    found = lvm.find(name, Runner(say, wanted.verbose))
    if found is None:
        if wanted.must:
            raise AgentError("NoSuchVolume", name, "it is not a logical volume")
        return None
    from . import sizing

    return sizing.plan(found, sizing.extents(found, wanted.size))


def clear(ended, say):
    """Remove what a run that is over left here; `say` takes what was done."""
    from . import sweep

    for note in sweep.sweep(Runner(say), ended=(ended,)):
        say(note)
