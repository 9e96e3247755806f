"""Which blocks of a volume are read, where the pool knows which ones changed or are allocated.

A hint only chooses what is read.  Of what it leaves out a sample is read in every run, and of a
volume that is compared with its parent also the next thirtieth, in order of the runs: so a hint
that leaves out a block that changed is found within 30 runs.
"""

import typing

SAMPLE_LEAST = 256  # blocks
SAMPLE_SHARE = 1000  # one block of so many is in the sample, if that is more
PARTS = 30  # runs that read everything once, whatever the hints are

READ, KEPT, HOLE = "read", "kept", "hole"


class Stretch(typing.NamedTuple):
    """Neighbouring blocks that are treated alike: READ; or KEPT as the parent's or a HOLE, both not read."""

    first: int  # index
    last: int  # index after the last one
    how: str
    audit: bool = False  # it is read all the same, and must be what it would have been unread


def blocks(ranges, chunk, total, block_size):
    """Yield ranges [begin, end) of chunks as ranges of blocks, rounded outward, joined, none after `total`."""
    begin, end = 0, 0
    for first, last in ranges:
        first = first * chunk // block_size
        last = min(total, -(-last * chunk // block_size))
        if first >= last:
            break
        if first > end:
            if end > begin:
                yield begin, end
            begin = first
        end = max(end, last)
    if end > begin:
        yield begin, end


def changed(hinted, old, total):
    """Yield what an incremental version reads of `total` blocks: what is hinted at, and what cannot be compared.

    `old` is the number of the parent's blocks.  The last block that both have may be longer in one of them.
    """
    tail = max(0, min(old, total) - 1)
    for first, last in hinted:
        if last >= tail:
            tail = min(first, tail)
            break
        yield first, last
    if tail < total:
        yield tail, total


def stretches(read, total, unread, random, number=None):
    """Yield the Stretches of `total` blocks, in order.

    `read()` yields the ranges that are read; all else is `unread`: KEPT or HOLE.  `random` is a
    random.Random; `number` is the version's if a thirtieth is read as well: then the sample is larger, too.
    """
    rest = total - sum(last - first for first, last in read())
    part = (0, 0)
    if number is not None:
        turn = number % PARTS
        part = (total * turn // PARTS, total * (turn + 1) // PARTS)
    window = max(1, rest // SAMPLE_LEAST)
    if number is not None:
        window = min(window, SAMPLE_SHARE)
    picked = _sample(_gaps(read(), total), rest, window, random)
    pick = next(picked, total)
    at = 0
    for first, last in _gaps(read(), total):
        if at < first:
            yield Stretch(at, first, READ)
        at = first
        while at < last:
            while pick < at:
                pick = next(picked, total)
            if part[0] <= at < part[1]:
                end, audit = min(last, part[1]), True
            elif pick == at:
                end, audit = at + 1, True
            else:
                end, audit = min([last, pick] + [border for border in part if border > at]), False
            yield Stretch(at, end, unread, audit)
            at = end
    if at < total:
        yield Stretch(at, total, READ)


def _gaps(ranges, total):
    """Yield what is between ranges of `total` blocks."""
    at = 0
    for first, last in ranges:
        if at < first:
            yield at, first
        at = last
    if at < total:
        yield at, total


def _sample(gaps, rest, window, random):
    """Yield one block of each `window` ones that are in the gaps, which have `rest` blocks, in order."""
    begin = 0  # of the window, in blocks of the gaps
    position = 0  # of the gap
    if not rest:
        return
    pick = random.randrange(min(window, rest))
    for first, last in gaps:
        while pick < position + last - first:
            yield first + pick - position
            begin += window
            if begin >= rest:
                return
            pick = begin + random.randrange(min(window, rest - begin))
        position += last - first
