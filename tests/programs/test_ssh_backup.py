"""Backups over a real sshd, by the programs as people call them, on both ways to a host."""

import json
import os
import pathlib
import re
import signal
import subprocess

import numbers_line
import pytest
import sshd as lab
from conftest import ROOT
from launched import Launched, Set, bin_path, environment, lacking, needs
from programs import until
from sshd import USER, free_port, keygen, sudo_user

ssh_lab, sshd = lab.ssh_lab, lab.sshd

BLOCK = 64 * 1024
UNREACHABLE, REFUSED, NO_PYTHON, AGENT_DIED, SILENT = 20, 21, 22, 23, 25
DONE = "backup completed successfully"


@pytest.fixture
def begun(ssh_lab, tmp_path):
    """A set that has not begun, and its source, where another user can come to it."""
    found = Set(tmp_path / "backups")
    found.source = ssh_lab.folder / "volume"
    found.data = os.urandom(10 * BLOCK + 17)
    found.source.write_bytes(found.data)
    return found


@pytest.fixture(params=["paramiko", "openssh"])
def back_up(request, ssh_lab, begun):
    """Back up by one way to the host; returns (exit code, output, lines on stderr but for the usual ones)."""

    def launch(*options, host="source", env=None):
        way = ["--rsh", ssh_lab.rsh] if request.param == "openssh" else []
        env = {"SSH_AUTH_SOCK": "", "BLOCKDIFF_SSH_CONFIG": str(ssh_lab.config), **(env or {})}
        return Launched("blockdiff-backup", *options, *way, begun.name, f"{host}:{begun.source}", env=env)

    def back_up(*options, **more):
        with launch(*options, **more) as run:
            code, out, err = run.finish()
        assert run.gone()
        assert err.pop(0) == f"running: {more.get('host', 'source')}:{begun.source}"
        if code == 0:
            assert numbers_line.LINE.fullmatch(err.pop())
            assert err.pop() == DONE
            begun.versions[begun.newest()] = begun.source.read_bytes()
        return code, out, err

    back_up.launch = launch
    back_up.name = request.param
    return back_up


WELL = (0, "", [])


def refused(begun, result, code, *words):
    """One line of ours, the last; before it at most what the host said, and nothing else happened."""
    found, out, err = result
    assert (found, out) == (code, ""), err
    *said, last = err
    assert all(line.startswith("source: ") for line in said)
    assert last.startswith("blockdiff: ")
    assert "Traceback" not in "\n".join(err)
    for word in words:
        assert word in last
    assert begun.files() == {}


def manifest(begun, number):
    return json.loads((begun.folder / f"db.{number}.json").read_text())


def test_full_incremental_and_merge(back_up, begun, sshd, tmp_path):
    assert back_up() == WELL
    begun.source.write_bytes(begun.data[: 3 * BLOCK] + os.urandom(2 * BLOCK) + begun.data[5 * BLOCK :] + b"grown")
    assert back_up("--json")[0] == 0
    begun.source.write_bytes(begun.data[: 6 * BLOCK])
    assert back_up() == WELL
    begun.check()

    assert [manifest(begun, n)["kind"] for n in (1, 2, 3)] == ["full", "incremental", "incremental"]
    assert manifest(begun, 2)["blocks"]["changed"] == 3
    assert manifest(begun, 1)["source"]["path"] == str(begun.source)
    for number, data in begun.versions.items():
        target = tmp_path / f"restored-{number}"
        with Launched("blockdiff-merge", "--to", str(number), begun.name, target) as run:
            assert run.finish()[0] == 0
        assert target.read_bytes() == data


def test_the_wire_is_compressed(back_up, begun, sshd):
    begun.source.write_bytes(b"".join(b"line %d of a text\n" % n for n in range(40000)))
    code, out, err = back_up("--json", "--compress", "none")
    assert (code, err) == (0, [])
    told = json.loads(out)
    assert told["wire"] < told["payload"] / 3
    assert told["stored"] == told["payload"] > 500_000
    assert manifest(begun, 1)["agent"]["codec"] in ("zstd", "zlib")
    assert manifest(begun, 1)["bytes"]["wire"] == told["wire"]
    begun.check()


def test_what_cannot_be_compressed_costs_no_more(back_up, begun, sshd):
    told = json.loads(back_up("--json")[1])
    assert told["wire"] < told["payload"] * 1.01
    begun.check()


def test_an_unknown_host_key(back_up, begun, ssh_lab):
    server = ssh_lab.server(known=False)
    refused(begun, back_up(), REFUSED, "source", "key")
    assert "Accepted" not in server.log.read_text()


def test_another_host_key_than_the_known_one(back_up, begun, ssh_lab):
    server = ssh_lab.server(known=False)
    ssh_lab.know(server, key=keygen(ssh_lab.folder / "another"))
    refused(begun, back_up(), REFUSED, "source", "key")
    assert "Accepted" not in server.log.read_text()


def test_a_key_that_the_host_does_not_take(back_up, begun, ssh_lab, sshd):
    ssh_lab.authorized_keys.write_text("")
    refused(begun, back_up(), REFUSED, "source")


def test_a_host_that_is_down(back_up, begun, sshd):
    sshd.stop()
    refused(begun, back_up(), UNREACHABLE, "cannot reach source", "refused")


def test_a_name_that_there_is_not(back_up, begun, sshd):
    refused(begun, back_up(host="no-such-host.invalid"), UNREACHABLE, "cannot reach no-such-host.invalid")


def test_a_host_without_python(back_up, begun, ssh_lab):
    ssh_lab.server(path="/nonexistent")
    refused(begun, back_up(), NO_PYTHON, "no usable python on source: tried python3, /usr/libexec/platform-python")


def test_a_python_that_there_is_not(back_up, begun, sshd):
    message = "no usable python on source: tried /no/python (hint: name one with --remote-python)"
    refused(begun, back_up("--remote-python", "/no/python"), NO_PYTHON, message)


def test_an_old_python(back_up, begun, ssh_lab, sshd):
    """Too old, as it says itself; it cannot even read what newer ones can."""
    old = ssh_lab.folder / "old-python"
    old.write_text("#!/bin/sh\ncat >/dev/null &\nexit 96\n")
    old.chmod(0o755)
    refused(begun, back_up("--remote-python", str(old)), NO_PYTHON)


def test_a_volume_that_is_not_there(back_up, begun, sshd):
    begun.source.unlink()
    refused(begun, back_up(), 30, f"no such volume: {begun.source}: No such file or directory")


def test_a_banner_and_a_noisy_bashrc(back_up, begun, ssh_lab):
    banner = ssh_lab.folder / "banner"
    banner.write_text("Authorised use only\n")
    bashrc = "echo Welcome; echo 'to stderr' >&2; printf 'BLOCKDIFF\\0\\377'; head -c 100000 /dev/zero\n"
    ssh_lab.server(bashrc=bashrc, options=[f"Banner {banner}"])
    assert back_up() == WELL
    begun.check()


def test_noise_is_shown_to_who_wants_it(back_up, begun, ssh_lab):
    ssh_lab.server(bashrc="printf 'to stderr \\033[2J\\n' >&2\n")
    code, _, err = back_up("--verbose")
    assert code == 0
    assert [line for line in err if "to stderr" in line] == ["source: to stderr [2J"]
    assert not any("\033" in line for line in err)


def test_a_host_that_says_too_much_is_heard_but_not_logged(back_up, begun, ssh_lab):
    """A log is not its to fill, nor to write whatever it likes into."""
    forged = "blockdiff: backup completed successfully (hint: run this)"
    ssh_lab.server(bashrc=f"echo '{forged}' >&2; seq 100000 100100100 | head -200000 >&2\n")
    code, out, err = back_up("--verbose")
    assert (code, out) == (0, "")
    said = [line for line in err if not line.startswith("version 1 of ")]
    assert all(line.startswith("source: ") for line in said) and f"source: {forged}" in said
    assert 900 < len(said) <= 1001
    assert said[-1] == "source: too much output; the rest is not logged"


def test_a_bashrc_without_an_end(back_up, begun, ssh_lab):
    ssh_lab.server(bashrc="yes\n")
    code, out, err = back_up()
    assert (code, out) == (26, "")
    assert err == ["blockdiff: source broke the protocol: no agent start marker in its output"]
    assert begun.files() == {}


def test_a_host_that_is_silent(back_up, begun, ssh_lab):
    ssh_lab.server(bashrc="cat >/dev/null\n")  # until the connection ends
    refused(begun, back_up("--timeout", "2"), SILENT, "no data from source for 2 seconds")


def test_sudo(back_up, begun, ssh_lab, sshd):
    if os.geteuid() != 0:
        lacking("makes a user")
    needs("sudo")
    begun.source.chmod(0o600)
    page = (ROOT / "man" / "blockdiff-backup.1").read_text()
    (rule,) = re.findall(r"^backup (ALL=.*)$", page, re.M)
    with sudo_user() as name:
        pathlib.Path(f"/etc/sudoers.d/{name}").write_text(f"{name} {rule}\n")  # and no more than the page says
        refused(begun, back_up(host=f"{name}@source"), 38, "no permission to read", "Permission denied", "--sudo")
        assert back_up("--sudo", host=f"{name}@source") == WELL
        begun.check()


def test_sudo_that_wants_a_password(back_up, begun, ssh_lab, sshd):
    if os.geteuid() != 0:
        lacking("makes a user")
    needs("sudo")
    with sudo_user() as name:
        os.unlink(f"/etc/sudoers.d/{name}")
        refused(begun, back_up("--sudo", host=f"{name}@source"), REFUSED, "sudo:", "password")


def test_proxy_jump(back_up, begun, ssh_lab):
    jump = ssh_lab.server("jump")
    source = ssh_lab.server("source", extra=["ProxyJump jump"])
    assert back_up() == WELL
    for server in (jump, source):
        assert "Accepted publickey" in server.log.read_text()
    begun.check()


def test_include(back_up, begun, ssh_lab, sshd):
    inner = ssh_lab.folder / "included"
    ssh_lab.config.rename(inner)
    ssh_lab.config.write_text(f"Include {inner}\n")
    assert back_up() == WELL


def test_an_address_of_ipv6(back_up, begun, ssh_lab):
    try:
        free_port("::1")
    except OSError:
        lacking("no IPv6 on the loopback")
    server = ssh_lab.server("six", address="::1")
    ssh_lab.configure("::1", f"Port {server.port}", f"IdentityFile {ssh_lab.key}", "IdentitiesOnly yes")
    assert back_up(host=f"{USER}@[::1]") == WELL
    begun.check()


@pytest.mark.parametrize("end", ["cut", "stop"])
def test_a_connection_that_is_killed(back_up, begun, sshd, end):
    assert back_up() == WELL
    old = begun.files()
    begun.source.write_bytes(os.urandom(40 * BLOCK))
    with back_up.launch("--bwlimit", "1M", "--jobs", "1", "--timeout", "5") as run:
        until(lambda: list(begun.folder.glob("db.2.gz.*.part")))
        getattr(sshd, end)()
        code, out, err = run.finish(30)
    assert (code, out) == (UNREACHABLE, "")
    assert err[1].startswith("blockdiff: cannot reach source: the connection was cut")
    assert "Errno" not in err[1]
    assert err[1].count("source") == 1
    assert len(err) == 2
    assert begun.files() == old
    begun.check()
    if end == "cut":
        begun.source.write_bytes(begun.data)
        assert back_up("--new-source") == WELL  # it is smaller by more than half
        begun.check()


def test_a_server_that_is_killed_leaves_no_agent(back_up, begun, sshd):
    """The far side sees the end of its input, and ends."""
    begun.source.write_bytes(os.urandom(40 * BLOCK))
    with back_up.launch("--bwlimit", "1M") as run:
        until(lambda: list(begun.folder.glob("db.1.gz.*.part")))
        until(lambda: agents(sshd))
        for pid in run.processes():  # its ssh, too: that is another process of this machine
            os.kill(pid, signal.SIGKILL)
        run.finish()
        until(lambda: not agents(sshd), within_s=20)


def agents(server):
    found = []
    for pid in lab._descendants(server.process.pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"-I" in words and any(b"pushed:assembler" in word for word in words) and words[0].startswith(b"python"):
            found.append(pid)
    return found


def test_prefix_and_remote_python(back_up, begun, ssh_lab, sshd):
    """The prefix comes before the python that was asked for: it runs with it."""
    python = ssh_lab.folder / "python wrapper"
    python.write_text(f'#!/bin/sh\nnice >"{ssh_lab.folder}/niceness"\nexec python3 "$@"\n')
    python.chmod(0o755)
    env = {"SSH_BLOCKDIFF_PREFIX": "nice -n 5"}
    assert back_up("--remote-python", str(python), env=env) == WELL
    assert int((ssh_lab.folder / "niceness").read_text()) == os.nice(0) + 5
    begun.check()


# what only one way has


def test_blockdiff_rsh(begun, ssh_lab, sshd):
    marker = ssh_lab.folder / "called"
    program = ssh_lab.folder / "my-ssh"
    program.write_text(f'#!/bin/sh\necho called >{marker}\nexec ssh "$@"\n')
    program.chmod(0o755)
    env = {"BLOCKDIFF_RSH": f"{program} -F {ssh_lab.config}"}
    with Launched("blockdiff-backup", "--quiet", begun.name, f"source:{begun.source}", env=env) as run:
        assert run.finish() == WELL
    assert marker.exists()


def test_an_rsh_that_there_is_not(begun, sshd):
    with Launched("blockdiff-backup", "--rsh", "/no/ssh", begun.name, f"source:{begun.source}") as run:
        code, _, err = run.finish()
    assert code == 16
    assert "/no/ssh" in err[1]
    assert begun.files() == {}


def test_host_words_composed(begun, ssh_lab, sshd):
    """The host argument may bring options of ssh; here the port, of which the configuration has a wrong one."""
    right, wrong = f"Port {sshd.port}", f"Port {free_port()}"
    ssh_lab.config.write_text(ssh_lab.config.read_text().replace(right, wrong))
    env = {"BLOCKDIFF_SSH_CONFIG": str(ssh_lab.config)}
    for number, program in ((1, "ssh-blockdiff-dump"), (2, "ssh_blockdiff_dump"), (3, "/usr/bin/ssh-blockdiff-dump")):
        words = [program, "-z", f"-p {sshd.port}  {USER}@source", begun.source]
        with Launched("blockdiff_backup", begun.name, *words, env=env) as run:
            assert run.finish()[0] == 0
        begun.versions[number] = begun.data
    begun.check()
    assert manifest(begun, 1)["block_size"] == 16384
    words = ["ssh-blockdiff-dump", f"{USER}@source", begun.source]
    with Launched("blockdiff-backup", begun.name, *words, env=env) as run:
        assert run.finish()[0] == UNREACHABLE


def test_host_words_by_hand(begun, ssh_lab, sshd, tmp_path):
    """The dump of a remote volume is a local one's, byte by byte."""
    env = environment(BLOCKDIFF_SSH_CONFIG=str(ssh_lab.config))
    line = '"$0" --blocksize 512 "$1" "$2" 6>"$3.md5" >"$3"'
    remote, local = tmp_path / "remote", tmp_path / "local"
    words = [bin_path("ssh_blockdiff_dump"), f"-o Compression=yes {USER}@source", begun.source, remote]
    done = subprocess.run(["sh", "-c", line, *words], env=env, capture_output=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    line = '"$0" --blocksize 512 "$1" 6>"$2.md5" >"$2"'
    words = [bin_path("blockdiff-dump"), begun.source, local]
    assert subprocess.run(["sh", "-c", line, *words], env=env, stdin=subprocess.DEVNULL).returncode == 0
    assert remote.read_bytes() == local.read_bytes()
    assert (tmp_path / "remote.md5").read_bytes() == (tmp_path / "local.md5").read_bytes()


@pytest.mark.parametrize(
    "host, word",
    [("", "host"), ("-p 22", "no host"), ("-W a:1 source", "-W"), ("a b", "more than"), ("-p", "-p"), ("a@", "a@")],
)
def test_host_words_that_cannot_be(begun, host, word):
    with Launched("blockdiff-backup", begun.name, "ssh-blockdiff-dump", host, begun.source) as run:
        code, out, err = run.finish()
    assert (code, out) == (2, "")
    assert word in err[-1]
    assert begun.files() == {}
