"""Restores to a host over a real sshd, by the program as people call it, on both ways to a host."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
import sshd as lab
from conftest import ROOT
from devices import mounted
from engine import back_up
from launched import Launched, Set, lacking, needs
from programs import until
from sshd import sudo_user

ssh_lab, sshd = lab.ssh_lab, lab.sshd

BLOCK = 64 * 1024
UNREACHABLE, REFUSED, NO_PYTHON, NOT_WRITTEN, FAILED = 20, 21, 22, 35, 36
BLIND = "source: not all processes could be looked at; --sudo shows whether one of them has"


@pytest.fixture
def begun(ssh_lab, tmp_path):
    """A set of two versions; the target is where another user can come to it."""
    found = Set(tmp_path / "backups")
    volume = tmp_path / "volume"
    data = os.urandom(20 * BLOCK) + bytes(30 * BLOCK) + os.urandom(10 * BLOCK + 17)
    for number in (1, 2):
        volume.write_bytes(data)
        back_up(found.name, volume)
        found.versions[number] = data
        data = data[: 3 * BLOCK] + os.urandom(2 * BLOCK) + data[5 * BLOCK :]
    found.target = ssh_lab.folder / "target" / "disk"
    found.target.parent.mkdir()
    return found


@pytest.fixture(params=["paramiko", "openssh"])
def merge(request, ssh_lab, begun):
    """Restore by one way to the host; returns (exit code, output, lines on stderr but for what it cannot see)."""

    def launch(*options, host="source", target=None, env=None):
        way = ["--rsh", ssh_lab.rsh] if request.param == "openssh" else []
        env = {"SSH_AUTH_SOCK": "", "BLOCKDIFF_SSH_CONFIG": str(ssh_lab.config), **(env or {})}
        return Launched("blockdiff-merge", *options, *way, begun.name, f"{host}:{target or begun.target}", env=env)

    def merge(*options, **more):
        with launch(*options, **more) as run:
            code, out, err = run.finish()
        assert run.gone() and "Traceback" not in "\n".join(err)
        return code, out, [line for line in err if BLIND not in line]

    merge.launch = launch
    return merge


def refused(begun, result, code, *words):
    found, out, err = result
    assert (found, out) == (code, ""), err
    assert err[-1].startswith("blockdiff: ")
    for word in words:
        assert word in err[-1]
    assert not list(begun.target.parent.iterdir())


def test_put_back(merge, begun, sshd):
    """New, again, an older version, and by what is counted only what differs."""
    code, out, err = merge()
    assert (code, err) == (0, [])
    first, second = out.splitlines()
    assert first == f"source:{begun.target}: new file"
    pattern = r"restored version 2 of .*/db: 31 of 61 blocks differed, 1\.9 MiB sent, \d+\.\d s, proved"
    assert re.fullmatch(pattern, second)
    assert begun.target.read_bytes() == begun.versions[2]
    assert os.listdir(begun.target.parent) == ["disk"]

    code, out, err = merge()
    assert (code, out) == (NOT_WRITTEN, "")
    assert err == [
        f"blockdiff: refusing to write to source:{begun.target}: it is a file of {len(begun.versions[2])} bytes"
        " (hint: --force writes over it)"
    ]
    told = json.loads(merge("--force", "--json")[1])
    assert (told["differed"], told["sent"], told["error"]) == (0, 0, None)
    told = json.loads(merge("--force", "--json", "--to", "1")[1])
    assert (told["differed"], told["blocks"]) == (2, 61) and told["target"] == f"source:{begun.target}"
    assert begun.target.read_bytes() == begun.versions[1]


def test_a_dry_run(merge, begun, sshd):
    code, out, err = merge("--dry-run")
    assert (code, err) == (0, [])
    assert out.splitlines()[-1] == f"write version 2, 3.8 MiB, to source:{begun.target}: new file"
    assert not list(begun.target.parent.iterdir())


def test_a_target_that_is_open(merge, begun, sshd):
    begun.target.write_bytes(b"precious")
    with open(begun.target, "rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as process:
        file.close()
        try:
            code, _, err = merge("--force")
        finally:
            process.kill()
    assert code == NOT_WRITTEN and f"process {process.pid} (sleep) has it open" in err[-1]
    assert "--force does not write over a target in use" in err[-1]
    assert begun.target.read_bytes() == b"precious"


def test_a_folder_that_there_is_not(merge, begun, sshd):
    path = begun.target.parent / "none" / "disk"
    refused(begun, merge(target=path), NOT_WRITTEN, f"source:{path}: there is no folder {path.parent}")


def test_hosts_that_cannot_be_used(merge, begun, ssh_lab):
    server = ssh_lab.server(path="/nonexistent")
    refused(begun, merge(), NO_PYTHON, "no usable python on source")
    server.stop()
    refused(begun, merge(), UNREACHABLE, "cannot reach source")
    ssh_lab.authorized_keys.write_text("")
    ssh_lab.server()
    refused(begun, merge(), REFUSED, "source")


def placed(begun):
    """How many bytes are in the new file so far."""
    part = begun.target.parent / "disk.blockdiff-part"
    return part.exists() and part.stat().st_blocks * 512


@pytest.mark.parametrize("end", ["cut", "stop"])
def test_a_connection_that_is_cut_is_continued(merge, begun, ssh_lab, sshd, end):
    with merge.launch("--bwlimit", "512K", "--timeout", "5") as run:
        until(lambda: placed(begun))
        getattr(sshd, end)()
        code, out, err = run.finish(40)
    assert (code, out.splitlines()[-1]) == (UNREACHABLE, "version 2 was not restored")
    assert "cannot reach source: the connection was cut" in err[-1]
    path = f"source:{begun.target}.blockdiff-part"
    assert f"blockdiff: {path} is left; running again sends only the blocks that it does not have yet" in err
    assert any(line.startswith(f"blockdiff: {path} is not version 2; ") for line in err)
    assert not begun.target.exists()
    if end == "stop":
        ssh_lab.server()
    until(lambda: not agents())
    there = placed(begun)
    assert there >= BLOCK

    told = json.loads(merge("--json")[1])
    assert told["error"] is None and told["differed"] <= 31 - there // BLOCK
    assert begun.target.read_bytes() == begun.versions[2]


def agents():
    """The agents of this machine that write below a folder of tests."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            parts = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if b"-I" in words and any(part.endswith("disk.blockdiff-part") for part in parts):
            found.append(pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_ends_at_once_and_is_continued(merge, begun, sshd, number):
    with merge.launch("--bwlimit", "512K") as run:
        until(lambda: placed(begun))
        os.kill(run.pid, number)
        code, _, err = run.finish(20)
        assert run.gone()
    assert code == 128 + number and err[-1] == f"blockdiff: interrupted by {number.name}"
    assert any("running again sends only" in line for line in err)
    until(lambda: not agents())
    assert merge()[0] == 0 and begun.target.read_bytes() == begun.versions[2]


def test_a_run_that_takes_too_long(merge, begun, sshd):
    with merge.launch("--bwlimit", "16K", "--max-time", "2") as run:  # which is 64 seconds for what is sent at once
        code, _, err = run.finish(30)
    assert code == 28 and "--max-time" in err[-1]
    until(lambda: not agents())


def test_a_host_whose_disk_is_full(merge, begun, ssh_lab, sshd):
    with mounted("tmpfs", ssh_lab.folder / "small", "-o", "size=1m") as small:
        code, _, err = merge(target=small / "disk")
        assert code == 13 and "it takes" in err[-1] and not list(small.iterdir())
        code, out, err = merge("--force", target=small / "disk")
        assert code == FAILED and out.splitlines()[-1] == "version 2 was not restored"
        assert err[-1] == f"blockdiff: writing to source:{small}/disk.blockdiff-part failed: No space left on device"
        assert [path.name for path in small.iterdir()] == ["disk.blockdiff-part"]
        subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
        assert merge(target=small / "disk")[0] == 0
        assert (small / "disk").read_bytes() == begun.versions[2]


def test_a_host_that_allows_no_file_so_large(merge, begun, ssh_lab):
    ssh_lab.server(bashrc="ulimit -f 100\n")
    code, _, err = merge()
    assert code == FAILED and "File too large" in err[-1]
    assert not begun.target.exists()


def test_sudo(merge, begun, ssh_lab, sshd):
    if os.geteuid() != 0:
        lacking("makes a user")
    needs("sudo")
    page = (ROOT / "man" / "blockdiff-backup.1").read_text()
    (rule,) = re.findall(r"^backup (ALL=.*)$", page, re.M)
    begun.target.write_bytes(begun.versions[1])
    begun.target.chmod(0o600)
    with sudo_user() as name:
        pathlib.Path(f"/etc/sudoers.d/{name}").write_text(f"{name} {rule}\n")
        code, _, err = merge("--force", host=f"{name}@source")
        assert code == NOT_WRITTEN and "Permission denied" in err[-1]
        assert begun.target.read_bytes() == begun.versions[1]
        with merge.launch("--force", host=f"{name}@source") as run:
            assert any(BLIND in line for line in run.finish()[2])
        assert merge("--force", "--sudo", host=f"{name}@source")[0] == 0
    assert begun.target.read_bytes() == begun.versions[2]


def test_a_user_restores_to_a_folder_of_their_own(merge, begun, ssh_lab, sshd):
    if os.geteuid() != 0:
        lacking("makes a user")
    with sudo_user() as name:
        subprocess.run(["chown", name, begun.target.parent], check=True)
        assert merge(host=f"{name}@source")[0] == 0
        assert begun.target.owner() == name
    assert begun.target.read_bytes() == begun.versions[2]
