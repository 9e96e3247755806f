"""Base snapshots: of a thin volume as it was when a version was read, kept for the next one.

With it the pool knows what changed since that version.  A base is bound by tags to its set, to
the version and to the SHA-256 of that version's digest file, and to the UUID of its volume: for
any other parent it is of no use.  It has no tag of the snapshots that a run removes at its end.
A set has one base at most.  All that a pool's volumes overwrite stays allocated as long as a base
has it, so a base does not become old, and leaves a pool that fills up.
"""

import time
import typing

from . import lvm, snapshot
from .pool import PERCENT_MOST
from .runner import ProgramFailed

MARK = "blockdiff.base"  # a tag of every base
_FIELDS = ("set", "version", "md5", "of", "kept", "mapped")
_OLD_S = 14 * 86400.0
_CLOCK_S = 86400.0  # by which a base may be from the future
_WAITS_S = (0.2, 1.0)  # between attempts to make a busy device inactive


class Base(typing.NamedTuple):
    """What a base is of; all fields are text, as its tags have them."""

    set: str  # hash of the set's name
    version: str
    md5: str  # SHA-256 in hex of the version's digest file
    of: str  # LVM's UUID of the volume
    kept: str  # when, in seconds since 1970
    mapped: str  # bytes that are allocated to it

    def tags(self):
        """Return the tags that say so."""
        return [MARK] + ["blockdiff.%s.%s" % item for item in self._asdict().items()]


def parse(marks):
    """Return the Base that tags (an iterable of text) describe, or None if one is missing."""
    found = {}
    for mark in marks:
        ours, _, rest = mark.partition(".")
        name, _, value = rest.partition(".")
        if ours == "blockdiff" and name in _FIELDS:
            found[name] = value
    if len(found) != len(_FIELDS) or not all(found[name].isdigit() for name in ("version", "kept", "mapped")):
        return None
    return Base(**found)


def useless(row, rows, of_set, wanted, now=None):
    """Return why the base of a report's row is not kept any longer, or None.

    `rows` has its pool, too; `of_set` is the set of this run, whose base is of use only for the
    version and digest file of `wanted` (a HintRequest, or None).
    """
    base, now = parse(snapshot.row_tags(row)), time.time() if now is None else now
    if base is None:
        return None
    if base.set == of_set:
        if wanted is None:
            return "hints are not asked for"
        if (base.version, base.md5) != (str(wanted.base), wanted.sha256):
            return "it is of version %s, which is not continued" % base.version
    if not -_CLOCK_S <= now - int(base.kept) <= _OLD_S:
        return "it is older than %d days" % (_OLD_S / 86400)
    for pool in rows:
        if (pool["vg_name"], pool["lv_name"].strip("[]")) == (row["vg_name"], row["pool_lv"].strip("[]")):
            if max(lvm.percent(pool, "data_percent"), lvm.percent(pool, "metadata_percent")) > PERCENT_MOST:
                return "its thin pool is more than %d %% full" % PERCENT_MOST
            if pool["lv_health_status"]:
                return "its thin pool is unhealthy: %s" % pool["lv_health_status"]
    return None


def of_set(set_hash, rows):
    """Return those rows of a report that are a set's bases."""
    return [row for row in rows if not lvm.hidden(row) and _is_of(row, set_hash)]


def _is_of(row, set_hash):
    marks = snapshot.row_tags(row)
    return MARK in marks and "blockdiff.set.%s" % set_hash in marks


def usable(rows, volume, wanted):
    """Return the row of the base to compare with; or, as text, why there is none."""
    for row in rows:
        base = parse(snapshot.row_tags(row))
        if base is None or (base.version, base.md5) != (str(wanted.base), wanted.sha256):
            continue
        if base.of != volume.uuid or row["origin"].strip("[]") != volume.lv or row["vg_name"] != volume.vg:
            return "the base of version %d is not of this volume" % wanted.base
        if row["pool_lv"].strip("[]") != volume.pool:
            return "the base of version %d is in another thin pool" % wanted.base
        if row["lv_attr"][:2] != "Vr" or row["lv_merging"]:
            return "the base of version %d is not a read-only thin snapshot" % wanted.base
        return row
    return "there is no base of version %d" % wanted.base


def keep(made, base, owner, run):
    """Turn a Snapshot of this run into a Base, in one step.  Raises ProgramFailed; then it is not one."""
    changes = [word for tag in base.tags() for word in ("--addtag", tag)]
    changes += [word for tag in owner.tags() if tag not in base.tags() for word in ("--deltag", tag)]
    lvm.act(run, "lvchange", *changes, made.name)


def rest(made, run, sleep=time.sleep):
    """Make a base inactive: nothing is to find a second file system of its UUID.  Returns why it is not, or None."""
    for wait_s in (*_WAITS_S, None):
        try:
            lvm.act(run, "lvchange", "--activate", "n", made.name)
            return None
        except ProgramFailed as error:
            reason = str(error)
        if wait_s is not None:
            sleep(wait_s)
    return "the base %s is still active: %s" % (made.name, reason)


def drop(set_hash, run, but=None):
    """Remove a set's bases but the one with this UUID; returns lines for the log."""
    try:
        rows = [row for row in of_set(set_hash, lvm.every(run)) if row["lv_uuid"] != but]
    except ProgramFailed as error:
        return ["cannot look for bases: %s" % error]
    notes = []
    for row in rows:
        holder = snapshot.remove(snapshot.of(row), run, row=row)
        if holder is not None:
            notes.append("cannot remove the base %s/%s: %s" % (row["vg_name"], row["lv_name"], holder))
    return notes
