"""Memory is bounded by a constant, whatever the volume: measured on the real processes of real runs.

The bounds are the documented ones: 64 MiB for the agent, 128 MiB for the backup server.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from engine import restored
from memory import peak_of
from programs import Program

from blockdiff.store import Store

MIB, TIB = 1 << 20, 1 << 40
AGENT, SERVER = 64 * MIB, 128 * MIB
ROOT = pathlib.Path(__file__).parent.parent
HERE = pathlib.Path(__file__).parent
# a run as over a network: compressed on the wire
DRIVER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from engine import back_up
back_up(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))
"""


def children_of(pid):
    try:
        return [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []


def measured(*words):
    """Run a program to its end; returns the peaks of the server and of its agent, in bytes."""
    agents = {}
    server = 0
    # without a .venv in the checkout, the launchers take python3: then the one that runs the tests
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, PATH=path)
    with Program([str(word) for word in words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None:
            assert time.monotonic() < deadline
            server = max(server, peak_of(process.pid))
            for child in children_of(process.pid):
                agents[child] = max(agents.get(child, 0), peak_of(child))
            time.sleep(0.005)
        output = process.stdout.read()
    assert process.returncode == 0, output
    agent = max(agents.values())
    assert agent > 4 * MIB and server > 8 * MIB  # it was looked at
    return server, agent


def backup(name, source, *options):
    """The command itself, as cron runs it."""
    return measured(ROOT / "bin" / "blockdiff-backup", *options, name, source)


def packed(name, source, **wanted):
    """The same engine, with the wire compressed."""
    paths = json.dumps([str(ROOT), str(HERE)])
    return measured(sys.executable, "-c", DRIVER, paths, name, source, json.dumps(dict(wanted, pack_wire=True)))


def within_bounds(peaks):
    server, agent = peaks
    print(f"the server had {server / MIB:.1f} MiB, the agent {agent / MIB:.1f} MiB")
    assert agent < AGENT, f"the agent had {agent / MIB:.1f} MiB"
    assert server < SERVER, f"the server had {server / MIB:.1f} MiB"


def large_file(path):
    """A sparse file of 15 TiB, or the largest that this file system takes; returns its size."""
    with open(path, "wb") as file:
        for size in (15 * TIB, 8 * TIB - MIB, 2 * TIB - MIB, TIB, 256 << 30, 16 << 30):
            try:
                file.truncate(size)
            except OSError:
                continue
            return size
    return pytest.skip("no large sparse file can be made here")


def test_a_very_large_sparse_file(tmp_path, record_property):
    source = tmp_path / "vol"
    size = large_file(source)
    record_property("size", size)
    print(f"a sparse file of {size / TIB:g} TiB")
    with open(source, "r+b") as file:
        for place in (0, size // 2, size - 100):
            file.seek(place)
            file.write(os.urandom(100))
    within_bounds(backup(tmp_path / "set", source, "--zstd", "--block-size", 16 * MIB))
    with open(source, "r+b") as file:
        file.seek(size - 50)
        file.write(b"a change at the end")
    within_bounds(backup(tmp_path / "set", source, "--zstd"))

    sheets = [Store(str(tmp_path / "set")).read_manifest(number) for number in (1, 2)]
    blocks = size // (16 * MIB)
    assert [sheet.size for sheet in sheets] == [size] * 2
    assert sheets[0].value["blocks"] == {"total": blocks, "changed": blocks, "zero": blocks - 3}
    assert sheets[1].value["blocks"] == {"total": blocks, "changed": 1, "zero": 0}
    assert sheets[0].value["bytes"]["read"] < 100 * MIB  # holes are not read


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_large_blocks_that_do_not_compress(suffix, tmp_path):
    source = tmp_path / "vol"
    with open(source, "wb") as file:
        for _ in range(8):
            file.write(os.urandom(16 * MIB))
        file.write(b"tail")
    if suffix == ".gz":
        within_bounds(backup(tmp_path / "set", source, "--block-size", 16 * MIB))
    else:
        within_bounds(packed(tmp_path / "set", source, suffix=suffix, block_size=16 * MIB))
    source.unlink()


@pytest.mark.parametrize("block_size", [1, 512])
def test_tiny_blocks(block_size, tmp_path):
    """Also with many more threads than this machine has cores."""
    source = tmp_path / "vol"
    volume = bytearray(os.urandom(150_000 if block_size == 1 else 8 * MIB))
    source.write_bytes(volume)
    within_bounds(backup(tmp_path / "set", source, "--block-size", block_size, "--jobs", 16))
    volume[::7] = b"x" * len(volume[::7])  # as many runs as can be
    source.write_bytes(volume)
    within_bounds(packed(tmp_path / "set", source, jobs=16))
    assert restored(tmp_path / "set", 2, tmp_path / "out") == volume
