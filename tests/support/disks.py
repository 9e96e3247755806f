"""Disks with real file systems, made by a kernel in user mode that loses its power or not."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from blockdiff.childprocess import end_with_us

PROGRAMS = ("linux.uml", "lvm", "dmsetup", "modprobe", "sfdisk", "debugfs", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs")

# Each file is synced before the next one is begun; its content tells whether it is whole.
_WRITER = """
import os, sys
folder = sys.argv[1]
os.makedirs(folder)
for name in [folder, os.path.dirname(folder)]:
    fd = os.open(name, os.O_RDONLY); os.fsync(fd); os.close(fd)
for number in range(int(sys.argv[2])):
    fd = os.open(f"{folder}/{number:03}", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"%03d" % number * 1000)
    os.fsync(fd)
"""
_BEGIN = """
mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/w/lib /dev/w/mnt /dev/w/lvm; ln -s /usr/lib/uml/modules /dev/w/lib/modules
export PATH=/usr/sbin:/sbin:/usr/bin:/bin LVM_SYSTEM_DIR=/dev/w/lvm DM_DISABLE_UDEV=1
modprobe -a -d /dev/w dm-mod ext4 xfs btrfs
echo 'activation { udev_sync=0 udev_rules=0 monitoring=0 reserved_memory=0 reserved_stack=0 }
devices { use_devicesfile=0 obtain_device_list_from_udev=0 filter=["a|^/dev/ubdb|","r|.*|"] hints="none" }
global { locking_dir="/dev/w/lock" }
backup { backup=0 archive=0 }' > /dev/w/lvm/lvm.conf
"""


def found(program):
    """Return a program's path, None if it is not here."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


@pytest.fixture(scope="session")
def guests():
    """Skip where there is no kernel in user mode, or a program that makes disks is missing."""
    from launched import lacking

    missing = [program for program in PROGRAMS if found(program) is None]
    if missing:
        lacking(f"missing: {' '.join(missing)}")


def synced(folder, count):
    """Return a line that writes so many files, each synced before the next."""
    return f"{shlex.quote(sys.executable)} -I -S -c {shlex.quote(_WRITER)} {folder} {count}"


def work(image, script, folder, *, cut):
    """Run a shell script in a guest whose disk /dev/ubdb is the image; `cut`: then lose power, else unmount all."""
    end = "" if cut else "umount -a -t ext4,xfs,btrfs; vgchange -qq -an; sync"
    path = folder / "script"
    path.write_text(f"{_BEGIN}set -e\n(set -ex\n{script}\n) && {{ {end}\necho all is written; }}\nsleep 600\n".ljust(8192))
    console, ours = os.pipe()
    with open(console, "rb") as lines:
        process = subprocess.Popen(
            ["linux.uml", "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh",
             f"ubdb={image}", f"ubdcr={path}", "con=null", "con0=null,fd:1", "uml_dir=/dev/null/", "quiet",
             "--", "/dev/ubdc"],
            stdin=subprocess.DEVNULL, stdout=ours, stderr=ours, cwd="/", start_new_session=True, preexec_fn=end_with_us(signal.SIGKILL),
            env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        os.close(ours)
        told = []
        try:
            for line in lines:
                told.append(line.decode("utf-8", "replace"))
                if line.startswith(b"all is written") or b"Kernel panic" in line:
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert told and told[-1].startswith("all is written"), "".join(told[-30:])
