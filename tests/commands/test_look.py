"""blockdiff-look as people run it: a real set, a real export, a real guest."""

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import tarfile
import tempfile

import chains
import disks
import otheruser
import pytest
from launched import Launched
from mdoc import Page
from nights import state
from programs import until

pytestmark = pytest.mark.usefixtures("fuse", "guests")
BLOCK = 65536


@pytest.fixture(scope="module")
def content(guests, tmp_path_factory):
    """A small ext4 file system that was unmounted."""
    folder = tmp_path_factory.mktemp("content")
    (folder / "tree" / "etc").mkdir(parents=True)
    (folder / "tree" / "etc" / "hostname").write_text("web\n")
    (folder / "tree" / "etc" / "fstab").write_text("none\n" * 1000)
    (folder / "tree" / "link").symlink_to("/etc")
    image = folder / "image"
    words = [disks.found("mkfs.ext4"), "-q", "-F", "-L", "files", "-E", "root_owner=0:0", "-d", folder / "tree", image, "16M"]
    subprocess.run(words, check=True, capture_output=True)
    return image.read_bytes()


@pytest.fixture
def stored(content, disk):
    """A set of two versions in a folder that all may read, the first one zeros; and another folder.

    That one is not below /dev, which is another one in a guest.
    """
    with tempfile.TemporaryDirectory(prefix="blockdiff-test-") as folder:
        os.chmod(folder, 0o755)
        backup_set = chains.new_set(folder)
        chains.write_version(backup_set, bytes(len(content)), BLOCK)
        chains.write_version(backup_set, content, BLOCK)
        for name in os.listdir(folder):
            os.chmod(os.path.join(folder, name), 0o644)
        before = state(pathlib.Path(folder))
        disk.chmod(0o755)
        yield backup_set, disk
        assert state(pathlib.Path(folder)) == before


@pytest.fixture
def look(run_verb, stored, tmp_path):
    """Return a function that looks into the set; nothing is left in the folder for scratch files."""
    (tmp_path / "scratch").mkdir()

    def look(*words):
        folder = tmp_path / "scratch"
        return run_verb("look", "--scratch", folder, *words, env={"XDG_RUNTIME_DIR": str(folder)})

    yield look
    assert os.listdir(tmp_path / "scratch") == []


def test_what_is_there_and_one_file_of_it(look, stored, tmp_path):
    name = stored[0].name
    done = look(name)
    assert (done.returncode, done.err) == (0, "")
    assert done.out == "part  type  size      holds\n-     ext4  16.0 MiB  label files\n"
    done = look("--get", tmp_path / "got", name, "/etc/hostname", "link")
    assert (done.returncode, done.err) == (0, "")
    assert done.out == f"{tmp_path}/got/hostname: 1 file, 4 bytes\n{tmp_path}/got/link: 1 file, 0 bytes\n"
    assert (tmp_path / "got" / "hostname").read_text() == "web\n"
    done = look("--get", tmp_path / "got", name, "/etc/hostname")
    assert done.returncode == 35 and f"refusing to write to {tmp_path}/got/hostname: File exists" in done.err


def test_json_has_the_keys_that_the_page_tells(look, stored, tmp_path):
    every = set()

    def keys(value):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                every.update(each)
                keys(list(each.values()))
            elif isinstance(each, list):
                keys(each)

    for words in ([stored[0].name], [stored[0].name, "/etc"], ["--get", tmp_path / "got", stored[0].name, "/etc"]):
        done = look("--json", *words)
        assert (done.returncode, done.err) == (0, "")
        keys(found := json.loads(done.out))
    assert found["got"] == [{"path": "/etc", "files": 2, "bytes": 5004}]
    assert (found["version"], found["type"], found["clean"], found["warnings"]) == (2, "ext4", True, [])
    assert Page("blockdiff-look.1").marked("JSON") == every


def test_exit_codes(look, stored, tmp_path):
    name = stored[0].name
    assert look("--part", 1, "--lv", "a/b", name).returncode == 2
    assert look("--lv", "a", name).returncode == 2
    assert look("--tar", "--json", name).returncode == 2
    assert look("--get", tmp_path / "got", name, "/a/x", "/b/x").returncode == 2
    assert look(tmp_path / "none").returncode == 10
    assert look("--to", 9, name).returncode == 11
    done = look("--to", 1, name, "/etc")
    assert done.returncode == 63
    assert done.err.startswith(f"blockdiff: there is no file system in version 1 of {name} (hint: blockdiff-look NAME shows")


def test_an_ordinary_user_can_use_it(stored, tmp_path):
    backup_set, own = stored
    user = otheruser.account("backup")
    otheruser.packages(own)
    (own / "home").mkdir()
    os.chown(own / "home", user.pw_uid, user.pw_gid)
    before = otheruser.with_fuse(tmp_path)
    words = ["--get", own / "home" / "got", backup_set.name, "/etc"]
    done = otheruser.run_as("backup", "blockdiff-look", own / "home", *words, before=before)
    assert (done.returncode, done.stderr) == (0, "")
    assert (own / "home" / "got" / "etc" / "hostname").read_text() == "web\n"
    assert os.stat(own / "home" / "got" / "etc" / "hostname").st_uid == user.pw_uid
    assert os.listdir(own / "home") == ["got"]


def test_an_archive_goes_to_standard_output(look, stored):
    done = look("--tar", stored[0].name, "/etc")
    assert (done.returncode, done.err) == (0, "")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.getnames() == ["etc", "etc/fstab", "etc/hostname"]
        assert archive.extractfile("etc/hostname").read() == b"web\n"


def guests_of(program):
    """The processes of a guest."""
    found = []
    for pid in program.processes():
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "linux.uml\n":
                found.append(pid)
    return found


@pytest.mark.parametrize("step", ["nbdkit", "nbdfuse", "linux.uml"])
def test_killed_it_leaves_nothing(step, stored, tmp_path):
    (tmp_path / "scratch").mkdir()
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "scratch"), "TMPDIR": str(tmp_path / "scratch")}
    with Launched("blockdiff-look", stored[0].name, "/etc", env=env) as program:
        until(lambda: program.has(step))
        if step == "linux.uml":  # nor does a guest that hangs, with its helpers
            until(lambda: len(guests_of(program)) > 3)
            for pid in guests_of(program):
                os.kill(pid, signal.SIGSTOP)
        program.kill()
        program.wait()
        assert program.gone(10)
        until(lambda: os.listdir(tmp_path / "scratch") == [])


def test_a_signal_ends_it(stored, tmp_path):
    (tmp_path / "scratch").mkdir()
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "scratch"), "TMPDIR": str(tmp_path / "scratch")}
    with Launched("blockdiff-look", stored[0].name, "/etc", env=env) as program:
        until(lambda: len(guests_of(program)) > 3)
        program.terminate()
        assert program.finish()[0] == 143
        assert program.gone()
    assert os.listdir(tmp_path / "scratch") == []
