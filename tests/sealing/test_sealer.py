"""What is sealed: the same however it is written, never whole before its end, and in little memory."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from memory import MIB, measured, peak_below
from programs import Program
from seals import BORDERS, CHUNK, Key, opened, plain, sealed_size

from blockdiff.errors import DamagedFile
from blockdiff.sealing.sealer import Sealer, seal

KEY = Key()
PLAIN = os.urandom(9 << 20)
STREAM = """
import sys
sys.path.insert(0, sys.argv[1])
from blockdiff.sealing import keys, opened, sealer
class File:
    def __init__(self, file):
        self.file, self.size = file, file.seek(0, 2)
    def pread(self, length, offset):
        self.file.seek(offset)
        return self.file.read(length)
    def close(self):
        pass
if sys.argv[2] == "seal":
    with open(sys.argv[4], "wb", buffering=0) as out:
        sealing = sealer.Sealer(keys.recipients([sys.argv[3]]), out.write)
        while piece := sys.stdin.buffer.read1(1 << 20):
            sealing.write(piece)
        sealing.close()
else:
    with open(sys.argv[4], "rb", buffering=0) as file:
        for piece in opened.OpenedFile(File(file), keys.identities([sys.argv[3]]), "x").pieces():
            assert piece.count(0) == len(piece)
"""


def test_how_it_is_written_makes_no_difference():
    for size in (*BORDERS, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 4 * MIB + CHUNK + 1, len(PLAIN)):
        for step in (1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 100_000, 5 * MIB, len(PLAIN)):
            if size / step > 10_000:
                continue
            pieces = []
            sealing = Sealer([KEY.recipient], pieces.append)
            for place in range(0, size, step):
                sealing.write(memoryview(PLAIN)[place : min(place + step, size)])
                sealing.write(b"")
            sealing.close()
            data = b"".join(pieces)
            assert len(data) == sealed_size(size, 1)
            assert plain(data, KEY.identity) == PLAIN[:size]
            assert max(len(piece) for piece in pieces) <= 4 * MIB + 64 * 16


def test_what_was_written_may_change_afterwards():
    kept, pieces = bytearray(PLAIN[:200_000]), []
    sealing = Sealer([KEY.recipient], pieces.append)
    sealing.write(kept)
    kept[:] = bytes(len(kept))
    sealing.close()
    assert plain(b"".join(pieces), KEY.identity) == PLAIN[:200_000]


@pytest.mark.parametrize("size", BORDERS)
def test_without_its_end_it_is_refused(size):
    pieces = []
    Sealer([KEY.recipient], pieces.append).write(PLAIN[:size])
    with pytest.raises(DamagedFile):
        opened(b"".join(pieces), KEY.identity)


def test_what_the_sink_raises_passes_through():
    def sink(data):
        if len(data) > 1000:
            raise OSError(28, "no room")

    sealing = Sealer([KEY.recipient], sink)
    with pytest.raises(OSError, match="no room"):
        sealing.write(PLAIN)


def test_any_of_several_recipients_opens_it():
    others = [Key() for _ in range(3)]
    data = seal([key.recipient for key in others], PLAIN[:70_000])
    for key in others:
        assert plain(data, key.identity) == PLAIN[:70_000]


def test_a_sealer_that_was_killed_leaves_nothing_that_opens(tmp_path):
    out = tmp_path / "out.age"
    words = [sys.executable, "-c", STREAM, str(ROOT), "seal", KEY.public, str(out)]
    with Program(words, stdin=subprocess.PIPE) as process:
        for _ in range(5):  # its end is never reached
            process.stdin.write(bytes(MIB))
        process.stdin.flush()
        while not out.exists() or out.stat().st_size < 4 * MIB:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(DamagedFile):
        opened(out.read_bytes(), KEY.identity)


def test_sealing_takes_little_memory():
    with peak_below(7 * MIB):
        sealing = Sealer([KEY.recipient], len)
        for _ in range(4):
            sealing.write(PLAIN)
        sealing.close()


@pytest.mark.long
def test_a_gib_takes_no_more_memory(tmp_path, disk):
    volume, out, key = disk / "volume", disk / "out.age", tmp_path / "key"
    key.write_text(KEY.secret)
    peaks = {}
    for size in (MIB, 1024 * MIB):
        with open(volume, "wb") as file:
            file.truncate(size)
        for word, argument in (("seal", KEY.public), ("open", str(key))):
            script = f"exec {sys.executable} -c \"$0\" \"$@\" < {volume}"
            peaks[word, size] = measured("sh", "-c", script, STREAM, ROOT, word, argument, out)[0]
        assert out.stat().st_size == sealed_size(size, 1)
    for word in ("seal", "open"):
        more = peaks[word, 1024 * MIB] - peaks[word, MIB]
        print(f"{word}: {peaks[word, 1024 * MIB] / MIB:.1f} MiB, {more / MIB:.1f} MiB more for a GiB")
        assert more < 24 * MIB and peaks[word, 1024 * MIB] < 64 * MIB
