"""What was found of one set: whether it is well, and the figures that people and monitoring ask for."""

from dataclasses import dataclass, field

from blockdiff.sets import health
from blockdiff.sets.catalogue import Listed
from blockdiff.sets.health import Finding, State


@dataclass
class Checked:
    """One set; times in seconds, since 1970 where they are no spans; None: not known."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    newest: int = 0
    begun: float | None = None  # the newest version
    age: float | None = None
    points: int = 0  # versions that restore
    back_to: str = ""  # when the oldest of them began, ISO 8601
    stored: int = 0  # bytes
    a_day: float = 0.0  # bytes, mean of the last days
    oldest_proof: float | None = None  # None: a version was never proved
    proved: int = 0  # versions
    seconds: float | None = None  # that the last backup took
    source: str = ""
    running: bool = False  # its lock is held now
    device: int | None = None  # of the file system
    free: int = 0  # bytes there
    listed: Listed = field(default_factory=lambda: Listed(""), repr=False)  # its versions
    proofs: dict[int, int] = field(default_factory=dict, repr=False)  # when they were proved

    @property
    def state(self) -> State:
        """The worst of its findings."""
        return health.worst([finding.state for finding in self.findings])
