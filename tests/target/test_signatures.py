"""What lies on a target is found and named, by blkid and without it."""

import os
import shutil
import subprocess

import chains
import pytest
from devices import loop_device

from blockdiff import restore
from blockdiff.errors import TargetRefused
from blockdiff.target import signatures

MIB = 1024 * 1024
SBIN = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))


def missing(words):
    """Stand for a machine without blkid."""
    return None, ""


def tool(*words, **options):
    if shutil.which(words[0], path=SBIN) is None:
        pytest.skip(f"{words[0]} is not installed")
    environment = {**os.environ, "PATH": SBIN}
    subprocess.run(words, check=True, capture_output=True, env=environment, **options)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.touch(0o600)
    os.truncate(path, 16 * MIB)
    return path


MADE = {
    "ext4": (["mkfs.ext4", "-q", "-L", "PRODUCTION"], b"", "ext4 (label PRODUCTION)", "ext4 (label PRODUCTION)"),
    "swap": (["mkswap", "-L", "S W"], b"", "swap (label S W)", "swap (label S W)"),
    "dos": (["sfdisk", "-q"], b"2048,4096\n", "dos partition table", "dos partition table"),
    "gpt": (["sfdisk", "-q"], b"label: gpt\n,\n", "gpt partition table", "gpt partition table"),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_real_tools_make_is_found_and_named(kind, image):
    words, text, known, ours = MADE[kind]
    tool(*words, str(image), input=text)

    assert signatures.signature(str(image)) == known
    assert ours in signatures.signature(str(image), missing)


def test_a_physical_volume_of_lvm_is_found(image):
    with loop_device(image) as device:
        tool("pvcreate", "-q", "--config", 'devices{use_devicesfile=0 filter=["a|.*|"]}', device)
        assert signatures.signature(device) == signatures.signature(device, missing) == "LVM2_member"


# where blkid believes a magic number alone, it must know the same ones as our table
@pytest.mark.parametrize(
    "offset, magic, kind",
    [
        (0, b"LUKS\xba\xbe\x00\x01", "crypto_LUKS"),
        (0, b"\xeb\x52\x90-FVE-FS-", "BitLocker"),
        (-4096 + 60, b"\x83\x74\x02\x6b", "drbd"),
        (-1024, b"Intel Raid ISM Cfg Sig. 1.0.00", "isw_raid_member"),
        (-0x10000, b"\xfc\x4e\x2b\xa9" + bytes(4) + b"\x5a", "linux_raid_member"),
        (32768, b"\x01CD001\x01", "iso9660"),
        (0, b"hsqs" + bytes(24) + b"\4", "squashfs"),
        (0, b"bluestore block device", "ceph_bluestore"),
    ],
)
def test_our_table_knows_what_blkid_knows(offset, magic, kind, image):
    with open(image, "r+b") as file:
        file.seek(offset if offset >= 0 else 16 * MIB + offset)
        file.write(magic)

    assert kind in signatures.signature(str(image), missing)
    if shutil.which("blkid", path=SBIN):
        assert signatures.signature(str(image)).lower() == kind.lower()


def test_of_data_and_of_zeros_nothing_is_said(image, tmp_path):
    (tmp_path / "data").write_bytes(b"\xcc" * MIB)
    for path in (image, tmp_path / "data"):
        assert signatures.signature(str(path)) == signatures.signature(str(path), missing) == ""


def test_what_blkid_answers():
    def answer(code, text=""):
        return signatures.signature("/no/such/file", lambda words: (code, text))

    assert answer(0, "DEVNAME=x\nLABEL=root\\ disk\x1b\nTYPE=ext4\n") == "ext4 (label root disk?)"
    assert answer(0, "DEVNAME=x\nPTTYPE=sgi\n") == "sgi partition table"
    assert answer(2) == "" and answer(None) == ""
    assert answer(8) == "several signatures"


def test_a_program_is_found_where_cron_does_not_look(monkeypatch):
    monkeypatch.setenv("PATH", "/nothing")
    assert signatures.run_program(["no-such-program"]) == (None, "")
    if shutil.which("blkid", path="/usr/sbin:/sbin"):
        assert signatures.run_program(["blkid", "-V"])[0] == 0


@pytest.mark.parametrize("kind", ["ext4", "swap"])
def test_a_device_with_a_signature_is_refused_unless_forced(kind, image, run, tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * MIB, 65536)
    words, text, known, _ = MADE[kind]
    with loop_device(image) as device:
        tool(*words, device, input=text)
        before = image.read_bytes()
        for options in ([], ["--dry-run"]):
            done = run("blockdiff-merge", *options, backup_set.name, device)
            assert done.returncode == 35 and known in done.stderr and "--force" in done.stderr
        with pytest.raises(TargetRefused, match="block device of 16777216 bytes with "):
            restore.restore(backup_set, 1, device)
        subprocess.run(["sync", "-f", str(image)], check=True)
        assert image.read_bytes() == before

        assert run("blockdiff-merge", "--force", backup_set.name, device).returncode == 0
        with open(device, "rb") as file:
            assert file.read(MIB) == b"x" * MIB


def test_a_stream_is_written_over_what_lies_there(image, run, tmp_path):
    """The next version's diff is to be written over the file system that the one before holds."""
    payload = chains.payload_of([b"\xee" * 512], [0], 512)
    with loop_device(image) as device:
        tool("mkfs.ext4", "-q", device)
        assert run("blockdiff_merge", device, input=payload, text=False).returncode == 0
        with open(device, "rb") as file:
            assert file.read(512) == b"\xee" * 512
