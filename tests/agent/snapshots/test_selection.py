"""Which blocks are read: all that may have changed, and of the rest a sample in every run and everything within thirty."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from agent.snapshots import selection
from agent.snapshots.selection import HOLE, KEPT, PARTS, READ, blocks, changed, stretches


@st.composite
def ranges_of(draw, most=40):
    at, out = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=most)):
        out.append((at + gap, at + gap + length))
        at += gap + length
    return out


def members(ranges):
    return {index for first, last in ranges for index in range(first, last)}


def ordered(ranges):
    return all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))


@given(ranges_of(), st.sampled_from([1, 3, 4, 64]), st.sampled_from([1, 3, 4, 100]), st.integers(0, 300))
def test_every_byte_of_a_chunk_is_in_a_block(chunks, chunk, block_size, total):
    found = list(blocks(chunks, chunk, total, block_size))
    wanted = {byte // block_size for begin, end in chunks for byte in range(begin * chunk, end * chunk)}
    assert members(found) == {index for index in wanted if index < total}
    assert ordered(found)


@given(ranges_of(), st.integers(0, 120), st.integers(0, 120))
def test_what_the_parent_has_not_is_read(hinted, old, total):
    hinted = list(blocks(hinted, 1, total, 1))
    found = list(changed(hinted, old, total))
    assert ordered(found)
    # of a pair of volumes only the last block that both have may differ in length
    cannot = set(range(old, total)) | {min(old, total) - 1 if old else 0}
    assert members(found) >= members(hinted) | {index for index in cannot if 0 <= index < total}
    assert len(members(found)) <= len(members(hinted) | set(range(old, total))) + 1


@given(ranges_of(), st.integers(0, 400), st.sampled_from([None, 1, 29, 30, 31, 77]), st.integers(), st.data())
def test_all_blocks_come_once_and_in_order(hinted, total, number, seed, data):
    read = list(blocks(hinted, 1, total, 1))
    unread = HOLE if number is None else KEPT
    old_least, selection.SAMPLE_LEAST = selection.SAMPLE_LEAST, data.draw(st.sampled_from([1, 5, 256]))
    try:
        found = list(stretches(lambda: iter(read), total, unread, random.Random(seed), number))
    finally:
        least, selection.SAMPLE_LEAST = selection.SAMPLE_LEAST, old_least
    at = 0
    for stretch in found:
        assert stretch.first == at < stretch.last
        assert stretch.how == (READ if stretch.first in members(read) else unread)
        at = stretch.last
    assert at == total
    assert members((s.first, s.last) for s in found if s.how == READ) == members(read)
    rest = set(range(total)) - members(read)
    audited = members((s.first, s.last) for s in found if s.audit)
    assert audited <= rest
    assert len(audited) >= min(len(rest), least)
    if number is not None:
        turn = number % PARTS
        assert audited >= rest & set(range(total * turn // PARTS, total * (turn + 1) // PARTS))


@given(ranges_of(), st.integers(0, 400), st.integers(1, 1000))
def test_everything_is_read_within_thirty_versions(hinted, total, number):
    read = list(blocks(hinted, 1, total, 1))
    found = set()
    for run in range(number, number + PARTS):
        plan = stretches(lambda: iter(read), total, KEPT, random.Random(1), run)
        found |= members((s.first, s.last) for s in plan if s.audit or s.how == READ)
    assert found == set(range(total))


def test_the_sample_is_a_thousandth_and_finds_what_is_left_out_as_often_as_it_should():
    """Of 300,000 blocks 200 are wrong: the sample of 300 finds one with probability 1 - (1 - w/n)^k = 0.18."""
    total, runs, hits = 300_000, 400, 0
    for seed in range(runs):
        dice = random.Random(seed)
        start = dice.randrange(total // PARTS, total - 200)  # not in the part that is read in order
        plan = [s for s in stretches(lambda: iter(()), total, KEPT, dice, PARTS) if s.audit]
        assert sum(s.last - s.first for s in plan[1:]) == 300 - 10  # those in the first thirtieth are one with it
        hits += any(start <= s.first < start + 200 for s in plan[1:])
    assert 0.12 < hits / runs < 0.25


def test_of_holes_few_blocks_are_read_whatever_their_size():
    plan = list(stretches(lambda: iter([(0, 16384)]), 15 << 24, HOLE, random.Random(1)))
    audited = sum(s.last - s.first for s in plan if s.audit)
    assert 256 <= audited <= 257
