"""The snapshot is made while the lock is held: the order of events, and what voids the lock."""

import shlex

import pytest

from . import runs
from .agents import md5
from .runs import SSH, finished, manifest, restored, run, started, unpublished, volume

pytestmark = pytest.mark.lab


@pytest.fixture
def lock(guest, tmp_path):
    """Return a function that writes a lock command: shell lines in which `guest` runs a line there."""

    def write(lines):
        script = tmp_path / "lock"
        script.write_text(f'#!/bin/sh\ncd {tmp_path}\nguest() {{ {shlex.join(guest.ssh())} "$1"; }}\n{lines}\n')
        script.chmod(0o755)
        return script

    return write


STANDING = "lvs --noheadings -o lv_name @blockdiff | wc -l"
DIRTY = "sed -n 's/Dirty: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"
LOOKS = f"""\
guest {shlex.quote(STANDING)} > before
guest {shlex.quote(DIRTY)} > dirty
"$@"
code=$?
guest {shlex.quote(STANDING)} > within
echo "$#" >> calls
exit $code"""


def number(path):
    return int(path.read_text())


def test_the_lock_is_held_while_the_snapshot_is_made_and_no_longer(guest, tmp_path, lock):
    guest.run("lvcreate -y -Zn -Wn -L 48M -n data vg0 && mkfs.ext4 -q /dev/vg0/data && mount /dev/vg0/data /mnt")
    guest.run("sysctl -q vm.dirty_writeback_centisecs > /tmp/was; sysctl -qw vm.dirty_writeback_centisecs=0; sync")
    try:
        fill_file = "head -c 12M /dev/urandom > /mnt/unwritten; " + DIRTY
        assert int(guest.run(fill_file)) > 8000  # kB that a sync has to write
        name = tmp_path / "set"
        prefix = str(lock(LOOKS))
        line = (*runs.SLOW, *SSH, name, "root@db00:/dev/vg0/data")
        with started(guest, *line, LVCREATE_PREFIX=prefix) as process:
            runs.eventually(lambda: (tmp_path / "calls").exists())
            assert process.poll() is None  # the lock has ended, the reading has hardly begun
            finished(process, 0)
    finally:
        guest.run("umount /mnt; sysctl -qw vm.dirty_writeback_centisecs=500")

    assert (number(tmp_path / "before"), number(tmp_path / "within")) == (0, 1)
    assert number(tmp_path / "dirty") < 4000  # it was written before the lock was asked for
    told = manifest(name)
    assert told["quiesce"]["method"] == "lock"
    assert told["quiesce"]["held_s"] > 0
    assert told["quiesce"]["waited_s"] >= 0
    assert told["consistency"] == "crash"  # whose lock it was, nobody knows
    assert runs.bare(guest)


def test_the_lock_does_not_wait_for_what_lvm_tells_of_the_snapshot(guest, tmp_path, lock):
    path = volume(guest)
    slow_s = 5
    wrapper = f'#!/bin/sh\n[ ! -e /tmp/locked ] || sleep {slow_s}\nexec /usr/sbin/lvs "$@"\n'
    guest.run(f"mkdir /tmp/slow && printf %s {shlex.quote(wrapper)} > /tmp/slow/lvs && chmod 755 /tmp/slow/lvs")
    script = lock('guest "touch /tmp/locked"\n"$@"\ncode=$?\nguest "rm /tmp/locked"\nexit $code')
    prefix = "env PATH=/tmp/slow:/usr/sbin:/sbin:/usr/bin:/bin"
    name = tmp_path / "set"
    run(guest, "blockdiff-backup", "--lock", script, name, f"root@db00:{path}", SSH_BLOCKDIFF_PREFIX=prefix)

    assert manifest(name)["quiesce"]["held_s"] < slow_s
    assert runs.bare(guest)


GIVES_UP = """\
"$@" & gate=$!
until guest "test -e /tmp/hangs"; do sleep 0.1; done
kill $gate
exit 1"""


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (lambda lock: ("--lock", lock(GIVES_UP)), 42, "or the gate that it ran ended too early"),
        (lambda lock: ("--progress-timeout", "2"), 25, "but heartbeats, while it made the snapshot, for 2 seconds"),
    ],
    ids=["its lock gives up", "without a lock"],
)
def test_an_lvcreate_that_hangs_is_not_waited_for_and_its_snapshot_does_not_stay(
    guest, tmp_path, lock, options, code, words
):
    path = volume(guest)
    guest.run("rm -rf /tmp/hang /tmp/hangs /tmp/go")
    wrapper = '#!/bin/sh\ntouch /tmp/hangs\nuntil [ -e /tmp/go ]; do sleep 0.1; done\nexec /usr/sbin/lvcreate "$@"\n'
    guest.run(f"mkdir /tmp/hang && printf %s {shlex.quote(wrapper)} > /tmp/hang/lvcreate && chmod 755 /tmp/hang/lvcreate")
    prefix = "env PATH=/tmp/hang:/usr/sbin:/sbin:/usr/bin:/bin"
    words_of = (*options(lock), tmp_path / "no", f"root@db00:{path}")
    try:
        done = run(guest, "blockdiff-backup", *words_of, code=code, SSH_BLOCKDIFF_PREFIX=prefix)
        assert words in done.stderr
        assert unpublished(tmp_path / "no")
    finally:
        guest.run("touch /tmp/go")
    runs.eventually(lambda: runs.bare(guest))
    run(guest, "blockdiff-backup", tmp_path / "set", f"root@db00:{path}")


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ("exit 0", 41, "lock ended with exit code 0 without running the command"),
        ("exit 1", 41, "lock ended with exit code 1 without running the command"),
        ('"$@"; "$@"; exit 0', 42, "lock ran the command that follows it 2 times"),
        ('"$@"; exit 7', 42, "lock ended with exit code 7"),
    ],
    ids=["never", "refused", "twice", "failed"],
)
def test_a_lock_that_was_not_held_is_no_backup(guest, tmp_path, lock, lines, code, words):
    path = volume(guest)
    done = run(guest, "blockdiff-backup", "--lock", lock(lines), tmp_path / "no", f"root@db00:{path}", code=code)

    assert words in done.stderr
    assert unpublished(tmp_path / "no")
    runs.eventually(lambda: runs.bare(guest))


def test_a_dump_is_made_under_the_lock_as_well(guest, tmp_path, lock):
    path = volume(guest)
    streams = ("--output", tmp_path / "dump", "--digests-out", tmp_path / "new")
    run(guest, "ssh-lvm-dump", *streams, "root@db00", path, LVCREATE_PREFIX=str(lock(LOOKS)))
    assert (number(tmp_path / "before"), number(tmp_path / "within")) == (0, 1)
    (tmp_path / "dump").unlink()
    run(guest, "ssh-lvm-dump", *streams, "root@db00", path, code=42, LVCREATE_PREFIX=str(lock('"$@"; exit 7')))
    assert not (tmp_path / "dump").exists()
    runs.eventually(lambda: runs.bare(guest))


def test_several_volumes_are_taken_at_one_moment_and_stand_for_themselves(guest, tmp_path, lock):
    first, second, bad = volume(guest), volume(guest, "data-base", "vg-two"), guest.bad_volume()
    before = [md5(guest, path) for path in (first, second)]
    write = "head -c 1M /dev/urandom | dd bs=1M seek=7 oflag=direct conv=notrunc iflag=fullblock status=none of="
    change = f"{write}{first}; {write}{second}"
    script = lock(LOOKS.replace("echo", f"guest {shlex.quote(change)}\necho"))
    sets = [tmp_path / name for name in ("first", "bad", "second")]
    # the first is read for longer than anybody may be silent; the others wait for their turn meanwhile
    done = run(
        guest, "blockdiff-backup", "--bwlimit", "2M", "--timeout", "3", "--snapshot-size", "4M", "--lock", script,
        sets[0], f"root@db00:{first}",
        "--with", sets[1], f"root@db00:{bad}",
        "--with", sets[2], f"root@db00:{second}",
        code=33,
    )  # fmt: skip

    assert "cannot read" in done.stderr
    assert number(tmp_path / "before") == 0
    assert number(tmp_path / "within") in (2, 3)  # the bad one may have failed by then
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert unpublished(sets[1])
    assert [restored(name, tmp_path / "out") for name in (sets[0], sets[2])] == before
    assert manifest(sets[0])["quiesce"] == manifest(sets[2])["quiesce"]
    assert manifest(sets[0])["quiesce"]["method"] == "lock"
    assert runs.bare(guest)


def test_a_lock_around_what_is_not_snapshotted_is_refused(guest, tmp_path, lock):
    path = volume(guest)
    guest.run("head -c 1M /dev/urandom > /tmp/plain")
    line = ("blockdiff-backup", "--lock", lock(LOOKS), tmp_path / "no")
    for words in (("root@db00:/tmp/plain",), ("--no-snapshot", f"root@db00:{path}")):
        done = run(guest, *line, *words, code=31)
        volume_named = f"cannot snapshot {words[-1].partition('@')[2]}: a lock is asked for, but this source is not a "
        assert volume_named in done.stderr
    # beside one that could be: then neither
    run(guest, *line, f"root@db00:{path}", "--with", tmp_path / "no2", "root@db00:/tmp/plain", code=31)
    assert unpublished(tmp_path / "no")
    assert unpublished(tmp_path / "no2")
    assert not (tmp_path / "calls").exists()
    runs.eventually(lambda: runs.bare(guest))
