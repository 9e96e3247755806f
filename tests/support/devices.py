"""Real devices and mounts for tests: loop devices, and file systems on them."""

import contextlib
import os
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def mounted(kind, folder, *options, source="none"):
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", kind, *options, source, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def loop_device(path, *options):
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("loop devices need root and losetup")
    done = subprocess.run(["losetup", "--show", "-f", *options, str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
