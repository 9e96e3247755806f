"""The real bundle in a real `python3 -c`, under every interpreter there is: always the same bytes."""

import contextlib
import ctypes
import gzip
import hashlib
import os
import random
import shlex
import subprocess

import bundles
import chains
import interpreters
import pytest
from engine import back_up, files_of, restored

from blockdiff.errors import NoPython
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport

BLOCK = 4096


def _volumes():
    rng = random.Random(7)
    first = bytearray(rng.randbytes(1_500_000) + bytes(700_000) + b"text " * 100_000 + rng.randbytes(300_001))
    second = bytearray(first)
    second[5000:5010] = b"0123456789"
    second[1_000_000:1_200_000] = bytes(200_000)
    second[1_600_000:1_600_100] = rng.randbytes(100)
    second += rng.randbytes(100_000) + bytes(3 * BLOCK)
    return bytes(first), bytes(second)


VOLUMES = _volumes()
HOSTS = {  # what a source host may lack
    "all there": contextlib.nullcontext,
    "no libxxhash": bundles.without_xxhash,
    "no libzstd": bundles.without_zstd,
    "no ctypes": bundles.without_ctypes,
}


def expected():
    """The uncompressed payload and the digest file of each version, by the page."""
    digests, found = None, []
    for volume in VOLUMES:
        blocks = chains.blocks_of(volume, BLOCK)
        now = [chains.md5(block) for block in blocks]
        payload = chains.payload_of(blocks, chains.changed_of(blocks, now, digests), BLOCK)
        found.append((payload, BLOCK.to_bytes(4, "little") + b"".join(now)))
        digests = now
    return found


EXPECTED = expected()


def two_versions(folder, **how):
    """Back up both volumes, the second one compressed on the wire; returns the set's files."""
    folder.mkdir()
    for volume, pack in zip(VOLUMES, (False, True), strict=True):
        (folder / "vol").write_bytes(volume)
        outcome = back_up(folder / "set", folder / "vol", block_size=BLOCK, pack_wire=pack, **how)
        assert outcome.warnings == []
    os.unlink(folder / "vol")
    return files_of(folder)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The files that this interpreter's agent leads to."""
    folder = tmp_path_factory.mktemp("reference") / "it"
    files = two_versions(folder)
    for number, volume in enumerate(VOLUMES, 1):
        assert restored(folder / "set", number, folder / "out") == volume
    for number, (payload, digests) in enumerate(EXPECTED, 1):
        assert gzip.decompress(files[f"set.{number}.gz"]) == payload
        assert files[f"set.{number}.md5"] == digests
    return files


def test_there_is_an_interpreter():
    assert interpreters.usable()


@pytest.mark.parametrize(
    "python, host",
    [(python, host) for python in interpreters.usable() for host in ("all there", "no libxxhash")]
    + [(python, host) for python in interpreters.some() for host in ("no libzstd", "no ctypes")],
)
def test_every_interpreter_leads_to_the_same_bytes(python, host, tmp_path, reference):
    with HOSTS[host]():
        files = two_versions(tmp_path / "it", python=python)

    assert set(files) == set(reference)
    for name, data in files.items():
        if not name.endswith(".json"):
            assert data == reference[name], name
    facts = BackupSet(str(tmp_path / "it" / "set")).read_manifest(2).value["agent"]
    major, minor = interpreters.found()[python]
    assert facts["python"].startswith(f"{major}.{minor}.")
    if host in ("no libxxhash", "no ctypes"):
        assert facts["digest"] == "md5"
    if host in ("no libzstd", "no ctypes"):
        assert facts["codec"] == "zlib"


def test_the_hosts_libraries_are_used_where_they_are(reference, tmp_path):
    for name in ("libxxhash.so.0", "libzstd.so.1"):
        try:
            ctypes.CDLL(name)
        except OSError:
            pytest.skip(f"{name} is not installed")
    two_versions(tmp_path / "it")
    facts = BackupSet(str(tmp_path / "it" / "set")).read_manifest(2).value["agent"]
    assert (facts["digest"], facts["codec"]) == ("xxh128", "zstd")


def test_a_host_whose_libxxhash_is_hidden(tmp_path, reference):
    """The library itself is out of sight, in a mount namespace of the agent's own."""
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    hide = (
        "for f in $(/sbin/ldconfig -p | sed -n 's/.*libxxhash.so.0.*=> //p'); do"
        " mount --bind /dev/null $(readlink -f $f) || exit 1; done; exec "
    )
    command = ["unshare", "-m", "sh", "-c", hide + shlex.join(push.local_command("/usr/bin/python3"))]
    files = two_versions(tmp_path / "it", connect=lambda: LocalTransport(command))

    facts = BackupSet(str(tmp_path / "it" / "set")).read_manifest(2).value["agent"]
    assert facts["digest"] == "md5"
    assert all(files[name] == data for name, data in reference.items() if not name.endswith(".json"))


def test_a_set_goes_on_from_one_kind_of_host_to_another(tmp_path):
    """With and without XXH3-128, back and forth: every version restores."""
    volume = bytearray(os.urandom(200_000))
    states = []
    for number, host in enumerate(["all there", "no libxxhash", "all there", "no ctypes", "no libxxhash", "all there"]):
        volume[number * 1000 : number * 1000 + 5] = b"edit."
        (tmp_path / "vol").write_bytes(volume)
        with HOSTS[host]():
            outcome = back_up(tmp_path / "set", tmp_path / "vol", block_size=1000)
        assert outcome.changed == (200 if number == 0 else 1)
        states.append(bytes(volume))
    for number, state in enumerate(states, 1):
        assert restored(tmp_path / "set", number, tmp_path / "out") == state


# interpreters that will not do


@pytest.mark.parametrize("python", ["/nonexistent/python3", "/etc/passwd"])
def test_no_interpreter_is_no_python(python, tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    with pytest.raises(NoPython):
        back_up(
            tmp_path / "set", tmp_path / "vol", connect=lambda: LocalTransport(["sh", "-c", push.shell_command(python)])
        )


def test_the_first_python_that_is_there_is_taken(tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    back_up(tmp_path / "set", tmp_path / "vol", connect=lambda: LocalTransport(["sh", "-c", push.shell_command()]))
    assert restored(tmp_path / "set", 1, tmp_path / "out") == b"x"


# what goes wrong on the way


def test_all_that_leaves_this_machine_is_in_the_list():
    """Stage 1 checks what it gets: names, lengths and SHA-256 of exactly the files listed."""
    for snapshots, restore in ((False, False), (True, False), (False, True)):
        rest = push.bundle(snapshots, restore)
        rest = rest[len(push.source("agent/assembler.py")) :]
        for name, file in push.PUSHED + (push.SNAPSHOTS if snapshots else ()) + (push.RESTORE if restore else ()):
            head, _, rest = rest.partition(b"\n")
            text = push.source(file)
            kind = "p" if file.endswith("__init__.py") else "m"
            assert head.decode() == f"{name} {len(text)} {hashlib.sha256(text).hexdigest()} {kind}"
            assert rest.startswith(text)
            rest = rest[len(text) :]
        assert rest == b"\n"
        assert push.bundle_sha256(snapshots) == hashlib.sha256(push.bundle(snapshots, False)).hexdigest()


def test_what_writes_is_pushed_for_a_restore_alone(tmp_path):
    """A backup sends the same bytes, whatever the files are that a restore adds to them."""
    files = [file for _, file in push.RESTORE]
    assert {"agent/target/restore.py", "blockdiff/target/writer.py"} < set(files)
    before = {snapshots: push.bundle(snapshots) for snapshots in (False, True)}
    assert push.bundle(False, True).startswith(before[False][:-1])
    (tmp_path / "vol").write_bytes(b"x" * 5000)
    for file in files:
        with bundles.replaced(file, b"raise SystemExit('pushed')\n"):
            assert {snapshots: push.bundle(snapshots) for snapshots in (False, True)} == before
            assert push.bundle(False, True) != before[False]
            back_up(tmp_path / "set", tmp_path / "vol")
