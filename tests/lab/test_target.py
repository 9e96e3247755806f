"""What a restore must not write over, on real devices: logical volumes, their disks, partitions."""

import pytest

from .agents import md5, thick

pytestmark = pytest.mark.lab

MAKE = "head -c 1M /dev/urandom > /tmp/vol && {bin}/blockdiff-backup -q /tmp/set /tmp/vol"


@pytest.fixture
def merge(guest):
    """Return a function that restores to a device in the guest, and returns (exit code, what was said)."""
    programs = f"{guest.checkout}/bin"
    guest.run(MAKE.format(bin=programs))

    def merge(device, *options):
        command = f"{programs}/blockdiff-merge {' '.join(options)} /tmp/set {device} 2>&1; echo $?"
        *said, code = guest.run(command).splitlines()
        return int(code), "\n".join(said)

    return merge


def test_a_volume_that_bears_a_signature_or_is_open(guest, merge):
    path = thick(guest)
    for make, name in ((f"mkfs.ext4 -q -L PRODUCTION {path}", "ext4 (label PRODUCTION)"), (f"mkswap {path}", "swap")):
        guest.run(f"{make}; sync")
        before = md5(guest, path)
        for options in ([], ["--dry-run"]):
            code, said = merge(path, *options)
            assert code == 35 and f"with {name} on it" in said
        assert md5(guest, path) == before
    pid = guest.run(f"sleep 600 <> {path} >/dev/null 2>&1 & echo $!").strip()
    for options in ([], ["--force"], ["--force", "--dry-run"]):
        code, said = merge(path, *options)
        assert code == 35 and f"process {pid} (sleep) has it open" in said
    assert md5(guest, path) == before
    guest.run(f"kill {pid}; while test -e /proc/{pid}; do sleep 0.1; done")

    assert merge(path, "--force")[0] == 0
    guest.run(f"cmp -n 1048576 /tmp/vol {path}")


def test_a_disk_that_is_held_and_one_whose_partition_is_open(guest, merge):
    thick(guest)
    code, said = merge("/dev/ubdb", "--force")
    assert code == 35 and "it is used by device mapper (vg0-lv0)" in said and "LVM2_member" in said

    guest.run("dd if=/dev/zero of=/dev/ubdd bs=1M count=4 conv=fsync status=none")  # what other tests left
    guest.run("echo '2048,65536' | sfdisk -q /dev/ubdd && test -b /dev/ubdd1")
    try:
        code, said = merge("/dev/ubdd")
        assert code == 35 and "dos partition table" in said
        for opened, target, name in (("ubdd1", "ubdd", "its partition ubdd1"), ("ubdd", "ubdd1", "its disk ubdd")):
            pid = guest.run(f"sleep 600 < /dev/{opened} >/dev/null 2>&1 & echo $!").strip()
            code, said = merge(f"/dev/{target}", "--force")
            assert code == 35 and f"process {pid} (sleep) has {name} open" in said
            guest.run(f"kill {pid}; while test -e /proc/{pid}; do sleep 0.1; done")
    finally:
        guest.run("dd if=/dev/zero of=/dev/ubdd bs=1M count=4 conv=fsync status=none; blockdev --rereadpt /dev/ubdd")
