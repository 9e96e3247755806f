"""A target that a process has open is refused and named, whatever is forced."""

import contextlib
import os
import subprocess
import sys

import chains
import places
import pytest
from devices import loop_device

from blockdiff.errors import TargetRefused
from blockdiff.target import inuse, precheck

MIB = 1024 * 1024
HOLD = "import os, sys; os.open(sys.argv[1], int(sys.argv[2])); print('open', flush=True); sys.stdin.read()"


def now(seconds):
    """Wait for nobody."""


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    """Have another process hold the file open, as a virtual machine does its disk, without O_EXCL."""
    words = [sys.executable, "-c", HOLD, str(path), str(flags)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.stdin.close()


@pytest.fixture
def store(tmp_path):
    store = chains.new_set(tmp_path)
    chains.write_version(store, b"x" * MIB, 65536)
    return store


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"\xcc" * (4 * MIB))
    return path


def refusals(run, store, target, ways):
    """Return what ways of writing to a target say, after it was refused."""
    found = []
    for options in ways:
        done = run("blockdiff-merge", *options, store.name, target)
        assert done.returncode == 35, (options, done.stderr)
        found.append(done.stderr)
    payload = chains.payload_of([b"\xee" * 512], [0], 512)
    done = run("blockdiff-merge", "--force", target, input=payload, text=False)
    assert done.returncode == 35
    return [*found, done.stderr.decode()]


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY], ids=["writes", "reads"])
def test_an_image_that_a_process_has_open(flags, run, store, image):
    ways = [["--force"]] if flags == os.O_RDONLY else [[], ["--force"], ["--force", "--dry-run"]]
    with opened(image, flags) as process:
        for text in refusals(run, store, image, ways):
            assert f"process {process.pid} (python" in text and ") has it open" in text
    assert image.read_bytes() == b"\xcc" * (4 * MIB)
    assert run("blockdiff-merge", "--force", store.name, image).returncode == 0


def test_a_device_that_a_process_has_open(run, store, image):
    with loop_device(image) as device:
        with opened(device) as process:
            for text in refusals(run, store, device, ([], ["--force"])):
                assert f"process {process.pid} (python" in text and ") has it open" in text
        with open(device, "rb") as file:
            assert file.read() == b"\xcc" * (4 * MIB)
        assert run("blockdiff-merge", store.name, device).returncode == 0


def test_an_empty_file_under_another_name_that_a_process_has_open(run, store, tmp_path):
    (tmp_path / "out").touch()
    os.link(tmp_path / "out", tmp_path / "other name")
    with opened(tmp_path / "other name") as process:
        done = run("blockdiff-merge", store.name, tmp_path / "out")
        assert done.returncode == 35 and f"process {process.pid} " in done.stderr


def test_a_target_that_is_the_runs_own_output(run, store, tmp_path):
    with open(tmp_path / "out", "w") as out:
        words = [sys.executable, "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"]
        program = str(places.ROOT / "bin" / "blockdiff-merge")
        done = subprocess.run(
            [*words, program, store.name, str(tmp_path / "out")], stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 35 and "this program was started with it open" in done.stderr
    assert (tmp_path / "out").read_bytes() == b""


def test_who_has_it_open_for_a_moment_is_waited_for(image):
    with contextlib.ExitStack() as held:
        process = held.enter_context(opened(image, os.O_RDONLY))

        def pause(seconds):
            held.close()
            process.wait()

        assert precheck.look(str(image), pause=pause).used == ()


def test_who_stays_is_not_waited_for_for_ever(image):
    waits = []
    with opened(image):
        seen = precheck.look(str(image), pause=waits.append)
    assert len(seen.used) == 1 and 0 < sum(waits) <= 2
    with pytest.raises(TargetRefused, match="has it open; it is a file of 4194304 bytes"):
        precheck.check(seen, 0, force=True)


def test_a_disk_and_its_partitions_are_one_device(tmp_path):
    """By the tables of a machine on which the loop device of this one is called a disk, or a partition."""
    sys_folder, proc = tmp_path / "sys", tmp_path / "proc"
    disk = sys_folder / "devices" / "sdb"
    part = disk / "sdb1"
    part.mkdir(parents=True)
    (sys_folder / "dev" / "block").mkdir(parents=True)
    null = os.stat("/dev/null").st_rdev  # any number that no block device has
    numbers = {disk: os.makedev(8, 16), part: os.makedev(8, 17)}
    for folder, number in numbers.items():
        text = f"{os.major(number)}:{os.minor(number)}"
        (folder / "dev").write_text(text + "\n")
        (sys_folder / "dev" / "block" / text).symlink_to(folder)
    (part / "partition").write_text("1\n")
    (proc / "4711" / "fd").mkdir(parents=True)
    (proc / "4711" / "comm").write_text("qemu-system-x86\n")
    for folder, number in numbers.items():
        node = tmp_path / folder.name
        try:
            os.mknod(node, 0o600 | 0o060000, number)
        except PermissionError:
            pytest.skip("making a device node needs root")
        fd = proc / "4711" / "fd" / "3"
        fd.unlink(missing_ok=True)
        fd.symlink_to(node)
        for target, name in ((disk, "its partition sdb1"), (part, "its disk sdb")):
            what = "it" if folder == target else name
            said = inuse.openers_of_device(numbers[target], str(sys_folder), str(proc))
            assert said == [f"process 4711 (qemu-system-x86) has {what} open"]
    assert inuse.openers_of_device(null, str(sys_folder), str(proc)) == []
