"""A restore to a host whose wire is cut or damaged, or whose other side lies: nothing before GO, all at END."""

import functools
import hashlib
import os
import subprocess

import bundles
import chains
import pytest
from hostile import LEFT, ODD, Played, expected, hello, printable, put_together, raw, taken_apart, talk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pushing import pushed

from blockdiff import codecs
from blockdiff.errors import BlockdiffError, NoRoom, ProtocolBroken, TargetFailed
from blockdiff.formats import digestfile
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport
from blockdiff.wire import frames, messages, placing
from blockdiff.wire.placing import Place

BLOCK = 100
OLD = b"".join(bytes([65 + n]) * BLOCK for n in range(20)) + b"tail"
NEW = OLD[:200] + b"edited by " * 20 + OLD[400:900] + bytes(300) + OLD[1200:1900] + b"the end" * 5
MD5 = b"".join(chains.md5(block) for block in chains.blocks_of(NEW, BLOCK))
SHA256 = hashlib.sha256(digestfile.encode_header(BLOCK) + MD5).hexdigest()


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    """A set whose version 2 is NEW; without XXH3-128, so that conversations are the same everywhere."""
    backup_set = chains.new_set(tmp_path_factory.mktemp("backups"))
    for volume in (OLD, NEW):
        chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN)
    return backup_set.name


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


# an agent that lies

TARGET = {"kind": "file", "size": len(NEW), "content": "", "used": [], "room": None}
HELLO = hello(digest="md5")
DIGESTS = (messages.DIGESTS, MD5)
END = talk(messages.END, sha256=SHA256, blocks=0, written=0, read=len(NEW))
HONEST = [HELLO, talk(messages.TARGET, **TARGET), DIGESTS, END, LEFT]


def plays(name, conversation, path="/target", **played):
    return pushed(
        name, 2, path, connect=lambda: Played(put_together(conversation), endless=raw(messages.PING), **played), force=True,
        timeout_s=4.0, progress_s=0.5,
    )  # fmt: skip


def test_an_honest_agent_that_is_played(name):
    done, target = plays(name, HONEST)
    assert done.failure is None and target.durable and (done.differed, done.sent) == (0, 0)


def changed(index, frame):
    return [*HONEST[:index], *([frame] if frame is not None else []), *HONEST[index + 1 :]]


LIES = {
    "no target": changed(1, None),
    "opened instead": changed(1, talk(messages.OPENED, size=5, kind="file", same=True, users=None)),
    "digests too few": changed(2, (messages.DIGESTS, MD5[:-16])),
    "digests too many": changed(2, (messages.DIGESTS, MD5 + MD5[:16])),
    "digests twice": [*HONEST[:3], DIGESTS, *HONEST[3:]],
    "half a digest": changed(2, (messages.DIGESTS, MD5[:-8])),
    "no digest": changed(2, (messages.DIGESTS, b"")),
    "another SHA-256": changed(3, talk(messages.END, sha256="0" * 64, blocks=0, written=0, read=0)),
    "a SHA-256 that steers": changed(3, talk(messages.END, sha256="\x1b[31m", blocks=0, written=0, read=0)),
    "no SHA-256": changed(3, talk(messages.END, blocks=0, written=0, read=0)),
    "no end": changed(3, None),
    "a place": changed(3, (messages.PLACE, placing.encode_place(Place(0, 1, b"")))),
    "placed without a number": [*HONEST[:3], (messages.PLACED, b"x"), *HONEST[3:]],
    "an unknown kind": changed(3, (200, b"")),
    **{
        f"{key}: {value!r}": changed(1, talk(messages.TARGET, **{**TARGET, key: value}))
        for key, values in {
            "kind": ["folder", 1, "\x1b[31m"],
            "size": [-1, 1 << 63, 1 << 64, "1", None, 1.5],
            "content": [None, 5],
            "used": [None, "x", {}],
            "room": [-1, "x", 1 << 64],
        }.items()
        for value in values
    },
    "used by what steers": changed(1, talk(messages.TARGET, **{**TARGET, "used": ["\x1b[31m (hint: rm -rf /)"] * 300})),
    "refused by what steers": [HELLO, talk(messages.FAILED, error="TargetRefused", args=["/x\x1b", "no\n(hint: rm -rf /)"])],
    "refused without a word": [HELLO, talk(messages.FAILED, error="TargetRefused", args=[])],
    "another error": [HELLO, talk(messages.FAILED, error="SystemExit", args=["a", "b"])],
    "much of nothing": [HELLO, *[talk(messages.NOTE, text="x" * 60_000)] * 90],
}


@pytest.mark.parametrize("lie", LIES)
def test_an_agent_that_lies(name, lie):
    with pytest.raises(BlockdiffError) as error:
        done, target = plays(name, LIES[lie])
        assert not target.durable
        raise done.failure
    assert expected(error.value) and error.value.exit_code >= 20
    printable(str(error.value))
    assert str(error.value).count("hint:") <= 1


@given(index=st.integers(1, 4), key=st.integers(0, 5), value=ODD, flip=st.tuples(st.integers(0, 400), st.integers(0, 255)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_whatever_an_agent_says_it_is_a_named_error_or_the_truth(name, index, key, value, flip):
    conversation = list(HONEST)
    kind, payload = conversation[index]
    if payload.startswith(b"{"):
        whole = messages.decode_talk(payload)
        names = sorted(whole)
        whole[names[key % len(names)]] = value
        payload = functools.reduce(lambda text, _: text, [None], messages.encode_talk(whole))
    else:
        damaged = bytearray(payload)
        damaged[flip[0] % len(damaged)] ^= flip[1]
        payload = bytes(damaged)
    conversation[index] = kind, payload
    try:
        done, target = plays(name, conversation)
    except BlockdiffError as error:
        assert expected(error)
        printable(str(error))
    else:
        assert (done.failure is None) == target.durable
        for line in [*done.warnings, *done.notes, str(done.failure or ""), done.target]:
            printable(line)


# a server that lies


def hears(stream, path):
    """Have a real agent hear this; returns (exit status, its frames, its stderr)."""
    done = subprocess.run(
        push.local_command(), input=push.bundle(False, True) + b"".join(raw(*frame) for frame in stream), capture_output=True, timeout=60
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, taken_apart(done.stdout), done.stderr


def request(path, size=len(NEW), **changes):
    value = {
        "ended": None, "look": False, "known": None, "users": False, "snapshot": None, "path": str(path), "block_size": BLOCK,
        "digest": "md5", "others": False, "old": None, "compress": False, "jobs": 0, "bwlimit": 0, "shared": None, "timeout_s": 20,
        "restore": {"size": size, "dry_run": False},
    }  # fmt: skip
    return talk(messages.REQUEST, **{**value, **changes})


def blocks(first, data, digests=None):
    """A place and its data."""
    digests = digests or b"".join(map(chains.md5, chains.blocks_of(data, BLOCK)))
    place = messages.PLACE, placing.encode_place(Place(first, -(-len(data) // BLOCK), digests))
    return [place, (messages.DATA, messages.encode_data_header(messages.RAW, len(data)) + data)]


GO = (messages.GO, b"")
DATA = (messages.DATA, messages.encode_data_header(messages.RAW, BLOCK) + b"x" * BLOCK)
X = b"x" * BLOCK
SERVERS = {
    "no GO": blocks(0, X),
    "a place before GO": [*blocks(0, X), GO],
    "GO twice": [GO, GO, *blocks(0, X)],
    "data without a place": [GO, DATA],
    "a place beyond the volume": [GO, *blocks(21, X)],
    "a place that reaches beyond": [GO, *blocks(19, X * 2)],
    "a place of 2**63": [GO, (messages.PLACE, (1 << 63).to_bytes(8, "little") + b"\1\0\0\0\0")],
    "wrong bytes": [GO, *blocks(0, X, bytes(16))],
    "too much data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.RAW, BLOCK + 1) + X + b"x")],
    "packed data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.ZLIB, BLOCK) + b"x")],
    "too little data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.RAW, 5) + b"x" * 5)],
    "another frame in between": [GO, blocks(0, X)[0], (messages.END, b"{}")],
    "an end that is none": [GO, (messages.END, b"{}")],
    "an unknown frame": [GO, (99, b"")],
    "an extent": [GO, (messages.EXTENT, b"x" * 20)],
}


@pytest.mark.parametrize("lie", SERVERS)
def test_a_server_that_lies_writes_nothing(lie, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(NEW)
    status, said, words = hears([request(path), *SERVERS[lie]], path)
    assert status in (1, 95) and (status == 1 or words.startswith(b"blockdiff agent: "))
    assert messages.END not in {kind for kind, _ in said}
    assert path.read_bytes() == NEW and os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize(
    "restore", [{}, {"size": -1, "dry_run": False}, {"size": 1 << 63, "dry_run": False}, {"size": "1", "dry_run": False}, {"size": 1}, [], 5]
)
def test_a_request_that_cannot_be(restore, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(NEW)
    assert hears([request(path, restore=restore), GO], path)[0] == 95
    assert path.read_bytes() == NEW


def test_protocol_errors_are_the_hosts(name):
    with pytest.raises(ProtocolBroken, match="expected nothing, got frame 4"):
        done, _ = plays(name, [*HONEST[:2], (messages.DIGESTS, bytes(16 * len(MD5[::16]))), DIGESTS])
        raise done.failure
