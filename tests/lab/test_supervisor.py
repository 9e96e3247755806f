"""Every end of a run on a real source host: our snapshot is removed, and no other one."""

import contextlib
import time

import pytest

from . import runs
from .agents import Refused, eventually, snapshots, thick

pytestmark = pytest.mark.lab


# -- every end of a run


def test_a_killed_reader_leaves_nothing(guest, agent):
    agent.snap(thick(guest))
    agent.hold()
    guest.run(f"kill -KILL {agent.reader}")
    eventually(lambda: snapshots(guest) == [])
    eventually(lambda: not guest.run(f"ls -d /proc/{agent.supervisor} 2>/dev/null", check=False))


def test_a_reader_whose_child_lives_on_is_gone_all_the_same(guest, agents):
    agent = agents("sh -c 'python3 \"$0\"; sleep 1'")
    agent.snap(thick(guest))
    agent.process.stdin.close()
    eventually(lambda: snapshots(guest) == [])


def test_a_hangup_does_not_reach_the_supervisor(guest, agent):
    agent.snap(thick(guest))
    group = guest.run(f"ps -o pgid= -p {agent.reader}").strip()
    guest.run(f"kill -HUP -- -{group}")
    eventually(lambda: snapshots(guest) == [])


def test_a_dead_supervisor_ends_the_reading(guest, agent):
    agent.snap(thick(guest))
    guest.run(f"kill -KILL {agent.supervisor}")
    for ask in (agent.beat, agent.check):
        with pytest.raises(Refused, match="AgentDied"):
            ask()
    assert agent.remove() is None  # by the reader itself
    assert snapshots(guest) == []


def test_what_nobody_could_remove_the_next_run_sweeps(guest, agents):
    agent = agents()
    snapshot = agent.snap(thick(guest), "8M")
    guest.run(f"kill -KILL {agent.supervisor} {agent.reader}")
    # LVM reports of it in two rows, if it is asked about its segments
    guest.run(f"lvcreate -qq -y -Zn -Wn -l 1 -n between vg0 && lvextend -qq -l +1 {snapshot['name']}")
    assert guest.run(f"lvs --noheadings -o seg_count {snapshot['name']}").strip() == "2"
    assert snapshots(guest) == [snapshot["name"]]
    notes = agents().sweep([])

    assert notes == [f"removed {snapshot['name']}, which run {agent.run_id} left behind"]
    assert snapshots(guest) == []


def test_silence_ends_a_hanging_reader_and_its_snapshot(guest, agent):
    agent.snap(thick(guest), silence_s=3)
    agent.hold()
    for _ in range(6):  # longer than the limit, with beats
        time.sleep(0.7)
        assert agent.beat()["lost"] is None
    guest.run(f"kill -STOP {agent.reader}")
    eventually(lambda: snapshots(guest) == [])
    assert not guest.run(f"ls -d /proc/{agent.reader}/exe 2>/dev/null", check=False)


def test_looking_at_the_fill_is_not_hearing_the_server(guest, agent):
    agent.snap(thick(guest), silence_s=2)
    with contextlib.suppress(ValueError, BrokenPipeError):  # it is ended under our hands
        for _ in range(30):
            agent.check()
            time.sleep(0.3)
        pytest.fail("the supervisor never noticed")
    eventually(lambda: snapshots(guest) == [])


def test_a_run_that_is_over_can_be_ended_from_outside(guest, agents):
    lost, other = agents(), agents()
    lost.snap(thick(guest))
    other.snap(thick(guest, name="lv1"))
    kept = [name for name in snapshots(guest) if other.run_id[:32] in name]
    lost.hold()
    notes = agents().sweep([lost.run_id])

    name, run = lost.name, lost.run_id
    assert notes == [f"removed {name}, which run {run} left behind"]
    assert snapshots(guest) == kept
    assert other.beat()["lost"] is None


def test_the_source_loses_power(guest, agents):
    agent = agents()
    path = thick(guest)
    snapshot = agent.snap(path)
    guest.run("sync")
    guest.kill()
    guest.boot()
    assert snapshots(guest) == [snapshot["name"]]
    notes = agents().sweep([])

    assert notes == [f"removed {snapshot['name']}, which run {agent.run_id} left behind"]
    assert snapshots(guest) == []
    assert agents().find(path)["refusal"] is None


# -- between its making and the first look at it


@pytest.fixture
def created(guest, agent):
    """An agent whose snapshot stands, and of which LVM was not asked yet."""
    path = thick(guest)
    agent.reader, agent.supervisor = agent.open(60)
    with pytest.raises(InterruptedError):
        agent.create(path, None, "0123456789abcdef", agent.run_id)
    assert len(snapshots(guest)) == 1
    return agent


def test_a_snapshot_that_was_not_looked_at_is_removed(guest, created):
    assert created.remove() is None
    assert snapshots(guest) == []


def test_a_reader_killed_before_the_first_look_leaves_nothing(guest, created):
    guest.run(f"kill -KILL {created.reader}")
    eventually(lambda: snapshots(guest) == [])


def test_a_supervisor_killed_before_the_first_look_is_swept_after(guest, created):
    guest.run(f"kill -KILL {created.supervisor}")
    assert created.remove() is None
    assert snapshots(guest) == []


def lvs_instead(guest, lines):
    """Return words before a program, for which lvs runs these lines before the real one."""
    wrapper = f'#!/bin/sh\n{lines}\nexec /usr/sbin/lvs "$@"\n'
    guest.run("mkdir /tmp/bin && cat > /tmp/bin/lvs && chmod 755 /tmp/bin/lvs", input=wrapper)
    return "env PATH=/tmp/bin:/usr/sbin:/sbin:/usr/bin:/bin"


FAILS = "{ echo '  WARNING: a disk is missing' >&2; echo '  the metadata are locked' >&2; exit 5; }"
FAILS_AT_FIRST_LOOK = f"""\
case "$*" in
*blockdiff_*) [ ! -e /tmp/found ] && touch /tmp/found && {FAILS};;  # the snapshot is asked for by its name
esac"""


def test_lvm_that_fails_at_the_first_look_is_the_reason(guest, tmp_path):
    path = thick(guest)
    line = (tmp_path / "set", f"root@db00:{path}")
    failing = lvs_instead(guest, FAILS_AT_FIRST_LOOK)
    said = runs.run(guest, "blockdiff-backup", *line, code=31, SSH_BLOCKDIFF_PREFIX=failing).stderr

    assert f"cannot snapshot {path}: lvs: the metadata are locked\n" in said
    assert "lvs: WARNING: a disk is missing\n" in said
    assert runs.unpublished(tmp_path / "set")
    assert runs.bare(guest)


def test_what_stays_where_lvm_fails_is_told(guest, agents):
    agent = agents(lvs_instead(guest, f"[ -e /tmp/fail ] && {FAILS}") + " python3")
    path = thick(guest)
    agent.reader, agent.supervisor = agent.open(60)
    with pytest.raises(InterruptedError):
        agent.create(path, None, "0123456789abcdef", agent.run_id)
    guest.run(f"touch /tmp/fail; kill -KILL {agent.supervisor}")

    assert agent.remove() == "lvs: the metadata are locked"
    assert len(snapshots(guest)) == 1
    guest.run("rm /tmp/fail")
    assert agent.remove() is None
    assert snapshots(guest) == []


def test_what_stays_after_a_failure_is_told(guest, tmp_path):
    path = thick(guest)
    line = (tmp_path / "set", f"root@db00:{path}")
    failing = lvs_instead(guest, FAILS_AT_FIRST_LOOK.replace("&& touch /tmp/found", ""))
    said = runs.run(guest, "blockdiff-backup", *line, code=31, SSH_BLOCKDIFF_PREFIX=failing).stderr

    (left,) = snapshots(guest)
    assert f"the snapshot {left} could not be removed: lvs: the metadata are locked\n" in said


# -- what is not ours


def test_a_sweep_touches_only_what_is_provably_ours_and_dead(guest, agent, agents):
    path = thick(guest)
    boot = "00000000-0000-0000-0000-000000000000"
    host = guest.run("printf %s $(cat /etc/machine-id 2>/dev/null || uname -n) | sha256sum").strip()[:16]
    tags = f"blockdiff.set.a blockdiff.run.b blockdiff.boot.{boot} blockdiff.space.1 blockdiff.start.1"
    stands = {
        "blockdiff_untagged": "",
        "half": "blockdiff blockdiff.run.b blockdiff.pid.1",
        "elsewhere": f"blockdiff {tags} blockdiff.pid.1 blockdiff.host.0000",
        "unmarked": f"{tags} blockdiff.pid.1 blockdiff.host.{host}",
        "lvm_dump": "",
        "dead": f"blockdiff {tags} blockdiff.pid.1 blockdiff.host.{host}",
    }
    for name, words in stands.items():
        options = " ".join(f"--addtag {word}" for word in words.split())
        guest.run(f"lvcreate -y -s -L 4M -n {name} {options} {path}")
    options = " ".join(f"--addtag {word}" for word in stands["dead"].split())
    guest.run(f"lvcreate -y -Zn -Wn -L 4M -n data {options} vg0")
    mine = agent.snap(path)
    notes = agents().sweep(["b"])
    left = guest.run("lvs --noheadings -o lv_name vg0").split()

    assert sorted(left) == sorted([*(set(stands) - {"dead"}), "lv0", "data", mine["lv"]])
    assert len(notes) == 5
    for name, words in {
        "vg0/half": "not all of them",
        "vg0/elsewhere": "cannot be seen from here",
        "vg0/lvm_dump": "2010",
        "vg0/dead": "removed",
        "vg0/data": "is no snapshot",
    }.items():
        assert [note for note in notes if name in note and words in note], (name, notes)


# -- the busy device


def test_what_holds_a_busy_device_is_named(guest, agent):
    path = thick(guest)
    guest.run(f"mkfs.ext4 -q {path}; mkdir /mnt/point")
    snapshot = agent.snap(path)
    guest.run(f"mount -o ro,noload {snapshot['device']} /mnt/point")
    guest.run(f"sleep 1000 < {snapshot['device']} > /dev/null 2>&1 & echo $! > /tmp/holder")
    pid = guest.run("cat /tmp/holder").strip()
    holder = agent.remove()

    assert sorted(holder.split(", ")) == ["mount on /mnt/point", f"process {pid} (sleep)"]
    assert snapshots(guest) == [snapshot["name"]]
    guest.run(f"kill {pid}; umount /mnt/point")
    eventually(lambda: snapshots(guest) == [])  # it was not given up
