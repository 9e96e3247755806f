"""Remove snapshots that a dead run left: after SIGKILL, or when the host lost power.

Only a snapshot that has all tags of blockdiff and whose owner is provably dead is removed; see
tags.py.  And a base that is of no use any longer; see bases.py.
"""

import os
import signal
import time

from . import bases, lvm, snapshot, tags
from .runner import ProgramFailed

OLD_NAME = "lvm_dump"  # the snapshot of the blockdiff of 2010, which set no tags
_TERM_WAIT_S = 15.0  # for a supervisor to remove its snapshot and end


def sweep(run, rows=None, ended=(), of_set=None, hints=None, sleep=time.sleep, monotonic=time.monotonic):
    """Remove what dead runs left; return notes for the log, one line each, none if there was nothing.

    `rows` are all of LVM's report, if it was asked just now.  `ended` are runs that the caller knows to be
    over; their supervisor may still run, and gets SIGTERM first.  `of_set` is the set of a run that begins,
    `hints` its HintRequest: see bases.useless.
    """
    try:
        rows = lvm.every(run) if rows is None else rows
    except ProgramFailed as error:
        return ["cannot look for old snapshots: %s" % error] if error.code != 127 else []
    me = tags.current("sweep", "sweep")
    notes = []
    for row in rows:
        name = "%s/%s" % (row["vg_name"], row["lv_name"])
        marks = snapshot.row_tags(row)
        who = tags.parse(marks)
        if lvm.hidden(row):
            continue
        if who is None:
            if bases.MARK in marks:
                notes += _tidy(row, rows, of_set, hints, run, sleep)
            elif tags.MARK in marks:
                notes.append("%s carries our tag but not all of them; it is left alone" % name)
            elif row["lv_name"] == OLD_NAME and row["lv_attr"][:1] in "sSV":
                notes.append(
                    "%s looks like a snapshot that the blockdiff of 2010 left behind; it fills up and slows "
                    "the origin down; hint: lvremove %s" % (name, name)
                )
            continue
        if row["lv_attr"][:1] not in "sSV":
            notes.append("%s carries our tags but is no snapshot; it is left alone" % name)
            continue
        if who.run in ended and who.dead(me) is False:
            _end(who, me, sleep, monotonic)
        dead = who.dead(me)
        if dead is None:
            notes.append("%s belongs to a run that cannot be seen from here; it is left alone" % name)
        elif dead:
            holder = snapshot.remove(snapshot.of(row), run, sleep=sleep)
            if holder is None:
                notes.append("removed %s, which run %s left behind" % (name, who.run))
            else:
                notes.append("cannot remove %s, which run %s left behind: %s" % (name, who.run, holder))
    return notes


def _tidy(row, rows, of_set, hints, run, sleep):
    """Remove a base that is of no use any longer; returns notes."""
    why = bases.useless(row, rows, of_set, hints)
    if why is None:
        return []
    name = "%s/%s" % (row["vg_name"], row["lv_name"])
    if row["lv_attr"][:1] != "V":
        return ["%s carries the tags of a base but is no thin snapshot; it is left alone" % name]
    holder = snapshot.remove(snapshot.of(row), run, sleep=sleep)
    if holder is None:
        return ["removed the base %s: %s" % (name, why)]
    return ["cannot remove the base %s: %s" % (name, holder)]


def _end(who, me, sleep, monotonic):
    """Have a supervisor remove its snapshot and end; wait for that, for a limited time."""
    try:
        os.kill(int(who.pid), signal.SIGTERM)
    except OSError:
        return
    deadline = monotonic() + _TERM_WAIT_S
    while who.dead(me) is False and monotonic() < deadline:
        sleep(0.1)
