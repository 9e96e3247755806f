"""Whether versions of one set can become versions of another one: nothing was written when it is refused.

The set that gets them is the same set, at another place.  Its versions have the same numbers, so what
both have must be the same version, and what is copied must continue what is there.
"""

import contextlib
import itertools
from collections.abc import Collection, Mapping

from blockdiff.errors import ChainBroken, ForeignFiles, MissingFile, StoreUnreadable
from blockdiff.formats import FormatError, names
from blockdiff.printable import Log
from blockdiff.sets import identity, recover
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.copying import Original

_HINT = "nothing was changed; copy to another folder, or to a NAME without versions"


def settle(dest: BackupSet, source: BackupSet, note: Log) -> int:
    """Bring the locked set that gets versions into the state its last run meant, and return its newest version.

    Files of a version above NAME.ver that no manifest shows to be ours, as they can be of a version of the
    original, and in an object store, are compared with the source's: if they are the same ones, a version
    that is complete is adopted, and the files of another one are removed, as are those that the place itself
    shows to be ours.  Raises as recover.settle.
    """
    dest.place.cancel(dest.base, lambda name: names.member_of(dest.base, name) is not None)
    if dest.place.blind:
        return _settle_blind(dest, note)
    listing = dest.listing()
    newest = names.decode_ver(listing.ver or b"") if listing.has_ver else 0
    above = [] if newest is None else listing.above(newest)
    if newest is not None and len(above) == 1 and _unlisted(dest, above[0], listing):
        (number,) = above
        wanted = source.listing().versions.get(number, frozenset())
        with recover.keeping(dest, number) as found:
            if len(found) == len(wanted) == 2 and all(_same(dest, source, number, suffix) for suffix in found):
                dest.publish_ver(number, after=newest)
                note(f"version {number} of {dest.name} was complete but not yet published: adopted")
            elif all(_ours(dest, source, number, suffix) for suffix in found):
                recover.remove(dest, number, found)
    return recover.settle(dest, note)


def _settle_blind(dest: BackupSet, note: Log) -> int:
    """Do the same where nothing can be opened: a version whose manifest is there is whole, since that comes last."""
    listing = dest.listing()
    newest = dest.newest(listing) if listing.has_ver else 0
    above = listing.above(newest)
    if len(above) > 1:
        what = f"{dest.name} has version {above[-1]}, but {names.ver_name(dest.base)} names {newest or 'none'}"
        raise ForeignFiles(what, hint="put the number of the newest good version into it, or move the others away")
    for number in above:
        with recover.keeping(dest, number) as found:
            if {".json", ".md5"} <= set(found) and listing.diffs(number):
                dest.publish_ver(number, after=newest)
                note(f"version {number} of {dest.name} was complete but not yet published: adopted")
                newest = number
            else:
                recover.remove(dest, number, found)
    recover.sweep_parts(dest, newest)
    return newest


def _unlisted(dest: BackupSet, number: int, listing: names.Listing) -> bool:
    """Return whether no manifest of a version is there, also under a temporary name."""
    parts = {names.member_of(dest.base, name) for name in listing.parts}
    return ".json" not in listing.versions[number] and (number, ".json") not in parts


def _ours(dest: BackupSet, source: BackupSet, number: int, suffix: str) -> bool:
    return dest.place.made_by_us(dest.path(number, suffix)) or _same(dest, source, number, suffix)


def _same(dest: BackupSet, source: BackupSet, number: int, suffix: str) -> bool:
    try:
        same = dest.size(number, suffix) == source.size(number, suffix)
        return same and dest.hash(number, suffix) == source.hash(number, suffix)
    except OSError:
        return False


def check(
    dest: BackupSet, there: names.Listing, newest: int, source: BackupSet, here: names.Listing,
    originals: Mapping[int, Original],
) -> None:  # fmt: skip
    """Make sure that these versions continue the set that gets them, whose newest version is `newest`.

    Raises ForeignFiles, ChainBroken, MissingFile or StoreUnreadable.
    """
    if dest.place.blind:
        return  # nothing there can be compared
    common = sorted(n for n in there.versions if n <= newest and n in here.versions)
    parents = {each.version.parent for each in originals.values()}
    for number in (n for n in common if n in parents or n == common[-1]):
        if digests_of(dest, number) != digests_of(source, number):
            what = f"version {number} of {dest.name} is not version {number} of {source.name}"
            raise ForeignFiles(f"{what}: its digest file is another one", hint=_HINT)
    if newest and not common:
        _same_source(dest, there, source, here)
    _names(dest, there, originals)


def digests_of(backup_set: BackupSet, number: int) -> str:
    """Return the SHA-256 of a version's digest file.  Raises MissingFile or StoreUnreadable."""
    path = backup_set.path(number, ".md5")
    try:
        if backup_set.place.checks:  # it need not come here again
            with contextlib.suppress(FormatError, FileNotFoundError):
                entry = backup_set.read_manifest(number).files[".md5"]
                if backup_set.size(number, ".md5") == entry.size:
                    return entry.sha256
        return backup_set.hash(number, ".md5").sha256
    except FileNotFoundError:
        raise MissingFile(path) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None


def _same_source(dest: BackupSet, there: names.Listing, source: BackupSet, here: names.Listing) -> None:
    """Compare the volumes of two sets that have no version in common, as far as they name them."""
    theirs, ours = identity.known(dest, there), identity.known(source, here)
    if theirs is None or ours is None or (theirs.lv_uuid and theirs.lv_uuid == ours.lv_uuid):
        return
    if (theirs.host.lower(), theirs.path) != (ours.host.lower(), ours.path):
        what = f"{dest.name} and {source.name} have no version in common, and are of {theirs} and of {ours}"
        raise ForeignFiles(what, hint=_HINT)


def _names(dest: BackupSet, there: names.Listing, originals: Mapping[int, Original]) -> None:
    """Make sure that the manifests would still count there: see versions.version."""
    coming = {n: _called(each.version.manifest.value) for n, each in originals.items() if each.version.manifest}
    if set(coming.values()) <= {dest.base}:
        return
    called = dict(coming)
    for number, suffixes in there.versions.items():
        if ".json" in suffixes:
            with contextlib.suppress(FormatError, OSError):
                called[number] = _called(dest.read_manifest(number).value)
    rows = [name for name, _ in itertools.groupby(called[n] for n in sorted(called))]
    if len(set(rows)) < len(rows) or dest.base in rows[:-1]:
        other = next(name for name in coming.values() if name != dest.base)
        raise ForeignFiles(
            f"{dest.name} has versions of its own, and those of the set {other!r} would be ignored beside them",
            hint="nothing was changed; name the copy as the set is named",
        )


def _called(value: Mapping[str, object]) -> str:
    return str(value.get("set"))


def check_link(
    dest: BackupSet, source: BackupSet, original: Original, there: Mapping[int, str], lost: Collection[int]
) -> None:
    """Make sure that the version that this one continues is there, and is the one that it continues.

    `there`: the versions that are there, and the SHA-256 of their digest files where it is known; `lost`:
    those that could not be copied.  Raises ChainBroken, MissingFile or StoreUnreadable.
    """
    version = original.version
    if version.parent is None:
        return
    if version.parent not in there:
        why = "was not copied" if version.parent in lost else f"is not in {dest.name}"
        raise ChainBroken(version.number, source.name, f"version {version.parent}, which it continues, {why}")
    if version.manifest is not None and (there[version.parent] or not dest.place.blind):
        found = there[version.parent] or digests_of(dest, version.parent)
        if found != version.manifest.parent_md5_sha256:
            why = f"it does not continue the version {version.parent} that is in {dest.name}"
            raise ChainBroken(version.number, source.name, why)
