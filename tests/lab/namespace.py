"""The lab's own network: a namespace with one tap device, which no packet leaves."""

import os
import pathlib
import subprocess
import tempfile

PREFIX = "blockdiff-lab-"
TAP = "tap0"


class Namespace:
    """A network namespace with a tap device; `name` is unique among all runs on this machine."""

    def __init__(self, address, serial=0):
        self.name = f"{PREFIX}{os.getpid()}-{serial}"
        self.address = address

    def open(self):
        """Make it; raises OSError if this machine does not allow that."""
        done = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"cannot make a network namespace: {done.stderr.strip()}")
        for line in (
            "link set lo up",
            f"tuntap add dev {TAP} mode tap",
            f"addr add {self.address}/24 dev {TAP}",
            f"link set {TAP} up",
        ):
            done = subprocess.run(["ip", "-n", self.name, *line.split()], capture_output=True, text=True)
            if done.returncode != 0:
                self.close()
                raise OSError(f"ip {line}: {done.stderr.strip()}")

    def link(self, state):
        """Put the cable in ("up") or pull it out ("down")."""
        subprocess.run(["ip", "-n", self.name, "link", "set", TAP, state], check=True)

    def close(self):
        """Remove it, whatever still runs in it."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def sweep():
    """Remove namespaces and folders of runs that were killed: their names hold a pid that is gone."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        if line.startswith(PREFIX) and _dead(line.split()[0]):
            subprocess.run(["ip", "netns", "del", line.split()[0]], capture_output=True)
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _dead(folder.name):
            subprocess.run(["rm", "-rf", "--", str(folder)], check=False)


def _dead(name):
    pid = name[len(PREFIX) :].split("-")[0]
    return pid.isdigit() and not os.path.exists(f"/proc/{pid}")
