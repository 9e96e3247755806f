"""What a rewrite reads, and whether that is still the same when its result is to get its names."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from blockdiff import printable
from blockdiff.errors import BlockdiffError, MissingFile, NoRoom, NotSigned, SetChanged, SetLocked, StoreUnreadable
from blockdiff.formats import FormatError, difffile, names
from blockdiff.rewriting import merge
from blockdiff.sets import chain, signatures, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.signatures import Signers, Signing
from blockdiff.sets.version import Version

_LEFT = "nothing was changed; --allowed-signers says whose signatures count beside those of the key of --sign"
_Identity = tuple[tuple[object, ...], ...]


class NotInChain(ValueError):
    """A version cannot be rewritten onto another, as that is not before it in its chain; the text is why."""


@dataclass(frozen=True)
class Plan:
    """Version `links[-1]` is rewritten from `links`, oldest first, onto `onto`; None: it becomes a full."""

    backup_set: BackupSet
    links: tuple[Version, ...]
    onto: Version | None
    identity: _Identity
    stored: int  # bytes of the diff files that are read
    signed: bool  # the version is signed

    @property
    def version(self) -> Version:
        """The version that is rewritten."""
        return self.links[-1]

    def check(self) -> None:
        """Make sure that all that the rewrite rests on is as it was.  Raises SetChanged or StoreUnreadable."""
        if identity(self.backup_set, self._all()) != self.identity:
            raise SetChanged(self.backup_set.name)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raise SetChanged for an error if something changed: what another run removes is first seen as missing."""
        try:
            yield
        except BlockdiffError:
            self.check()
            raise

    def _all(self) -> list[Version]:
        return [*([] if self.onto is None else [self.onto]), *self.links]

    def check_room(self) -> None:
        """Raise NoRoom unless there is room for what the rewrite writes, by an upper bound where there is one."""
        version = self.version
        need = self.stored
        if version.suffix == "" and self.onto is None:
            need = version.count * (difffile.OFFSET_SIZE + version.block_size) + difffile.HEADER_SIZE
        at_once = merge.most_versions(version.block_size)
        if len(self.links) > at_once:  # two levels of drafts may exist at once
            first = 0 if self.onto is not None else _size(self.backup_set, self.links[0])
            need += (self.stored - first) * (2 if len(self.links) > at_once * at_once else 1)
        room = self.backup_set.place.room()
        if room is not None and need > room:
            what = f"version {version.number} of {self.backup_set.name} anew: it takes up to {printable.size(need)}"
            raise NoRoom(f"{what}, and {printable.size(room)} are free")


def make(backup_set: BackupSet, number: int, onto: int | None, signing: Signing | None = None) -> Plan:
    """Return what a rewrite of version `number` onto `onto` reads; None: it becomes a full.

    `signing`: what signs it anew if it is signed.
    Raises NoSuchVersion, NotInChain, SetLocked if an active run rewrites a version of this set, SignatureLost,
    NotSigned if its signature is not good, and whatever keeps the version from being restored, as far as its
    files' names, sizes and links tell.
    """
    listing = backup_set.listing()
    versions.choose(backup_set, number, listing)
    signatures.refuse_loss(backup_set.name, listing, [number], signing)
    _refuse_drafts(backup_set, listing)
    links = chain.chain_of(backup_set, number, listing)
    before: Version | None = None
    if onto is not None:
        numbers = [link.number for link in links]
        if onto >= number:
            raise NotInChain(f"version {onto} is not below version {number}")
        if onto not in numbers:
            raise NotInChain(f"version {number} does not need version {onto}: its chain begins with {numbers[0]}")
        place = numbers.index(onto)
        before, links = links[place], links[place + 1 :]
    signed = ".sig" in listing.versions[number]
    if signed and signing is not None:
        _refuse_bad(backup_set, links[-1], signing.trusted)
    seen = identity(backup_set, [*([] if before is None else [before]), *links])
    links = [*map(_slim, links[:-1]), links[-1]]
    return Plan(backup_set, tuple(links), before, seen, sum(_size(backup_set, link) for link in links), signed)


def _refuse_bad(backup_set: BackupSet, version: Version, signers: Signers) -> None:
    """Raise NotSigned unless a version's signature is good: a forged version must not get one that is."""
    path = backup_set.path(version.number, ".sig")
    try:
        why = signatures.doubt(backup_set.place, path, backup_set.base, version, signers)
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None
    if why:
        raise NotSigned(path.removesuffix(".sig") + ".json", why, hint=_LEFT)


def _slim(version: Version) -> Version:
    """Return a version without those keys of its manifest that nothing here needs: in a long chain they are MiB."""
    if version.manifest is None:
        return version
    return replace(version, manifest=replace(version.manifest, value={}))


def _refuse_drafts(backup_set: BackupSet, listing: names.Listing) -> None:
    """Raise SetLocked if another run is rewriting a version: `settle` has removed what dead runs left."""
    newest = backup_set.newest(listing)
    if any((found := names.member_of(backup_set.base, name)) and found[0] <= newest for name in listing.parts):
        raise SetLocked(backup_set.name)


def identity(backup_set: BackupSet, some: Sequence[Version]) -> _Identity:
    """Return what identifies the files of versions as they are now.  Raises StoreUnreadable."""
    rows: list[tuple[object, ...]] = []
    for version in some:
        for suffix in (version.suffix, ".md5", ".json"):
            path = backup_set.path(version.number, suffix)
            try:
                found = os.stat(path)
                rows.append((path, found.st_ino, found.st_size, found.st_mtime_ns))
                if suffix == ".json":
                    rows.append((path, backup_set.read_manifest(version.number).value["self_sha256"]))
            except FileNotFoundError:
                rows.append((path, None))
            except FormatError:
                rows.append((path, "damaged"))
            except OSError as error:
                raise StoreUnreadable(path, error.strerror) from None
    return tuple(rows)


def _size(backup_set: BackupSet, version: Version) -> int:
    path = backup_set.path(version.number, version.suffix)
    try:
        return backup_set.size(version.number, version.suffix)
    except FileNotFoundError:
        raise MissingFile(path) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None
