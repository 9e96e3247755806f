"""The other side by hand: conversations put together from frames, and transports that play them."""

import functools
import hashlib
import pathlib
import random
import shutil
import tempfile
import threading

import chains
import pytest
import xxhash
from engine import back_up, files_of, restored
from hypothesis import strategies as st

from blockdiff import __version__, verify
from blockdiff.errors import BlockdiffError, NoRoom
from blockdiff.formats import digestfile
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport
from blockdiff.wire import frames, messages
from blockdiff.wire.messages import CHANGED, SAME, ZERO


class Played:
    """A transport whose other side says what it was given, then ends.

    What comes after its hello it says once it was asked, as a real one does, or after a moment.
    """

    host = "localhost"
    shared = None

    def __init__(self, stream, status=0, words="", piece=65536, endless=b""):
        self._rest = memoryview(stream)
        self._piece = piece
        self._status, self._words = status, words
        self._endless = endless  # is said again and again once the stream is over
        self._closed = threading.Event()
        self._asked = threading.Event()
        self._before = len(stream) - _first_frame(bytes(stream))  # bytes that come after the hello
        self.written = 0

    def read(self, size):
        if len(self._rest) <= self._before:
            self._asked.wait(0.2)
            self._asked.set()
        else:
            size = min(size, len(self._rest) - self._before)
        if self._closed.is_set():
            raise OSError("the transport was closed")
        data = self._rest[: min(size, self._piece)]
        self._rest = self._rest[len(data) :]
        return bytes(data) or self._endless

    def write(self, data):
        if self._closed.is_set():
            raise OSError("the transport was closed")
        self.written += len(data)
        if self.written > len(push.bundle(True)):
            self._asked.set()

    def close_write(self):
        pass

    def wait(self, timeout_s):
        return self._status

    def diagnostics(self):
        return self._words

    def close(self):
        self._closed.set()
        self._asked.set()


def _first_frame(stream):
    """Where the first frame after the mark ends, in bytes."""
    start = stream.find(messages.SYNC_MARK) + len(messages.SYNC_MARK)
    if start < len(messages.SYNC_MARK) or len(stream) < start + frames.HEADER_SIZE:
        return len(stream)
    return min(len(stream), start + frames.HEADER_SIZE + int.from_bytes(stream[start + 1 : start + 5], "little"))


class CutTowardsAgent:
    """A real agent that hears only the first bytes of what the server says; then its input ends."""

    def __init__(self, length):
        self._inner = LocalTransport(push.local_command())
        self.host, self.shared = self._inner.host, None
        self._left = length
        self.sent = 0
        for name in ("read", "wait", "diagnostics", "close", "close_write"):
            setattr(self, name, getattr(self._inner, name))
        if not length:
            self._inner.close_write()

    def write(self, data):
        self.sent += len(data)
        part = memoryview(data)[: self._left]
        if self._left:
            self._left -= len(part)
            self._inner.write(part)
            if not self._left:
                self._inner.close_write()


class Recorded:
    """A real agent of which everything is kept that it says."""

    def __init__(self):
        self._inner = LocalTransport(push.local_command())
        self.host, self.shared = self._inner.host, None
        self.said = bytearray()
        for name in ("write", "wait", "diagnostics", "close", "close_write"):
            setattr(self, name, getattr(self._inner, name))

    def read(self, size):
        data = self._inner.read(size)
        self.said += data
        return data


def taken_apart(stream):
    """The frames of what an agent said, after its mark."""
    decoder = frames.Decoder()
    decoder.feed(bytes(stream).partition(messages.SYNC_MARK)[2])
    found = []
    while (frame := decoder.next()) is not None:
        found.append((frame[0], bytes(frame[1])))
    decoder.close()
    return found


def put_together(spoken):
    """What an agent says that says these frames."""
    return messages.SYNC_MARK + b"".join(frame if isinstance(frame, bytes) else raw(*frame) for frame in spoken)


def raw(kind, payload=b"", length=None):
    """A frame whose header may lie about its length."""
    return bytes([kind & 0xFF]) + (len(payload) if length is None else length).to_bytes(4, "little") + payload


def talk(kind, /, **value):
    return kind, messages.encode_talk(value)


def hello(**changes):
    value = {
        "protocol": messages.PROTOCOL, "program": __version__, "python": "3.11.2", "host": "db00", "cores": 2,
        "digest": "xxh128", "codec": "zstd",
    }  # fmt: skip
    return talk(messages.HELLO, **{**value, **changes})


def opened(size, **changes):
    return talk(messages.OPENED, **{"size": size, "kind": "file", "same": True, "users": None, **changes})


def extent(first, runs, digests=b"", others=b""):
    return messages.EXTENT, messages.encode_extent(messages.Extent(first, runs, digests, others))


def data(body, codec=messages.RAW, length=None):
    return messages.DATA, messages.encode_data_header(codec, len(body) if length is None else length) + body


def end(volume, block_size, *, changed, zero, **changes):
    blocks = chains.blocks_of(volume, block_size)
    digests = digestfile.encode_header(block_size) + b"".join(map(xxhash.xxh3_128_digest, blocks))
    value = {
        "total": len(blocks), "changed": changed, "zero": zero, "read": len(volume), "snapshot": None,
        "digests": {"xxh128": hashlib.sha256(digests).hexdigest()},
    }  # fmt: skip
    return talk(messages.END, **{**value, **changes})


LEFT = talk(messages.LEFT, remains=None)


def honest(volume, block_size, before=None, at_once=4):
    """What an honest agent says of a volume (with XXH3-128, some blocks an extent) whose parent was `before`."""
    blocks = chains.blocks_of(volume, block_size)
    old = None if before is None else chains.blocks_of(before, block_size)
    spoken = [hello(), opened(len(volume))]
    changed = zero = 0
    for first in range(0, len(blocks), at_once):
        runs, digests, body = [], b"", b""
        for index in range(first, min(first + at_once, len(blocks))):
            block = blocks[index]
            if old is not None and index < len(old) and old[index] == block:
                what = SAME
            else:
                what = CHANGED if any(block) else ZERO
                changed += 1
                zero += what == ZERO
            if what == CHANGED:
                digests += xxhash.xxh3_128_digest(block)
                body += block
            runs = [*runs[:-1], (what, runs[-1][1] + 1)] if runs and runs[-1][0] == what else [*runs, (what, 1)]
        spoken.append(extent(first, runs, digests))
        spoken += [data(body[place : place + messages.MAX_DATA]) for place in range(0, len(body), messages.MAX_DATA)]
    return [*spoken, end(volume, block_size, changed=changed, zero=zero), LEFT]


# a set that such conversations are about

BLOCK = 100
RNG = random.Random(3)
# 12 blocks, the last one short: noise, zeros, text
FIRST = RNG.randbytes(5 * BLOCK) + bytes(3 * BLOCK) + b"text " * 60 + RNG.randbytes(BLOCK // 2)
# blocks changed, zeroed, grown by two
SECOND = FIRST[:250] + b"edit" + FIRST[254:400] + bytes(100) + FIRST[500:] + RNG.randbytes(130)
HONEST = {1: honest(FIRST, BLOCK), 2: honest(SECOND, BLOCK, FIRST)}
VOLUMES = {1: FIRST, 2: SECOND}
ODD = st.sampled_from(
    [0, 1, -1, 2, 12, 13, 1 << 31, 1 << 32, 1 << 56, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 1.5, 1e308]
    + [True, False, None, "", "x", "\x1b[31m", [], {}, [1], {"xxh128": ""}, "0" * 64, float("inf"), float("nan")]
)  # fmt: skip


@functools.cache
def begun():
    """The files of a set of one version, made by a real agent."""
    with tempfile.TemporaryDirectory(prefix="blockdiff-test-") as name:
        folder = pathlib.Path(name)
        (folder / "vol").write_bytes(FIRST)
        back_up(folder / "set", folder / "vol", block_size=BLOCK)
        (folder / "vol").unlink()
        return files_of(folder)


def expected(error):
    """A lie is the host's, the volume's or the data's; or it has no room, where a size was claimed."""
    return 20 <= error.exit_code < 60 or isinstance(error, NoRoom)


def printable(text):
    """Nothing in it steers a terminal."""
    assert all(character.isprintable() or character == "\n" for character in text), repr(text)


class Set:
    """A set that is to get version `number`, in a folder of its own that is gone afterwards."""

    def __init__(self, number):
        self.number = number
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="blockdiff-test-"))
        if number == 2:
            for name, data in begun().items():
                (self.folder / name).write_bytes(data)
        self.before = files_of(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        shutil.rmtree(self.folder)

    def back_up(self, stream, **how):
        played = how.pop("played", {})
        return back_up(
            self.folder / "set", "/vol", connect=lambda: Played(stream, **played), timeout_s=5.0,
            **{"block_size": BLOCK, "warn": how.pop("warn", lambda line: None), **how},
        )  # fmt: skip

    def refuses(self, stream, **how):
        """The run ends in a named error that is safe to print, and nothing has happened; returns the error."""
        with pytest.raises(BlockdiffError) as error:
            self.back_up(stream, **how)
        assert expected(error.value)
        printable(str(error.value))
        assert files_of(self.folder) == self.before
        return error.value

    def survives(self, stream, **how):
        """The run ends in a named error and nothing, or in the whole version; the next one succeeds."""
        try:
            outcome = self.back_up(stream, **how)
        except BlockdiffError as error:
            assert expected(error)
            printable(str(error))
            assert files_of(self.folder) == self.before
            self.back_up(put_together(HONEST[self.number]))
        else:
            for line in outcome.warnings:
                printable(line)
        self.is_whole()

    def is_whole(self):
        for number in range(1, self.number + 1):
            assert restored(self.folder / "set", number, self.folder / "out") == VOLUMES[number]
        report = verify.verify(BackupSet(str(self.folder / "set")))
        assert all(version.restores and not version.faults for version in report.versions)
