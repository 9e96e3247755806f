"""What was found of one set: whether it is well, and the figures that people and monitoring ask for."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from blockdiff.sets import health
from blockdiff.sets.catalogue import Entry, Listed
from blockdiff.sets.drills import Drill
from blockdiff.sets.health import Finding, State
from blockdiff.sets.verified import Damage, Notes


@dataclass
class Checked:
    """One set; times in seconds, since 1970 where they are no spans; None: not known."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    newest: int = 0
    begun: float | None = None  # the newest version
    age: float | None = None
    versions: int = 0
    points: int = 0  # versions that restore
    back_to: str = ""  # when the oldest of them began, ISO 8601
    stored: int = 0  # bytes
    a_day: float = 0.0  # bytes, mean of the last days
    oldest_proof: float | None = None  # None: a version was never proved
    unproved_since: float | None = None  # the same, where one that was never proved counts from its begin
    proved: int = 0  # versions
    seconds: float | None = None  # that the last backup took
    source: str = ""
    drill: Drill | None = None  # the newest one
    running: bool = False  # its lock is held now
    device: int | None = None  # of the file system
    free: int = 0  # bytes there
    listed: Listed = field(default_factory=lambda: Listed(""), repr=False)  # its versions
    proofs: dict[int, int] = field(default_factory=dict, repr=False)  # when they were proved
    damage: dict[int, Damage] = field(default_factory=dict, repr=False)  # what a verify found

    @property
    def state(self) -> State:
        """The worst of its findings."""
        return health.worst([finding.state for finding in self.findings])


def marked(listed: Listed, notes: Notes) -> Listed:
    """Return a set in which a version that a verify found damaged, or that needs such a one, does not restore."""
    doubtful = notes.doubtful(listed.parents)

    def mark(entry: Entry) -> Entry:
        why = notes.why(entry.number, doubtful)
        return replace(entry, restores=False, why=why) if why else entry

    return replace(listed, versions=[mark(entry) for entry in listed.versions]) if notes.damage else listed


@dataclass(frozen=True)
class Room:
    """What is left of a file system with sets."""

    sets: list[Checked]
    free: int  # bytes
    a_day: float  # bytes that the sets take, mean of the last days

    @property
    def left_s(self) -> float | None:
        """For how long there is space at this rate, in seconds; None: nothing is stored."""
        return self.free / self.a_day * 86400 if self.a_day else None


def rooms(sets: Iterable[Checked]) -> list[Room]:
    """Return each file system that has some of these sets; the one that is full first comes first."""
    here: dict[int, list[Checked]] = {}
    for each in sets:
        if each.device is not None:
            here.setdefault(each.device, []).append(each)
    out = [Room(some, min(each.free for each in some), sum(each.a_day for each in some)) for some in here.values()]
    return sorted(out, key=lambda room: float("inf") if room.left_s is None else room.left_s)
