"""Which process owns a snapshot, and whether it still runs.

The lvcreate that makes the snapshot writes the owner into its LVM tags: the set (hashed, since
tags allow few characters), the run, and the process that has to remove it.  A process is
identified by host, boot, pid name space, pid and start time: a pid alone is used again, and
several hosts may see one volume group.  A sweep removes a snapshot only if its owner is
provably dead.
"""

import collections
import hashlib
import os
import re

MARK = "blockdiff"  # a tag of every snapshot that the agent makes
_FIELDS = ("set", "run", "host", "boot", "space", "pid", "start")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")  # what every LVM takes in a tag


class Owner(collections.namedtuple("Owner", _FIELDS)):
    """The process that owns a snapshot, on behalf of one run of one set; all fields are text."""

    def tags(self):
        """Return the tags that name this owner."""
        return [MARK] + ["%s.%s.%s" % (MARK, name, value) for name, value in self._asdict().items()]

    def dead(self, me):
        """Return True if it is provably dead, False if it runs, None if that cannot be seen by `me`."""
        if self.host != me.host:
            return None
        if self.boot != me.boot:
            return True
        if self.space != me.space:
            return None
        return start_time(self.pid) != self.start


def current(set_hash, run_id, pid=None):
    """Return this process (or the one with `pid`) as an owner; raises ValueError for names that are no tags."""
    for name in (set_hash, run_id):
        if not _WORD.match(name):
            raise ValueError("%r cannot be part of an LVM tag" % name)
    pid = os.getpid() if pid is None else pid
    return Owner(
        set_hash,
        run_id,
        _host(),
        _read("/proc/sys/kernel/random/boot_id") or "unknown",
        "".join(re.findall("[0-9]", _link("/proc/self/ns/pid"))) or "0",
        str(pid),
        start_time(pid) or "0",
    )


def parse(tags):
    """Return the owner that tags (an iterable of text) name, or None if one of its tags is missing."""
    found = {}
    for tag in tags:
        mark, _, rest = tag.partition(".")
        name, _, value = rest.partition(".")
        if mark == MARK and name in _FIELDS and value:
            found[name] = value
    if MARK not in tags or len(found) != len(_FIELDS) or not found["pid"].isdigit():
        return None
    return Owner(**found)


def start_time(pid):
    """Return when a process began (clock ticks since boot, as text); None if it has ended or is a zombie."""
    fields = _read("/proc/%s/stat" % pid).rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return fields[19]


def _host():
    identity = _read("/etc/machine-id") or os.uname()[1]
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""
