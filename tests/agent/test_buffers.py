"""The memory that extents are read into: lent, given back, and taken from a server only if it is the right one."""

import os

import pytest

from agent import buffers
from blockdiff.formats import FormatError
from blockdiff.transport.sharedmemory import SIZE, Shared
from blockdiff.wire import messages
from blockdiff.wire.request import SharedMemory

MIB = 1 << 20


def test_buffers_are_lent_until_they_are_given_back():
    memory = bytearray(4 * MIB)
    pool = buffers.Shared(memory, MIB)
    taken = [pool.take() for _ in range(4)]
    assert {buffer.place for buffer in taken} == {0, MIB, 2 * MIB, 3 * MIB} and not pool.ready()
    pool.lend(taken[0], 2)
    place = taken[0].place
    pool.given_back(messages.encode_places([place]))
    assert not pool.ready()
    pool.given_back(messages.encode_places([place + MIB // 2]))
    assert pool.take().place == place
    pool.put(taken[1])
    assert pool.take().place == taken[1].place


@pytest.mark.parametrize("payload", [b"", bytes(7), bytes(8), messages.encode_places([1 << 40]), b"\xff" * 8])
def test_what_was_not_lent_cannot_be_given_back(payload):
    pool = buffers.Shared(bytearray(4 * MIB), MIB)
    with pytest.raises(FormatError):
        pool.given_back(payload)


@pytest.mark.parametrize(
    "offer",
    [
        SharedMemory(fd=-1, device=0, inode=0, size=SIZE),
        SharedMemory(fd=0, device=0, inode=0, size=SIZE),
        SharedMemory(fd=1 << 40, device=0, inode=0, size=SIZE),
        SharedMemory(fd=9999, device=0, inode=0, size=SIZE),
        SharedMemory(fd=0, device=0, inode=0, size=1),
    ],
)
def test_an_offer_of_something_else_is_not_taken(offer):
    assert isinstance(buffers.choose(offer, MIB), buffers.Private)


@pytest.mark.parametrize("size", [MIB, 128 * 1024, 2 * MIB])
def test_shared_memory_is_taken_where_it_is_worth_it(size):
    memory = Shared()
    try:
        mine = os.dup(memory.fd)  # what is taken is closed
        pool = buffers.choose(SharedMemory(**dict(memory.offer, fd=mine)), size)
        assert isinstance(pool, buffers.Shared) is (size == MIB)
        if size == MIB:
            pool.take().view[:4] = b"seen"
            assert b"seen" in bytes(memory.view)
        else:
            os.close(mine)
    finally:
        memory.close()


def test_without_an_offer_a_buffer_is_used_again():
    pool = buffers.choose(None, MIB)
    first = pool.take()
    assert len(first.view) == MIB and pool.ready() and not pool.worth(MIB)
    pool.put(first)
    assert pool.take() is first


def test_another_file_of_the_same_size_is_not_taken(tmp_path):
    (tmp_path / "other").write_bytes(bytes(SIZE))
    with open(tmp_path / "other", "r+b") as other:
        found = os.fstat(other.fileno())
        offer = SharedMemory(other.fileno(), found.st_dev, found.st_ino + 1, SIZE)
        assert isinstance(buffers.choose(offer, MIB), buffers.Private)
        os.fstat(other.fileno())  # it is still open
