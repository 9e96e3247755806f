"""Check sets: is each well, by its names, sizes, manifests and the notes of when it was proved.

Nothing large is opened and no lock is taken, so it can run as often as a monitoring asks.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterable

from blockdiff.formats import names
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets import catalogue, drills, health, verified
from blockdiff.sets.checked import Checked, marked, rooms
from blockdiff.sets.health import Finding, Limits, State

_DAY = 86400.0
_MEAN_DAYS = 30  # of which the mean of what is stored a day is


def check(
    operands: Iterable[str],
    noted: Callable[[str], verified.Notes],
    limits: Limits,
    room_s: float | None,
    now: datetime.datetime,
    locks: str = "/proc/locks",
    drilled: Callable[[str], str] = drills.path_of,
    access: Access = PLAIN,
) -> list[Checked]:
    """Return what was found of each set that is named, or is in a folder that is named; the worst first.

    `noted`: what is noted of the versions of a set; `room_s`: for how long there must be space,
    at the rate of the last days; `locks`: what the kernel lists of locks; `drilled`: where the drills of a set are.
    """
    every = catalogue.find(operands, access)
    return judge([one(found, noted(found.name), limits, now, locks, drilled) for found in every], room_s)


def judge(sets: Iterable[Checked], room_s: float | None) -> list[Checked]:
    """Return the sets, the worst first, with what is found of the space that they share; see `check`."""
    out = list(sets)
    if room_s is not None:
        _check_room(out, room_s)
    for each in out:
        each.findings.sort(key=lambda finding: -finding.state.rank)
    return sorted(out, key=lambda each: (-each.state.rank, each.name))


def one(
    found: catalogue.Found,
    noted: verified.Notes,
    limits: Limits,
    now: datetime.datetime,
    locks: str = "/proc/locks",
    drilled: Callable[[str], str] = drills.path_of,
) -> Checked:
    """Return what was found of one set, but of the space that it shares; see `check`."""
    listed = catalogue.look(found)
    proofs = verified.fitting(listed, noted, found.access)
    drill = drills.newest(drilled(listed.name))
    what = health.findings(listed, proofs, noted.damage, limits, now, drill)
    out = Checked(listed.name, what, listed.newest, stored=listed.stored, drill=drill)
    out.listed, out.proofs, out.damage = marked(listed, noted), proofs, noted.damage
    entries = [entry for entry in listed.versions if entry.number <= listed.newest]
    bad = {*noted.damage, *noted.doubtful(listed.parents)}
    good = [entry for entry in entries if entry.restores and entry.number not in bad]
    out.versions, out.points, out.source = len(entries), len(good), listed.source
    out.proved = sum(entry.number in proofs for entry in entries)
    if entries and out.proved == len(entries):
        out.oldest_proof = min(proofs[entry.number] for entry in entries)
    times = [proofs.get(entry.number, _seconds(entry.begun)) for entry in entries]
    out.unproved_since = min((time for time in times if time is not None), default=None)
    if good:
        out.back_to = good[0].begun
    if entries and (begun := _seconds(entries[-1].begun)) is not None:
        out.begun, out.age = begun, now.timestamp() - begun
        ended = _seconds(entries[-1].time)
        out.seconds = ended - begun if ended is not None and entries[-1].recorded else None
        out.a_day = _a_day(entries, begun)
    if not choose.in_store(out.name):  # which shows no lock, no file that is half written, and no end of its space
        _look_around(out, listed.parts, locks)
    return out


def _seconds(time: str) -> float | None:
    try:
        found = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)).timestamp()


def _a_day(entries: list[catalogue.Entry], newest: float) -> float:
    """Return how many bytes incremental versions took a day, in the days before the newest."""
    least = newest - _MEAN_DAYS * _DAY
    times = [(_seconds(entry.begun), entry) for entry in entries]
    some = [(time, entry) for time, entry in times if time is not None and time >= least]
    if len(some) < 2:
        return 0.0
    stored = sum(entry.stored for _, entry in some[1:] if entry.parent is not None)
    return stored / max(1.0, (newest - some[0][0]) / _DAY)


def _locked(path: str) -> set[tuple[int, int]]:
    """Return (device, inode) of each file that is locked; none if the kernel does not list them."""
    found = set()
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        for line in file:
            place = next((word for word in line.split() if word.count(":") == 2), "")
            if place:
                major, minor, inode = place.split(":")
                found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return found


def _listed_device(folder: str) -> int | None:
    """Return the number by which the kernel's list of locks names a folder's file system; None: not known.

    On btrfs it is not the one of its files, which each subvolume has of its own.
    """
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            mount = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            words = line.split(None, 3)
            if words[0] == mount.encode():
                major, minor = words[2].split(b":")
                return os.makedev(int(major), int(minor))
    return None


def _look_around(out: Checked, parts: tuple[str, ...] | None, locks: str) -> None:
    """Note a backup that is running, what a dead run left, and the space of the file system.

    `parts`: its temporary files; what made one that is still there held its lock when the locks are read.
    """
    folder = os.path.dirname(out.name) or "."

    def is_locked(path: str) -> bool:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) in held:
            return True
        return os.major(found.st_dev) == 0 and (_listed_device(folder), found.st_ino) in held

    with contextlib.suppress(OSError):
        out.device, out.free = os.stat(folder).st_dev, choose.at(folder).room() or 0
        base = os.path.basename(out.name)
        if parts is None:
            parts = names.list_set(base, os.listdir(folder)).parts
        held = _locked(locks)
        with contextlib.suppress(FileNotFoundError):
            out.running = is_locked(os.path.join(folder, names.lock_name(base)))
        dead = []
        for name in parts:
            with contextlib.suppress(FileNotFoundError):
                if not out.running and not is_locked(os.path.join(folder, name)):
                    dead.append(name)
        if dead:
            what = f"a run died and left {dead[0]}; the next backup removes it"
            out.findings.append(Finding(State.WARNING, what))


def _check_room(sets: list[Checked], least_s: float) -> None:
    """Add a finding to the set that grows most of each file system that will be full too soon."""
    for room in rooms(sets):
        if room.left_s is not None and room.left_s < least_s:
            what = f"space for {health.span(room.left_s)} at the rate of the last days (limit {health.span(least_s)})"
            most = max(room.sets, key=lambda each: each.a_day)
            most.findings.append(Finding(State.WARNING, what))


def room_s(sets: Iterable[Checked]) -> float | None:
    """Return for how long there is space, in seconds, on the file system that is full first; None: not known."""
    return next((room.left_s for room in rooms(sets)), None)
