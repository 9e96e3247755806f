"""blockdiff-nbd as people run it: its lines, its exit codes, and that nothing of it is left."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile

import chains
import otheruser
import pytest
from exports import copied, sockets
from launched import Launched, lacking
from nights import state
from places import ROOT
from programs import until
from verbs import BLOCK, damage

pytestmark = pytest.mark.usefixtures("nbdkit")
URI = re.compile(r"^nbd\+unix:///\?socket=\S+/blockdiff\.[0-9a-f]{8}/nbd$", re.MULTILINE)


@pytest.fixture
def start(tmp_path):
    """Return a function that starts an export; its folder for sockets is empty at the end."""
    (tmp_path / "run").mkdir()

    def start(*words, **more):
        return Launched("blockdiff-nbd", *words, env={"XDG_RUNTIME_DIR": str(tmp_path / "run"), **more})

    yield start
    until(lambda: sockets(tmp_path / "run") == [])


def ready(program):
    """The lines of an export that clients can read."""
    return [program.stdout.readline().rstrip("\n") for _ in range(2)]


def test_it_says_what_it_exports_and_where(start, plain_set, tmp_path):
    with start("--to", "2", plain_set.name) as program:
        first, uri = ready(program)
        assert first == f"version 2 of {plain_set.name}, 2026-01-03T01:00:00Z, 15.0 KiB, read-only"
        assert URI.fullmatch(uri)
        assert len(copied(uri, tmp_path / "copy")) == 30 * BLOCK
        program.terminate()
        assert program.finish() == (0, "", [])
        assert program.gone()


def test_with_a_command_only_that_one_is_heard(run_verb, plain_set, tmp_path):
    script = f'echo hello; nbdcopy "$BLOCKDIFF_URI" {tmp_path}/copy && exit 5'
    done = run_verb("nbd", plain_set.name, "--", "sh", "-c", script)
    assert (done.returncode, done.out, done.err) == (5, "hello\n", "")
    assert (tmp_path / "copy").read_bytes() == plain_set.volume
    assert sockets(tmp_path) == []


def test_exit_codes(run_verb, plain_set, tmp_path):
    def code(*words, **options):
        return run_verb("nbd", *words, **options).returncode

    assert code(plain_set.name, "true") == 2
    assert code(plain_set.name, "--") == 2
    assert code("--once", plain_set.name, "--", "true") == 2
    assert code("--writable", "--clone", tmp_path / "c", plain_set.name, "--", "true") == 2
    assert code(tmp_path / "none", "--", "true") == 10
    assert code("--to", 9, plain_set.name, "--", "true") == 11
    assert code(plain_set.name, "--", "./nosuch") == 16
    (tmp_path / "there").touch()
    assert code("--socket", tmp_path / "there", plain_set.name, "--", "true") == 35
    assert code("--scratch", tmp_path, plain_set.name, "--", "true") == 35
    (tmp_path / "nbdkit").write_text("#!/bin/sh\necho python_version=3.6.1\n")
    (tmp_path / "nbdkit").chmod(0o755)
    done = run_verb("nbd", plain_set.name, "--", "true", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 60 and "install blockdiff for python 3.6, which this nbdkit has" in done.err
    damage(plain_set, 1, 4 + 10 * (8 + BLOCK) + 20)
    done = run_verb("nbd", plain_set.name, "--", "sh", "-c", f'nbdcopy "$BLOCKDIFF_URI" {tmp_path}/copy')
    assert done.returncode == 1 and "does not have the digest of version 3" in done.err
    pathlib.Path(plain_set.path(1, "")).unlink()
    assert code(plain_set.name, "--", "true") == 51


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 129)])
def test_a_signal_ends_it(number, code, start, plain_set):
    with start(plain_set.name) as program:
        ready(program)
        program.send_signal(number)
        assert program.finish()[0] == code
        assert program.gone()


def test_a_signal_is_passed_on_to_the_command(start, plain_set):
    with start(plain_set.name, "--", "sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.05; done") as program:
        program.stdout.readline()
        program.terminate()
        assert program.finish()[0] == 9
        assert program.gone()


@pytest.mark.parametrize("step", ["python", "nbdkit", "ready", "command", "clone"])
def test_killed_it_leaves_nothing(step, start, plain_set, tmp_path):
    words = ["--", "sh", "-c", "echo; exec sleep 100"] if step == "command" else []
    how = ["--clone", tmp_path / "c"] if step == "clone" else ["--writable", "--scratch", tmp_path / "run"]
    how += ["--socket", tmp_path / "socket"] if step == "ready" else []
    with start(*how, plain_set.name, *words) as program:
        if step in ("ready", "command", "clone"):
            program.stdout.readline()
        elif step == "nbdkit":
            until(lambda: program.has("nbdkit"))
        assert (tmp_path / "socket").exists() == (step == "ready")
        program.kill()
        program.wait()
        assert program.gone(10)
    assert not (tmp_path / "socket").exists()


def test_killed_it_leaves_no_mount(start, plain_set, tmp_path, fuse):
    with start("--file", tmp_path / "mount", plain_set.name) as program:
        ready(program)
        assert program.stdout.readline() == f"{tmp_path}/mount/disk\n"
        assert os.path.ismount(tmp_path / "mount")
        program.kill()
        program.wait()
        assert program.gone(10)
    assert os.listdir(tmp_path / "mount") == []


def test_a_set_in_a_folder_that_is_read_only_stays_as_it_is(run_verb, plain_set, tmp_path):
    if os.geteuid() != 0:
        lacking("mounts need root")
    before = state(tmp_path)
    script = (
        f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && "
        f'"$@" nbd --writable {plain_set.name} -- '
        "sh -c 'qemu-io -f raw -c \"write 0 4096\" \"$BLOCKDIFF_URI\" && nbdcopy \"$BLOCKDIFF_URI\" null:'"
    )
    words = ["unshare", "--mount", "sh", "-ec", script, "sh", ROOT / "bin" / "blockdiff"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert state(tmp_path) == before


@pytest.fixture
def shared():
    """A folder that everybody may read, with a set in it, and one in it of Debian's user backup."""
    user = otheruser.account("backup")
    with tempfile.TemporaryDirectory(prefix="blockdiff-test-") as folder:
        os.chmod(folder, 0o755)
        backup_set = chains.new_set(folder)
        backup_set.volume = os.urandom(100 * BLOCK)
        for number in range(2):
            chains.write_version(backup_set, backup_set.volume[:-number or None], BLOCK)
        for name in os.listdir(folder):
            os.chmod(os.path.join(folder, name), 0o644)
        otheruser.packages(folder)
        own = pathlib.Path(folder, "own")
        own.mkdir()
        os.chown(own, user.pw_uid, user.pw_gid)
        yield backup_set, own


def as_backup(own, *words, before=()):
    """Run blockdiff-nbd as Debian's user backup."""
    return otheruser.run_as("backup", "blockdiff-nbd", own, *words, before=before)


def files_beside(own):
    """Every file beside a folder: inode, time, size and bytes."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in own.parent.iterdir() if path.is_file()
    }  # fmt: skip


def test_an_ordinary_user_can_use_it(shared):
    backup_set, own = shared
    before = files_beside(own)
    done = as_backup(own, "--writable", "--to", 1, backup_set.name, "--", "sh", "-c", 'nbdcopy "$BLOCKDIFF_URI" "$HOME/copy"')
    assert (done.returncode, done.stderr) == (0, "")
    assert (own / "copy").read_bytes() == backup_set.volume
    assert os.listdir(own) == ["copy"]
    assert files_beside(own) == before


def test_an_ordinary_user_can_mount_it(shared, tmp_path, fuse):
    backup_set, own = shared
    before = otheruser.with_fuse(tmp_path)
    script = 'cmp "$BLOCKDIFF_FILE" "$HOME/copy"'
    (own / "copy").write_bytes(backup_set.volume)
    done = as_backup(own, "--to", 1, "--file", own / "m", backup_set.name, "--", "sh", "-c", script, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(own) == ["copy"]


def test_a_warning_is_told(run_verb, plain_set):
    chains.write_version(plain_set, plain_set.volume, BLOCK)
    with open(f"{plain_set.name}.ver", "w") as file:
        file.write("3\n")
    done = run_verb("nbd", plain_set.name, "--", "true")
    assert done.returncode == 0 and "names version 3 as the newest, but there are files of version 4" in done.err
