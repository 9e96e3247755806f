"""Logical volumes: which one a path leads to, and whether it can be snapshotted.

A volume is identified by its UUID, which the device mapper of the kernel reports; so names with
dashes, symlinks and renames need no parsing.  All properties come from LVM's JSON reports.
"""

import json
import os
import stat
import typing

from ..errors import AgentError
from .runner import ProgramFailed

# On every call, instead of what lvm.conf has: all settings that change a report, and where messages
# go.  Every LVM that has JSON reports (2.02.158) knows these settings; an unknown one would cause a
# warning.  Which devices there are, how volume groups are locked and what is activated is left to
# lvm.conf.
# Our short-lived snapshots would fill /etc/lvm/archive with a file each. The backup of the metadata
# stays on: a thin pool's transaction id counts our snapshots, and an older one would not be accepted.
_CONFIG = (
    'report{output_format="basic" compact_output=0 compact_output_cols="" aligned=1 buffered=1 headings=1'
    ' separator=" " list_item_separator="," prefixes=0 quoted=1 columns_as_rows=0 binary_values_as_numeric=0'
    ' mark_hidden_devices=1 lvs_sort="vg_name,lv_name"}'
    ' log{report_command_log=0 verbose=0 silent=0 indent=0 command_names=0 prefix="  "}'
    " backup{archive=0}"
)

FIELDS = (
    "vg_name,lv_name,lv_uuid,lv_attr,lv_size,segtype,origin,pool_lv,thin_id,data_percent,metadata_percent,"
    "lv_merging,lv_snapshot_invalid,lv_health_status,lv_skip_activation,lv_active,lv_tags,"
    "lv_kernel_major,lv_kernel_minor,lv_path,lv_dm_path,vg_extent_size,vg_free_count"
)

# first letter of lv_attr: kinds that are not volumes of their own and cannot have a snapshot; see lvs(8)
_PARTS = {
    "t": "a thin pool",
    "d": "a VDO pool",
    "T": "a part of a thin pool",
    "D": "a part of a VDO pool",
    "e": "metadata of a pool or RAID",
    "i": "an image of a RAID or mirror",
    "I": "an image of a RAID or mirror",
    "l": "a mirror's log",
    "p": "being moved by pvmove",
    "c": "being converted",
    "v": "a virtual part of LVM's own",
}


class Volume(typing.NamedTuple):
    """A logical volume. Sizes are bytes, percentages floats from 0 to 100."""

    path: str  # as requested
    vg: str
    lv: str
    uuid: str
    kind: str  # "lvm-thick" or "lvm-thin"
    size: int
    refusal: typing.Optional[str]  # why it cannot be snapshotted
    extent_size: int
    vg_extents_free: int
    pool: typing.Optional[str]  # of a thin volume, with what follows
    pool_data_percent: typing.Optional[float]
    pool_metadata_percent: typing.Optional[float]
    pool_health: str  # "" if it has no problem

    @property
    def name(self):
        """Return it as LVM's programs name it."""
        return "%s/%s" % (self.vg, self.lv)


def find(path, run):
    """Return (the Volume that a path leads to, all rows of LVM's report), or (None, []) if it is no logical volume.

    The report costs more than what is done with it: whoever needs another row takes it from these.
    Raises AgentError: NoSuchVolume for a logical volume that is not active, SnapshotRefused
    if LVM cannot be asked about one.
    """
    try:
        status = os.stat(path)
    except OSError:
        _refuse_inactive(path, run)
        return None, []
    if not stat.S_ISBLK(status.st_mode):
        return None, []
    uuid = _device_mapper_uuid(status.st_rdev)
    if not uuid.startswith("LVM-"):
        return None, []
    try:
        rows = every(run)
        found = by_uuid(_dashed(uuid[36:68]), path, rows)
    except ProgramFailed as error:
        raise AgentError("SnapshotRefused", path, str(error)) from error
    if found is None:
        raise AgentError("SnapshotRefused", path, "device mapper calls it a logical volume, but LVM has none")
    if uuid[68:] and found.refusal is None:
        found = found._replace(refusal="it is an inner layer of %s" % found.name)
    return found, rows


def by_uuid(uuid, path, rows):
    """Return the Volume with that UUID, or None; raises ProgramFailed if its rows cannot be used."""
    for row in rows:
        if row["lv_uuid"] == uuid:
            thin = row["pool_lv"] and row["segtype"] == "thin"
            return _volume(path, row, named(rows, row["vg_name"], row["pool_lv"]) if thin else None)
    return None


def hidden(row):
    """Return whether a row is of no volume of its own: of a part, or of a snapshot that is being merged."""
    return row["lv_name"].startswith("[")


def named(rows, vg, lv):
    """Return the row of a logical volume; raises ProgramFailed if there is none."""
    for row in rows:
        if (row["vg_name"], row["lv_name"].strip("[]")) == (vg, lv.strip("[]")):
            return row
    raise ProgramFailed("lvs", 0, "it does not list %s/%s" % (vg, lv))


def _volume(path, row, pool):
    """Return the Volume of a row, and of its pool's (None: it has none)."""
    return Volume(
        path=path,
        vg=row["vg_name"],
        lv=row["lv_name"].strip("[]"),
        uuid=row["lv_uuid"],
        kind="lvm-thick" if pool is None else "lvm-thin",
        size=number(row, "lv_size"),
        refusal=_refusal(row),
        extent_size=number(row, "vg_extent_size"),
        vg_extents_free=number(row, "vg_free_count"),
        pool=None if pool is None else pool["lv_name"].strip("[]"),
        pool_data_percent=None if pool is None else percent(pool, "data_percent"),
        pool_metadata_percent=None if pool is None else percent(pool, "metadata_percent"),
        pool_health="" if pool is None else pool["lv_health_status"],
    )


def call(run, program, *arguments):
    """Run a program of LVM with our settings; returns its output, raises ProgramFailed."""
    return run(program, "--config", _CONFIG, *arguments)


def act(run, program, *arguments):
    """Run a program of LVM that changes something; raises ProgramFailed."""
    run.chatter(program, call(run, program, *arguments))


def every(run):
    """Return one row of each logical volume of this host, the hidden ones too; raises ProgramFailed."""
    found = {}
    for row in report(run):  # some fields are of a segment, so that lvs has a row for each of them
        found.setdefault(row["lv_uuid"], row)
    return list(found.values())


def report(run, *arguments):
    """Return the rows of lvs, each a dict of text that has all FIELDS; sizes are bytes.

    Raises ProgramFailed.
    """
    out = call(run, "lvs", "-a", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", FIELDS, *arguments)
    try:
        rows = [row for part in json.loads(out)["report"] for row in part.get("lv", ())]
        missing = {name for row in rows for name in FIELDS.split(",") if not isinstance(row.get(name), str)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProgramFailed("lvs", 0, "its report cannot be read: %s" % error) from error
    if missing:
        raise ProgramFailed("lvs", 0, "its report has no %s" % ", ".join(sorted(missing)))
    return rows


def number(row, name):
    """Return a whole number of a report; raises ProgramFailed if it is none."""
    return _converted(int, row, name)


def percent(row, name):
    """Return a percentage of a report, 0 where there is none; raises ProgramFailed."""
    return _converted(float, row, name) if row[name] else 0.0


def _converted(kind, row, name):
    try:
        return kind(row[name])
    except ValueError as error:
        raise ProgramFailed("lvs", 0, "its report has %r as %s" % (row[name], name)) from error


def _refusal(row):
    """Return why a volume cannot be snapshotted, or None."""
    attributes = row["lv_attr"]
    kind = attributes[:1]
    if row["lv_merging"].startswith("merging") or kind in ("O", "S"):
        return "a snapshot is being merged into its origin there"
    if kind == "s":
        return "it is itself a snapshot, of %s" % row["origin"]
    # A thin snapshot is not activated by itself unless it was configured to be used as a
    # volume in its own right, as with a virtual machine that was cloned from a template.
    if row["origin"] and row["segtype"] == "thin" and attributes[9:10] == "k":
        return "it is itself a snapshot, of %s" % row["origin"]
    return "it is %s" % _PARTS[kind] if kind in _PARTS else None


def _refuse_inactive(path, run):
    """Raise NoSuchVolume, with the reason, if a path would name a volume that is merely not active."""
    if not path.startswith("/dev/"):
        return
    try:
        rows = report(run)
    except ProgramFailed:
        return
    for row in rows:
        if path in (row["lv_path"], row["lv_dm_path"]) and not row["lv_active"]:
            name = "%s/%s" % (row["vg_name"], row["lv_name"])
            option = "-K " if row["lv_skip_activation"] else ""
            reason = "it is not active; lvchange -ay %s%s would activate it" % (option, name)
            raise AgentError("NoSuchVolume", path, reason)


def _device_mapper_uuid(number):
    try:
        with open("/sys/dev/block/%d:%d/dm/uuid" % (os.major(number), os.minor(number))) as file:
            return file.read().strip()
    except OSError:
        return ""


def _dashed(uuid):
    """Return an LVM UUID of 32 letters as its programs write it: 6-4-4-4-4-4-6."""
    inner = [uuid[begin : begin + 4] for begin in range(6, 26, 4)]
    return "-".join([uuid[:6], *inner, uuid[26:]])
