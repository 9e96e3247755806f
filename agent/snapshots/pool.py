"""A thin pool as the kernel has it, and the snapshot of its metadata that thin_delta reads.

A pool has at most one such snapshot, of whoever: one that is found is never released here.
"""

import errno
import fcntl
import os
import subprocess
import threading
import typing

from . import mapper
from .runner import ProgramFailed, environment
from .thindelta import SECTOR, Doubt, parse

PERCENT_MOST = 80.0  # of a pool's data or metadata: above it no base is kept or used
DELTA_MOST_S = 900.0


class Pool(typing.NamedTuple):
    """A pool's devices; plain values, so that they can be sent to another process."""

    name: str  # of the device-mapper device that takes messages
    metadata: str  # path of the metadata's device


class Device(typing.NamedTuple):
    """A thin device of a pool."""

    number: int  # the pool's id of it
    mapped: int  # bytes that the pool has allocated to it


def find(device, run):
    """Return the (Pool, Device) of an active thin volume's path.  Raises Doubt or ProgramFailed."""
    try:
        folder = mapper.folder(device)
        name = mapper.name(folder)
        pool = mapper.below(folder, "-tpool")
        metadata = mapper.below(pool, "-tmeta")
    except (OSError, ValueError) as error:
        raise Doubt("the devices of its thin pool are not found: %s" % error) from error
    table, state = mapper.line(run, "table", name, "thin"), mapper.line(run, "status", name, "thin")
    if len(table) != 5:  # what is not allocated would be that origin's
        raise Doubt("it has an external origin")
    try:
        found = Device(int(table[4]), int(state[3]) * SECTOR)
    except (IndexError, ValueError):
        raise Doubt("its state is %s" % " ".join(state[2:])) from None
    path = os.path.join("/dev/mapper", mapper.name(metadata))
    if not os.path.exists(path):
        path = os.path.join("/dev", os.path.basename(os.path.realpath(metadata)))
    return Pool(mapper.name(pool), path), found


def check(pool, run):
    """Raise Doubt unless a base may be used or kept in this Pool now; or ProgramFailed."""
    state = _state(pool, run)
    if not mapper.healthy(state):
        raise Doubt("the thin pool %s is not in order: %s" % (pool.name, " ".join(state[7:])))
    for what, place in (("metadata", 4), ("data", 5)):
        try:
            full = mapper.percent(state[place]) > PERCENT_MOST
        except ValueError:
            raise Doubt("the state of the thin pool %s is %s" % (pool.name, " ".join(state[2:]))) from None
        if full:
            raise Doubt("the thin pool %s is more than %d %% full (%s)" % (pool.name, PERCENT_MOST, what))


def _state(pool, run):
    """Return the words of a pool's state.  Raises Doubt or ProgramFailed."""
    state = mapper.line(run, "status", pool.name, "thin-pool")
    if len(state) < 8:
        raise Doubt("the state of the thin pool %s is %s" % (pool.name, " ".join(state[2:])))
    return state


class MetadataSnapshot:
    """A reservation of the snapshot of a pool's metadata; it must be released."""

    def __init__(self, pool, run):
        self._pool = pool
        self._run = run
        self._lock = None  # descriptor: one run of ours at a time

    def reserve(self):
        """Return whether it was reserved; False while another run of ours has it.  Raises Doubt or ProgramFailed."""
        try:
            lock = os.open(self._pool.metadata, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Doubt("cannot open %s: %s" % (self._pool.metadata, error.strerror)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reserve()
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        self._lock = lock
        return True

    def _reserve(self):
        try:
            self._run("dmsetup", "message", self._pool.name, "0", "reserve_metadata_snap")
        except ProgramFailed:  # the kernel reserves it once only
            if _state(self._pool, self._run)[6] == "-":
                raise
            raise Doubt(
                "the metadata of the thin pool %s is reserved by another program, or by a run that died; "
                "hint: if none uses it, dmsetup message %s 0 release_metadata_snap"
                % (self._pool.name, self._pool.name)
            ) from None

    def release(self):
        """Release it if it was reserved; returns why it could not be released, or None."""
        lock, self._lock = self._lock, None
        if lock is None:
            return None
        try:
            return release(self._pool, self._run)
        finally:
            os.close(lock)


def release(pool, run):
    """Release a reservation that is known to be ours; returns why that failed, or None."""
    try:
        run("dmsetup", "message", pool.name, "0", "release_metadata_snap")
    except ProgramFailed as error:
        hint = "dmsetup message %s 0 release_metadata_snap" % pool.name
        return "cannot release the metadata of the thin pool %s: %s; hint: %s" % (pool.name, error, hint)
    return None


def delta(pool, left, right, kinds):
    """Return the Delta of two devices' ids, while the metadata is reserved.  Raises Doubt."""
    words = ("thin_delta", "-m", "--snap1", str(left), "--snap2", str(right), pool.metadata)
    try:
        # what it complains of is no output that is understood: so both may be one
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=True,
            env=environment(), universal_newlines=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise Doubt("thin_delta cannot be run: %s" % error.strerror) from error
    timer = threading.Timer(DELTA_MOST_S, child.kill)
    timer.daemon = True
    timer.start()
    try:
        found = parse(child.stdout, left, right, kinds)
        if child.wait() != 0:
            raise Doubt("thin_delta ended with %d" % child.returncode)
        return found
    finally:
        timer.cancel()
        child.kill()
        child.stdout.close()
        child.wait()
