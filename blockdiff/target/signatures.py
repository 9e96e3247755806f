"""Signatures on a device or image: a file system, a partition table, a member of RAID, LVM or the like.

blkid(8) finds them.  Where it is missing or fails, a table of common magic numbers is used.
The table checks nothing else: other data with the same bytes counts as a signature, too.
Also runs on the host of a target: stdlib only, Python 3.6.
"""

import os
import shutil
import subprocess
from typing import Callable, Iterator, Optional, Sequence, Tuple

Program = Callable[[Sequence[str]], Tuple[Optional[int], str]]

_SBIN = "/usr/sbin:/sbin"  # where blkid is; cron's PATH does not have it
_FOUND, _NOTHING, _SEVERAL = 0, 2, 8  # exit codes of blkid -p
_MD, _BCACHE = b"\xfc\x4e\x2b\xa9", b"\xc6\x85\x73\xf6"
_LABELS = {  # name: (offset, length) in bytes
    "btrfs": (65536 + 299, 256),
    "ext2, ext3 or ext4": (1024 + 120, 16),
    "swap": (1024 + 28, 16),
    "xfs": (108, 12),
}
_MAGICS: Tuple[Tuple[int, bytes, str], ...] = (  # offset in bytes; a negative one counts from the end
    (1080, b"\x53\xef", "ext2, ext3 or ext4"),
    (0, b"XFSB", "xfs"),
    (65536 + 64, b"_BHRfS_M", "btrfs"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
    (32768, b"JFS1", "jfs"),
    (65536 + 52, b"ReIsEr", "reiserfs"),
    (8192 + 52, b"ReIsEr", "reiserfs"),
    (1024 + 6, b"\x34\x34", "nilfs2"),
    (65536, b"\x01\x16\x19\x70", "gfs2"),
    *((1024 << shift, b"OCFSV2", "ocfs2") for shift in range(4)),
    (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    (32, b"NXSB", "apfs"),
    (1024, b"H+\x00\x04", "hfsplus"),
    (1024, b"HX\x00\x05", "hfsplus"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"-FVE-FS-", "BitLocker"),
    (3, b"EXFAT   ", "exfat"),
    (54, b"FAT1", "vfat"),
    (82, b"FAT32", "vfat"),
    (32769, b"CD001", "iso9660"),
    (32769, b"BEA01", "udf"),
    *((512 * sector, b"LABELONE", "LVM2_member") for sector in range(4)),
    (0, b"LUKS\xba\xbe", "crypto_LUKS"),
    (16384, b"SKUL\xba\xbe", "crypto_LUKS"),
    (0, _MD, "linux_raid_member"),
    (4096, _MD, "linux_raid_member"),
    (-1024, b"Intel Raid ISM", "isw_raid_member"),
    (-512, b"\xde\x11\xde\x11", "ddf_raid_member"),
    *((page - 10, word, "swap") for page in (4096, 8192, 16384, 65536) for word in (b"SWAPSPACE2", b"SWAP-SPACE")),
    *((4096 - 10, word, "swsuspend") for word in (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001")),
    *((131072 + 1024 * slot, b"\x0c\xb1\xba\x00", "zfs_member") for slot in range(128)),
    *((131072 + 1024 * slot, b"\x00\x00\x00\x00\x00\xba\xb1\x0c", "zfs_member") for slot in range(128)),
    (4096 + 24, _BCACHE, "bcache"),
    *((-4096 + 60, b"\x83\x74\x02" + last, "drbd") for last in (b"\x6b", b"\x6c", b"\x6d")),
    (1048576, b"\x0d\xd0\x01\xc0", "VMFS_volume_member"),
    (2097152, b"\x5e\xf1\xab\x2f", "VMFS"),
    (0, b"bluestore block device", "ceph_bluestore"),
    (0, b"dmvdo001", "vdo"),
    (516, b"!Stra0tis", "stratis"),
    (512, b"EFI PART", "gpt partition table"),
    (4096, b"EFI PART", "gpt partition table"),
    (-512, b"EFI PART", "gpt partition table"),
    (510, b"\x55\xaa", "dos partition table or boot sector"),
)


def run_program(words: Sequence[str]) -> Tuple[Optional[int], str]:
    """Run a program; return its exit code, None if it could not be run to its end, and its stdout."""
    path = shutil.which(words[0]) or shutil.which(words[0], path=_SBIN)
    if path is None:
        return None, ""
    try:
        done = subprocess.run([path, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def signature(path: str, run: Program = run_program) -> str:
    """Return the signatures on a device or in a file, such as "ext4 (label root)"; "" if there is none."""
    code, text = run(["blkid", "-p", "-o", "export", "--", path])
    if code == _NOTHING:
        return ""
    if code == _FOUND:
        facts = dict(line.partition("=")[::2] for line in text.splitlines())
        kind = facts.get("TYPE") or facts.get("PTTYPE", "unknown") + " partition table"
        return _named(kind, facts.get("LABEL", "").replace("\\", ""))
    found = by_magic(path)
    return found or ("several signatures" if code == _SEVERAL else "")


def by_magic(path: str) -> str:
    """Return the same by our table of magic numbers."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return " and ".join(dict.fromkeys(_named(kind, _label(fd, kind)) for kind in _kinds(fd)))
        finally:
            os.close(fd)
    except OSError:
        return ""


def _kinds(fd: int) -> Iterator[str]:
    size = os.lseek(fd, 0, os.SEEK_END)
    for offset, magic, kind in _MAGICS:
        place = offset if offset >= 0 else size + offset
        if place >= 0 and os.pread(fd, len(magic), place) == magic:
            yield kind
    # md's older places: 64 KiB or 8 KiB before the end, aligned
    for place in ((size & ~0xFFFF) - 0x10000, (size & ~0xFFF) - 0x2000):
        if place >= 0 and os.pread(fd, len(_MD), place) == _MD:
            yield "linux_raid_member"


def _label(fd: int, kind: str) -> str:
    offset, length = _LABELS.get(kind, (0, 0))
    return os.pread(fd, length, offset).partition(b"\0")[0].decode("utf-8", "replace").strip()


def _named(kind: str, label: str) -> str:
    clean = "".join(c if c.isprintable() else "?" for c in label)
    return f"{kind} (label {clean})" if clean else kind
