"""One snapshot: create it, check its fill, extend it, remove it.

The supervisor decides when.
"""

import hashlib
import os
import time
import typing

from ..errors import AgentError
from . import holders, lvm, mapper, sizing
from .runner import ProgramFailed
from .thindelta import SECTOR

PREFIX = "blockdiff_"  # of every snapshot's name; no dash, which device mapper would double
REMOVE_WAITS_S = (0.2, 1.0)  # between attempts at a busy device; LVM itself waits some seconds in each


class Snapshot(typing.NamedTuple):
    """An existing snapshot; plain values, so that it can be sent to another process."""

    origin: str  # path of the origin as it was asked for
    vg: str
    lv: str
    uuid: str
    device: str  # path to read it from
    kind: str  # of the origin: "lvm-thick" or "lvm-thin"
    size: int  # bytes, those of the origin at that moment
    extent_size: int  # bytes
    most: int  # extents that it can use at most; 0 for a thin one
    pool: typing.Optional[str]

    @property
    def name(self):
        """Return it as LVM's programs name it."""
        return "%s/%s" % (self.vg, self.lv)


class SnapshotUsage(typing.NamedTuple):
    """How full a snapshot is at one moment."""

    fill: float  # percent of its own space, or of its pool's data for a thin one
    extents: int  # that it has; 0 for a thin one
    free: typing.Optional[int]  # extents left in the group; None: LVM was not asked
    lost: typing.Optional[str]  # why it is not valid any more, or must not be used any more


def create(volume, wanted, owner, run):
    """Make a read-only snapshot with the sizing.Room `wanted` (None: a thin one) and its owner's tags.

    The application may be locked now, so LVM is asked only for what cannot wait: see `find`.
    Raises AgentError SnapshotRefused; nothing of it is left then.
    """
    try:
        try:
            _lvcreate(volume, None if wanted is None else wanted.count, owner, run)
        except ProgramFailed:
            # another snapshot of the same moment may have taken the free extents
            count = None if wanted is None or wanted.count == wanted.least else _less(volume, wanted, run)
            if count is None:
                raise
            _lvcreate(volume, count, owner, run)
    except ProgramFailed as error:
        discard(volume, owner, run)
        raise AgentError("SnapshotRefused", volume.path, str(error)) from error


def _less(volume, wanted, run):
    row = lvm.named(lvm.report(run, volume.name), volume.vg, volume.lv)
    return sizing.less(wanted, lvm.number(row, "vg_free_count"))


def _lvcreate(volume, count, owner, run):
    arguments = ["--snapshot", "--permission", "r", "--yes", "--name", _lv(volume, owner)]
    if count is not None:
        arguments += ["--extents", str(count)]
    else:  # not activated at the next boot, but activated now
        arguments += ["--setactivationskip", "y", "--activate", "y", "--ignoreactivationskip"]
    for tag in owner.tags():
        arguments += ["--addtag", tag]
    lvm.act(run, "lvcreate", *arguments, volume.name)


def find(volume, wanted, owner, run):
    """Return (the Snapshot that `create` made, its SnapshotUsage); raises as it does."""
    lv = _lv(volume, owner)
    try:
        rows = _report("lv_name=%s" % lv, volume.vg, volume.pool, run)
        row = lvm.named(rows, volume.vg, lv)
        device = _device(row)
        made = Snapshot(
            origin=volume.path,
            vg=volume.vg,
            lv=lv,
            uuid=row["lv_uuid"],
            device=device,
            kind=volume.kind,
            size=_length(device, row),
            extent_size=volume.extent_size,
            most=0 if wanted is None else sizing.largest(volume),
            pool=volume.pool,
        )
        return made, _usage(made, rows)
    except (ProgramFailed, OSError) as error:
        discard(volume, owner, run)
        raise AgentError("SnapshotRefused", volume.path, str(error)) from error


def look(snapshot, run):
    """Return the SnapshotUsage; raises ProgramFailed if LVM cannot be asked."""
    return _usage(snapshot, _report("lv_uuid=%s" % snapshot.uuid, snapshot.vg, snapshot.pool, run))


def glance(snapshot, run):
    """Return the SnapshotUsage as device mapper has it, or None where all is not well, or not known: then `look`."""
    try:
        device = mapper.folder(snapshot.device)
        if not mapper.of_lvm(device, snapshot.uuid):
            return None
        if snapshot.pool is None:
            state = mapper.line(run, "status", mapper.name(device), "snapshot")
            sectors = int(state[3].partition("/")[2])
            return SnapshotUsage(mapper.percent(state[3]), sectors * SECTOR // snapshot.extent_size, None, None)
        pool = mapper.name(mapper.below(device, "-tpool"))
        state = mapper.line(run, "status", pool, "thin-pool")
        fill = mapper.percent(state[5])
        if mapper.healthy(state) and max(fill, mapper.percent(state[4])) < sizing.POOL_STOP_PERCENT:
            return SnapshotUsage(fill, 0, None, None)
    except (OSError, ValueError, IndexError, ProgramFailed):
        pass
    return None


def _report(wanted, vg, pool, run):
    """Return the rows of what LVM selects in a group, and of a pool, if there is one."""
    if pool is not None:
        wanted += " || lv_name=%s" % pool
    return lvm.report(run, "--select", wanted, vg)


def _usage(snapshot, rows):
    found = [row for row in rows if row["lv_uuid"] == snapshot.uuid]
    if not found:
        return SnapshotUsage(0.0, 0, 0, "it was removed")
    row = found[0]
    free = lvm.number(row, "vg_free_count")
    lost = None
    if row["lv_snapshot_invalid"] == "snapshot invalid" or row["lv_attr"][4:5] in ("I", "S"):
        lost = "the kernel invalidated it"
    if snapshot.pool is None:
        fill = lvm.percent(row, "data_percent")
        return SnapshotUsage(fill, lvm.number(row, "lv_size") // snapshot.extent_size, free, lost)
    pools = [other for other in rows if other["lv_uuid"] != snapshot.uuid]
    if not pools:
        return SnapshotUsage(0.0, 0, free, "its thin pool was removed")
    pool = pools[0]
    fill = lvm.percent(pool, "data_percent")
    lost = lost or sizing.pool_trouble(
        "%s/%s" % (snapshot.vg, snapshot.pool),
        fill,
        lvm.percent(pool, "metadata_percent"),
        pool["lv_health_status"],
        sizing.POOL_STOP_PERCENT,
    )
    return SnapshotUsage(fill, 0, free, lost)


def extend(snapshot, count, run):
    """Give a thick snapshot `count` extents more; raises ProgramFailed."""
    lvm.act(run, "lvextend", "--extents", "+%d" % count, snapshot.name)


def remove(snapshot, run, waits_s=REMOVE_WAITS_S, sleep=time.sleep, row=None):
    """Remove a snapshot, trying several times; return None, or why it could not be removed.

    It is found by its UUID: another volume with its name is not touched.  `row` is its row of a
    report of this moment, if there is one: then LVM is not asked for the first attempt.
    """
    return _remove("lv_uuid=%s" % snapshot.uuid, (), run, waits_s, sleep, row)


def discard(volume, owner, run, waits_s=REMOVE_WAITS_S, sleep=time.sleep):
    """Remove what `create` made or left, if anything; returns as `remove` does.

    Its UUID is not known yet; it is found by its name and its tags.
    """
    selection = 'vg_name="%s" && lv_name="%s"' % (volume.vg, _lv(volume, owner))
    return _remove(selection, owner.tags(), run, waits_s, sleep)


def _remove(selection, tags, run, waits_s, sleep, row=None):
    """Remove the logical volume that LVM selects, if it has these tags."""
    reason, device = "", None
    for wait_s in (*waits_s, None):
        try:
            rows, row = [row] if row is not None else lvm.report(run, "--select", selection), None
            if not rows:
                return None
            if not set(tags) <= set(row_tags(rows[0])):
                return "its tags are not those that it was made with"
            device = _device(rows[0])
            lvm.act(run, "lvremove", "--force", "--yes", "%(vg_name)s/%(lv_name)s" % rows[0])
            return None
        except ProgramFailed as error:
            reason = str(error)
        if wait_s is not None:
            try:
                run("udevadm", "settle", "--timeout=5")
            except ProgramFailed:
                pass  # a host without udev has nothing that could settle
            sleep(wait_s)
    return (holders.holders(device) if device is not None else None) or reason


def of(row):
    """Return the Snapshot of a row in a report, with as much as its removal needs."""
    return Snapshot(
        origin="", vg=row["vg_name"], lv=row["lv_name"], uuid=row["lv_uuid"], device=_device(row),
        kind="", size=0, extent_size=1, most=0, pool=None,
    )  # fmt: skip


def row_tags(row):
    """Return the tags of a row in a report."""
    return row["lv_tags"].split(",")


def name(volume, owner):
    """Return the name of the snapshot that `create` makes, as LVM's programs write it."""
    return "%s/%s" % (volume.vg, _lv(volume, owner))


def _lv(volume, owner):
    return PREFIX + "%s_%s" % (owner.run[:32], hashlib.sha256(volume.uuid.encode("ascii")).hexdigest()[:8])


def _device(row):
    """Return a path to the device: the kernel's name where udev does not make the usual one."""
    if os.path.exists(row["lv_dm_path"]):
        return row["lv_dm_path"]
    return "/dev/dm-%s" % row["lv_kernel_minor"]


def _length(device, row):
    """Return the size of a snapshot's device in bytes; raises OSError if that is another device."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = os.makedev(lvm.number(row, "lv_kernel_major"), lvm.number(row, "lv_kernel_minor"))
        if os.fstat(descriptor).st_rdev != number:
            raise OSError("%s is not the device of the snapshot %s" % (device, row["lv_name"]))
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
