"""In the guest: what is on the disk, and a file system of it mounted.

Nothing is written to the disk, which is read-only: a snapshot of it in the kernel's device mapper gets what
replaying a journal writes, on a second disk that is discarded.  Partitions and logical volumes are those
of the snapshot.  As-is, there is no snapshot, and everything is mounted without a replay.
"""

import ctypes
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

DISK, SCRATCH = "ubdb", "ubdc"
_CHUNK = 8  # sectors of the snapshot's chunks
_EXTENDED = {"0x5", "0xf", "0x85"}  # partitions that hold only partitions
_MODULES = "/usr/lib/uml/modules"
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8  # flags of mount(2)
# the types that are mounted, with the options that keep them from replaying
MOUNTED = {
    "ext2": "noload", "ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay",
    "vfat": "", "iso9660": "",
}  # fmt: skip
# modules of LVM's kinds of segments; linear and striped need none
_TARGETS = {"thin": "dm-thin-pool", "cache": "dm-cache", "mirror": "dm-mirror", "raid": "dm-raid"}
_LVM_CONF = """\
activation {{ udev_sync=0 udev_rules=0 monitoring=0 reserved_memory=0 reserved_stack=0 {read_only} }}
devices {{ use_devicesfile=0 obtain_device_list_from_udev=0 hints="none" dir="/dev" scan=["/dev"]
    filter=[{filter}, "r|.*|"] }}
global {{ locking_type=1 locking_dir="{room}/lock" use_lvmpolld=0 event_activation=0
    thin_check_executable="" cache_check_executable="" }}
backup {{ backup=0 archive=0 }}
"""


class Failed(Exception):
    """What was asked for cannot be done."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(why, text)
        self.why = why  # nothing, unreadable or guest
        self.text = text


@dataclass
class Volume:
    """A partition, a logical volume or the whole disk."""

    device: str
    place: str  # what people call it
    size: int  # bytes
    part: int | None = None  # None: the whole disk, or a logical volume
    type: str = ""  # of its contents
    label: str = ""
    vg: str = ""
    lv: str = ""
    segments: str = ""  # LVM's type of them
    holds: list["Volume"] = field(default_factory=list)


def mount(source: str, place: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), place.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)


class Disk:
    """The disk of the guest."""

    def __init__(self, room: str, programs: dict[str, str], *, as_is: bool) -> None:
        """`room`: a folder for our files; `programs`: their paths."""
        self._room = room
        self._programs = programs
        self._as_is = as_is
        self._volumes: list[Volume] = []

    def open(self) -> None:
        """Find its partitions, and what each of them holds."""
        os.makedirs(os.path.join(self._room, "lib"))
        os.symlink(_MODULES, os.path.join(self._room, "lib", "modules"))
        self._load("dm-mod", *([] if self._as_is else ["dm-snapshot"]))
        self._volumes = self._partitions() or [Volume(f"/dev/{DISK}", "the whole volume", _size(DISK))]
        if not self._as_is:
            self._clone()
        self._probe(self._volumes)
        members = {volume.device: volume for volume in self._volumes if volume.type == "LVM2_member"}
        if members:
            self._open_lvm(members)

    def describe(self) -> list[dict[str, Any]]:
        """Return what is on it."""
        return [
            _described(volume) | {"holds": [_described(each) for each in volume.holds]} for volume in self._volumes
        ]

    def choose(self, part: int | None, lv: str | None) -> Volume:
        """Return the volume that is meant; raises Failed if there is none, or more than one could be."""
        return chosen(self._volumes, part, lv)

    def mount(self, volume: Volume, room: str, *, writable: bool = False) -> bool | None:
        """Mount a volume at `room`/root; return whether its file system had been unmounted (None: not known).

        What is written to it is discarded.
        """
        place = os.path.join(room, "root")
        os.makedirs(place)
        clean = is_clean(volume)
        flags = _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS | (0 if writable else _READ_ONLY)
        self._load(*{"iso9660": ["isofs"], "vfat": ["vfat", "nls_cp437", "nls_iso8859-1", "nls_utf8"],
                     "ext2": ["ext4"], "ext3": ["ext4"]}.get(volume.type, [volume.type]))  # fmt: skip
        kind = "ext4" if volume.type.startswith("ext") else volume.type
        options = MOUNTED[volume.type] if self._as_is else ""
        try:
            mount(volume.device, place, kind, flags, "utf8" if kind == "vfat" else options)
        except OSError as error:
            raise Failed("unreadable", f"{volume.place}: {volume.type}: {error.strerror}") from None
        return clean

    def _run(self, program: str, *words: str, check: bool = True) -> str:
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DM_DISABLE_UDEV": "1", "LC_ALL": "C.UTF-8"}
        environ |= {"LVM_SYSTEM_DIR": os.path.join(self._room, "lvm"), "LVM_SUPPRESS_FD_WARNINGS": "1"}
        done = subprocess.run(
            [self._programs[program], *words], env=environ, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace",
        )  # fmt: skip
        if check and done.returncode:
            raise Failed("guest", f"{program} {words[0]}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def _load(self, *modules: str) -> None:
        if modules:
            self._run("modprobe", "-a", "-d", self._room, *modules)

    def _partitions(self) -> list[Volume]:
        names = [name for name in os.listdir(f"/sys/block/{DISK}") if re.fullmatch(DISK + r"\d+", name)]
        numbers = sorted(int(name.removeprefix(DISK)) for name in names)
        return [
            Volume(f"/dev/{DISK}{number}", f"partition {number}", _size(f"{DISK}/{DISK}{number}"), number)
            for number in numbers
        ]

    def _clone(self) -> None:
        """Put a snapshot between the disk and its partitions."""
        clone = "/dev/mapper/clone"
        table = f"0 {_size(DISK) // 512} snapshot /dev/{DISK} /dev/{SCRATCH} N {_CHUNK}"
        devices = [f"clone,,,rw,{table}"]
        for volume in self._volumes:
            if volume.part is None:
                volume.device = clone
                continue
            with open(f"/sys/block/{DISK}/{DISK}{volume.part}/start") as file:
                start = int(file.read())
            devices.append(f"part{volume.part},,,rw,0 {volume.size // 512} linear {clone} {start}")
            volume.device = f"/dev/mapper/part{volume.part}"
        self._run("dmsetup", "create", "--noudevsync", "--concise", ";".join(devices))

    def _probe(self, volumes: list[Volume]) -> None:
        """Find the types of contents by their signatures."""
        for volume in volumes:
            found = dict(
                line.split("=", 1)
                for line in self._run("blkid", "-p", "-o", "udev", volume.device, check=False).splitlines()
                if "=" in line
            )
            volume.type = found.get("ID_FS_TYPE", "")
            label = found.get("ID_FS_LABEL_ENC", "")
            volume.label = re.sub(r"((?:\\x[0-9a-f]{2})+)", lambda match: _decoded(match[1]), label)

    def _open_lvm(self, members: dict[str, Volume]) -> None:
        """Find the logical volumes on physical ones, and make devices of them."""
        os.makedirs(os.path.join(self._room, "lvm"))
        os.makedirs(os.path.join(self._room, "lock"))
        accepted = ", ".join(f'"a|^{device}$|"' for device in members)
        read_only = 'read_only_volume_list=["*"]' if self._as_is else ""
        with open(os.path.join(self._room, "lvm", "lvm.conf"), "w") as file:
            file.write(_LVM_CONF.format(filter=accepted, room=self._room, read_only=read_only))
        groups = {row["vg_name"]: members.get(row["pv_name"]) for row in self._lvm("pv", "pv_name,vg_name")}
        rows = self._lvm("lv", "vg_name,lv_name,lv_size,lv_attr,segtype")
        rows = [row for row in rows if row["lv_attr"][:1] not in "tCD"]  # pools hold other volumes
        self._load(*{module for row in rows for name, module in _TARGETS.items() if row["segtype"].startswith(name)})
        self._run("lvm", "vgchange", "-qq", "-ay", "--noudevsync", "--nolocking", check=False)
        for row in rows:
            member = groups.get(row["vg_name"])
            if member is None:
                continue
            place = f"{row['vg_name']}/{row['lv_name']}"
            dashed = "-".join(row[key].replace("-", "--") for key in ("vg_name", "lv_name"))
            volume = Volume(f"/dev/mapper/{dashed}", place, int(row["lv_size"]), vg=row["vg_name"], lv=row["lv_name"])
            member.holds.append(volume)
        self._probe([each for member in members.values() for each in member.holds])

    def _lvm(self, kind: str, columns: str) -> list[dict[str, str]]:
        text = self._run("lvm", f"{kind}s", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns)
        rows: list[dict[str, str]] = json.loads(text)["report"][0][kind]
        return rows


def chosen(volumes: list[Volume], part: int | None, lv: str | None) -> Volume:
    """Return the one with a file system that is meant; raises Failed if there is none, or more than one could be."""
    if lv is not None:
        found = [each for volume in volumes for each in volume.holds if each.place == lv]
        what = f"logical volume {lv}"
    elif part is not None:
        found = [volume for volume in volumes if volume.part == part]
        what = f"partition {part}"
    else:
        every = [each for volume in volumes for each in (volume, *volume.holds)]
        found = [volume for volume in every if volume.type in MOUNTED]
        what = "file system"
    if not found:
        raise Failed("nothing", what)
    if len(found) > 1:
        raise Failed("several", ", ".join(volume.place for volume in found))
    if found[0].type not in MOUNTED:
        holds = found[0].type or "nothing that is known"
        raise Failed("nothing", f"file system that can be read in {found[0].place}, which holds {holds},")
    return found[0]


def is_clean(volume: Volume) -> bool | None:
    """Return whether nothing is left to replay; None: not known.  Formats: the kernel's documentation of each."""
    with open(volume.device, "rb", buffering=0) as file:
        start = file.read(128 * 1024)
    if volume.type.startswith("ext"):
        state = int.from_bytes(start[1082:1084], "little")
        incompatible = int.from_bytes(start[1120:1124], "little")
        return bool(state & 1) and not incompatible & 4
    if volume.type == "btrfs":
        return not any(start[0x10060:0x10068])
    return True if volume.type in ("vfat", "iso9660") else None


def _described(volume: Volume) -> dict[str, Any]:
    return {
        "part": volume.part, "vg": volume.vg, "lv": volume.lv, "type": volume.type, "label": volume.label,
        "size": volume.size,
    }  # fmt: skip


def _decoded(escapes: str) -> str:
    return bytes.fromhex(escapes.replace("\\x", "")).decode("utf-8", "replace")


def _size(name: str) -> int:
    """Return the size of a block device in bytes."""
    with open(f"/sys/block/{name}/size") as file:
        return int(file.read()) * 512
