"""The scan of a volume against what the formats say: every block size, any parent, in order, in bounded memory."""

import errno
import hashlib
import os
import random
import tempfile
import threading

import pytest
from files import sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_below

from agent import buffers, native, scan, volume
from agent.errors import AgentError
from blockdiff.formats import digestfile
from blockdiff.ingest import wirecodecs
from blockdiff.wire import messages
from blockdiff.wire.messages import CHANGED, SAME, ZERO
from blockdiff.wire.request import Request

MIB = 1 << 20
KINDS = [kind for kind in ("md5", "xxh128") if native.digester(kind)]


def digest_of(kind, block):
    if kind == "md5":
        return hashlib.md5(block, usedforsecurity=False).digest()
    import xxhash

    return xxhash.xxh3_128_digest(block)


def blocks_of(data, block_size):
    return [data[place : place + block_size] for place in range(0, len(data), block_size)]


def digests_of(kind, data, block_size):
    return [digest_of(kind, block) for block in blocks_of(data, block_size)]


class Old:
    """The parent's digests as the agent has them: handed out in order, fewer where the parent had fewer."""

    def __init__(self, digests):
        self._digests = digests
        self._place = 0

    def __call__(self, count):
        found = self._digests[self._place : self._place + count]
        self._place += len(found)
        return b"".join(found)


def scan_of(source, block_size, *, old=None, kind="md5", **asked):
    """Return the Scan of a volume, with what is asked of it."""
    wanted = Request("/vol", block_size, kind, 1.0, **asked)
    pool = buffers.Private(scan.buffer_size(source, block_size))
    return scan.Scan(source, wanted, None if old is None else Old(old), lambda: True, pool)


def scanned(path, block_size, *, kind="md5", others=False, old=None, compress=False, jobs=3, check=True):
    """Scan a file; returns the Scan and what became of each block: (fate, block or None).

    Everything that is promised of any scan is asserted on the way.
    """
    source = volume.Volume(os.fsencode(path))
    work = scan_of(source, block_size, kind=kind, others=others, old=old, compress=compress, jobs=jobs)
    fates, told, other_digests, expected = [], [], [], 0
    try:
        for extent, result in work.results():
            assert extent.first == expected
            expected += extent.count
            wire = messages.encode_extent(messages.Extent(extent.first, result.runs, result.changed_digests, result.other_digests))
            assert messages.decode_extent(wire, extent.first, work.total).runs == result.runs
            data = bytearray()
            for codec, length, body in result.frames:
                assert 1 <= length <= messages.MAX_DATA
                assert codec == messages.RAW or compress
                data += wirecodecs.unwrap(codec, length, bytes(body))
            place = 0
            index = extent.first
            for what, count in result.runs:
                for _ in range(count):
                    if what == CHANGED:
                        length = digestfile.length_of(index, source.size, block_size)
                        fates.append((what, bytes(data[place : place + length])))
                        place += length
                    else:
                        fates.append((what, None))
                    index += 1
            assert place == len(data)
            # only the last frame of an extent may be shorter than it could be
            assert all(length == messages.MAX_DATA for _, length, _ in result.frames[:-1])
            told += [result.changed_digests[i : i + 16] for i in range(0, len(result.changed_digests), 16)]
            other_digests += [result.other_digests[i : i + 16] for i in range(0, len(result.other_digests), 16)]
        assert expected == work.total == len(fates)
    finally:
        source.close()
    if check:
        with open(path, "rb") as file:
            prove(work, fates, told, other_digests, file.read(), block_size, kind, others, old)
    return work, fates


def prove(work, fates, told, other_digests, data, block_size, kind, others, old):
    """Hold a scan's results against the volume's bytes, block by block."""
    digests = digests_of(kind, data, block_size)
    told = iter(told)
    for index, (block, digest, (what, sent)) in enumerate(zip(blocks_of(data, block_size), digests, fates, strict=True)):
        same = old is not None and index < len(old) and old[index] == digest
        assert what == (SAME if same else CHANGED if any(block) else ZERO), index
        if what == CHANGED:
            assert sent == block and next(told) == digest
    assert next(told, None) is None
    assert work.changed == sum(what != SAME for what, _ in fates)
    assert work.zero == sum(what == ZERO for what, _ in fates)
    assert work.read <= len(data)
    head = digestfile.encode_header(block_size)
    hashes = {kind: hashlib.sha256(head + b"".join(digests)).hexdigest()}
    if others:
        other = "xxh128" if kind == "md5" else "md5"
        assert other_digests == digests_of(other, data, block_size)
        hashes[other] = hashlib.sha256(head + b"".join(other_digests)).hexdigest()
    assert work.digest_hashes() == hashes


@pytest.fixture
def file(tmp_path):
    return tmp_path / "volume"


def mixed(size, seed=1):
    """Bytes with stretches of noise, text and zeros."""
    rng = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        length = rng.choice((1, 100, 4096, 30_000, 200_000))
        data += rng.choice((rng.randbytes(length), b"text " * (length // 5 + 1), bytes(length)))
    return bytes(data[:size])


# sizes


@pytest.mark.parametrize("block_size", [1, 3, 512, 16834, 65536, MIB - 1, MIB, MIB + 1, 16 * MIB])
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "compressed"])
def test_any_block_size(block_size, compress, file):
    size = min(40 * block_size + block_size // 2 + 1, 3 * MIB) if block_size > 3 else 9000 * block_size + 1
    if block_size == 16 * MIB:
        size = 17 * MIB + 5
    file.write_bytes(mixed(size))
    scanned(file, block_size, compress=compress)


@pytest.mark.parametrize("size", [0, 1, 2, 4095, 4096, 4097, 8191, 8192, 3 * 4096 + 1])
@pytest.mark.parametrize("content", [bytes, os.urandom], ids=["zero", "noise"])
def test_odd_sizes(size, content, file):
    data = content(size)
    file.write_bytes(data)
    for kind in KINDS:
        _, fates = scanned(file, 4096, kind=kind)
        assert len(fates) == -(-size // 4096)
        scanned(file, 4096, kind=kind, old=digests_of(kind, data, 4096))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("others", [False, True])
def test_both_kinds_of_digests_and_the_other_beside_it(kind, others, file):
    if others and len(KINDS) < 2:
        pytest.skip("libxxhash is not installed")
    data = mixed(500_000)
    file.write_bytes(data)
    old = digests_of(kind, data, 1000)
    old[7] = old[100] = bytes(16)
    scanned(file, 1000, kind=kind, others=others, old=old)
    scanned(file, 1000, kind=kind, others=others)


# parents


@pytest.mark.parametrize("known", [0, 1, 2, 49, 50, 51, 99, 100])
def test_a_parent_that_was_shorter_or_longer(known, file):
    """Known blocks are the same, the others new; what the parent had beyond the end is of no interest."""
    data = mixed(50 * 1000)
    file.write_bytes(data)
    parent = digests_of("md5", data + os.urandom(50 * 1000), 1000)[:known]
    _, fates = scanned(file, 1000, old=parent)
    assert [what == SAME for what, _ in fates] == [index < known for index in range(50)]


def test_a_last_block_that_grew_is_changed(file):
    data = mixed(10_500)
    file.write_bytes(data + b"\0" * 300)
    _, fates = scanned(file, 1000, old=digests_of("md5", data, 1000))
    assert [what for what, _ in fates].count(SAME) == 10 and fates[10][0] != SAME


def test_a_zeroed_block_is_told_once_and_then_the_same(file):
    data = os.urandom(3000) + bytes(3000) + os.urandom(3000)
    file.write_bytes(data)
    noise = digests_of("md5", os.urandom(9000), 1000)
    _, fates = scanned(file, 1000, old=noise)
    assert [what for what, _ in fates] == [CHANGED] * 3 + [ZERO] * 3 + [CHANGED] * 3
    _, fates = scanned(file, 1000, old=digests_of("md5", data, 1000))
    assert [what for what, _ in fates] == [SAME] * 9


# holes


@pytest.mark.parametrize("block_size", [1000, 4096, 65536, MIB, 16 * MIB])
def test_holes_are_zero_blocks(block_size, file):
    size = 24 * MIB + 123
    sparse(file, size, 5 * MIB - 2, 18 * MIB)
    work, fates = scanned(file, block_size)
    assert sum(what == CHANGED for what, _ in fates) in (2, 3)
    work, _ = scanned(file, block_size, old=digests_of("md5", file.read_bytes(), block_size))
    assert work.changed == 0


def test_a_hole_that_ends_with_the_volume_covers_its_short_block(file):
    sparse(file, 3 * MIB + 5, 0)
    work, fates = scanned(file, MIB)
    assert [what for what, _ in fates] == [CHANGED, ZERO, ZERO, ZERO]
    if os.stat(file).st_blocks * 512 < MIB:
        assert work.read == MIB  # holes cost no read


def test_a_hole_with_a_parent_that_had_data_there(file):
    sparse(file, 4 * MIB, MIB)
    old = digests_of("md5", mixed(4 * MIB), 65536)
    old[40] = digest_of("md5", bytes(65536))
    _, fates = scanned(file, 65536, old=old)
    assert fates[40][0] == SAME and fates[41][0] == ZERO and fates[16][0] == CHANGED


@given(
    block_size=st.sampled_from([1, 7, 100, 4096, 65536, 70_000]),
    pieces=st.lists(st.tuples(st.integers(0, 150_000), st.sampled_from("hzdr")), max_size=8),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 9)), max_size=3),
    known=st.floats(0, 2),
    how=st.tuples(st.sampled_from(KINDS), st.booleans(), st.booleans(), st.integers(1, 4)),
)
@settings(max_examples=60, deadline=None)
def test_any_volume_against_any_parent(block_size, pieces, edits, known, how):
    """Holes, zeros, text and noise in any order; the parent is it with edits, shorter or longer."""
    kind, others, compress, jobs = how
    scale = 50 if block_size < 100 else 1
    with tempfile.NamedTemporaryFile() as file:
        place = 0
        for length, what in pieces:
            length //= scale
            if what != "h":
                file.seek(place)
                file.write({"z": bytes(length), "d": b"text" * (length // 4), "r": os.urandom(length)}[what])
            place += length
        file.truncate(place)
        file.flush()
        with open(file.name, "rb") as again:
            parent = bytearray(again.read())
        for where, length in edits:
            start = int(where * len(parent))
            parent[start : start + length] = b"e" * min(length, len(parent) - start)
        parent = bytes(parent[: int(known * len(parent))]) + bytes(int(max(0, known - 1) * 3 * block_size))
        others = others and len(KINDS) == 2
        scanned(file.name, block_size, kind=kind, others=others, compress=compress, jobs=jobs)
        old = digests_of(kind, parent, block_size)
        scanned(file.name, block_size, kind=kind, others=others, old=old, compress=compress, jobs=jobs)


# faults


class Scripted(volume.Volume):
    """A volume of which certain blocks cannot be read."""

    def __init__(self, path, bad, block_size):
        super().__init__(os.fsencode(path))
        self._bad = {index * block_size for index in bad}

    def read_into(self, view, offset):
        for place in sorted(self._bad):
            if offset <= place < offset + len(view):
                raise AgentError("ReadFailed", self._name(), f"{os.strerror(errno.EIO)} at byte {place}")
        super().read_into(view, offset)


@pytest.mark.parametrize("bad", [0, 1, 15, 16, 17, 100, 127])
def test_an_error_at_any_block_ends_the_scan_after_all_that_came_before_it(bad, file):
    file.write_bytes(os.urandom(128 * 65536))
    before = threading.active_count()
    source = Scripted(file, [bad], 65536)
    work = scan_of(source, 65536, jobs=4)
    seen = 0
    with pytest.raises(AgentError, match=f"at byte {bad * 65536}"):
        for extent, _ in work.results():
            assert extent.first == seen
            seen += extent.count
    assert seen == bad // 16 * 16
    assert threading.active_count() == before
    source.close()


def test_a_scan_may_be_left_early(file):
    file.write_bytes(os.urandom(8 * MIB))
    before = threading.active_count()
    source = volume.Volume(os.fsencode(file))
    results = scan_of(source, 65536, compress=True, jobs=4).results()
    next(results)
    results.close()
    assert threading.active_count() == before
    source.close()


# memory


@pytest.mark.parametrize("block_size", [512, 65536, 16 * MIB])
def test_memory_does_not_grow_with_the_volume(block_size, tmp_path):
    """A taker that is slow holds the scan up; what is in flight stays below a constant."""
    sparse(tmp_path / "sparse", 1 << 40, 1 << 39)
    source = volume.Volume(os.fsencode(tmp_path / "sparse"))
    work = scan_of(source, block_size, compress=True, jobs=8)
    with peak_below(64 * MIB):
        results = work.results()
        for _ in range(200):
            next(results, None)
        results.close()
    source.close()


def test_no_more_is_read_ahead_than_is_allowed(file):
    file.write_bytes(os.urandom(64 * MIB))
    source = volume.Volume(os.fsencode(file))
    reading = source.read_into
    read = []
    source.read_into = lambda view, offset: (read.append(len(view)), reading(view, offset))
    results = scan_of(source, 65536, jobs=64).results()
    for taken in range(1, 20):
        next(results)
        assert sum(read) <= scan.IN_FLIGHT + (taken + 1) * MIB
    results.close()
    source.close()
