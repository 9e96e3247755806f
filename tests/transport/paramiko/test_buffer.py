import hashlib
import random

import pytest
from threads import in_thread

from blockdiff.transport.paramiko.buffer import Arrivals, Overrun, ReadAhead


def test_pieces_come_out_as_they_went_in():
    source = random.Random(3)
    data = source.randbytes(300_000)
    arrivals = Arrivals(len(data))
    offset = 0
    while offset < len(data):
        step = source.randrange(1, 5000)
        arrivals.feed(data[offset : offset + step])
        offset += step
    assert len(arrivals) == len(data)
    assert arrivals.read_ready()
    arrivals.close()
    digest = hashlib.md5()
    while piece := arrivals.read(source.randrange(1, 9000)):
        digest.update(piece)
    assert digest.digest() == hashlib.md5(data).digest()
    assert len(arrivals) == 0
    assert not arrivals.read_ready()


def test_never_more_than_asked_for():
    arrivals = Arrivals(10)
    arrivals.feed(b"abcdef")
    assert [arrivals.read(4), arrivals.read(4)] == [b"abcd", b"ef"]


def test_read_waits_for_the_first_byte_and_for_the_end():
    arrivals = Arrivals(10)
    thread, outcome = in_thread(lambda: arrivals.read(4))
    thread.join(0.05)
    assert thread.is_alive()
    arrivals.feed(b"x")
    thread.join(5)
    assert outcome == [b"x"]
    thread, outcome = in_thread(lambda: arrivals.read(4))
    arrivals.close()
    thread.join(5)
    assert outcome == [b""]


def test_more_than_allowed_is_an_error():
    arrivals = Arrivals(10)
    arrivals.feed(bytes(10))
    with pytest.raises(Overrun):
        arrivals.feed(b"x")


class Pieces:
    """A socket that gives its pieces one after another."""

    def __init__(self, *pieces):
        self.pieces, self.asked = list(pieces), 0

    def recv(self, size):
        self.asked += 1
        return self.pieces.pop(0)

    def close(self):
        return "closed"


def test_read_ahead_asks_seldom():
    inner = Pieces(b"abcdefgh", b"i", b"")
    ahead = ReadAhead(inner)
    assert [ahead.recv(size) for size in (3, 3, 100, 5, 5)] == [b"abc", b"def", b"gh", b"i", b""]
    assert inner.asked == 3
    assert ahead.close() == "closed"
