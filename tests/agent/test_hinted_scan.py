"""A scan that reads what a hint leaves to it: right where the hint is, and never silent where its audit sees that it is not."""

import hashlib
import os

import pytest
from files import sparse
from hypothesis import given
from hypothesis import strategies as st

from agent import buffers, scan, volume
from blockdiff.formats import digestfile
from blockdiff.wire.messages import SAME, ZERO
from blockdiff.wire.request import Request

BLOCK = 4096


def digests_of(data, block_size=BLOCK):
    pieces = (data[place : place + block_size] for place in range(0, len(data), block_size))
    return b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)


def scanned(path, old, stretches, block_size=BLOCK, jobs=1):
    """Return the Scan, what became of each block, and the digests of all as the agent has them."""
    source = volume.Volume(os.fsencode(path))
    pool = buffers.Private(scan.buffer_size(source, block_size))
    place = 0

    def next_old(count):
        nonlocal place
        begin, place = place, place + count * 16
        return old[begin:place]

    asked = Request("/vol", block_size, "md5", 1.0, jobs=jobs)
    work = scan.Scan(source, asked, None if old is None else next_old, lambda: False, pool, stretches)
    fates, digests = [], b""
    try:
        for extent, result in work.results():
            assert extent.first == len(fates)
            fates += [what for what, count in result.runs for _ in range(count)]
            digests += result.digests
    finally:
        source.close()
    return work, fates, digests


@st.composite
def plans(draw, total):
    """Stretches over `total` blocks."""
    at, out = 0, []
    while at < total:
        last = min(total, at + draw(st.integers(1, 9)))
        out.append((at, last, *draw(st.sampled_from([("read", False), ("kept", False), ("kept", True)]))))
        at = last
    return out


@given(st.data())
def test_blocks_that_are_not_read_are_the_parents(tmp_path_factory, data):
    total, tail = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 100, BLOCK]))
    new = bytes(data.draw(st.integers(1, 255)) for _ in range(total))
    plan = data.draw(plans(total))
    changed = data.draw(st.sets(st.integers(0, total - 1), max_size=4))
    how = {index: (way, audit) for first, last, way, audit in plan for index in range(first, last)}
    content = b"".join(bytes((byte,)) * (tail if index == total - 1 else BLOCK) for index, byte in enumerate(new))
    old = bytearray(digests_of(content))
    for index in changed:
        old[16 * index : 16 * index + 16] = b"parent's digest."
    path = tmp_path_factory.mktemp("scan") / "volume"
    path.write_bytes(content)

    left_out = sorted(index for index in changed if how[index] == ("kept", True))
    if left_out:
        with pytest.raises(scan.HintWrong) as wrong:
            scanned(path, bytes(old), plan, jobs=data.draw(st.sampled_from([1, 3])))
        assert wrong.value.args == (left_out[0] * BLOCK,)
        return
    work, fates, digests = scanned(path, bytes(old), plan)
    seen = {index for index in changed if how[index][0] == "read"}
    assert {index for index, fate in enumerate(fates) if fate != SAME} == seen
    true = digests_of(content)
    for index in range(total):
        kept = index in changed - seen
        assert digests[16 * index : 16 * index + 16] == (old if kept else true)[16 * index : 16 * index + 16]
    read = [index for index in range(total) if how[index] != ("kept", False)]
    assert work.read == sum(digestfile.length_of(index, len(content), BLOCK) for index in read)
    assert work.audited == sum(how[index] == ("kept", True) for index in range(total))
    assert work.hinted == sum(how[index][0] == "read" for index in range(total))
    assert work.digest_hashes()["md5"] == hashlib.sha256(digestfile.encode_header(BLOCK) + digests).hexdigest()


def test_what_a_pool_has_not_allocated_is_zeros_unread(tmp_path):
    """A full and an incremental version; and blocks that are there all the same are found by the audit."""
    path = tmp_path / "volume"
    sparse(path, 10 * BLOCK, 3 * BLOCK)
    with open(path, "r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"x" * BLOCK)
    plan = [(0, 2, "hole", False), (2, 3, "hole", True), (3, 4, "read", False), (4, 10, "hole", False)]
    work, fates, digests = scanned(path, None, plan)
    assert (fates[:3], fates[4:]) == ([ZERO] * 3, [ZERO] * 6)
    assert digests == digests_of(path.read_bytes())
    assert (work.read, work.hinted, work.audited) == (2 * BLOCK, 1, 1)
    work, fates, _ = scanned(path, digests[:16] + bytes(16) + digests[32:], plan)
    assert [index for index, fate in enumerate(fates) if fate != SAME] == [1]
    assert fates[1] == ZERO

    for old in (None, digests):
        with pytest.raises(scan.HintWrong) as wrong:
            scanned(path, old, [(0, 3, "read", False), (3, 10, "hole", True)])
        assert wrong.value.args == (3 * BLOCK,)
