"""What thin_delta writes of two devices of a thin pool, parsed strictly.

Each line must be the one that is expected there, each range must come after the one before, and
the output must be whole.  Anything else is a Doubt: then nothing of it is used.
"""

import array
import re
import typing

SAME, CHANGED = ("same",), ("different", "left_only", "right_only")
_KINDS = SAME + CHANGED
_LEFT, _RIGHT = frozenset(("same", "different", "left_only")), frozenset(("same", "different", "right_only"))
_RANGE = re.compile(r'\s*<(%s) begin="([0-9]{1,18})" length="([0-9]{1,18})"\s?/>\s*\Z' % "|".join(_KINDS))
_OPENED = re.compile(r'\s*<(superblock|diff)((?: [a-z_]+="[^"<>&]*")*)\s*>\s*\Z')
_ATTRIBUTE = re.compile(r' ([a-z_]+)="([^"]*)"')
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
MOST = 1 << 20  # ranges that are kept apart: 16 MiB
SECTOR = 512  # bytes


class Doubt(Exception):
    """The reason why a hint is not used."""


class Delta(typing.NamedTuple):
    """The output for two devices, in chunks."""

    chunk: int  # bytes
    ranges: "Ranges"  # of the kinds that were asked for
    left: int  # chunks that the first device has
    right: int  # chunks that the second one has


class Ranges:
    """Ranges [begin, end) of chunks, in order; where there are too many, near ones become one, and so cover more."""

    def __init__(self, most=MOST):
        self._most = most
        self._unit = 1  # chunks, that borders are multiples of
        self._borders = array.array("Q")

    def __iter__(self):
        borders = self._borders
        return ((borders[place], borders[place + 1]) for place in range(0, len(borders), 2))

    def add(self, begin, end):
        """Add a range that does not begin before the last one does."""
        self._add(begin, end)
        while len(self._borders) > 2 * self._most:
            self._unit *= 2
            before, self._borders = self._borders, array.array("Q")
            for place in range(0, len(before), 2):
                self._add(before[place], before[place + 1])

    def _add(self, begin, end):
        unit, borders = self._unit, self._borders
        begin, end = begin // unit * unit, -(-end // unit) * unit
        if borders and begin <= borders[-1]:
            borders[-1] = max(borders[-1], end)
        else:
            borders.extend((begin, end))


def parse(lines, left, right, kinds, most=MOST):
    """Return the Delta of thin_delta's output for the devices with these ids, with the ranges of `kinds`.

    Raises Doubt.
    """
    lines = iter(lines)
    superblock = _opened(lines, "superblock")
    if _opened(lines, "diff") != {"left": str(left), "right": str(right)}:
        raise Doubt("thin_delta compared other devices than %s and %s" % (left, right))
    sectors = superblock.get("data_block_size", "")
    if not _NUMBER.match(sectors) or not int(sectors):
        raise Doubt("thin_delta does not name the size of a chunk")
    ranges, at = Ranges(most), 0
    counts = dict.fromkeys(_KINDS, 0)
    for line in lines:
        match = _RANGE.match(line)
        if match is None:
            break
        kind, begin, length = match.group(1), int(match.group(2)), int(match.group(3))
        if begin < at or not length:
            raise Doubt("thin_delta's ranges are not in order at chunk %d" % begin)
        at = begin + length
        counts[kind] += length
        if kind in kinds:
            ranges.add(begin, at)
    else:
        raise Doubt("thin_delta's output ends early")
    if line.strip() != "</diff>":
        raise Doubt("thin_delta's output has %r" % line.strip()[:200])
    if [rest.strip() for rest in lines] != ["</superblock>"]:
        raise Doubt("thin_delta's output does not end as it should")
    return Delta(
        int(sectors) * SECTOR,
        ranges,
        sum(count for kind, count in counts.items() if kind in _LEFT),
        sum(count for kind, count in counts.items() if kind in _RIGHT),
    )


def _opened(lines, name):
    """Return the attributes of the element that the next line opens."""
    line = next(lines, "")
    match = _OPENED.match(line)
    if match is None or match.group(1) != name:
        raise Doubt("thin_delta's output has %r" % line.strip()[:200] if line.strip() else "thin_delta wrote nothing")
    return dict(_ATTRIBUTE.findall(match.group(2)))
