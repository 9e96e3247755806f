"""Exports of versions over NBD: what they need, and clients."""

import os
import re
import subprocess
import sys

import pytest

PROGRAMS = ("nbdkit", "nbdcopy", "nbdinfo", "nbdfuse", "fusermount3", "qemu-img", "qemu-nbd", "qemu-io")


@pytest.fixture
def nbdkit():
    """Skip where there is no nbdkit with a Python like ours, or no client."""
    from launched import lacking, needs

    needs(*PROGRAMS)
    done = subprocess.run(["nbdkit", "python", "--dump-plugin"], capture_output=True, text=True)
    theirs = re.search(r"^python_version=(\d+\.\d+)", done.stdout, re.MULTILINE)
    if theirs is None:
        lacking("nbdkit has no plugin for python")
    ours = "{}.{}".format(*sys.version_info[:2])
    if theirs[1] != ours:
        pytest.skip(f"nbdkit has python {theirs[1]}, and the tests run with {ours}")


@pytest.fixture
def fuse(nbdkit):
    """Skip where nothing can be mounted with FUSE."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")


def copied(uri, target):
    """What nbdcopy reads of an export; None if that fails."""
    target.unlink(missing_ok=True)
    done = subprocess.run(["nbdcopy", uri, target], capture_output=True, text=True, timeout=60)
    return None if done.returncode else target.read_bytes()


def read(uri, offset, length):
    """Some bytes of an export, any, by qemu-io's pattern-free read; None if that fails."""
    done = subprocess.run(
        ["qemu-io", "-r", "-f", "raw", "-c", f"read -v {offset} {length}", uri], capture_output=True, text=True, timeout=60
    )
    rows = re.findall(r"^[0-9a-f]{8}:  ((?:[0-9a-f]{2} )+)", done.stdout, re.MULTILINE)
    return bytes.fromhex("".join(rows)) if "read failed" not in done.stdout + done.stderr else None


def sockets(folder):
    """The folders for sockets that there are."""
    return [name for name in os.listdir(folder) if name.startswith("blockdiff.")]


