"""The lab's own network: a namespace with one tap device, which no packet leaves."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

PREFIX = "blockdiff-lab-"
TAP = "tap0"

# Both ends know each other's Ethernet address for good, so that nobody asks for it; see `cut`.
OUR_MAC = "02:00:0a:63:00:01"
GUEST_MAC = "02:00:0a:63:00:02"
NOBODY_MAC = "02:00:0a:63:00:99"
CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace with a tap device; `name` is unique among all runs on this machine."""

    def __init__(self, address, guest_address, serial=0):
        self.name = f"{PREFIX}{os.getpid()}-{serial}"
        self.address = address
        self.guest_address = guest_address

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
            try:
                self._ip(line)
            except OSError:
                self.close()
                raise
        self.restore()

    def cut(self):
        """Cut the cable: frames go out to nobody and come in for nobody, and neither end sees an error.

        Taking the device down would not do: the guest's driver then spins on the error it gets.
        """
        self._addresses(NOBODY_MAC, NOBODY_MAC)

    def restore(self):
        """Mend the cable."""
        self._addresses(OUR_MAC, GUEST_MAC)

    def listen(self):
        """Return a socket that listens on its loopback; who accepts stays in the network that they are in."""
        with ThreadPoolExecutor(1) as alone:  # what a thread enters, it alone is in
            return alone.submit(self._listen).result()

    def _listen(self):
        with open(f"/run/netns/{self.name}") as entry:
            if ctypes.CDLL(None, use_errno=True).setns(entry.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server(("127.0.0.1", 0))

    def _addresses(self, ours, guests):
        self._ip(f"link set {TAP} address {ours}")
        self._ip(f"neigh replace {self.guest_address} lladdr {guests} dev {TAP} nud permanent")

    def _ip(self, line):
        done = subprocess.run(["ip", "-n", self.name, *line.split()], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"ip {line}: {done.stderr.strip()}")

    def close(self):
        """Remove it, and end whatever still runs in it."""
        _delete(self.name)


def sweep():
    """Remove namespaces and folders of runs that were killed: their names hold a pid that is gone."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        if line.startswith(PREFIX) and _dead(line.split()[0]):
            _delete(line.split()[0])
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _dead(folder.name):
            subprocess.run(["rm", "-rf", "--", str(folder)], check=False)


def _delete(name):
    inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
    for pid in inside.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _dead(name):
    pid = name[len(PREFIX) :].split("-")[0]
    return pid.isdigit() and not os.path.exists(f"/proc/{pid}")
