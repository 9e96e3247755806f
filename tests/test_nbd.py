"""Versions as disks: real nbdkit, real clients."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess

import chains
import pytest
from exports import copied, read, sockets
from memory import MIB, peak_of
from nights import state
from rewrites import changed, rewrite

from blockdiff import codecs, nbd, restore
from blockdiff.errors import (
    CloneDiffers,
    CommandFailed,
    NoSuchVersion,
    NotAllowedHere,
    ProgramMissing,
    TargetFailed,
    TargetRefused,
)
from blockdiff.export import server
from blockdiff.nbd import Wanted
from blockdiff.sets import chain
from blockdiff.sets.backupset import BackupSet

pytestmark = pytest.mark.usefixtures("nbdkit")
BLOCK = 4096


@pytest.fixture
def export(tmp_path, capfd):
    """Return a function that exports a version of a set; what is told of its reads is on stderr."""
    (tmp_path / "run").mkdir()

    def export(backup_set, number=None, **wanted):
        wanted = Wanted(number, scratch=str(tmp_path / "run"), **wanted)
        return nbd.exporting(backup_set.name, wanted, os.environ, str(tmp_path / "run"), 2)

    yield export
    assert os.listdir(tmp_path / "run") == []


def history(folder, suffix, seed, count=4):
    """A set of versions that grow and shrink, one of them rewritten; its volumes."""
    rng = random.Random(f"{suffix} {seed}")
    backup_set = chains.new_set(folder)
    volume = rng.randbytes(30 * BLOCK) + bytes(20 * BLOCK) + rng.randbytes(20 * BLOCK + 77)
    volumes = {}
    for number in range(1, count + 1):
        original = suffix == ".lzop" and number > 1
        codec = codecs.BY_SUFFIX["" if suffix == ".lzop" and number == 1 else suffix]
        chains.write_version(backup_set, volume, BLOCK, codec, original=original, member=16 * BLOCK)
        volumes[number] = volume
        volume = changed(changed(volume, rng, BLOCK, [*volumes.values()]), rng, BLOCK, [*volumes.values()])
    links = [link.number for link in chain.chain_of(backup_set, count, backup_set.listing())]
    rewrite(backup_set, count, links[-2])
    return backup_set, volumes


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".lzop"])
def test_a_copy_of_every_version_is_its_restore(suffix, export, tmp_path):
    if suffix == ".lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    (tmp_path / "set").mkdir()
    backup_set, volumes = history(tmp_path / "set", suffix, 1)
    before = state(tmp_path / "set")
    for number, volume in volumes.items():
        target = tmp_path / "restored"
        assert restore.restore(BackupSet(backup_set.name), number, str(target)).failure is None
        with export(backup_set, number) as found:
            assert (found.served.version, found.served.size) == (number, len(volume))
            assert copied(found.uri, tmp_path / "copy") == target.read_bytes() == volume
        target.unlink()
    assert state(tmp_path / "set") == before


def test_any_offset_and_length(export, tmp_path):
    backup_set, volumes = history(tmp_path, ".gz", 2)
    rng = random.Random(5)
    volume = volumes[3]
    with export(backup_set, 3) as found:
        ranges = [(0, 1), (BLOCK - 1, 2), (len(volume) - 1, 1), (511, 513)]
        ranges += [(rng.randrange(len(volume) - 9000), rng.randrange(1, 9000)) for _ in range(6)]
        for offset, length in ranges:
            assert read(found.uri, offset, length) == volume[offset : offset + length], (offset, length)
        rows = subprocess.run(["nbdinfo", "--map", found.uri], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in rows.splitlines()]
    assert sum(int(row[1]) for row in rows) == len(volume)
    zeros = [(int(at), int(length)) for at, length, kind, *_ in rows if kind == "3"]
    assert zeros and not any(volume[at : at + length].strip(b"\0") for at, length in zeros)


def test_a_client_that_copies_asks_for_much_at_once(export, tmp_path):
    backup_set = chains.random_set(tmp_path, 1, BLOCK, blocks=1024)
    with export(backup_set) as found:
        words = ["nbdkit", "-U", "-", "--filter=log", "nbd", f"uri={found.uri}", f"logfile={tmp_path}/log", "--run"]
        subprocess.run([*words, 'nbdcopy "$uri" null:'], check=True)
    lengths = re.findall(r" Read .* count=(\S+) ", (tmp_path / "log").read_text())
    assert {int(length, 16) for length in lengths} == {MIB}


def test_what_is_damaged_is_an_error_and_nothing_else(export, tmp_path, capfd):
    backup_set = chains.random_set(tmp_path, 1, BLOCK, blocks=64)
    path = backup_set.path(1, ".gz")
    with open(path, "rb") as file:
        data = bytearray(file.read())
    span = chains.spans_of(backup_set, 1, BLOCK)[2]
    data[span.member.place + 5000] ^= 4
    with open(path, "wb") as file:
        file.write(data)
    with export(backup_set) as found:
        lost = [n for n in range(64) if read(found.uri, n * BLOCK, BLOCK) is None]
        assert copied(found.uri, tmp_path / "copy") is None
    assert lost == list(range(span.member.first, span.member.last + 1))
    told = capfd.readouterr().err
    assert f"blockdiff: {path}: member at byte {span.member.place}" in told and "blockdiff-verify" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("volume", [b"", b"z"], ids=["empty", "one byte"])
def test_the_smallest_volumes(volume, export, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(9000), BLOCK, codecs.ZSTD)
    chains.write_version(backup_set, volume, BLOCK, codecs.ZSTD)
    with export(backup_set) as found:
        assert found.served.size == len(volume)
        assert copied(found.uri, tmp_path / "copy") == volume


def qemu_io(uri, *commands):
    words = ["qemu-io", "-f", "raw", *(word for command in commands for word in ("-c", command)), uri]
    return subprocess.run(words, capture_output=True, text=True)


def test_clients_cannot_write(export, tmp_path):
    backup_set, volumes = history(tmp_path, ".zst", 3, 2)
    with export(backup_set) as found:
        assert qemu_io(found.uri, "write -P 7 0 4096").returncode != 0
        assert copied(found.uri, tmp_path / "copy") == volumes[2]


def test_what_is_written_is_aside_and_forgotten(export, tmp_path):
    (tmp_path / "set").mkdir()
    backup_set, volumes = history(tmp_path / "set", ".zst", 4, 2)
    before = state(tmp_path / "set")
    with export(backup_set, writable=True) as found:
        done = qemu_io(found.uri, "write -P 7 100 5000", "flush", "read -P 7 100 5000")
        assert done.returncode == 0 and "failed" not in done.stdout, done
        volume = bytearray(volumes[2])
        volume[100:5100] = b"\x07" * 5000
        assert copied(found.uri, tmp_path / "copy") == volume
        assert [name for name in os.listdir(tmp_path / "run") if not name.startswith("blockdiff.")] == []
    with export(backup_set) as found:
        assert copied(found.uri, tmp_path / "copy") == volumes[2]
    assert state(tmp_path / "set") == before


def test_the_scratch_folder_is_never_that_of_the_set(export, tmp_path):
    backup_set, _ = history(tmp_path / "run", ".zst", 4, 2)
    with pytest.raises(TargetRefused, match="the folder of the set"), export(backup_set, writable=True):
        pass
    for name in os.listdir(tmp_path / "run"):
        os.unlink(tmp_path / "run" / name)


def test_only_the_owner_can_connect(export, tmp_path):
    backup_set, _ = history(tmp_path, ".zst", 4, 2)
    with export(backup_set):
        (folder,) = sockets(tmp_path / "run")
        assert stat.S_IMODE(os.stat(tmp_path / "run" / folder).st_mode) == 0o700
    path = tmp_path / "own socket"
    with export(backup_set, socket=str(path)) as found:
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o022 == 0  # who may not write cannot connect
        assert found.uri.endswith("/own%20socket")
        assert copied(found.uri, tmp_path / "copy")
        with pytest.raises(TargetRefused, match="it exists"), export(backup_set, socket=str(path)):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_prune_while_it_is_exported_does_no_harm(export, tmp_path):
    (tmp_path / "set").mkdir()
    backup_set, volumes = history(tmp_path / "set", ".gz", 6)
    with export(backup_set, 4) as found:
        shutil.rmtree(tmp_path / "set")
        assert copied(found.uri, tmp_path / "copy") == volumes[4]


def test_it_ends_with_the_last_client_or_says_that_the_server_ended(export, tmp_path):
    backup_set, _ = history(tmp_path, ".zst", 4, 2)
    with export(backup_set, once=True) as found:
        assert copied(found.uri, tmp_path / "copy")
        found.wait()
    with export(backup_set) as found:
        found.children[0].process.send_signal(signal.SIGKILL)
        with pytest.raises(CommandFailed, match="nbdkit failed: it ended with exit code 137"):
            found.wait()


def test_a_command_finds_it_and_its_exit_code_is_ours(export, tmp_path):
    backup_set, volumes = history(tmp_path, ".zst", 4, 2)
    with export(backup_set) as found:
        script = f'nbdcopy "$BLOCKDIFF_URI" {tmp_path}/out; exit 42'
        assert found.run(["sh", "-c", script], os.environ) == 42
        assert (tmp_path / "out").read_bytes() == volumes[2]
        assert found.run(["sh", "-c", "kill -9 $$"], os.environ) == 137
        with pytest.raises(ProgramMissing):
            found.run(["./nosuch"], os.environ)


def test_what_cannot_be_opened_is_told_as_everywhere(export, tmp_path, capfd):
    backup_set, _ = history(tmp_path, ".zst", 4, 2)
    with pytest.raises(NoSuchVersion, match="has no version 9") as caught, export(backup_set, 9):
        pass
    assert caught.value.hint == NoSuchVersion.hint
    assert capfd.readouterr().err == ""


def test_a_name_may_have_any_bytes(export, tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"a b\xff%")
    os.mkdir(folder)
    backup_set, volumes = history(os.fsdecode(folder), ".zst", 4, 2)
    with export(backup_set) as found:
        assert copied(found.uri, tmp_path / "copy") == volumes[2]


def test_a_clone_is_kept_and_lies_on_no_other_version(export, tmp_path):
    (tmp_path / "set").mkdir()
    backup_set, volumes = history(tmp_path / "set", ".zst", 8, 3)
    before, path = state(tmp_path / "set"), tmp_path / "a clone:1.qcow2"
    expected = bytearray(volumes[2])
    for number in range(3):  # each in a run of its own
        with export(backup_set, 2, clone=str(path)) as found:
            assert copied(found.uri, tmp_path / "copy") == expected + bytes(-len(expected) % 512)  # as qcow2 has it
            done = qemu_io(found.uri, f"write -P {number + 1} {number * 5000} 3000", "flush")
            assert done.returncode == 0, done
            expected[number * 5000 : number * 5000 + 3000] = bytes([number + 1]) * 3000
    written = path.read_bytes()
    with pytest.raises(CloneDiffers, match="is a clone of version 2 of vol, not of version 3") as caught:
        with export(backup_set, 3, clone=str(path)):
            pass
    assert (caught.value.exit_code, caught.value.hint) == (52, "give --to 2, or another file")
    (tmp_path / "other").mkdir()
    other, _ = history(tmp_path / "other", ".zst", 9, 3)
    with pytest.raises(CloneDiffers, match="as it is here"), export(other, 2, clone=str(path)):
        pass
    os.unlink(f"{path}.json")
    with pytest.raises(TargetRefused, match="does not tell which version"), export(backup_set, 2, clone=str(path)):
        pass
    assert path.read_bytes() == written
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert state(tmp_path / "set") == before
    with export(backup_set, 2) as found:
        assert copied(found.uri, tmp_path / "copy") == volumes[2]


def test_a_clone_of_a_version_of_the_original(export, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * 10_000, BLOCK, codecs.GZIP, original=True)
    with export(backup_set, clone=str(tmp_path / "c")) as found:
        assert copied(found.uri, tmp_path / "copy").startswith(b"x" * 10_000)
    note = json.loads((tmp_path / "c.json").read_text())
    assert note == {"set": "vol", "version": 1, "md5_sha256": backup_set.hash(1, ".md5").sha256}


def test_a_clone_is_served_once_and_by_one(export, tmp_path):
    backup_set, _ = history(tmp_path, ".zst", 8, 2)
    path = tmp_path / "c"
    with export(backup_set, clone=str(path), socket=str(tmp_path / "s"), once=True) as found:
        assert copied(found.uri, tmp_path / "copy")
        found.wait()
    assert not (tmp_path / "s").exists()
    with export(backup_set, clone=str(path)):
        with pytest.raises(TargetFailed, match="lock"), export(backup_set, clone=str(path)):
            pass
    with pytest.raises(TargetFailed, match="No such file"), export(backup_set, clone=str(tmp_path / "no" / "c")):
        pass


@pytest.mark.parametrize("writable", [False, True])
def test_it_is_a_file(writable, export, tmp_path, fuse):
    (tmp_path / "set").mkdir()
    backup_set, volumes = history(tmp_path / "set", ".zst", 7, 2)
    before = state(tmp_path / "set")
    with export(backup_set, writable=writable, file=str(tmp_path / "mount")) as found:
        path = tmp_path / "mount" / "disk"
        assert found.file == str(path)
        assert path.read_bytes() == volumes[2]
        if writable:
            with open(path, "r+b") as file:
                file.write(b"new")
            assert path.read_bytes() == b"new" + volumes[2][3:]
        else:
            with pytest.raises(PermissionError if os.geteuid() else OSError), open(path, "r+b") as file:
                file.write(b"new")
                file.flush()
        assert found.run(["sh", "-c", 'test "$BLOCKDIFF_FILE" = ' + str(path)], os.environ) == 0
    assert not (tmp_path / "mount").exists()
    assert found.served.read >= len(volumes[2])
    assert state(tmp_path / "set") == before


def test_a_file_that_is_open_does_not_keep_the_mount(export, tmp_path, fuse):
    backup_set, _ = history(tmp_path, ".zst", 7, 2)
    (tmp_path / "mount").mkdir()
    with export(backup_set, file=str(tmp_path / "mount")) as found:
        file = open(found.file, "rb")  # noqa: SIM115
        file.read(1)
        found.children[1].process.kill()  # which leaves its mount
        with pytest.raises(CommandFailed, match="nbdfuse"):
            found.wait()
    assert os.listdir(tmp_path / "mount") == []
    with contextlib.suppress(OSError):  # its file system is gone
        file.close()


def test_where_nothing_can_be_mounted(export, tmp_path, fuse):
    backup_set, _ = history(tmp_path, ".zst", 7, 2)
    (tmp_path / "full" / "x").mkdir(parents=True)
    for folder, why in (("full", "not empty"), ("no/where", "No such file"), ("vol.ver", "Not a directory")):
        with pytest.raises(TargetRefused, match=why), export(backup_set, file=str(tmp_path / folder)):
            pass
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nbdfuse").write_text("#!/bin/sh\necho 'fusermount3: no permission' >&2; exit 1\n")
    (tmp_path / "bin" / "nbdfuse").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    wanted = Wanted(file=str(tmp_path / "mount"), scratch=str(tmp_path / "run"))
    with pytest.raises(NotAllowedHere, match="FUSE is not allowed here: fusermount3: no permission") as caught:
        with nbd.exporting(backup_set.name, wanted, environ, str(tmp_path / "run"), 2):
            pass
    assert caught.value.exit_code == 61
    assert not (tmp_path / "mount").exists()


@pytest.mark.long
def test_memory_is_bounded(export, disk):
    """RSS is at most the cache, 64 MiB, and two members for each thread, with many requests at once."""
    rng = random.Random(1)
    volume = b"".join(rng.randbytes(MIB) for _ in range(600))
    backup_set = chains.new_set(disk)
    chains.write_version(backup_set, volume, 65536, codecs.GZIP, member=4 * MIB)
    with export(backup_set, cache=100 * MIB) as found:
        for size in (4096, 65536, 1 << 20):
            words = ["nbdcopy", f"--request-size={size}", "--requests=64", "--connections=8", found.uri, "null:"]
            subprocess.run(words, check=True)
        peak = peak_of(found.children[0].process.pid)
    assert peak < (100 + 64 + 2 * server.THREADS * 4) * MIB, peak / MIB
