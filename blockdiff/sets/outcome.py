"""What a backup run did."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """What a backup run did."""

    name: str
    version: int
    kind: str  # "full" or "incremental"
    size: int | None  # bytes of the volume
    block_size: int  # bytes
    blocks: int
    changed: int
    zero: int
    read: int | None  # bytes
    wire: int | None  # bytes
    payload: int  # bytes
    stored: int  # bytes
    seconds: float
    consistency: str  # "none", "crash" or "application"
    warnings: list[str] = field(default_factory=list)  # the version is complete, but these need attention

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return dataclasses.asdict(self)
