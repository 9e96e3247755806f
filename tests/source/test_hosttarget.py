"""A version pushed to a target by an agent: exactly the version, only what differs, nothing before GO."""

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from types import SimpleNamespace

import bundles
import chains
import interpreters
import limits
import memory
import places
import pytest
from devices import loop_device
from engine import back_up, restored
from pushing import agent, pushed
from rewrites import changed

from blockdiff import codecs
from blockdiff.errors import NoRoom, TargetRefused
from blockdiff.source import push, targetsession
from blockdiff.wire import messages

BLOCK = 4096
RNG = random.Random(5)
FIRST = RNG.randbytes(40 * BLOCK) + bytes(60 * BLOCK) + RNG.randbytes(20 * BLOCK + 17)
SECOND = FIRST[: 3 * BLOCK] + RNG.randbytes(2 * BLOCK) + FIRST[5 * BLOCK : 8 * BLOCK] + bytes(6 * BLOCK) + FIRST[14 * BLOCK :]
THIRD = SECOND[: 110 * BLOCK + 5]
VOLUMES = {1: FIRST, 2: SECOND, 3: THIRD}


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backups")
    for volume in VOLUMES.values():
        (folder.parent / "volume").write_bytes(volume)
        back_up(folder / "db", folder.parent / "volume", block_size=BLOCK)
    return str(folder / "db")


def differing(before, after):
    blocks = chains.blocks_of(before.ljust(len(after), b"\0")[: len(after)], BLOCK)
    return sum(one != two for one, two in zip(blocks, chains.blocks_of(after, BLOCK), strict=True))


def state(folder):
    """Every file with its bytes, size on the disk and time."""
    found = {p.name: (p.stat().st_blocks, p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    return {**found, ".": folder.stat().st_mtime_ns}


@pytest.mark.parametrize("number", VOLUMES)
def test_a_new_file(name, number, tmp_path):
    done, target = pushed(name, number, tmp_path / "out")

    assert done.failure is None and done.exit_code == 0 and target.durable
    assert (tmp_path / "out").read_bytes() == VOLUMES[number]
    assert os.listdir(tmp_path) == ["out"]
    data = (len(VOLUMES[number]) - VOLUMES[number].count(bytes(BLOCK)) * BLOCK) + 2 * BLOCK
    assert os.stat(tmp_path / "out").st_blocks * 512 <= data  # zeros are holes
    assert done.differed == differing(b"", VOLUMES[number]) and done.path == str(tmp_path / "out")
    assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("rescan", [False, True])
@pytest.mark.parametrize("before", [*VOLUMES, "longer", "shorter", "empty"])
@pytest.mark.parametrize("number", VOLUMES)
def test_only_what_differs_is_sent(name, number, before, rescan, tmp_path):
    other = {"longer": FIRST + SECOND, "shorter": FIRST[: 30 * BLOCK + 1], "empty": b""}
    old = VOLUMES.get(before, other.get(before))
    (tmp_path / "out").write_bytes(old)

    done, target = pushed(name, number, tmp_path / "out", force=True, rescan=rescan)

    assert (tmp_path / "out").read_bytes() == VOLUMES[number]
    assert done.proof is None or done.differed == -(-len(VOLUMES[number]) // BLOCK)  # else not every record was read
    assert target.proof.blocks == done.differed == differing(old, VOLUMES[number])
    assert done.sent <= done.differed * (BLOCK + 16) + 1000


def test_nothing_differs_and_nothing_is_sent(name, tmp_path):
    (tmp_path / "out").write_bytes(THIRD)
    done, target = pushed(name, None, tmp_path / "out", force=True)
    assert (done.differed, done.sent, target.proof.blocks, done.read, done.written) == (0, 0, 0, 0, 0)
    assert target.proof.read == len(THIRD)


def test_a_file_is_refused_without_force(name, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")
    before = state(tmp_path)
    with pytest.raises(TargetRefused, match="it is a file of 8 bytes") as error:
        pushed(name, 1, tmp_path / "out")
    assert error.value.hint == "--force writes over it" and state(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_is_open_is_refused(name, force, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")
    before = state(tmp_path)
    with open(tmp_path / "out", "rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as process:
        file.close()
        try:
            with pytest.raises(TargetRefused, match=rf"process {process.pid} \(sleep\) has it open"):
                pushed(name, 1, tmp_path / "out", force=force)
        finally:
            process.kill()
    assert state(tmp_path) == before


@pytest.mark.parametrize("path, why", [("none/out", "there is no folder"), ("", "neither a file"), ("fifo", "neither a file")])
def test_what_cannot_be_a_target(name, path, why, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TargetRefused, match=why):
        pushed(name, 1, os.path.join(tmp_path, path), force=True)


def test_a_dry_run_writes_nothing(name, tmp_path):
    before = state(tmp_path)
    done, _ = pushed(name, 1, tmp_path / "out", dry_run=True)
    assert done.failure is None and done.target == "new file" and state(tmp_path) == before

    (tmp_path / "out.blockdiff-part").mkdir()
    before = state(tmp_path / "out.blockdiff-part")
    with pytest.raises(TargetRefused):
        pushed(name, 1, tmp_path / "out", dry_run=True)


def test_a_folder_that_is_too_full(name, tmp_path):
    text = '"room": writer.room(seen),'
    with bundles.changed("agent/target/restore.py", text, '"room": 5 * 4096,'):
        with pytest.raises(NoRoom, match=r"it takes \S+ KiB or more, and 20\.0 KiB are free"):
            pushed(name, 1, tmp_path / "out")
        assert os.listdir(tmp_path) == []
        assert pushed(name, 1, tmp_path / "out", force=True)[0].failure is None


def test_a_device(name, tmp_path):
    """Zeros are written on it, its rest stays, and what is too small is refused."""
    (tmp_path / "image").write_bytes(b"\xcc" * (1 << 20))
    with loop_device(tmp_path / "image") as loop:
        done, target = pushed(name, 2, loop, force=True)
        assert done.failure is None and target.kind == "block device"
        assert done.notes == [f"{loop} is larger: its last {(1 << 20) - len(SECOND)} bytes are left as they were"]
        assert pushed(name, 2, loop, force=True)[0].sent == 0
        assert pushed(name, 1, loop, force=True)[0].differed == differing(SECOND, FIRST)
    assert (tmp_path / "image").read_bytes() == FIRST + b"\xcc" * ((1 << 20) - len(FIRST))
    (tmp_path / "image").write_bytes(bytes(100 * BLOCK))
    with loop_device(tmp_path / "image") as loop, pytest.raises(TargetRefused, match="it is too small"):
        pushed(name, 1, loop, force=True)
    assert (tmp_path / "image").read_bytes() == bytes(100 * BLOCK)


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP, codecs.LZOP])
def test_a_set_of_the_original(codec, tmp_path):
    """Its size is known by the last block's record alone."""
    backup_set = chains.new_set(tmp_path)
    for volume in VOLUMES.values():
        chains.write_version(backup_set, volume, BLOCK, codec, original=True)
    for number, volume in VOLUMES.items():
        done, _ = pushed(backup_set.name, number, tmp_path / "target", force=True)
        assert done.failure is None and (tmp_path / "target").read_bytes() == volume
        assert done.size == len(volume)


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK])
def test_small_volumes(size, tmp_path):
    data = os.urandom(size)
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, data, BLOCK)
    done, _ = pushed(backup_set.name, 1, tmp_path / "out")
    assert done.failure is None and (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("block_size", [1, 16, 1000, 3 << 20])
def test_odd_block_sizes(block_size, tmp_path):
    data = os.urandom(40_000) if block_size < 1000 else os.urandom(7_000_000)
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, data, block_size, codecs.PLAIN)
    done, _ = pushed(backup_set.name, 1, tmp_path / "out")
    assert done.failure is None and (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("python", interpreters.some())
@pytest.mark.parametrize("host", [bundles.without_xxhash, bundles.without_ctypes])
def test_hosts_that_lack_something(name, python, host, tmp_path):
    with host():
        (tmp_path / "out").write_bytes(FIRST)
        done, _ = pushed(name, 2, tmp_path / "out", force=True, connect=agent(python))
        assert (tmp_path / "out").read_bytes() == SECOND and done.differed == differing(FIRST, SECOND)


def test_many_digests_are_not_kept_and_the_target_is_read_again(name, tmp_path):
    (tmp_path / "out").write_bytes(FIRST)
    with bundles.changed("agent/target/restore.py", "_KEPT = 32 * 1024 * 1024", "_KEPT = 1"):
        done, target = pushed(name, 2, tmp_path / "out", force=True)
        assert (tmp_path / "out").read_bytes() == SECOND and target.proof.read == 2 * len(SECOND)
        done, target = pushed(name, 2, tmp_path / "out", force=True)
        assert done.sent == 0 and target.proof.read == len(SECOND)


def test_a_set_without_xxh128(name, tmp_path):
    subprocess.run(["cp", "-a", os.path.dirname(name), tmp_path / "copy"], check=True)
    os.unlink(tmp_path / "copy/db.2.xxh128")
    (tmp_path / "out").write_bytes(FIRST)
    done, _ = pushed(tmp_path / "copy/db", 2, tmp_path / "out", force=True)
    assert done.failure is None and (tmp_path / "out").read_bytes() == SECOND
    path = tmp_path / "copy/db.3.xxh128"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert pushed(tmp_path / "copy/db", 3, tmp_path / "out", force=True)[0].failure is None
    assert (tmp_path / "out").read_bytes() == THIRD


def test_the_rate_is_limited(name, tmp_path, monkeypatch):
    """By the time that it would wait: here a clock that stands still."""
    slept = []
    event = SimpleNamespace(wait=slept.append)
    monkeypatch.setattr(targetsession, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(targetsession, "threading", SimpleNamespace(Lock=threading.Lock, Event=lambda: event))
    done, _ = pushed(name, 1, tmp_path / "out", bwlimit=1000)
    assert slept[-1] == pytest.approx(done.sent / 1000)
    slept.clear()
    assert pushed(name, 2, tmp_path / "out", force=True)[0].failure is None and not slept


def test_a_set_is_not_touched(name, tmp_path):
    folder = os.path.dirname(name)
    before = {path: (os.stat(f"{folder}/{path}").st_mtime_ns, os.stat(f"{folder}/{path}").st_size) for path in os.listdir(folder)}
    pushed(name, 1, tmp_path / "out")
    assert before == {path: (os.stat(f"{folder}/{path}").st_mtime_ns, os.stat(f"{folder}/{path}").st_size) for path in os.listdir(folder)}


def test_an_agent_for_a_backup_cannot_write(name, tmp_path):
    """Its writer was not sent to it."""
    real = push.bundle
    push.bundle = lambda snapshots=False, restore=False: real(snapshots)
    try:
        with pytest.raises(Exception, match="agent"):
            pushed(name, 1, tmp_path / "out")
    finally:
        push.bundle = real
    assert os.listdir(tmp_path) == []


def test_damage_in_the_set(name, tmp_path):
    """It stops the restore, or with force writes what can be, and is no success."""
    subprocess.run(["cp", "-a", os.path.dirname(name), tmp_path / "copy"], check=True)
    path = tmp_path / "copy/db.1.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    (tmp_path / "target").mkdir()
    for force in (False, True):
        done, target = pushed(tmp_path / "copy/db", 2, tmp_path / "target/out", force=force)
        assert done.failure is not None and 50 <= done.exit_code < 60 and not target.durable
        assert os.listdir(tmp_path / "target") == ["out.blockdiff-part"]
    done, _ = pushed(name, 2, tmp_path / "target/out")  # what is there already is not sent again
    assert done.failure is None and (tmp_path / "target/out").read_bytes() == SECOND
    assert done.differed <= differing(b"", SECOND)
    assert restored(name, 2, tmp_path / "again") == SECOND



@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("block_size", [7, 16, 100])
def test_histories_with_tiny_limits(block_size, kept, tmp_path, monkeypatch):
    """Any version over any other, in any order: exactly the version, and exactly what differs is sent."""
    rng = random.Random(f"{block_size} {kept}")
    backup_set, volumes = chains.new_set(tmp_path), {}
    volume = rng.randbytes(20 * block_size) + bytes(40 * block_size) + rng.randbytes(15 * block_size + block_size // 2)
    for number in range(1, 9):
        chains.write_version(backup_set, volume, block_size, rng.choice([codecs.GZIP, codecs.PLAIN]), member=150)
        volumes[number] = volume
        volume = changed(volume, rng, block_size, list(volumes.values()))
    path, frames, before = tmp_path / "target", Counter(), b""
    with limits.small(monkeypatch):
        inner = targetsession.TargetSession._send_metered
        monkeypatch.setattr(
            targetsession.TargetSession, "_send_metered",
            lambda session, kind, parts: (frames.update([kind]), inner(session, kind, parts))[1],
        )  # fmt: skip
        text = push.source("agent/target/restore.py")
        with bundles.replaced("agent/target/restore.py", text if kept else text.replace(b"_KEPT = 32", b"_KEPT = 0 * 32")):
            for number in rng.sample(sorted(volumes), 6):
                done, target = pushed(backup_set.name, number, path, force=True)
                after = volumes[number]
                assert done.failure is None and path.read_bytes() == after
                pairs = zip(
                    chains.blocks_of(before.ljust(len(after), b"\0")[: len(after)], block_size),
                    chains.blocks_of(after, block_size), strict=True,
                )  # fmt: skip
                assert done.differed == target.proof.blocks == sum(one != two for one, two in pairs)
                before = after
    assert frames[messages.PLACE] > 10 and frames[messages.DATA] > 10


DRIVER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pushing import pushed
done, _ = pushed(sys.argv[2], None, sys.argv[3], force=True)
assert done.failure is None
"""


@pytest.mark.long
@pytest.mark.parametrize("size", [1 << 30, 120 << 30, 200 << 30])
def test_memory_is_bounded_on_both_sides(size, disk):
    """Also where digests are kept, 30 MiB of them, and where they are too many."""
    with open(disk / "volume", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
        file.truncate(size)
    back_up(disk / "set", disk / "volume")
    paths = json.dumps([str(places.ROOT), str(places.ROOT / "tests/support")])
    server, agent = memory.measured(sys.executable, "-c", DRIVER, paths, disk / "set", disk / "out")
    assert agent < 100 * memory.MIB and server < 128 * memory.MIB
