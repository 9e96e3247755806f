"""Files out of disks with real file systems, some of which have lost their power; real guests."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import signal
import stat
import subprocess
import tarfile

import disks
import pytest

from blockdiff import look
from blockdiff.errors import CommandFailed, HostSilent, NothingThere, ProgramUnfit, TargetRefused
from blockdiff.guest import machine
from blockdiff.guest.archive import Archive
from blockdiff.guest.folder import Folder
from blockdiff.guest.machine import Guest
from blockdiff.look import Wanted

COUNT = 60  # synced files in each file system
ABOUT = (3, "vm7")
PLACES = [{"part": 1}, {"part": 2}, {"part": 3}, {"lv": "vg-m/root"}, {"lv": "vg-m/data"}]

pytestmark = pytest.mark.usefixtures("guests")


@pytest.fixture(scope="module")
def crashed(guests, tmp_path_factory):
    """A disk of all kinds that lost its power while files were written."""
    folder = tmp_path_factory.mktemp("crashed")
    image = folder / "disk"
    os.truncate(os.open(image, os.O_CREAT | os.O_WRONLY), 1300 << 20)
    table = "label: gpt\nsize=32M\nsize=320M\nsize=128M\nsize=8M\nsize=480M\n"
    subprocess.run([disks.found("sfdisk"), "-q", image], input=table, text=True, check=True)
    disks.work(image, f"""
        mkfs.ext4 -q -L 'my data' /dev/ubdb1; mkfs.xfs -q /dev/ubdb2; mkfs.btrfs -q /dev/ubdb3
        pvcreate -qq -y /dev/ubdb5; vgcreate -qq vg-m /dev/ubdb5
        lvcreate -qq -y -Zn -Wn -L 32M -n root vg-m; lvcreate -qq -y -Zn -Wn -L 320M -n data vg-m
        mkfs.ext4 -q /dev/mapper/vg--m-root; mkfs.xfs -q /dev/mapper/vg--m-data
        for dev in ubdb1 ubdb2 ubdb3 mapper/vg--m-root mapper/vg--m-data; do
            mkdir -p /dev/w/mnt/$dev; mount /dev/$dev /dev/w/mnt/$dev; {disks.synced("/dev/w/mnt/$dev/s", COUNT)}
        done
    """, folder, cut=True)  # fmt: skip
    before = digest(image)
    yield image
    assert digest(image) == before
    image.unlink()


@pytest.fixture(scope="module")
def hostile(guests, tmp_path_factory):
    """A volume with a file system that was unmounted, and whose names and files mean harm."""
    folder = tmp_path_factory.mktemp("hostile")
    tree = folder / "tree"
    for name in ("d", "bad", "strange"):
        (tree / name).mkdir(parents=True)
    (tree / "etc").symlink_to("/")
    (tree / "host").symlink_to("/etc/hostname")
    (tree / "up").symlink_to("../../../../../../etc")
    (tree / "d" / "suid").write_bytes(b"program")
    (tree / "d" / "suid").chmod(0o6755)
    os.link(tree / "d" / "suid", tree / "d" / "second")
    os.mkfifo(tree / "d" / "pipe")
    with open(tree / "d" / "holes", "wb") as file:
        file.truncate(100 << 20)
        file.seek(50 << 20)
        file.write(b"in the middle")
    (tree / "bad" / "XXXXXXXname").write_bytes(b"out")
    with open(os.fsencode(tree / "strange") + b"/\xff\n\x1b[31m", "wb"):
        pass
    image = folder / "disk"
    options = ["-q", "-F", "-O", "^metadata_csum,^dir_index", "-E", "root_owner=0:0", "-d", tree]
    subprocess.run([disks.found("mkfs.ext4"), *options, image, "64M"], check=True)
    debugfs = [disks.found("debugfs"), "-w", "-f", "-", image]
    subprocess.run(debugfs, input=b"cd /d\nmknod device c 1 3\n", check=True, capture_output=True)
    content = image.read_bytes()
    assert content.count(b"XXXXXXXname") == 1
    image.write_bytes(content.replace(b"XXXXXXXname", b"../../xname"))
    yield image
    image.unlink()


class Names:
    """Takes names, no contents."""

    def __init__(self):
        self.entries = {}

    def put(self, entry, name):
        self.entries[name] = entry
        return ""

    def write(self, data):
        pass

    def remove(self):
        pass


def at(image, tmp_path, sink=None, **wanted):
    """Look, with nothing written to the image."""
    before = os.stat(image)
    try:
        return look.look(str(image), ABOUT, Wanted(**wanted), sink, os.environ, str(tmp_path))
    finally:
        assert (os.stat(image).st_mtime_ns, os.stat(image).st_blocks) == (before.st_mtime_ns, before.st_blocks)
        assert not [name for name in os.listdir(tmp_path) if name.startswith("tmp")]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").digest()


def test_what_is_on_a_disk(crashed, tmp_path):
    parts = at(crashed, tmp_path).parts
    assert [(part.part, part.type, part.label, part.size >> 20) for part in parts] == [
        (1, "ext4", "my data", 32), (2, "xfs", "", 320), (3, "btrfs", "", 128), (4, "", "", 8), (5, "LVM2_member", "", 480),
    ]  # fmt: skip
    assert sorted((lv.vg, lv.lv, lv.type, lv.size >> 20) for lv in parts[4].holds) == [
        ("vg-m", "data", "xfs", 320), ("vg-m", "root", "ext4", 32),
    ]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_was_synced_before_the_power_was_lost_is_there(place, crashed, tmp_path):
    with Folder(str(tmp_path / "out")) as folder:
        found = at(crashed, tmp_path, folder, paths=("/s",), parents=False, **place)
    assert (found.warnings, found.got[0].files) == ([], COUNT)
    for number in range(COUNT):
        assert (tmp_path / "out" / "s" / f"{number:03}").read_bytes() == b"%03d" % number * 1000


@pytest.mark.parametrize("place", [{"part": 1}, {"part": 3}, {"lv": "vg-m/data"}], ids=str)
def test_as_is_a_journal_is_not_replayed_and_that_is_told(place, crashed, tmp_path):
    names = Names()
    found = at(crashed, tmp_path, names, paths=("/",), as_is=True, **place)
    assert "its journal was not replayed" in found.warnings[0]
    assert len(names.entries) < COUNT


def test_as_is_a_clean_file_system_is_no_matter(hostile, tmp_path):
    found = at(hostile, tmp_path, Names(), paths=("/",), listing=True, as_is=True)
    assert (found.clean, found.warnings) == (True, [])


def test_a_file_system_of_firmware_is_read(tmp_path):
    image = tmp_path / "disk"
    subprocess.run([disks.found("mkfs.vfat"), "-C", "-n", "EFI", image, "8192"], check=True, capture_output=True)
    found = at(image, tmp_path, Names(), paths=("/",), listing=True)
    assert (found.type, found.clean, found.warnings) == ("vfat", True, [])


def test_links_of_the_image_lead_to_the_image(hostile, tmp_path):
    names = Names()
    absent = "there is no /up/hostname, /etc/etc/hostname in the whole volume in version 3"
    with pytest.raises(NothingThere, match=absent):
        paths = ("/etc/d", "/up/hostname", "/etc/host", "/etc/etc/hostname")
        at(hostile, tmp_path, names, paths=paths, listing=True)
    assert {"etc/d/suid", "etc/host"} < names.entries.keys()
    assert names.entries["etc/host"].type == "symlink"


def test_nothing_gets_out_of_the_folder(hostile, tmp_path):
    inner = tmp_path / "a" / "b" / "out"
    inner.parent.mkdir(parents=True)
    with Folder(str(inner)) as folder:
        found = at(hostile, tmp_path, folder, paths=("/",), parents=False)
    assert os.listdir(tmp_path) == ["a"] and os.listdir(inner.parent) == ["out"] and os.listdir(tmp_path / "a") == ["b"]
    assert found.warnings == ["cannot read bad: Input/output error", "left out: 2 devices, pipes and sockets"]
    assert (os.listdir(inner / "bad"), os.readlink(inner / "etc"), os.readlink(inner / "up")) == ([], "/", "../../../../../../etc")
    assert sorted(os.listdir(inner / "d")) == ["holes", "second", "suid"]
    assert os.listdir(os.fsencode(inner / "strange")) == [b"\xff\n\x1b[31m"]
    status = os.stat(inner / "d" / "suid")
    assert (stat.S_IMODE(status.st_mode), status.st_nlink, status.st_uid) == (0o755, 2, os.getuid())
    holes = inner / "d" / "holes"
    assert os.stat(holes).st_size == 100 << 20 and os.stat(holes).st_blocks * 512 < 1 << 20
    assert holes.read_bytes().strip(b"\0") == b"in the middle"


def test_an_archive_has_everything_as_it_is(hostile, tmp_path):
    file = io.BytesIO()
    archive = Archive(file, look.most(64 << 20))
    found = at(hostile, tmp_path, archive, paths=("/d", "/strange"))
    archive.close()
    assert found.warnings == []
    file.seek(0)
    with tarfile.open(fileobj=file, errors="surrogateescape") as members:
        got = {member.name: member for member in members}
        assert sorted(got) == ["d", "d/device", "d/holes", "d/pipe", "d/second", "d/suid", "strange", "strange/\udcff\n\x1b[31m"]
        assert (got["d/suid"].mode | got["d/second"].mode, got["d/device"].type) == (0o6755, tarfile.CHRTYPE)
        assert {got["d/suid"].type, got["d/second"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
        assert (got["d/device"].devmajor, got["d/device"].devminor, got["d/pipe"].type) == (1, 3, tarfile.FIFOTYPE)
        assert got["d/suid"].uid == os.getuid()
        data = members.extractfile("d/holes").read()
        assert (len(data), data.strip(b"\0")) == (100 << 20, b"in the middle")


def test_files_are_no_larger_than_the_volume_can_have(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(look, "_LEAST", 1000)
    monkeypatch.setattr(look, "MOST_TIMES", 0)
    with pytest.raises(TargetRefused, match="times the size of the volume"), Folder(str(tmp_path / "out")) as folder:
        at(hostile, tmp_path, folder, paths=("/d/holes",), parents=False)
    assert os.listdir(tmp_path / "out") == []


def test_there_are_no_more_names_than_the_volume_can_have(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(look, "_LEAST_NAMES", 4)
    monkeypatch.setattr(look, "_INODE", 64 << 20)
    with pytest.raises(TargetRefused, match="there are more than the volume can have"):
        at(hostile, tmp_path, names := Names(), paths=("/",))
    assert len(names.entries) == 4


def test_which_file_system_is_meant_must_be_said(crashed, tmp_path):
    several = r"no single file system, but several \(partition 1, .*vg-m/root\), in version 3 of vm7 \(hint: name one with"
    with pytest.raises(NothingThere, match=several):
        at(crashed, tmp_path, Names(), paths=("/",))


def test_a_program_that_is_missing_is_named_with_its_package(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_SYSTEM", ())
    with pytest.raises(ProgramUnfit, match=r"linux.uml is needed .*hint: apt-get install user-mode-linux; .*blockdiff-nbd"):
        look.look(str(hostile), ABOUT, Wanted(), None, {"PATH": ""}, str(tmp_path))


def test_a_guest_that_says_nothing_is_ended(hostile, tmp_path):
    with pytest.raises(HostSilent):
        at(hostile, tmp_path, timeout_s=0.3)


def test_a_guest_that_dies_is_no_end(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CODE", "raise SystemExit(1)")
    with pytest.raises(CommandFailed, match=r"linux.uml failed: Kernel panic"):
        at(hostile, tmp_path)
    with contextlib.suppress(FileNotFoundError):
        assert not [name for name in os.listdir("/dev/shm") if name.startswith("core")]


def test_a_guest_that_is_killed_is_no_end(hostile, tmp_path):
    with open(hostile) as file:
        request = {"server": "", "run": "sleep 100", "path": "/", "part": None, "lv": None, "paths": []}
        guest = Guest(file.fileno(), request, os.environ, str(tmp_path), "blockdiff.drilling.inguest")
        with contextlib.closing(guest):
            process = guest._process.pid  # other tests have guests, too
            told = guest.receive(20)
            assert json.loads(next(told)[1])["step"] == "mount"
            assert len(pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()) > 1
            os.kill(process, signal.SIGKILL)  # only the first of its processes
            assert list(told) == []
