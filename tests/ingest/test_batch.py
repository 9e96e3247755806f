"""Batches: members and digests of neighbouring blocks, each checked against the digest that came with it."""

import hashlib
import os

import pytest
import xxhash

from blockdiff import codecs
from blockdiff.blocks import md5many
from blockdiff.formats import FormatError, difffile
from blockdiff.ingest.batch import Batch, BatchWorker, Data, stretches
from blockdiff.wire.messages import CHANGED, RAW, SAME, ZERO

BLOCK, SIZE = 4, 22  # the last of six blocks has two bytes


def worker(compared="md5", free=lambda places: None):
    return BatchWorker(codecs.PLAIN, SIZE, BLOCK, compared, free)


def batch(*runs, body=b"", digests=()):
    return Batch(runs=list(runs), compared=list(digests), frames=[Data(RAW, len(body), body, 7)] if body else [])


def test_neighbours_of_a_kind_are_one_stretch_whatever_is_unchanged_between():
    runs = [(ZERO, 0, 1), (SAME, 1, 1), (ZERO, 2, 1), (ZERO, 3, 1), (CHANGED, 4, 1)]
    assert list(stretches(runs)) == [(ZERO, [(ZERO, 0, 1), (ZERO, 2, 2)]), (CHANGED, [(CHANGED, 4, 1)])]


@pytest.mark.parametrize("compared, digest", [
    ("md5", lambda block: hashlib.md5(block).digest()), ("xxh128", xxhash.xxh3_128_digest),
])  # fmt: skip
def test_a_batch_becomes_records_and_both_digests(compared, digest):
    places = []
    blocks = [b"abcd", b"ef"]
    done = worker(compared, places.extend).work(
        batch((ZERO, 3, 1), (CHANGED, 4, 2), body=b"".join(blocks), digests=map(digest, blocks))
    )
    records = b"".join(
        difffile.encode_offset(offset) + block for offset, block in ((12, bytes(4)), (16, b"abcd"), (20, b"ef"))
    )
    assert [(member.data, member.first, member.last) for member in done.members] == [(records, 3, 5)]
    assert done.md5 == b"".join(hashlib.md5(block).digest() for block in blocks)
    assert done.xxh == b"".join(map(xxhash.xxh3_128_digest, blocks))
    assert places == [7]  # of shared memory, to be used again


def test_a_block_without_the_digest_that_came_with_it_is_refused():
    with pytest.raises(FormatError, match="block 4 does not have the digest"):
        worker().work(batch((CHANGED, 4, 1), body=b"abcd", digests=[bytes(16)]))


@pytest.mark.parametrize("compared", ["md5", "xxh128"])
def test_every_block_of_a_batch_is_checked_each_against_its_own(compared):
    """With a zero block between them now and then, in several members; the wrong one is named."""
    size, codec = 64 * 1024, codecs.PLAIN
    it = BatchWorker(codec, 201 * size - 5, size, compared, lambda places: None)
    runs = [(ZERO if index % 7 == 3 else CHANGED, index, 1) for index in range(201)]
    blocks = {index: os.urandom(it.bytes_of(index, 1)) for what, index, _ in runs if what == CHANGED}
    digest = xxhash.xxh3_128_digest if compared == "xxh128" else lambda block: hashlib.md5(block).digest()
    digests = list(map(digest, blocks.values()))

    def work():
        body = b"".join(blocks.values())
        return it.work(Batch(runs=list(runs), compared=list(digests), frames=[Data(RAW, len(body), body)]))

    done = work()
    assert done.md5 == b"".join(hashlib.md5(block).digest() for block in blocks.values())
    assert done.xxh == b"".join(map(xxhash.xxh3_128_digest, blocks.values()))
    assert len(done.members) > 2
    for place in (0, 5, 100, len(blocks) - 1):
        right, digests[place] = digests[place], digests[(place + 1) % len(blocks)]
        with pytest.raises(FormatError, match=f"block {list(blocks)[place]} does not have the digest"):
            work()
        digests[place] = right
    digests.pop()
    with pytest.raises(FormatError, match="block 200 does not have the digest"):
        work()


def test_the_md5s_of_a_member_are_computed_together(monkeypatch):
    calls = []

    def compute(buffer, stride, length, count):
        calls.append(count)
        return md5many.with_hashlib(buffer, stride, length, count)

    monkeypatch.setattr(md5many, "md5_many", compute)
    it = BatchWorker(codecs.PLAIN, 90 * 4096, 4096, "md5", lambda places: None)
    body = os.urandom(90 * 4096)
    digests = [hashlib.md5(body[at : at + 4096]).digest() for at in range(0, len(body), 4096)]
    it.work(Batch(runs=[(CHANGED, 0, 90)], compared=digests, frames=[Data(RAW, len(body), body)]))
    assert calls == [90]


def test_the_last_block_is_shorter():
    it = worker()
    assert (it.bytes_of(0, 6), it.bytes_of(4, 2), it.bytes_of(5, 1)) == (SIZE, 6, 2)
    md5, xxh = it.digests_of_zeros(4, 2)
    assert md5 == hashlib.md5(bytes(4)).digest() + hashlib.md5(bytes(2)).digest()
    assert xxh == xxhash.xxh3_128_digest(bytes(4)) + xxhash.xxh3_128_digest(bytes(2))
