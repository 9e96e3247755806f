"""How a run finds out which blocks changed: the kind of digest that decides, and the parent's digests.

XXH3-128 is many times as fast as MD5 and decides where both sides have it: then only blocks
that changed get an MD5, here.  Otherwise MD5 decides.
"""

from dataclasses import dataclass

from blockdiff.errors import DamagedFile, StoreUnreadable
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.parent import Parent
from blockdiff.sets.version import Version


class HintWrong(Exception):
    """The audit of a hint found a block that it should not have left out; its offset is `offset`, in bytes."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(frozen=True)
class Comparison:
    """What is compared, and with what."""

    block_size: int  # bytes
    compared: str  # kind of digest that the agent compares and sends: "md5" or "xxh128"
    other_digests: bool = False  # it sends the other kind of every block, too
    keep_xxh: bool = True  # the XXH3-128 digests of the new version will be complete
    md5: Digests | None = None  # of the parent; None: the new version is a full
    xxh: Digests | None = None  # of the parent, where they are used
    old_size: int | None = None  # bytes of the parent's volume, where that is known

    @property
    def old(self) -> Digests | None:
        """The parent's digests that the agent compares with."""
        return self.md5 if self.compared == "md5" else self.xxh

    def close(self) -> None:
        """Close the XXH3-128 digests; the MD5 digests are the parent's to close."""
        if self.xxh is not None:
            self.xxh.close()


def choose(
    backup_set: BackupSet, parent: Parent, block_size: int, digest: str, *, rescan: bool, use_xxh: bool = True
) -> Comparison:
    """Return the fastest comparison that both sides can make; who calls closes it.

    `digest`: the fastest kind that the agent has; `rescan`: compute the MD5 of every block;
    `use_xxh`: the parent's XXH3-128 digests can be trusted.
    """
    before = parent.version
    if before is None:
        return Comparison(block_size, digest)
    size = before.manifest.size if before.manifest is not None else None
    xxh = _xxh128(backup_set, before) if use_xxh else None
    if digest == "md5":
        return Comparison(block_size, "md5", False, xxh is not None, parent.md5, xxh, size)
    if xxh is not None and not rescan:
        return Comparison(block_size, "xxh128", False, True, parent.md5, xxh, size)
    if xxh is not None:
        xxh.close()
    # the XXH3-128 of every block comes along, so that the next run can be fast
    return Comparison(block_size, "md5", True, True, parent.md5, None, size)


def _xxh128(backup_set: BackupSet, before: Version) -> Digests | None:
    """Return the parent's XXH3-128 digests, open, if they are those that its manifest names."""
    if before.manifest is None or ".xxh128" not in before.manifest.files:
        return None
    try:
        found = Digests(backup_set.path(before.number, ".xxh128"), before.count, backup_set.place.open)
    except (DamagedFile, StoreUnreadable):
        return None
    try:
        if found.seal() == before.manifest.files[".xxh128"].sha256:
            return found
    except StoreUnreadable:
        pass
    found.close()
    return None
