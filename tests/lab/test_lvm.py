"""The agent's snapshots, driven step by step on real LVM: found, made, refused, filled, removed."""

import errno

import numbers_line
import pytest

from . import runs
from .agents import Refused, eventually, md5, pattern, snapshots, thick, thin

pytestmark = pytest.mark.lab

OLD_PYTHON = "/root/.pyenv/versions/3.6.15/bin/python3"


# -- what stands behind a path


def test_a_volume_is_found_whatever_its_path(guest, agent):
    thick(guest)
    thick(guest, name="data-base", vg="vg-two")
    thin(guest)
    guest.run("ln -s /dev/mapper/vg--two-data--base /tmp/link")
    paths = ("/dev/vg-two/data-base", "/dev/mapper/vg--two-data--base", "/tmp/link")
    found = [agent.find(path) for path in paths]

    for path, volume in zip(paths, found, strict=True):
        assert (path, "vg-two", "data-base") == (volume["path"], volume["vg"], volume["lv"])
        assert volume["kind"] == "lvm-thick"
        assert volume["refusal"] is None
        assert volume["size"] == 32 * 2**20
        assert volume["extent_size"] == 4 * 2**20
        assert volume["pool"] is None
        assert volume["uuid"] in guest.run("lvs --noheadings -o lv_uuid vg-two/data-base")
    free = int(guest.run("vgs --noheadings -o vg_free_count vg-two"))
    assert found[0]["vg_extents_free"] == free

    volume = agent.find("/dev/vg0/thin")
    assert (volume["kind"], volume["pool"]) == ("lvm-thin", "pool")
    assert volume["pool_data_percent"] == pytest.approx(100 * 8 / 64, abs=2)
    assert 0 < volume["pool_metadata_percent"] < 50


def test_what_is_no_volume_is_none(guest, agent):
    guest.run("touch /tmp/file")
    for path in ("/tmp/file", "/tmp", "/tmp/missing", "/dev/ubdd", "/dev/vg0/missing", "/dev/null"):
        assert agent.find(path) is None


def test_a_volume_that_is_not_active_is_named(guest, agent):
    thick(guest)
    guest.run("lvchange -an vg0/lv0")
    for path in ("/dev/vg0/lv0", "/dev/mapper/vg0-lv0"):
        with pytest.raises(Refused) as refused:
            agent.find(path)
        assert refused.value.args[:2] == ("NoSuchVolume", path)
        assert "lvchange -ay vg0/lv0" in refused.value.args[2]


# -- make, read, remove


@pytest.mark.parametrize(("kind", "python"), [(thick, OLD_PYTHON), (thin, "python3")])
def test_a_snapshot_stands_still_and_leaves_nothing(guest, agents, kind, python):
    agent = agents(f"$(test -x {python} && echo {python} || echo python3)")
    path = kind(guest)
    before = md5(guest, path)
    archived = guest.run("ls /etc/lvm/archive | wc -l")
    snapshot = agent.snap(path)
    first = agent.check()
    guest.run(pattern(path, "new", 2))

    assert agent.read() == before
    assert md5(guest, path) != before
    assert snapshot["size"] == 32 * 2**20
    assert snapshots(guest) == [snapshot["name"]]
    attributes = guest.run(f"lvs --noheadings -o lv_attr {snapshot['name']}").strip()
    assert attributes[1] == "r"
    if kind is thin:
        assert attributes[9] == "k"  # not activated by itself at the next boot
        assert first["size"] is None
    else:
        assert first["size"] == 36 * 2**20  # all that it can use, in whole extents
        eventually(lambda: agent.check()["fill"] > first["fill"])
    assert agent.beat()["lost"] is None
    glanced, looked = agent.usage()
    assert glanced == [pytest.approx(looked[0], abs=0.1), looked[1], None, None]  # device mapper's and LVM's
    assert agent.remove() is None
    assert snapshots(guest) == []
    guest.run(f"test ! -e /proc/{agent.supervisor}")
    assert guest.run("ls /etc/lvm/archive | wc -l") == archived
    assert "lvcreate" in " ".join(agent.chatter())


def test_the_tags_name_the_owner(guest, agent):
    snapshot = agent.snap(thick(guest))
    tags = guest.run(f"lvs --noheadings -o lv_tags {snapshot['name']}").strip().split(",")
    stat = guest.run(f"cat /proc/{agent.supervisor}/stat").rpartition(")")[2].split()

    assert "blockdiff" in tags
    assert "blockdiff.set.0123456789abcdef" in tags
    assert f"blockdiff.run.{agent.run_id}" in tags
    assert f"blockdiff.boot.{guest.run('cat /proc/sys/kernel/random/boot_id').strip()}" in tags
    assert f"blockdiff.pid.{agent.supervisor}" in tags
    assert f"blockdiff.start.{stat[19]}" in tags


def test_the_supervisor_holds_nothing_of_its_reader(guest, agent):
    agent.snap(thick(guest))
    status = guest.run(f"cat /proc/{agent.supervisor}/stat").rpartition(")")[2].split()
    opened = [
        set(guest.run(f"ls -l /proc/{pid}/fd | sed -n 's/.*-> //p'").split())
        for pid in (agent.reader, agent.supervisor)
    ]

    assert status[3] == str(agent.supervisor)  # a session of its own
    assert opened[0] & opened[1] <= {"/dev/null"}
    assert len([name for name in opened[1] if name.startswith("socket:")]) == 1


# -- what the host has configured

# each setting that changes what LVM's programs print, or how long a thin snapshot's name is active
HOSTILE = """\
report {
    output_format="json" compact_output=1 compact_output_cols="lv_tags" aligned=0 buffered=0 headings=0 separator="#"
    list_item_separator=";" prefixes=1 quoted=0 columns_as_rows=1 binary_values_as_numeric=1 time_format="%s"
    mark_hidden_devices=0 lvs_sort="nonsense" lvs_cols="lv_name"
}
log { report_command_log=1 verbose=1 silent=1 indent=1 command_names=1 prefix="X " }
global { units="g" suffix=1 si_unit_consistency=0 }
activation/auto_set_activation_skip=0
"""


@pytest.fixture
def hostile(guest):
    """Return words before a program: LVM has another configuration for it than for what a test itself runs."""
    guest.run("mkdir /tmp/lvm && cat /etc/lvm/lvm.conf - > /tmp/lvm/lvm.conf", input=HOSTILE)
    return "env LVM_SYSTEM_DIR=/tmp/lvm"


@pytest.mark.parametrize("kind", [thick, thin])
def test_no_setting_of_the_host_changes_what_is_seen_or_done(guest, agents, hostile, kind):
    path = kind(guest)
    first, second = agents(f"{hostile} python3"), agents(f"{hostile} python3")
    assert first.find(path) == agents().find(path)
    before = md5(guest, path)
    snapshot = first.snap(path, "8M" if kind is thick else None)
    attributes = guest.run(f"lvs --noheadings -o lv_attr {snapshot['name']}").strip()
    assert attributes[9] == ("-" if kind is thick else "k")
    guest.run(f"dd if=/dev/urandom of={path} bs=1M count=7 oflag=direct conv=notrunc status=none")

    state = first.check()  # which extends as well
    assert state["extended"] > 0 or kind is thin
    assert state["lost"] is None
    assert first.read() == before
    assert first.remove() is None
    assert snapshots(guest) == []

    snapshot = second.snap(path)
    guest.run(f"kill -KILL {second.supervisor} {second.reader}")
    assert snapshots(guest) == [snapshot["name"]]
    notes = agents(f"{hostile} python3").sweep([])
    assert notes == [f"removed {snapshot['name']}, which run {second.run_id} left behind"]
    assert snapshots(guest) == []


def test_lvm_says_nothing_in_a_run_that_nobody_wants_to_hear_of(guest, tmp_path, hostile):
    path = runs.volume(guest)
    for number, (configured, wanted) in enumerate(((hostile, ""), ("", "1"))):
        name = tmp_path / str(number)
        line = (name, f"root@db00:{path}")
        said = runs.run(guest, "blockdiff-backup", *line, SSH_BLOCKDIFF_PREFIX=configured, VERBOSE=wanted).stderr
        if wanted:
            assert 'lvcreate: Logical volume "blockdiff_' in said
        else:
            lines = numbers_line.without(said.splitlines())
            assert lines == [f"running: root@db00:{path}", "backup completed successfully"]
        assert runs.restored(name, tmp_path / "out") == md5(guest, path)
    dumped = ("--output", tmp_path / "dump", "--digests-out", tmp_path / "new", "root@db00", path)
    assert runs.run(guest, "ssh-lvm-dump", *dumped).stderr == ""
    assert "lvcreate: " in runs.run(guest, "ssh-lvm-dump", *dumped, VERBOSE="1").stderr
    assert runs.bare(guest)


# -- refusals


def refusal(agent, path, wanted=None):
    with pytest.raises(Refused) as refused:
        agent.extents(path, wanted)
    name, where, reason = refused.value.args
    assert (name, where) == ("SnapshotRefused", path)
    return reason


def test_what_cannot_be_snapshotted_is_refused_with_the_reason(guest, agent):
    thick(guest)
    thin(guest)
    guest.run("lvcreate -y -s -L 8M -n stick vg0/lv0; lvcreate -y -s -n still vg0/thin; lvchange -ay -K vg0/still")
    assert "itself a snapshot, of lv0" in refusal(agent, "/dev/vg0/stick")
    assert "itself a snapshot, of thin" in refusal(agent, "/dev/vg0/still")
    assert "inner layer" in refusal(agent, "/dev/mapper/vg0-lv0-real")
    assert "thin pool" in refusal(agent, "/dev/mapper/vg0-pool_tdata")
    # a clone that is used as a volume in its own right is one
    guest.run("lvchange -kn vg0/still")
    assert agent.extents("/dev/vg0/still", None) is None
    # while the origin is open, a merge waits for its next activation
    guest.run("sleep 100 < /dev/vg0/lv0 > /dev/null 2>&1 &")
    guest.run("lvconvert -y --merge vg0/stick")
    assert "being merged" in refusal(agent, "/dev/vg0/lv0")


def test_too_little_room_names_what_is_missing(guest, agent):
    path = thick(guest, size="64M")
    assert agent.extents(path, "20M") == 5
    assert agent.extents(path, "50%") == 8
    assert agent.extents(path, "10") == 3  # MiB, as lvcreate has it
    assert agent.extents(path, "10G") == 17  # never more than the origin could need
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -2 vg0/rest")
    assert agent.extents(path, None) == 2  # what is there is enough for a start
    reason = refusal(agent, path, "20M")
    assert "2 free extents of 4 MiB" in reason
    assert "3 are missing (12 MiB)" in reason
    guest.run("lvextend -l +100%FREE vg0/rest")
    assert "1 are missing" in refusal(agent, path)
    assert "is not a size" in refusal(agent, path, "much")


def test_what_lvcreate_says_is_the_reason(guest, agent):
    path = thick(guest)
    guest.run("vgchange --addtag x vg0; vgchange -l 1 vg0 || vgchange --maxlogicalvolumes 1 vg0")
    with pytest.raises(Refused) as refused:
        agent.snap(path)
    assert refused.value.args[:2] == ("SnapshotRefused", path)
    assert "lvcreate" in refused.value.args[2]
    assert agent.remove() is None
    guest.run("vgchange -l 0 vg0; vgchange --deltag x vg0")


def test_a_thin_pool_that_is_nearly_full_is_spared(guest, agent):
    path = thin(guest, pool_size="16M")
    guest.run(pattern(path, "more", 15))
    reason = refusal(agent, path)
    assert "vg0/pool is 93.8 % full (data), the limit is 90 %" in reason


# -- fill


def test_a_small_volume_that_is_written_all_over_does_not_overflow(guest, agent):
    path = thick(guest, size="96M")
    before = md5(guest, path)
    agent.snap(path)
    guest.run(f"dd if=/dev/urandom of={path} bs=1M count=96 oflag=direct conv=notrunc status=none")
    state = agent.check()

    assert state["lost"] is None
    assert state["extended"] == 0
    assert agent.read() == before
    assert agent.remove() is None


def test_what_a_snapshot_can_use_is_what_lvm_gives_it_at_most(guest, agent):
    for size in (8, 100, 256):
        path = thick(guest, name=f"lv{size}", size=f"{size}M")
        agent.snap(path, "100G")
        given = agent.check()["size"]
        assert agent.remove() is None
        guest.run(f"lvcreate -y -s -l 1000%ORIGIN -n most {path}")
        assert given == int(guest.run("lvs --noheadings --units b --nosuffix -o lv_size vg0/most"))
        guest.run(f"lvremove -y vg0/most {path}")


def test_room_that_another_took_meanwhile_is_done_without(guest, agents):
    path = thick(guest, size="64M")
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -16 vg0/rest")
    first, second = agents(), agents()
    assert first.extents(path, None) == 8
    second.snap(path)
    guest.run("lvcreate -y -Zn -Wn -l 4 -n more vg0")
    # it was reckoned before the others took theirs
    first.reader, first.supervisor = first.open(60)
    first.make(path, None, "0123456789abcdef", first.run_id, [13, 1])
    assert first.check()["size"] == 2 * 4 * 2**20
    # but not beyond what was asked for in so many words
    third = agents()
    third.open(60)
    with pytest.raises(Refused, match="insufficient free space"):
        third.make(path, None, "0123456789abcdef", third.run_id, [13, 13])
    for agent in (first, second, third):
        assert agent.remove() is None
    assert snapshots(guest) == []


def test_a_snapshot_that_fills_is_extended(guest, agent):
    path = thick(guest, size="96M")
    before = md5(guest, path)
    snapshot = agent.snap(path, "8M")
    full = "dmsetup status --target snapshot | tr / ' ' | awk '{exit !($5 > 0.75 * $6)}'"
    guest.run(f"for i in $(seq 0 39); do dd if=/dev/urandom of={path} bs=1M count=1 seek=$i oflag=direct "
              f"conv=notrunc status=none; while {full}; do sleep 0.05; done; done")  # fmt: skip
    state = agent.check()

    assert state["extended"] >= 1
    assert state["size"] > 40 * 2**20
    glanced, looked = agent.usage()
    assert glanced[:2] == [pytest.approx(looked[0], abs=0.1), state["size"] // (4 << 20)]
    assert agent.read() == before
    assert any("extended" in line and snapshot["name"] in line for line in agent.chatter())
    assert agent.remove() is None


def test_an_overflow_is_never_overlooked(guest, agent):
    path = thick(guest, size="64M")
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -2 vg0/rest")
    agent.snap(path, "8M")
    guest.run(f"dd if=/dev/urandom of={path} bs=1M count=30 oflag=direct status=none")
    with pytest.raises(Refused) as refused:
        agent.check()
    name, where, story = refused.value.args

    assert (name, where) == ("SnapshotOverflowed", path)
    assert "0 extents are free in vg0" in story
    assert "8 MiB" in story
    with pytest.raises(OSError) as failed:
        agent.read()
    assert failed.value.errno == errno.EIO
    assert agent.usage()[0] is None
    with pytest.raises(Refused, match="SnapshotOverflowed"):
        agent.beat()
    assert agent.remove() is None
    assert snapshots(guest) == []


def test_a_thin_pool_that_runs_full_loses_us_not_its_volumes(guest, agent):
    path = thin(guest, pool_size="32M")
    agent.snap(path)
    guest.run(f"dd if=/dev/urandom of={path} bs=1M count=24 oflag=direct status=none")
    with pytest.raises(Refused) as refused:
        agent.check()
    assert refused.value.args[:2] == ("SnapshotOverflowed", path)
    assert "vg0/pool is 100.0 % full (data)" in refused.value.args[2]
    assert agent.usage()[0] is None
    assert agent.remove() is None
    assert float(guest.run("lvs --noheadings -o data_percent vg0/pool")) < 90


def test_a_read_error_is_not_an_overflow(guest, agent):
    path = guest.bad_volume()
    agent.snap(path, "8M")
    with pytest.raises(OSError) as failed:
        agent.read()
    assert failed.value.errno == errno.EIO
    assert agent.check()["lost"] is None
    assert agent.remove() is None
