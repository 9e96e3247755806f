"""The agent's way to the server: paced, and measured to know whether compressing pays.  The clock is the test's."""

import threading
import types

import pytest

from agent import native, sender
from blockdiff.wire import messages
from blockdiff.wire.link import Link

MIB = 1 << 20
GIGABIT = 117_000_000  # bytes a second that such a network carries
ZSTD, ZLIB = native.Zstd.pays_below, native.Zlib.pays_below


class Way:
    """A real link whose far end takes so many bytes a second, by a clock that only moves when somebody waits."""

    def __init__(self, monkeypatch, takes, swallows=0):
        self.clock, self.takes, self.swallows = 100.0, takes, swallows
        monkeypatch.setattr(sender, "time", types.SimpleNamespace(monotonic=lambda: self.clock, sleep=self._sleep))
        self.ended = threading.Event()
        self.link = Link(self._read, self._write, 3600, window=1 << 50)

    def _sleep(self, seconds):
        self.clock += seconds

    def _read(self, size):
        self.ended.wait()
        return b""

    def _write(self, data):
        free = min(self.swallows, len(data))
        self.swallows -= free
        self.clock += (len(data) - free) / self.takes

    def send(self, way, length):
        for _ in range(length // MIB):
            way.send(messages.DATA, (b"12345", bytes(MIB)))


@pytest.fixture
def make(monkeypatch):
    ways = []

    def make(takes, **options):
        ways.append(Way(monkeypatch, takes, **options))
        return ways[-1]

    yield make
    for way in ways:
        way.link.close()
        way.ended.set()


@pytest.mark.parametrize(("takes", "slow"), [(1_000_000, True), (GIGABIT, True), (280_000_000, False), (10**10, False)])
def test_compressing_pays_on_a_gigabit_and_not_on_what_is_faster(takes, slow, make):
    far = make(takes)
    way = sender.Sender(far.link, 0, ZSTD)
    far.send(way, 64 * MIB)
    assert way.slow is slow


@pytest.mark.parametrize(("takes", "slow"), [(12_000_000, True), (GIGABIT, False)])
def test_a_slow_compressor_does_not_pay_on_a_gigabit(takes, slow, make):
    far = make(takes)
    way = sender.Sender(far.link, 0, ZLIB)
    far.send(way, 64 * MIB)
    assert way.slow is slow


def test_it_is_taken_for_slow_until_it_is_known(make):
    far = make(10**10)
    way = sender.Sender(far.link, 0, ZSTD)
    assert way.slow
    far.send(way, 16 * MIB)
    assert way.slow


@pytest.mark.parametrize("takes", [1_000_000, GIGABIT])
def test_what_buffers_take_at_once_is_not_taken_for_the_wire(takes, make):
    far = make(takes, swallows=8 * MIB)
    way = sender.Sender(far.link, 0, ZSTD)
    for _ in range(200):
        far.send(way, MIB)
        assert way.slow


def test_a_wire_may_become_slow_and_fast_again(make):
    far = make(10**9)
    way = sender.Sender(far.link, 0, ZSTD)
    far.send(way, 64 * MIB)
    assert not way.slow
    far.takes = 20_000_000
    far.send(way, 32 * MIB)
    assert way.slow
    far.takes = 10**9
    far.send(way, 256 * MIB)
    assert not way.slow


def test_where_we_are_slower_than_the_wire_few_attempts_are_made(make):
    """Compressed bytes come so slowly that the wire never waits; as they are they come faster than it carries."""
    far = make(GIGABIT)
    way = sender.Sender(far.link, 0, ZSTD)
    packed = raw = 0
    for _ in range(1000):
        far.takes = 10**10 if way.slow else GIGABIT
        packed, raw = packed + way.slow, raw + (not way.slow)
        far.send(way, MIB)
    assert 20 <= raw < packed / 10


def test_what_is_held_back_is_slow(make):
    far = make(10**10)
    way = sender.Sender(far.link, 500 * MIB, ZSTD)
    for _ in range(64):
        far.send(way, MIB)
        assert way.slow


def test_it_keeps_to_its_rate(make):
    far = make(10**12)
    way = sender.Sender(far.link, 1000, ZSTD)
    for _ in range(50):
        way.send(messages.DATA, (bytes(500),))
    assert 23.5 <= far.clock - 100 <= 25.5
    far.clock += 1000  # a long wait buys no more than a second's worth
    began = far.clock
    for _ in range(10):
        way.send(messages.DATA, (bytes(500),))
    assert 3.0 <= far.clock - began <= 5.5


SAME, CHANGED, MOST = messages.SAME, messages.CHANGED, messages.MAX_COUNT


@pytest.mark.parametrize(
    ("fates", "sent"),
    [
        ([(SAME, 3)], [[(SAME, 3)]]),
        ([(SAME, 3), (SAME, 4), (CHANGED, 1), (CHANGED, 2), (SAME, 5)], [[(SAME, 7), (CHANGED, 1)], [(CHANGED, 2)], [(SAME, 5)]]),
        ([(SAME, MOST), (CHANGED, 1)], [[(SAME, MOST)], [(CHANGED, 1)]]),
        ([(SAME, MOST), (SAME, 1), (CHANGED, 1)], [[(SAME, MOST)], [(SAME, 1)], [(CHANGED, 1)]]),
    ],
)
@pytest.mark.parametrize("others", [False, True])
def test_unchanged_blocks_are_in_the_extent_that_follows_them(fates, sent, others, make, monkeypatch):
    way, received = sender.Sender(make(10**10).link, 0, ZSTD), []
    monkeypatch.setattr(way, "send", lambda kind, parts, later: received.append(parts[0]))
    results, first = [], 0
    for what, count in fates:
        digests = bytes(16 * count) if what == CHANGED else b""
        result = types.SimpleNamespace(runs=[(what, count)], changed_digests=digests, other_digests=digests * others, frames=[])
        results.append((types.SimpleNamespace(first=first, count=count), result))
        first += count
    way.send_extents(results)
    place, runs = 0, []
    for payload in received:
        extent = messages.decode_extent(payload, place, first)
        place += sum(count for _, count in extent.runs)
        runs.append(extent.runs)
        assert bool(extent.other_digests) == (others and (CHANGED in dict(extent.runs)))
    assert place == first
    if others:  # digests of the other kind are of all blocks of an extent
        assert [run for each in runs for run in each] == [run for each in sent for run in each]
    else:
        assert runs == sent
