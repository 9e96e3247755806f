"""The agent's LVM part, driven step by step on real LVM."""

import contextlib
import errno
import json
import subprocess
import time
import uuid

import pytest

pytestmark = pytest.mark.lab

OLD_PYTHON = "/root/.pyenv/versions/3.6.15/bin/python3"


class Refused(Exception):
    """What the agent answered instead of a value: (name of the error, its arguments)."""


class Agent:
    """The driver in the guest, over ssh, as the server would have the agent."""

    def __init__(self, guest, python="python3"):
        self.guest = guest
        self.run_id = uuid.uuid4().hex
        self.process = guest.popen(
            f"exec {python} {guest.checkout}/tests/lab/driver.py",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, do):
        def ask(*arguments):
            self.process.stdin.write(json.dumps([do, arguments]) + "\n")
            self.process.stdin.flush()
            reply = json.loads(self.process.stdout.readline())
            if "value" in reply:
                return reply["value"]
            if "error" in reply:
                raise Refused(reply["error"], *reply["arguments"])
            if "errno" in reply:
                raise OSError(reply["errno"], "in the guest")
            raise AssertionError(reply["crash"])

        return ask

    def snap(self, path, wanted=None, silence_s=60):
        self.reader, self.supervisor = self.open(silence_s)
        snapshot = self.make(path, wanted, "0123456789abcdef", self.run_id)
        self.name = snapshot["name"]
        return snapshot

    def close(self):
        """End it as a dead connection does: by the end of its input."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture
def agents(guest):
    """Yield a function that starts agents in the guest."""
    with contextlib.ExitStack() as started:

        def start(python="python3"):
            agent = Agent(guest, python)
            started.callback(agent.close)
            return agent

        yield start


@pytest.fixture
def agent(agents):
    return agents()


def thick(guest, name="lv0", vg="vg0", size="32M"):
    guest.run(f"lvcreate -y -Zn -Wn -L {size} -n {name} {vg} && {pattern(f'/dev/{vg}/{name}', 'old')}")
    return f"/dev/{vg}/{name}"


def thin(guest, name="thin", pool_size="64M", size="32M"):
    guest.run(
        f"lvcreate -y -L {pool_size} -T vg0/pool && lvcreate -y -V {size} -T vg0/pool -n {name}"
        f" && {pattern(f'/dev/vg0/{name}', 'old')}"
    )
    return f"/dev/vg0/{name}"


def pattern(device, word, mebibytes=8):
    return f"yes {word} | head -c {mebibytes}M | dd of={device} bs=1M conv=notrunc oflag=direct status=none"


def md5(guest, path):
    return guest.run(f"md5sum {path}").split()[0]


def snapshots(guest):
    """Return the snapshots of ours that stand in the guest, as vg/lv."""
    return guest.run("lvs --noheadings -o vg_name,lv_name @blockdiff | sed 's/^ *//;s/ /\\//'").split()


def eventually(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.2)


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
        assert first["size"] == 8 * 2**20  # a fifth of the origin, in whole extents
        eventually(lambda: agent.check()["fill"] > first["fill"])
    assert agent.beat()["lost"] is None
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
    assert "is no size" in refusal(agent, path, "much")


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


def test_a_snapshot_that_fills_is_extended(guest, agent):
    path = thick(guest, size="96M")
    before = md5(guest, path)
    snapshot = agent.snap(path, "8M")
    guest.run(f"for i in $(seq 0 39); do dd if=/dev/urandom of={path} bs=1M count=1 seek=$i oflag=direct "
              "conv=notrunc status=none; sleep 0.1; done")  # fmt: skip
    state = agent.check()

    assert state["extended"] >= 1
    assert state["size"] > 40 * 2**20
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
    snapshot = agent.snap(thick(guest))
    guest.run(f"kill -KILL {agent.supervisor} {agent.reader}")
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


# -- what is not ours


def test_a_sweep_touches_only_what_is_provably_ours_and_dead(guest, agent, agents):
    path = thick(guest)
    boot = "00000000-0000-0000-0000-000000000000"
    host = guest.run("printf %s $(cat /etc/machine-id) | sha256sum").strip()[:16]
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
