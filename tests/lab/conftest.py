"""The lab boots once per test run; BLOCKDIFF_REQUIRE_LAB=1 makes its absence a failure."""

import contextlib
import os
import shutil

import pytest

from . import namespace
from .agents import Agent
from .guest import HERE, Guest

PROGRAMS = (
    "linux.uml", "lvm", "thin_check", "sshd", "ssh", "ssh-keygen", "mariadbd", "mariadb-install-db",
    "modprobe", "ip", "mkfs.ext4", "setpriv", "taskset", "python3",
)  # fmt: skip
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def missing():
    """Return why the lab cannot run here, or None."""
    if os.geteuid() != 0:
        return "the lab needs root"
    path = os.environ.get("PATH", "") + ":" + SBIN
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"the lab needs {' '.join(absent)}; {HERE / 'packages.txt'} lists Debian's packages"
    if not os.path.exists("/dev/net/tun"):
        return "the lab needs /dev/net/tun"
    return None


def unavailable(reason):
    """Skip, or fail where the lab is required."""
    if os.environ.get("BLOCKDIFF_REQUIRE_LAB") == "1":
        pytest.fail(f"BLOCKDIFF_REQUIRE_LAB=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def lab():
    """Yield the booted Guest, as the test before left it."""
    reason = missing()
    if reason is not None:
        unavailable(reason)
    namespace.sweep()
    with contextlib.ExitStack() as cleanup:
        guest = Guest()
        cleanup.callback(guest.close)
        try:
            guest.open()
        except OSError as error:
            unavailable(f"the lab cannot be built here: {error}")
        yield guest


@pytest.fixture
def guest(lab):
    """Yield the Guest, with nothing of any test in it before and after."""
    try:
        yield lab
    finally:
        lab.reset()


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
