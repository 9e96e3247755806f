"""A machine that boots from a clone: a boot sector that writes to the serial console."""

import os
import shutil
import subprocess
import time

import boots
import pytest
from launched import lacking

from blockdiff.drilling import boot
from blockdiff.errors import DrillFailed, ProgramUnfit


@pytest.fixture
def disk(tmp_path):
    for program in ("qemu-system-x86_64", "setpriv"):
        if shutil.which(program) is None:
            lacking(f"{program} is not installed")
    path = tmp_path / "disk,a"
    path.write_bytes(boots.DISK)
    return path


def booted(disk, wanted, limit_s=60.0, **environ):
    return boot.boot(str(disk), wanted, limit_s, {**os.environ, **environ}, str(disk.parent), 64)


def test_it_boots_until_it_says_what_is_waited_for(disk):
    before = disk.read_bytes()
    line = booted(disk, "login:")
    assert line.startswith("web ") and line.endswith("login:") and "\x1b" not in line
    assert disk.read_bytes() == before and os.listdir(disk.parent) == ["disk,a"]


def test_what_it_does_not_say_fails_at_the_limit(disk):
    began = time.monotonic()
    with pytest.raises(DrillFailed, match=r"panic was not on the serial console .* its last line is: web .*login:"):
        booted(disk, "panic", 3)
    assert time.monotonic() - began < 30
    assert subprocess.run(["pgrep", "-f", str(disk)], capture_output=True).stdout == b""


def test_a_disk_that_is_not_there_fails(disk):
    disk.unlink()
    with pytest.raises(DrillFailed, match=r"qemu ended with exit code 1: .*disk,a"):
        booted(disk, "login:")


def test_without_qemu(disk, tmp_path):
    with pytest.raises(ProgramUnfit, match=r"qemu-system-x86"):
        booted(disk, "login:", PATH=str(tmp_path))
