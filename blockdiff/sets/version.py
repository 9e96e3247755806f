"""One version of a set, as a value."""

from dataclasses import dataclass

from blockdiff.formats import manifest
from blockdiff.place.base import Opener

LOCAL = "localhost"  # the host's name for a volume of this machine


def spelt(host: str, path: str) -> str:
    """Return where a volume is as people write it."""
    return path if host == LOCAL else f"{host}:{path}"


@dataclass(frozen=True)
class Version:
    """One version of a set, as its trusted files describe it."""

    number: int
    parent: int | None  # the version that it continues; None: it is a full
    suffix: str  # of the diff file
    block_size: int  # bytes
    count: int  # blocks of the volume
    manifest: manifest.Manifest | None  # None: the original's, or one that does not count
    notes: tuple[str, ...] = ()  # notes on these files for the user
    ignored: tuple[str, ...] = ()  # paths of those that do not count
    renamed: str = ""  # a note that the set was renamed after this version; else empty
    md5_sha256: str | None = None  # of the digest file, if a manifest has it

    @property
    def full(self) -> bool:
        """Whether the version needs no other one."""
        return self.parent is None

    @property
    def size(self) -> int | None:
        """Bytes of the volume; None if only the last block's record shows it."""
        if self.manifest is not None and self.manifest.size is not None:
            return self.manifest.size
        return 0 if self.count == 0 else None


@dataclass(frozen=True)
class VersionFiles:
    """A version and the paths of those of its files that count."""

    version: Version
    diff: str
    digests: str
    index: str | None  # None: no index counts
    open: Opener  # opens one of these paths
