"""Who may write to a volume while it is read without a snapshot: real processes, mounts and swap; mappings are in the lab."""

import contextlib
import os
import subprocess
import sys

import numbers_line
import pytest
from launched import Set, lacking, loop_device, needs

from agent import users

MIB = 1024 * 1024
DONE, WARNED = "backup completed successfully", "backup completed with warnings"


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(os.urandom(MIB))
    return path


@contextlib.contextmanager
def opened(path, flags, name="sh"):
    """Yield the pid of a process that has a file open so."""
    with subprocess.Popen(
        [name, "-c", f"exec 7{flags}'{path}'; echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        try:
            yield process.pid
        finally:
            process.communicate()


def of(path):
    return users.of(os.fsencode(path))


@contextlib.contextmanager
def doing(command, undo):
    """Do something as root, or skip where the machine does not let us."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lacking(f"{command[0]}: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(undo, check=True, capture_output=True)


@contextlib.contextmanager
def mounted(device, folder, *options):
    subprocess.run(["mkfs.ext4", "-q", device], check=True, capture_output=True)
    folder.mkdir()
    with doing(["mount", *options, device, folder], ["umount", folder]):
        yield


# files


@pytest.mark.parametrize("flags", [">>", "<>"])
def test_a_file_that_is_open_for_writing(volume, flags):
    with opened(volume, flags) as pid:
        assert of(volume) == f"it is open for writing by process {pid} (sh)"
    assert of(volume) is None


def test_a_file_that_others_read(volume, tmp_path):
    other = tmp_path / "elsewhere" / "volume"
    other.parent.mkdir()
    other.touch()
    with opened(volume, "<"), opened(other, "<>"):  # of the same name
        assert of(volume) is None


def test_a_file_by_another_name(volume, tmp_path):
    (tmp_path / "link").symlink_to(volume)
    with opened(tmp_path / "link", "<>"):
        assert "open for writing" in of(tmp_path / "link")
        assert "open for writing" in of(volume)


def test_many_writers_are_counted(volume):
    with contextlib.ExitStack() as cleanup:
        for _ in range(7):
            cleanup.enter_context(opened(volume, "<>"))
        assert of(volume).count("process") == 5
        assert of(volume).endswith(", and 2 more")


def test_what_is_not_there_has_no_users(tmp_path):
    assert of(tmp_path / "missing") is None


# devices


def test_a_loop_device_counts_once_it_can_be_written_to(volume, tmp_path):
    with loop_device(volume, "--read-only"):
        assert of(volume) is None
    with loop_device(volume) as device:
        name = os.path.basename(device)
        assert (of(volume), of(device)) == (None, None)
        with opened(device, "<>") as pid:
            assert of(device) == f"it is open for writing by process {pid} (sh)"
            assert of(volume) == f"{name} on it is open for writing by process {pid} (sh)"
        with loop_device(device) as upper, opened(upper, "<>"):
            assert of(volume).startswith(f"{os.path.basename(upper)} on it is open for writing")


def test_a_mount_counts_unless_it_is_read_only(tmp_path):
    image, where = tmp_path / "image", tmp_path / "a mount"
    image.touch()
    os.truncate(image, 8 * MIB)
    with loop_device(image) as device:
        with mounted(device, where):
            assert of(device) == f"it is mounted on {where}"
            assert of(image) == f"{os.path.basename(device)} on it is mounted on {where}"
    # another file: a name space that was made meanwhile may still have the first one mounted for writing
    other, there = tmp_path / "other", tmp_path / "read only"
    other.touch()
    os.truncate(other, 8 * MIB)
    with loop_device(other) as device, mounted(device, there, "-o", "ro"):
        assert (of(device), of(other)) == (None, None)


def test_a_mount_in_another_name_space(tmp_path):
    needs("unshare")
    image, where = tmp_path / "image", tmp_path / "mnt"
    image.touch()
    os.truncate(image, 8 * MIB)
    where.mkdir()
    with loop_device(image) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True, capture_output=True)
        script = 'mount "$1" "$2" && echo && read x'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", device, where]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            if process.stdout.read(1):
                assert of(device) == f"it is mounted on {where}"
            process.communicate()


def test_swap_counts(disk):
    image = disk / "image"
    image.write_bytes(bytes(MIB))
    image.chmod(0o600)
    with loop_device(image) as device:
        subprocess.run(["mkswap", device], check=True, capture_output=True)
        with doing(["swapon", device], ["swapoff", device]):
            assert (of(device), of(image)) == ("it is swap", f"{os.path.basename(device)} on it is swap")
    with doing(["swapon", image], ["swapoff", image]):
        assert of(image) == "it is swap"


# what becomes of it


@pytest.fixture
def call(run):
    def call(*words):
        done = run("blockdiff-backup", *words)
        return done.returncode, numbers_line.without(done.stderr.splitlines())

    return call


def test_a_backup_of_what_may_be_written_to_warns(call, volume, tmp_path):
    found = Set(tmp_path / "sets")
    assert call(found.name, volume) == (0, [f"running: {volume}", DONE])
    with opened(volume, "<>") as pid:
        why = f"{volume} is read while it may be written to: it is open for writing by process {pid} (sh) (hint: "
        code, err = call(found.name, volume)
        assert (code, err[0], err[-1], len(err)) == (3, f"running: {volume}", WARNED, 3)
        assert err[1].startswith(f"blockdiff: warning: {why}")
        assert call("--no-snapshot", found.name, volume) == (0, [f"running: {volume}", DONE])
        # in 2010 nobody asked: it is in the log, and no warning
        code, err = call(found.name, "blockdiff_dump", volume)
        assert (code, err[-1], len(err)) == (0, DONE, 3)
        assert err[1].startswith(why)
        assert call("--no-snapshot", found.name, "blockdiff_dump", volume)[1][1:] == [DONE]
    found.versions = dict.fromkeys(range(1, 6), volume.read_bytes())
    found.check()


def test_a_name_of_a_process_is_safe_to_print(call, volume, tmp_path):
    """What another user's process calls itself does not steer a terminal."""
    script = "import sys; open('/proc/self/comm', 'w').write('\\33[31m\\n'); f = open(sys.argv[1], 'ab'); print(1, flush=True); input()"
    command = [sys.executable, "-c", script, volume]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        code, err = call(tmp_path / "set", volume)
        process.communicate(b"\n")
    assert code == 3
    assert "open for writing" in err[1] and len(err) == 3
    assert all(line.isprintable() for line in err)
