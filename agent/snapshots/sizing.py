"""How many extents a snapshot gets: when it is made, and when it fills up.

Everything is computed in extents, the smallest unit of LVM.  A thick snapshot needs free
extents of the volume group, at most those of its origin and a few more.  A thin one shares its
pool, and a full pool harms every volume in it; so a pool that is nearly full gets no snapshot.
"""

import re
import typing

from ..errors import AgentError

SHARE = 0.20  # of the origin, the default
SMALL = 2**30  # bytes: up to this size all that it can use, since a small one fills faster than it is checked
SHARE_LEAST = 0.01  # of the origin: less would be full too soon
NEAR_PERCENT = 70.0  # fill at which a thick snapshot is extended
AHEAD_S = 3.0  # or sooner, if it would be full within this time
POOL_REFUSE_PERCENT = 90.0  # of a thin pool's data or metadata: no new snapshot above it
POOL_STOP_PERCENT = 97.0  # above it an existing snapshot counts as lost
CHUNK = 4096  # bytes; LVM's default for snapshots


class Room(typing.NamedTuple):
    """The size of a new thick snapshot, in extents."""

    count: int
    least: int  # tried if something else took the free extents meanwhile


_UNITS = {"b": 1, "s": 512, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([bskmgtpeBSKMGTPE]?|%(?:ORIGIN)?)\Z")


def extents(volume, wanted=None):
    """Return the Room that a snapshot of a volume gets; None for a thin one.

    `wanted` is a size as lvcreate takes it ("10G", "512" = MiB) or a share of the origin
    ("15%"). Raises AgentError SnapshotRefused, naming what is missing.
    """
    if volume.refusal is not None:
        raise AgentError("SnapshotRefused", volume.path, volume.refusal)
    if volume.kind == "lvm-thin":
        _check_pool(volume)
        return None
    most = largest(volume)
    free = volume.vg_extents_free
    if wanted:
        need = min(_parse(volume, wanted), most)
        count = need
    else:
        need = max(1, min(most, _up(volume.size * SHARE_LEAST, volume.extent_size)))
        share = min(_up(volume.size * SHARE, volume.extent_size), free - free // 10)
        # the other half is for other snapshots of this moment, and for volumes that grow
        small = min(SMALL // volume.extent_size, free // 2)
        count = max(need, min(most, max(share, small)))
    if need > free:
        raise AgentError(
            "SnapshotRefused",
            volume.path,
            "the volume group %s has %d free extents of %s, the snapshot needs %d: %d are missing (%s)"
            % (
                volume.vg, free, amount(volume.extent_size), need, need - free,
                amount((need - free) * volume.extent_size),
            ),
        )  # fmt: skip
    return Room(count, need)


def less(room, free):
    """Return the extents to try with what is free now, after the Room was refused; None: do not try."""
    count = max(room.least, free // 2)
    return count if count < room.count and count <= free else None


def plan(volume, room):
    """Return the values of READY for a volume and the Room of its snapshot."""
    size = None if room is None else room.count * volume.extent_size
    return {"size": volume.size, "kind": volume.kind, "lv_uuid": volume.uuid, "room": size}


def largest(volume):
    """Return how many extents a snapshot can use at most, when every chunk of the origin changes."""
    chunks = _up(volume.size, CHUNK)
    exceptions = chunks // (CHUNK // 16) + 1  # chunks that hold 16 bytes for each chunk copied
    return _up((chunks + exceptions + 2) * CHUNK, volume.extent_size)


def more(now, most, free, percent, percent_per_s):
    """Return by how many extents to extend a thick snapshot of `now` extents, 0 if not yet or not at all."""
    soon = percent + max(0.0, percent_per_s) * AHEAD_S
    if now >= most or (percent < NEAR_PERCENT and soon < 100.0):
        return 0
    # half of its size more, or what a minute at this pace takes
    wanted = max(_up(now, 2), _up(now * percent_per_s / 100.0 * 60.0, 1))
    return max(0, min(wanted, most - now, free))


def pool_trouble(name, data_percent, metadata_percent, health, limit_percent):
    """Return why a thin pool must not be filled further, or None."""
    if health:
        return "the thin pool %s is unhealthy: %s" % (name, health)
    for what, percent in (("data", data_percent), ("metadata", metadata_percent)):
        if percent >= limit_percent:
            return "the thin pool %s is %.1f %% full (%s), the limit is %.0f %%" % (
                name, percent, what, limit_percent,
            )  # fmt: skip
    return None


def amount(size):
    """Return bytes as text with a unit."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return "%.4g %s" % (size / factor, unit)
    return "%d bytes" % size


def _check_pool(volume):
    trouble = pool_trouble(
        "%s/%s" % (volume.vg, volume.pool),
        volume.pool_data_percent,
        volume.pool_metadata_percent,
        volume.pool_health,
        POOL_REFUSE_PERCENT,
    )
    if trouble is not None:
        raise AgentError("SnapshotRefused", volume.path, trouble)


def _parse(volume, text):
    match = _SIZE.match(text.strip())
    if match is None:
        reason = "%r is not a size: a number with b, s, k, m, g, t or p (MiB without), or a share as 15%%" % text
        raise AgentError("SnapshotRefused", volume.path, reason)
    number, unit = float(match.group(1)), match.group(2)
    size = volume.size * number / 100.0 if unit[:1] == "%" else number * _UNITS[(unit or "m").lower()]
    return max(1, _up(size, volume.extent_size))


def _up(size, unit):
    """Return how many units hold a size."""
    return int(-(-size // unit))
