"""The agent's LVM part in the guest, controlled by tests, and volumes for it to work on."""

import contextlib
import json
import subprocess
import time
import uuid


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
