"""Whether a volume is the one that a set is of, and whether there is room for its next version.

A set that continued with another volume would still restore, but restore the wrong data, so every
run compares.  A logical volume is identified by its UUID, on every host and at every path; any
other volume by host and path, and another path counts as the same if the source host reports that
it leads to the same device or file.  Nothing is compared if the set's versions do not name their
source, as those of the original and of foreign commands.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

from blockdiff import printable
from blockdiff.errors import NoRoom, SourceChanged
from blockdiff.formats import FormatError, digestfile, names
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import spelt

GROWTH = 4  # times the size of the version before; more needs --new-source


@dataclass(frozen=True)
class Known:
    """What a set records of its source."""

    version: int  # the newest one that names its source
    host: str
    path: str
    lv_uuid: str | None

    def __str__(self) -> str:
        return spelt(self.host, self.path)


def known(backup_set: BackupSet, listing: names.Listing) -> Known | None:
    """Return what the newest version that names its source records of it; None if none does."""
    for number in sorted(listing.versions, reverse=True):
        source = _source(backup_set, number, listing)
        host, path, uuid = source.get("host"), source.get("path"), source.get("lv_uuid")
        if isinstance(host, str) and isinstance(path, str):
            return Known(number, host, path, uuid if isinstance(uuid, str) and uuid else None)
    return None


def _source(backup_set: BackupSet, number: int, listing: names.Listing) -> dict[str, Any]:
    if ".json" not in listing.versions.get(number, ()):
        return {}
    try:
        return dict(backup_set.read_manifest(number).value["source"])
    except (FormatError, OSError):  # damage is reported elsewhere
        return {}


def size_of(backup_set: BackupSet, number: int, listing: names.Listing) -> tuple[int, int] | None:
    """Return the least and the most bytes that a version's volume can have had; None if that is not known."""
    size = _source(backup_set, number, listing).get("size")
    if isinstance(size, int):
        return size, size
    try:
        with contextlib.closing(backup_set.place.open(backup_set.path(number, ".md5"))) as blob:
            block_size = digestfile.decode_header(blob.pread(digestfile.HEADER_SIZE, 0))
            count = digestfile.count(blob.size)
    except (FormatError, OSError):
        return None
    return max(0, (count - 1) * block_size + 1), count * block_size


class Check:
    """One run's source, compared with its set's: raises SourceChanged, unless `new_source`, or NoRoom."""

    def __init__(self, backup_set: BackupSet, newest: int, host: str, path: str, new_source: bool) -> None:
        """`newest` is the set's newest version, 0 if there is none."""
        self._backup_set, self._newest, self._new = backup_set, newest, new_source
        self._host, self._path = host, path
        listing = backup_set.listing()
        self._old = known(backup_set, listing)
        self._old_size = size_of(backup_set, newest, listing) if newest else None

    @property
    def known(self) -> str | None:
        """The path that the set knows, for the source host to look at."""
        return None if self._old is None else self._old.path

    @property
    def unknown(self) -> bool:
        """Whether the set has versions, and none names its source."""
        return self._newest > 0 and self._old is None

    @property
    def spelt(self) -> str:
        """The run's source as people write it."""
        return spelt(self._host, self._path)

    def in_use(self, users: str) -> str:
        """Return what a person should know of a source that others may write to."""
        hint = "snapshot a logical volume instead, or give --no-snapshot if this is intended"
        return f"{self.spelt} is read while it may be written to: {users} (hint: {hint})"

    def before_connecting(self, uuid_comes: bool) -> None:
        """Compare the source of the command line; `uuid_comes`: a logical volume's UUID may decide later."""
        old = self._old
        if old is not None and not self._new and not self._same_host(old) and not (old.lv_uuid and uuid_comes):
            raise self._changed(old)

    def see(self, size: int, lv_uuid: str | None, same: bool) -> None:
        """Compare what the source host reports of the volume.

        `size` in bytes; `same`: the path that the set knows leads to this volume.
        """
        if self._new:
            return
        old = self._old
        if old is None:
            pass
        elif old.lv_uuid and lv_uuid:
            if old.lv_uuid != lv_uuid:
                raise self._changed(old, f" with UUID {old.lv_uuid}", f" with UUID {lv_uuid}")
        elif not self._same_host(old) or not (same or old.path == self._path):
            raise self._changed(old)
        self.see_size(size)

    def see_size(self, size: int) -> None:
        """Compare a size in bytes."""
        if self._new or self._old_size is None or not self._old_size[1]:
            return  # nothing to compare with, or it was empty
        least, most = self._old_size
        if 2 * size <= least or size > GROWTH * most:
            before = f"version {self._newest} is of a volume of {most} bytes"
            raise SourceChanged(self._backup_set.name, f"{before}, this one has {size}")

    def see_room(self, size: int, least: int) -> None:
        """Refuse a volume of `size` bytes if there is no room for its version of at least `least` bytes."""
        room = self._backup_set.place.room()
        if room is not None and least > room:
            takes = f"takes at least {printable.size(least)} here, and {printable.size(room)} are free"
            why = f"its volume has {printable.size(size)}, which {takes}"
            raise NoRoom(f"version {self._newest + 1} of {self._backup_set.name}: {why}")

    def see_digests(self, size: int, block_size: int) -> None:
        """Refuse a volume of `size` bytes of which this place cannot take the digest file."""
        most = self._backup_set.place.most_beside
        takes = digestfile.position(digestfile.blocks_of(size, block_size))
        if most is not None and takes > most:
            path = self._backup_set.path(self._newest + 1, ".md5")
            why = f"it would have {printable.size(takes)}, and a store takes {printable.size(most)} at once"
            raise NoRoom(f"{path}: {why}", hint="give a larger --block-size, with --full if the set has versions")

    def _same_host(self, old: Known) -> bool:
        return old.host.lower() == self._host.lower()

    def _changed(self, old: Known, more: str = "", now: str = "") -> SourceChanged:
        what = f"version {old.version} is of {old}{more}, this is {self.spelt}{now}"
        return SourceChanged(self._backup_set.name, what)
