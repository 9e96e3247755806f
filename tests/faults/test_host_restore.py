"""A restore to a host whose wire is cut or damaged, or whose disk is full: nothing before GO, all at END."""

import os

import bundles
import chains
import pushing
import pytest
from hostile import expected, printable, raw
from pushing import BLOCK, NEW, OLD, pushed

from blockdiff.errors import BlockdiffError, NoRoom, TargetFailed
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport
from blockdiff.wire import frames, messages

name = pushing.name


class Wire:
    """A real agent; what it hears and what it says may be cut after some bytes, and a bit of what it hears be wrong."""

    def __init__(self, hears=None, says=None, flip=None):
        self._inner = LocalTransport(push.local_command())
        self.host, self.shared = self._inner.host, None
        self._hears, self._says, self._flip = hears, says, flip
        self.heard, self.said = bytearray(), 0
        for each in ("wait", "diagnostics", "close", "close_write"):
            setattr(self, each, getattr(self._inner, each))

    def write(self, data):
        part = bytearray(data)
        if self._flip is not None and 0 <= self._flip // 8 - len(self.heard) < len(part):
            part[self._flip // 8 - len(self.heard)] ^= 1 << self._flip % 8
        self.heard += part
        if self._hears is None:
            self._inner.write(bytes(part))
        else:
            left = max(0, self._hears - len(self.heard) + len(part))
            self._inner.write(bytes(part[:left]))
            if left < len(part):
                self._inner.close_write()

    def read(self, size):
        if self._says is not None:
            size = min(size, self._says - self.said)
        if not size:
            self._inner.close()
            return b""
        data = self._inner.read(size)
        self.said += len(data)
        return data


def run(name, path, wire=None):
    """Push NEW over what is at a path; returns why that failed, or None, and the wire."""
    made = []

    def connect():
        made.append(wire() if wire else Wire())
        return made[0]

    try:
        done, _ = pushed(name, 2, path, connect=connect, force=True, timeout_s=4, progress_s=1, threads=1)
    except BlockdiffError as error:
        failure = error
    else:
        failure = done.failure
    if failure is not None:
        assert expected(failure) or isinstance(failure, NoRoom), failure
        printable(str(failure))
    return failure, made[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def spoken(name, path):
    """What a whole restore over OLD says: (bytes that the server says, where GO ends in them, bytes of the agent's)."""
    path.write_bytes(OLD)
    failure, wire = run(name, path)
    assert failure is None and path.read_bytes() == NEW
    begin = len(push.bundle(False, True))
    go = begin + bytes(wire.heard[begin:]).index(raw(messages.GO)) + frames.HEADER_SIZE
    return bytes(wire.heard), go, wire.said


def borders(stream, begin):
    """Some places in a stream: around where each frame begins and in the middle of it."""
    place, found = begin, set()
    while place < len(stream):
        length = frames.HEADER_SIZE + int.from_bytes(stream[place + 1 : place + 5], "little")
        found |= {place, place + length // 2, place + length - 1}
        place += length
    return sorted(found - {len(stream)})


def is_well(name, path, failure, wrong=()):
    """What is there is of OLD or NEW block by block, all of NEW after a success, and the next run makes it so."""
    there = path.read_bytes()
    if failure is None:
        assert there == NEW
    for index, block in enumerate(chains.blocks_of(there, BLOCK)):
        old, new = (volume[index * BLOCK : (index + 1) * BLOCK] for volume in (OLD, NEW))
        assert index in wrong or block in (new, old.ljust(len(block), b"\0")[: len(block)]), index
    assert run(name, path)[0] is None and path.read_bytes() == NEW


def test_a_wire_to_the_agent_that_is_cut_after_any_byte(name, spoken, path):
    heard, go, _ = spoken
    begin = len(push.bundle(False, True))
    for place in [begin // 2, *borders(heard, begin)]:
        path.write_bytes(OLD)
        before = path.stat().st_mtime_ns
        failure, _ = run(name, path, lambda place=place: Wire(hears=place))
        assert failure is not None
        if place < go:
            assert path.read_bytes() == OLD and path.stat().st_mtime_ns == before
        is_well(name, path, failure)
        assert os.listdir(path.parent) == [path.name]


def test_a_wire_from_the_agent_that_is_cut_after_any_byte(name, spoken, path):
    _, _, said = spoken
    successes = 0
    for place in range(0, said, max(1, said // 18)):
        path.write_bytes(OLD)
        failure, _ = run(name, path, lambda place=place: Wire(says=place))
        successes += failure is None
        is_well(name, path, failure)
    assert successes <= 2  # END came, and only what follows it was cut


def test_a_bit_that_is_flipped_on_the_way_to_the_agent(name, spoken, path):
    """A target that is not the version is never called so, and no byte is written beyond it."""
    heard, go, _ = spoken
    failures = 0
    for number, place in enumerate(range(go, len(heard), 31)):
        path.write_bytes(OLD)
        failure, _ = run(name, path, lambda place=place, number=number: Wire(flip=8 * place + number % 8))
        failures += failure is not None
        assert path.stat().st_size == len(NEW)
        is_well(name, path, failure, wrong=range(21))
    assert failures > 10


def place_frame(spoken):
    heard, go, _ = spoken
    begin = heard.index(raw(messages.PLACE, length=0)[:1], go)
    return begin, frames.HEADER_SIZE + int.from_bytes(heard[begin + 1 : begin + 5], "little")


def test_every_bit_of_where_blocks_are_written(name, spoken, path):
    """In the number, the count, the kind and a digest of the first PLACE."""
    begin, length = place_frame(spoken)
    for bit in range(0, 8 * 13 + 8 * 2, 7):
        path.write_bytes(OLD)
        place = 8 * (begin + frames.HEADER_SIZE) + bit
        failure, _ = run(name, path, lambda place=place: Wire(flip=place))
        assert failure is not None
        assert path.stat().st_size == len(NEW)
        is_well(name, path, failure, wrong=range(21))
    assert length > frames.HEADER_SIZE + 13 + 4


def test_a_bit_in_the_bytes_of_a_block_is_seen_before_it_is_written(name, spoken, path):
    begin, length = place_frame(spoken)
    path.write_bytes(OLD)
    failure, _ = run(name, path, lambda: Wire(flip=8 * (begin + length + frames.HEADER_SIZE + 5 + 50)))
    assert isinstance(failure, TargetFailed) and "arrived damaged and were not written" in str(failure)
    is_well(name, path, failure)


def test_a_disk_that_is_full(tmp_path):
    """As far as a process may write; the file that is there already is larger."""

    def limited():
        return LocalTransport(["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *push.local_command()])

    backup_set = chains.new_set(tmp_path, "large")
    data = os.urandom(20_000)
    chains.write_version(backup_set, data, BLOCK)
    (tmp_path / "target").write_bytes(bytes(20_000))
    with pytest.raises(TargetFailed, match="File too large"):
        done, _ = pushed(backup_set.name, 1, tmp_path / "target", connect=limited, force=True)
        assert done.left.endswith("is partly written; running again sends only the blocks that it does not have yet")
        raise done.failure
    assert pushed(backup_set.name, 1, tmp_path / "target", force=True)[0].failure is None
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("self._sink.sync()", "raise TargetFailed('x', 'a disk that fails')", "a disk that fails"),
        ('"sha256": found', '"sha256": found[::-1]', "do not have the digests of version 2"),
    ],
    ids=["fsync fails", "another SHA-256"],
)
def test_an_agent_that_is_broken(name, old, new, message, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(OLD)
    with bundles.changed("agent/target/restore.py", old, new):
        failure, _ = run(name, path)
    assert isinstance(failure, TargetFailed) and message in str(failure)


def test_an_agent_that_reads_again_sees_what_it_did_not_write(name, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(OLD)
    text = push.source("agent/target/restore.py")
    text = text.replace(b"self._sink.write(offset, [self._buffer.view[:length]])", b"pass")
    text = text.replace(b"_KEPT = 32 * 1024 * 1024", b"_KEPT = 1")
    with bundles.replaced("agent/target/restore.py", text):
        failure, _ = run(name, path)
    assert isinstance(failure, TargetFailed) and "do not have the digests of version 2" in str(failure)
