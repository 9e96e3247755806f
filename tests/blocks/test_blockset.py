"""The bookkeeping of blocks, against Python's own sets."""

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from blockdiff.blocks import blockset

COUNTS = st.integers(0, 300)
RUNS = st.lists(st.tuples(st.integers(0, 310), st.integers(0, 310)).map(lambda pair: (min(pair), max(pair))))


def spread(runs):
    return {index for first, stop in runs for index in range(first, stop)}


def neat(runs):
    """Whether runs are in order, not empty and do not touch."""
    return all(a < b for a, b in runs) and all(x[1] < y[0] for x, y in itertools.pairwise(runs))


@given(COUNTS, st.booleans(), st.lists(st.tuples(st.booleans(), RUNS)), RUNS)
def test_blocks_are_a_set(count, full, steps, looks):
    blocks = blockset.Blocks(count, full)
    model = set(range(count)) if full else set()
    for put, runs in steps:
        for first, stop in runs:
            if put:
                blocks.add(first, stop)
                model |= set(range(first, min(stop, count)))
            else:
                blocks.remove(first, stop)
                model -= set(range(first, stop))

    assert len(blocks) == len(model)
    assert spread(blocks.runs()) == model
    assert neat(list(blocks.runs()))
    assert all((index in blocks) == (index in model) for index in range(count))
    for first, stop in looks:
        here = {index for index in model if first <= index < stop}
        assert blocks.any(first, stop) == bool(here)
        assert spread(blocks.runs(first, stop)) == here


@given(COUNTS, RUNS, COUNTS, COUNTS)
def test_blocks_that_are_cut_off_do_not_come_back(count, runs, less, more):
    blocks = blockset.Blocks(count)
    for first, stop in runs:
        blocks.add(first, stop)
    model = {index for index in spread(runs) if index < min(count, less)}

    blocks.resize(less)
    assert spread(blocks.runs()) == model
    blocks.resize(more)
    assert spread(blocks.runs()) == {index for index in model if index < more}
    assert len(blocks) == len(list(spread(blocks.runs())))


@given(RUNS, RUNS)
def test_runs_as_sets(left, right):
    a, b = blockset.joined(left), blockset.joined(right)
    a, b = [run for run in a if run[0] < run[1]], [run for run in b if run[0] < run[1]]

    assert spread(a) == spread(left) and all(x < y for x, y in a)
    assert spread(blockset.without(a, b)) == spread(a) - spread(b)


@given(RUNS)
def test_runs_that_are_appended_in_order_grow_together(runs):
    out = []
    for first, stop in (run for run in blockset.joined(runs) if run[0] < run[1]):
        for index in range(first, stop):
            blockset.append(out, index, index + 1)

    assert neat(out) and spread(out) == spread(runs)


@given(st.lists(st.integers(0, 2), max_size=200), st.lists(st.integers(0, 2), max_size=200), st.integers(0, 1 << 40))
def test_changed_is_what_an_incremental_holds(before, after, first):
    def digests(letters):
        return b"".join(hashlib.md5(bytes([letter])).digest() for letter in letters)

    runs = list(blockset.changed(digests(before), digests(after), first))

    assert neat(runs)
    assert spread(runs) == {
        first + index for index in range(len(after)) if index >= len(before) or before[index] != after[index]
    }
