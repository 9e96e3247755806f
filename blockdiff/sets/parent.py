"""What a new version continues: the newest version, proved.

Everything that can refuse does so before a byte is written.  A parent that fails a check is
never continued.  Format: blockdiff-formats(5), "Publishing".
"""

from dataclasses import dataclass

from blockdiff.errors import (
    BlockSizeDiffers,
    ChainBroken,
    DamagedFile,
    MissingFile,
    NewerManifest,
    NotOurFormat,
    StoreUnreadable,
)
from blockdiff.printable import Log
from blockdiff.sets import chain, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import Version


@dataclass(frozen=True)
class Parent:
    """What the next version continues, and the digest file that it is compared with."""

    number: int  # of the next version
    version: Version | None  # None: the next version is a full
    block_size: int | None  # bytes: the set's, where it is known
    links: tuple[Version, ...] = ()  # the versions that the next one needs, oldest first
    md5: Digests | None = None  # of `version`, open
    link: str | None = None  # SHA-256 of `md5`

    def close(self) -> None:
        """Close the digest file."""
        if self.md5 is not None:
            self.md5.close()

    @property
    def parent_number(self) -> int | None:
        """Number of the version that the next one continues; None: the next one is a full."""
        return None if self.version is None else self.version.number

    def check(self, backup_set: BackupSet) -> None:
        """Make sure that everything that the next version needs exists and is unchanged.

        Raises MissingFile, DamagedFile or StoreUnreadable.
        """
        if self.version is None or self.md5 is None:
            return
        if not self.md5.intact():
            path = backup_set.path(self.version.number, ".md5")
            try:
                same = backup_set.hash(self.version.number, ".md5").sha256 == self.link
            except FileNotFoundError:
                raise MissingFile(path, hint="it was there when this run began; nothing was published") from None
            except OSError as error:
                raise StoreUnreadable(path, error.strerror) from None
            if not same:
                raise DamagedFile(path, "it was changed during this run")
        for version in self.links:
            versions.check_size(backup_set, version)


def find(
    backup_set: BackupSet,
    newest: int,
    warn: Log,
    note: Log,
    *,
    number: int | None = None,
    full: bool = False,
    auto_full: bool = True,
    block_size: int | None = None,
) -> Parent:
    """Return what the next version continues; a parent that cannot be proved makes it a full.

    `number`: of the next version, if it is not the one after the newest; `block_size` (bytes) is what was explicitly
    asked for.  The caller closes the Parent.
    Raises BlockSizeDiffers, NewerManifest, or, if `auto_full` is off, the reason why the parent cannot be continued.
    """
    number = number or newest + 1
    if newest == 0:
        return Parent(number, None, None)
    listing = backup_set.listing()
    found: int | None = None
    try:
        parent = versions.version(backup_set, newest, listing)
        found = parent.block_size
        if full:
            return Parent(number, None, found)
        links = chain.chain_of(backup_set, newest, listing, deep=False)
        chain.check_link(backup_set, parent)
        for version in links:
            versions.check_size(backup_set, version)
        md5, link = _digest_file(backup_set, parent)
    except NewerManifest:
        raise
    except (DamagedFile, NotOurFormat, ChainBroken, StoreUnreadable) as error:
        if full:
            return Parent(number, None, found)
        if not auto_full:
            raise
        warn(f"version {newest} cannot be continued, making a full version: {error}")
        return Parent(number, None, found)
    for line in parent.notes:
        warn(line)
    if parent.renamed:
        note(parent.renamed)
    if block_size not in (None, found):
        md5.close()
        raise BlockSizeDiffers(backup_set.name, found, block_size)
    return Parent(number, parent, found, tuple(links), md5, link)


def _digest_file(backup_set: BackupSet, parent: Version) -> tuple[Digests, str]:
    """Return the parent's digest file, open, and its SHA-256: one file for the comparison and for the link."""
    path = backup_set.path(parent.number, ".md5")
    md5 = Digests(path, parent.count, backup_set.place.open)
    try:
        link = md5.seal()
        if parent.manifest is not None and link != parent.manifest.files[".md5"].sha256:
            raise DamagedFile(path, "it was changed just now")
    except BaseException:
        md5.close()
        raise
    return md5, link
