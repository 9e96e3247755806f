"""Hints of real thin pools: what is restored is the volume, whatever happens to it, to its pool and to the run."""

import random
import re
import signal

import pytest

from . import runs
from .agents import eventually, md5, snapshots
from .runs import manifest, run

pytestmark = pytest.mark.lab

PATH = "/dev/vg0/thin"
OLD_PYTHON = "/root/.pyenv/versions/3.6.15/bin/python3"
SIGNALS = "HUP INT QUIT ILL ABRT FPE KILL SEGV PIPE ALRM TERM USR1 USR2 XCPU"
WRAPPED = "lvs lvcreate lvchange lvremove dmsetup thin_delta"
# Before and after each program of LVM's that the agent runs comes what a test has put into /tmp/at.
WRAPPER = """#!/bin/sh
name=${0##*/} real=/usr/sbin/${0##*/}
after() { :; }
. /tmp/at
"$real" "$@"; code=$?
after "$@"
exit $code
"""
# the agent and its supervisor, and neither has time to see that the other one dies
KILL = "for s in STOP KILL; do pkill -$s -f '[p]ushed:assembler'; done"


class Source:
    """A thin volume, and the set that it is backed up to."""

    def __init__(self, guest, tmp_path):
        self.guest, self.name, self.out = guest, tmp_path / "db", tmp_path / "out"
        self.version = 0
        guest.run("lvcreate -y -L 96M -T vg0/pool && lvcreate -y -V 64M -T vg0/pool -n thin")
        self.install()
        self.at("")
        runs.fill(guest, PATH, 8)

    def install(self):
        """Put the wrapper in the place of LVM's programs."""
        self.guest.run(
            f"mkdir /tmp/bin && cat > /tmp/bin/any && chmod +x /tmp/bin/any && for p in {WRAPPED}; do ln -s any /tmp/bin/$p; done",
            input=WRAPPER,
        )

    def at(self, words):
        """Have this done at each program of LVM's; without words the programs are run as they are, which is faster."""
        self.wrapped = bool(words)
        if words:
            self.guest.run("cat > /tmp/at", input=words)

    def run(self, *more, name=None, code=0):
        """Back it up; return what was said."""
        words = (*more, name or self.name, f"root@db00:{PATH}")
        prefix = {"SSH_BLOCKDIFF_PREFIX": "env PATH=/tmp/bin:/usr/bin:/bin"} if self.wrapped else {}
        return run(self.guest, "blockdiff-backup", *words, code=code, **prefix).stderr

    def back_up(self, *more, code=0):
        """Back it up by hints; return what was said, and the manifest of what can be restored then."""
        said = self.run("--hints", *more, code=code)
        self.version += 1
        assert runs.restored(self.name, self.out) == md5(self.guest, PATH)
        return said, manifest(self.name, self.version)

    def bases(self, name=None):
        words = f"lvs --noheadings -o lv_name @blockdiff.base | grep -c . ; {self.held()}"
        return int(self.guest.run(words, check=False).split()[0])

    def base(self):
        """Return name, tags as options of lvcreate, and thin id of the base of the newest version."""
        found = self.guest.run(f"lvs --noheadings -o lv_name,lv_tags,thin_id @blockdiff.version.{self.version}")
        name, tags, number = found.split()
        return name, " ".join(f"--addtag {tag}" for tag in sorted(tags.split(","))), number

    def held(self):
        return "dmsetup status vg0-pool-tpool | cut -d' ' -f7"

    def tidy(self):
        """One base and nothing else is left, and no reservation."""
        return (self.bases(), snapshots(self.guest), self.guest.run(self.held()).strip()) == (1, [], "-")


def test_what_is_read_by_hints_is_the_volume(guest, tmp_path):
    source = Source(guest, tmp_path)
    guest.run("lvcreate -qq -y -s -n early vg0/thin")
    _, first = source.back_up()
    assert first["hint"]["method"] == "mappings"
    assert first["hint"]["blocks"] == 128
    assert first["bytes"]["read"] <= (128 + 300) * 65536  # what is allocated, and few others

    # the base goes, and a snapshot of another volume gets its name, its tags and its id in the pool
    base, tags, number = source.base()
    runs.fill(guest, PATH, 1, at=5)
    guest.run(f"lvremove -qq -y vg0/{base} && lvcreate -qq -y -s --permission r -n {base} {tags} vg0/early")
    assert source.base() == (base, tags, number)
    said, found = source.back_up()
    assert "the base of version 1 is not of this volume" in said
    assert (found["hint"]["method"], found["blocks"]["changed"]) == ("mappings", 16)

    # edits, the same bytes written again, discards, shrunk and grown; and another set on the same volume meanwhile
    dice = random.Random(1)
    places = [dice.randrange(64 * 256) for _ in range(20)]
    changes = (
        f"with open('{PATH}', 'r+b', buffering=0) as file: [(file.seek(4096 * at), file.write(os.urandom(5000))) for at in {places}]"
    )
    guest.run(
        f'python3 -Sc "import os\n{changes}";'
        f"dd if={PATH} of={PATH} bs=64k skip=7 seek=7 count=2 conv=notrunc oflag=direct status=none;"
        f"blkdiscard -o 1M -l 300K {PATH}; lvcreate -qq -y -s -n before vg0/thin;"
        "lvreduce -qq -y -f -L 40M vg0/thin && lvextend -qq -L 72M vg0/thin"
    )
    other = tmp_path / "other"
    source.run("--hints", name=other)
    python = guest.run(f"test -x {OLD_PYTHON} && echo {OLD_PYTHON} || command -v python3").strip()
    said, found = source.back_up("--remote-python", python)
    assert "no hint" not in said
    assert found["hint"]["method"] == "thin_delta"
    assert found["hint"]["wrong"] is None
    assert found["blocks"]["changed"] <= found["hint"]["blocks"] <= found["blocks"]["changed"] + 10
    assert found["bytes"]["read"] == (found["hint"]["blocks"] + found["hint"]["audited"]) * 65536
    assert source.bases() == 2

    # rolled back
    guest.run("lvconvert -qq -y --merge vg0/before; lvchange -an vg0/thin; lvchange -ay vg0/thin")
    runs.fill(guest, PATH, 1, at=3)
    said, found = source.back_up()
    assert f"the base of version {source.version - 1} is not of this volume" in said
    assert (found["hint"]["method"], found["hint"]["wrong"]) == ("mappings", None)

    # while thin_delta works the base goes, and another one with its name and tags comes
    base, tags, _ = source.base()
    source.at(
        f'case "$name $*" in "thin_delta -m"*) "$real" "$@"; exec > /dev/null 2>&1; lvremove -y vg0/{base};'
        f" lvcreate -y -s -n {base} {tags} vg0/thin; exit;; esac"
    )
    said, found = source.back_up()
    source.at("")
    assert "no hints, the whole volume is read: the base was removed or changed meanwhile" in said
    assert "hint" not in found

    # without hints nothing is left, but of the other set
    assert source.bases() == 2
    source.run("--no-hints")
    source.version += 1
    assert source.bases() == 1
    assert snapshots(guest) == []
    assert "hint" not in manifest(source.name, source.version)


def test_a_hint_that_is_wrong_or_in_doubt_costs_a_whole_read(guest, tmp_path):
    source = Source(guest, tmp_path)
    source.back_up()
    thin_delta = 'case "$name $*" in "thin_delta -m"*) "$real" "$@" | {}; exit;; esac'

    # one that is only less than it should be
    source.at(thin_delta.format("sed '/<different/d'"))
    runs.fill(guest, PATH, 1, at=4)
    said, found = source.back_up()
    assert "no hints, the whole volume is read: thin_delta has" in said
    assert "hint" not in found
    assert source.tidy()

    # one that takes what changed for the same: more blocks than any that the sample leaves out in a row
    source.at(thin_delta.format("sed 's/<different/<same/'"))
    runs.fill(guest, PATH, 4, at=4)
    said, found = source.back_up(code=3)
    offset = found["hint"]["wrong"]
    assert 4 << 20 <= offset < 8 << 20
    assert f"warning: a hint left out the block at byte {offset}, so the whole volume is read\n" in said
    assert found["blocks"]["changed"] == 64
    assert source.bases() == 0
    assert snapshots(guest) == []

    # a foreign reservation stays, and a base is kept all the same
    source.at("")
    guest.run("dmsetup message vg0-pool-tpool 0 reserve_metadata_snap")
    runs.fill(guest, PATH, 1, at=9)
    said, found = source.back_up()
    assert "hint: if none uses it, dmsetup message vg0-pool-tpool 0 release_metadata_snap" in said
    assert "hint" not in found
    assert guest.run(source.held()).strip() != "-"
    guest.run("dmsetup message vg0-pool-tpool 0 release_metadata_snap")
    assert source.tidy()

    # a pool that fills up
    guest.run("lvcreate -qq -y -V 72M -T vg0/pool -n full")
    runs.fill(guest, "/dev/vg0/full")
    said, found = source.back_up()
    assert "its thin pool is more than 80 % full" in said
    assert "hint" not in found
    assert source.bases() == 0
    assert "twi-aotz" in guest.run("lvs --noheadings -o lv_attr vg0/pool")


@pytest.mark.long
def test_a_run_that_dies_leaves_two_snapshots_at_most_and_the_next_one_is_right(guest, tmp_path):
    source = Source(guest, tmp_path)
    source.back_up()

    def dies(words, code):
        """Run with what is done at one step; return how many snapshots and bases are left."""
        source.at(words)
        runs.fill(guest, PATH, 1, at=2)
        source.run("--hints", code=code)
        source.at("")
        return len(snapshots(guest)) + source.bases()

    # the agent dies while thin_delta works: its supervisor cleans up
    dies('case "$name $*" in "thin_delta -m"*) kill -KILL $PPID;; esac', 23)
    eventually(source.tidy)

    # both die while the metadata is reserved: nobody can know whose that is
    left = dies('after() { case "$name $*" in *" reserve_metadata_snap"*) %s;; esac; }' % KILL, 23)
    assert left == 1  # the server came back once more, to remove the snapshot
    said, found = source.back_up()
    (command,) = re.findall(r"hint: if none uses it, (dmsetup message .*)", said)
    assert "hint" not in found
    guest.run(command)
    assert source.tidy()

    # both die when the snapshot is a base, and the one before is, too: the version is there
    left = dies('after() { case "$name $*" in "lvchange "*"--addtag"*) %s;; esac; }' % KILL, 3)
    source.version += 1
    assert left == 2
    assert runs.restored(source.name, source.out) == md5(guest, PATH)

    # the host loses power while it reads
    with runs.held(guest, "--hints", source.name, f"root@db00:{PATH}") as process:
        assert len(snapshots(guest)) + source.bases() == 2
        guest.run("sync")
        guest.kill()
        process.kill()
        process.wait()
        guest.boot()
    source.install()
    source.at("")
    said, found = source.back_up()
    assert found["hint"]["method"] == "thin_delta"
    assert source.tidy()


STEPS = {  # before or after which program, and the exit code of the run
    "the snapshot is made": ("after", "lvcreate *", 23),
    "the pool is looked at": ("before", "dmsetup table *", 23),
    "the metadata is to be reserved": ("before", "dmsetup message *reserve*", 23),
    "the metadata is reserved": ("after", "dmsetup message *reserve*", 23),
    "thin_delta has written": ("after", "thin_delta -m*", 23),
    "the metadata is released": ("after", "dmsetup message *release*", 23),
    "the snapshot is to become a base": ("before", "lvchange *--addtag*", 3),
    "the snapshot is a base": ("after", "lvchange *--addtag*", 3),
    "the base is inactive": ("after", "lvchange *--activate n*", 3),
    "the base before is removed": ("after", "lvremove *", 3),
}


@pytest.mark.long
@pytest.mark.parametrize("power", [False, True], ids=["killed", "without power"])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_ends_a_run_at_whatever_step_the_next_one_is_right(guest, tmp_path, step, power):
    when, program, code = STEPS[step]
    source = Source(guest, tmp_path)
    source.back_up()
    runs.fill(guest, PATH, 1, at=2)
    what = "echo o > /proc/sysrq-trigger; sleep 60" if power else f"{KILL}; exit 1"
    words = f'case "$name $*" in {program.replace(" ", "?")}) {what};; esac'
    source.at(words if when == "before" else f"after() {{ {words}; }}")
    more = ("--timeout", "5") if power else ()
    source.run("--hints", *more, code=25 if power and code == 23 else code)
    source.version += code == 3
    if power:
        guest.kill()
        guest.restore_network()
        guest.boot()
        source.install()
    source.at("")
    assert len(snapshots(guest)) + source.bases() <= 2
    said, found = source.back_up()
    reserved = re.findall(r"hint: if none uses it, (dmsetup message .*)", said)
    for command in reserved:
        guest.run(command)
    assert source.tidy()
    # nobody can know whose the reservation is that is found
    held = step in ("the metadata is reserved", "thin_delta has written")
    assert (bool(reserved), "hint" not in found) == (held, held)


def test_every_end_of_the_agent_releases_the_metadata(guest, agent):
    guest.run("lvcreate -y -L 64M -T vg0/pool && lvcreate -y -V 32M -T vg0/pool -n thin")
    numbers = [getattr(signal, f"SIG{name}") for name in SIGNALS.split()]
    assert agent.reserve(PATH, numbers) == [[True, "-"]] * 14
    assert agent.orphaned(PATH) == [True, "-"]
