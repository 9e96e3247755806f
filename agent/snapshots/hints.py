"""What a thin pool knows of a volume: which blocks changed since the parent, or which ones it has.

All must be as expected, or nothing of it is used: then the whole volume is read, and one line
says why.  Format: blockdiff-protocol(5), "Hints".
"""

import shutil
import time
import typing

from blockdiff.formats import digestfile

from ..errors import AgentError
from . import bases, lvm, pool, selection, snapshot, thindelta
from .runner import ProgramFailed, environment
from .thindelta import Doubt

DELTA, MAPPINGS = "thin_delta", "mappings"  # what changed since the parent; what the volume has
_RESERVED_S = 300.0  # how long another run of ours may keep the metadata
_TICK_S = 0.25


class Hint(typing.NamedTuple):
    """What is read of a volume."""

    method: str  # DELTA or MAPPINGS
    delta: thindelta.Delta

    def stretches(self, size, block_size, old, number, random):
        """Return the Stretches of a volume of `size` bytes; `old`: blocks of the parent, `number`: the version's."""
        total = digestfile.blocks_of(size, block_size)

        def read():
            found = selection.blocks(self.delta.ranges, self.delta.chunk, total, block_size)
            return selection.changed(found, old, total) if self.method == DELTA else found

        if self.method == DELTA:
            return selection.stretches(read, total, selection.KEPT, random, number)
        return selection.stretches(read, total, selection.HOLE, random)


class Hints:
    """The hints for one run, and the base for the next one."""

    def __init__(self, volume, made, wanted, set_hash, supervisor, run, log, rows):
        """`made` is the Snapshot of the logical volume `volume`, `wanted` the HintRequest.

        `rows` are all of LVM's report from before the snapshot.
        """
        self._rows = rows
        self._volume, self._made, self._wanted, self._set = volume, made, wanted, set_hash
        self._supervisor, self._run, self._log = supervisor, run, log
        self._pool = self._device = None
        self.keeps = False  # the snapshot may become the base for the next version

    def hint(self):
        """Return the Hint, or None: the whole volume is read.  Raises AgentError where the supervisor has died."""
        try:
            return self._hint()
        except (Doubt, ProgramFailed) as error:
            self._log("no hints, the whole volume is read: %s" % error)
            return None

    def _hint(self):
        if self._volume.pool is None:
            raise Doubt("it is no thin volume")
        self._pool, self._device = pool.find(self._made.device, self._run)
        pool.check(self._pool, self._run)
        if shutil.which("thin_delta", path=environment()["PATH"]) is None:
            raise Doubt("thin_delta is not installed")
        self.keeps = True
        if self._wanted.whole:
            return None
        number, base = self._device.number, None
        if self._wanted.base is not None:
            base = bases.usable(bases.of_set(self._set, self._rows), self._volume, self._wanted)
            if isinstance(base, str):
                self._log("no hint of what changed, all that is allocated is read: %s" % base)
                base = None
        kinds = thindelta.SAME if base is None else thindelta.CHANGED
        delta = self._delta(number if base is None else lvm.number(base, "thin_id"), number, kinds)
        if base is not None:
            self._check_base(base)
            _check_complete("base", delta.left * delta.chunk, int(bases.parse(snapshot.row_tags(base)).mapped))
        _check_complete("snapshot", delta.right * delta.chunk, self._device.mapped)
        return Hint(MAPPINGS if base is None else DELTA, delta)

    def _delta(self, left, right, kinds):
        deadline = time.monotonic() + _RESERVED_S
        while not self._supervisor.reserve(self._pool):
            if time.monotonic() > deadline:
                raise Doubt("another run has the metadata of its thin pool reserved")
            time.sleep(_TICK_S)
        try:
            return pool.delta(self._pool, left, right, kinds)
        finally:
            self._supervisor.release()

    def _check_base(self, before):
        """Raise Doubt unless the base is still there and usable: ids are used again, and only its UUID is not."""
        now = bases.usable(bases.of_set(self._set, lvm.every(self._run)), self._volume, self._wanted)
        if isinstance(now, str) or (now["lv_uuid"], now["thin_id"]) != (before["lv_uuid"], before["thin_id"]):
            raise Doubt("the base was removed or changed meanwhile")

    def keep(self, version, md5):
        """Keep the snapshot as the base for what continues this version; returns what is left over as text, or None.

        Any other base of the set is removed, after it.
        """
        base = bases.Base(
            self._set, str(version), md5, self._volume.uuid, str(int(time.time())), str(self._device.mapped)
        )
        try:
            pool.check(self._pool, self._run)
            self._supervisor.keep(base)
        except (Doubt, ProgramFailed, AgentError) as error:
            self._log("no base is kept for the next version: %s" % error)
            return self.drop()
        left = [bases.rest(self._made, self._run), *bases.drop(self._set, self._run, but=self._made.uuid)]
        return "; ".join(filter(None, left)) or None

    def drop(self):
        """Remove the set's bases; returns lines of what could not be removed, or None."""
        return "; ".join(bases.drop(self._set, self._run, but=self._made.uuid)) or None


def _check_complete(what, found, mapped):
    """Raise Doubt if thin_delta has not all bytes that the pool has allocated to a device."""
    if found != mapped:
        raise Doubt("thin_delta has %d bytes of the %s, the pool has %d" % (found, what, mapped))
