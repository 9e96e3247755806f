"""How much room a snapshot gets: at its creation, and when it fills up while it is read.

Everything is computed in extents, never in bytes: LVM gives nothing smaller. A thick
snapshot needs room of its own in the group, at most that of its origin and a little; a
thin one shares its pool, and a pool that runs full harms every volume in it, so there
the limits are ours to keep.
"""

import re
import typing

from ..errors import AgentError

SHARE = 0.20  # of the origin, where nobody says how much
SMALL = 2**30  # bytes: all that a snapshot can use up to this, since a small one fills faster than we look
SHARE_LEAST = 0.01  # of the origin: less than this would not last
NEAR_PERCENT = 70.0  # fill at which a thick snapshot is extended
AHEAD_S = 3.0  # or sooner, if it would be full before we look a few more times
POOL_REFUSE_PERCENT = 90.0  # of a thin pool's data or metadata: no new snapshot above it
POOL_STOP_PERCENT = 97.0  # a snapshot that stands is given up here
CHUNK = 4096  # bytes; LVM's default for snapshots


class Room(typing.NamedTuple):
    """What a thick snapshot gets when it is made, in extents."""

    count: int
    least: int  # with which it may do where somebody else took the rest meanwhile


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
        # other snapshots of this moment, and whatever else grows in the group, find the other half
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
    """Return the count to try with what is free now, where the Room was not to be had; None: not at all."""
    count = max(room.least, free // 2)
    return count if count < room.count and count <= free else None


def plan(volume, room):
    """Return what READY tells of a volume and the bytes of the Room that its snapshot gets."""
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
    # half as much again, or what a minute at this pace takes
    wanted = max(_up(now, 2), _up(now * percent_per_s / 100.0 * 60.0, 1))
    return max(0, min(wanted, most - now, free))


def pool_trouble(name, data_percent, metadata_percent, health, limit_percent):
    """Return why a thin pool must be spared, or None."""
    if health:
        return "the thin pool %s is in trouble: %s" % (name, health)
    for what, percent in (("data", data_percent), ("metadata", metadata_percent)):
        if percent >= limit_percent:
            return "the thin pool %s is %.1f %% full (%s), the limit is %.0f %%" % (
                name, percent, what, limit_percent,
            )  # fmt: skip
    return None


def amount(size):
    """Return bytes as a person reads them."""
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
        reason = "%r is no size: a number with b, s, k, m, g, t or p (MiB without), or a share as 15%%" % text
        raise AgentError("SnapshotRefused", volume.path, reason)
    number, unit = float(match.group(1)), match.group(2)
    size = volume.size * number / 100.0 if unit[:1] == "%" else number * _UNITS[(unit or "m").lower()]
    return max(1, _up(size, volume.extent_size))


def _up(size, unit):
    """Return how many units hold a size."""
    return int(-(-size // unit))
