"""Backups in tests: the real engine with the real agent in a process of its own."""

import os

from blockdiff import backup, restore
from blockdiff.ingest.job import Job
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.source.wanted import Wanted
from blockdiff.transport.local import LocalTransport


def local_agent(python=None):
    """What starts the agent on this machine."""
    return lambda: LocalTransport(push.local_command(python), share=True)


def back_up(
    name, path, *, connect=None, python=None, cores=2, warn=lambda line: None, note=lambda line: None, **wanted
):
    """Write the next version of a set; returns the Outcome."""
    # volumes of tests grow and shrink as no others do
    request = Wanted(path=os.path.abspath(path), **{"new_source": True, **wanted})
    job = Job(BackupSet(str(name)), request, connect or local_agent(python))
    return backup.run(job, cores=cores, warn=warn, note=note)


def restored(name, number, target):
    """Restore one version into a new file and return its bytes."""
    target = str(target)
    if os.path.exists(target):
        os.unlink(target)
    done = restore.restore(BackupSet(str(name)), number, target)
    assert done.failure is None, done
    with open(target, "rb") as file:
        data = file.read()
    os.unlink(target)
    return data


def files_of(folder):
    """Every file in a folder with its bytes, but for the locks."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith(".lock")}


