"""What a backup run did."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from blockdiff.formats.manifest import Hint


def size_of(size: int | None, block_size: int, blocks: int) -> int:
    """Return a volume's size in bytes; that of a command that is not ours may be unknown: what its blocks hold."""
    return blocks * block_size if size is None else size


def changed_of(size: int | None, block_size: int, blocks: int, changed: int) -> int:
    """Return how many bytes so many changed blocks of a volume have, at most."""
    return min(changed * block_size, size_of(size, block_size, blocks))


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
    hint: Hint | None = None  # None: the whole volume was read
    warnings: list[str] = field(default_factory=list)  # the version is complete, but these need attention

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return dataclasses.asdict(self)
