"""A target in use is refused and its user named, with every option: from the kernel's tables, and by what has it open."""

import contextlib
import os
import shutil
import subprocess
import sys

import chains
import places
import pytest
from devices import loop_device, mounted

from blockdiff import restore
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
def backup_set(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * MIB, 65536)
    return backup_set


def refusals(run, backup_set, target, ways):
    """Return what ways of writing to a target say, after it was refused."""
    found = []
    for options in ways:
        done = run("blockdiff-merge", *options, backup_set.name, target)
        assert done.returncode == 35, (options, done.stderr)
        found.append(done.stderr)
    payload = chains.payload_of([b"\xee" * 512], [0], 512)
    done = run("blockdiff-merge", "--force", target, input=payload, text=False)
    assert done.returncode == 35
    return [*found, done.stderr.decode()]


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY], ids=["writes", "reads"])
def test_an_image_that_a_process_has_open(flags, run, backup_set, image):
    ways = [["--force"]] if flags == os.O_RDONLY else [[], ["--force"], ["--force", "--dry-run"]]
    with opened(image, flags) as process:
        for text in refusals(run, backup_set, image, ways):
            assert f"process {process.pid} (python" in text and ") has it open" in text
    assert image.read_bytes() == b"\xcc" * (4 * MIB)
    assert run("blockdiff-merge", "--force", backup_set.name, image).returncode == 0


def test_a_device_that_a_process_has_open(run, backup_set, image):
    with loop_device(image) as device:
        with opened(device) as process:
            for text in refusals(run, backup_set, device, ([], ["--force"])):
                assert f"process {process.pid} (python" in text and ") has it open" in text
        with open(device, "rb") as file:
            assert file.read() == b"\xcc" * (4 * MIB)
        assert run("blockdiff-merge", backup_set.name, device).returncode == 0


def test_an_empty_file_under_another_name_that_a_process_has_open(run, backup_set, tmp_path):
    (tmp_path / "out").touch()
    os.link(tmp_path / "out", tmp_path / "other name")
    with opened(tmp_path / "other name") as process:
        done = run("blockdiff-merge", backup_set.name, tmp_path / "out")
        assert done.returncode == 35 and f"process {process.pid} " in done.stderr


def test_a_target_that_is_the_runs_own_output(run, backup_set, tmp_path):
    with open(tmp_path / "out", "w") as out:
        words = [sys.executable, "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"]
        program = str(places.ROOT / "bin" / "blockdiff-merge")
        done = subprocess.run(
            [*words, program, backup_set.name, str(tmp_path / "out")], stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 35 and "this program was started with it open" in done.stderr
    assert (tmp_path / "out").read_bytes() == b""


def test_who_has_it_open_for_a_moment_is_waited_for(image):
    with contextlib.ExitStack() as cleanup:
        process = cleanup.enter_context(opened(image, os.O_RDONLY))

        def pause(seconds):
            cleanup.close()
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


# who uses it, from the kernel's own tables


def fake_tables(folder, number="8:16", partition="8:17"):
    """sysfs and proc as a machine with device mapper, md, swap and odd mounts shows them."""
    disk = folder / "sys" / "dev" / "block" / number
    (disk / "holders").mkdir(parents=True)
    part = disk / "sdb1"
    (part / "holders").mkdir(parents=True)
    (part / "partition").write_text("1\n")
    (part / "dev").write_text(partition + "\n")
    (folder / "sys" / "dev" / "block" / partition).symlink_to(part)
    (folder / "sys" / "block").mkdir()
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    (folder / "proc" / "self" / "mountinfo").write_text("21 1 0:20 / /proc rw - proc proc rw\n")
    return disk, part


def seen_by(folder, number=(8, 16)):
    return inuse.of_device(os.makedev(*number), str(folder / "sys"), str(folder / "proc"))


def test_nobody_holds_it(tmp_path):
    fake_tables(tmp_path)
    assert seen_by(tmp_path) == []


def test_device_mapper_and_md_are_named(tmp_path):
    disk, part = fake_tables(tmp_path)
    (disk / "holders" / "md127").mkdir()
    (part / "holders" / "dm-3" / "dm").mkdir(parents=True)
    (part / "holders" / "dm-3" / "dm" / "name").write_text("vg0-root\n")

    assert seen_by(tmp_path) == [
        "it is used by device md127",
        "its partition sdb1 is used by device mapper (vg0-root)",
    ]


def test_mounts_are_named_with_their_odd_letters(tmp_path):
    fake_tables(tmp_path)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "21 1 0:20 / /proc rw - proc proc rw\n"
        "30 1 8:17 / /srv/a\\040b rw,noatime shared:1 - ext4 /dev/sdb1 rw\n"
        "short line\n"
    )

    assert seen_by(tmp_path) == ["its partition sdb1 is mounted on /srv/a b"]
    assert seen_by(tmp_path, (8, 17)) == ["it is mounted on /srv/a b"]


def test_a_mounted_device_is_refused_and_named(loop, tmp_path):
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * MIB, 65536)
    with mounted("ext4", tmp_path / "a b", source=loop) as folder:
        assert precheck.look(loop, pause=now).used == (f"it is mounted on {folder}",)
        for force in (False, True):
            with pytest.raises(TargetRefused, match="mounted on"):
                restore.restore(backup_set, 1, loop, force=force)
    # a namespace that was copied meanwhile may hold the mount still, but it is nobody's here
    assert not any("mounted" in who for who in precheck.look(loop, pause=now).used)


def test_swap_is_refused(loop):
    subprocess.run(["mkswap", loop], check=True, capture_output=True)
    if subprocess.run(["swapon", loop], capture_output=True).returncode:
        pytest.skip("cannot swap on a loop device here")
    try:
        assert precheck.look(loop, pause=now).used == ("it is swap",)
    finally:
        subprocess.run(["swapoff", loop], check=True)


def test_a_disk_with_a_mounted_partition_is_refused(image, tmp_path):
    if shutil.which("sfdisk") is None:
        pytest.skip("sfdisk is not installed")
    subprocess.run(["sfdisk", "-q", str(image)], input=b"2048,4096\n", check=True, capture_output=True)
    with loop_device(image, "-P") as device:
        partition = device + "p1"
        if not os.path.exists(partition):
            pytest.skip("the kernel makes no partition device here")
        subprocess.run(["mkfs.ext4", "-q", partition], check=True, capture_output=True)
        with mounted("ext4", tmp_path / "mnt", source=partition) as folder:
            name = os.path.basename(partition)
            assert precheck.look(device, pause=now).used == (f"its partition {name} is mounted on {folder}",)
            assert precheck.look(partition, pause=now).used == (f"it is mounted on {folder}",)
            with pytest.raises(TargetRefused):
                precheck.check(precheck.look(device, pause=now), 0)


def test_the_file_behind_a_loop_device_is_refused(loop, image):
    seen = precheck.look(str(image), pause=now)

    assert f"it is behind {loop}" in seen.used


def test_a_loop_device_on_a_device_is_seen(loop):
    with loop_device(loop) as second:
        assert precheck.look(loop, pause=now).used == (f"it is behind {second}",)
