"""Which of a version's files count.

A manifest counts only while the digest file beside it is the one that it was written with.
If the digest file differs, another program (such as the original) has overwritten the version:
the manifest and the files that only it lists are ignored, with a note.
The manifest must also name this set, or the name that the set had before it was renamed.
Format: blockdiff-formats(5), "Trust".
"""

import contextlib
import functools
import itertools

from blockdiff.errors import (
    DamagedFile,
    ForeignFiles,
    MissingFile,
    NewerManifest,
    NoSuchSet,
    NoSuchVersion,
    NotOurFormat,
    NotSigned,
    Sealed,
    StoreUnreadable,
)
from blockdiff.formats import FormatError, difffile, digestfile, manifest, names
from blockdiff.place.base import Opener, hash_of
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import open_digests
from blockdiff.sets.version import Version, VersionFiles

_LEAST = {"": 4, ".gz": 20, ".lzop": 9, ".zst": 9}  # bytes that a diff file has at least


def version(backup_set: BackupSet, number: int, listing: names.Listing, deep: bool = True) -> Version:
    """Return version `number` as its files describe it.

    `deep` reads the digest file to hash it; otherwise sizes decide, and the hash is computed only
    if they disagree.  Raises NoSuchVersion, MissingFile, DamagedFile, NotOurFormat or StoreUnreadable.
    """
    suffixes = listing.versions.get(number)
    if suffixes is None:
        raise NoSuchVersion(backup_set.name, number)
    try:
        block_size, md5 = open_digests(backup_set.path(number, ".md5"), opener=backup_set.place.open)
        md5.close()
        count = md5.count
        sheet, stale, notes = _manifest(backup_set, number, listing, deep)
        if backup_set.believed is not None and sheet is None:
            raise NotSigned(backup_set.path(number, ".md5"), "no manifest lists it")
        found = listing.diffs(number)
        if sheet is not None:
            suffix, more = _named_diff(backup_set, number, found, sheet)
        else:
            suffix, more = _only_diff(backup_set, number, found, stale)
        notes += more
        own = "" if sheet is None else _called(backup_set, number, listing)
        if sheet is not None and not _is_own(backup_set, number, listing):
            path = backup_set.path(number, ".json")
            notes.append(f"{path} is of the set {own!r} and is ignored")
            sheet, stale = None, sheet
        renamed = False
        if sheet is not None and own != backup_set.base:
            renamed = _called(backup_set, _next(number, listing), listing) != own
    except FileNotFoundError as error:
        raise MissingFile(str(error.filename)) from None
    except OSError as error:
        raise StoreUnreadable(str(error.filename), error.strerror) from None
    if sheet is not None:
        fits = sheet.size is None or digestfile.blocks_of(sheet.size, block_size) == count
        if sheet.block_size != block_size or not fits:
            raise NotOurFormat(backup_set.path(number, ".json"), "it does not fit its own digest file")
    ignored: list[str] = [] if stale is None else [s for s in (".json", ".idx", ".xxh128", ".sig") if s in suffixes]
    ignored += [s for s in listing.diffs(number) if s != suffix]
    known = sheet or (stale if own else None)  # else the manifest is not of this digest file
    return Version(
        number=number,
        parent=sheet.parent if sheet is not None else (number - 1 or None),
        suffix=suffix,
        block_size=block_size,
        count=count,
        manifest=sheet,
        notes=tuple(notes),
        ignored=tuple(backup_set.path(number, s) for s in ignored),
        renamed=f"up to version {number} this set was called {own!r}" if renamed else "",
        md5_sha256=None if known is None else known.files[".md5"].sha256,
    )


def _sheet(backup_set: BackupSet, number: int, listing: names.Listing) -> manifest.Manifest | None:
    """Return a version's manifest, whether or not it counts; None where there is none that can be read."""
    if number not in listing.sheets:
        listing.sheets[number] = None
        if ".json" in listing.versions.get(number, ()):
            with contextlib.suppress(FormatError, OSError):
                listing.sheets[number] = backup_set.read_manifest(number)
    return listing.sheets[number]


def _called(backup_set: BackupSet, number: int, listing: names.Listing) -> str:
    """Return the set that a version's manifest names, "" if none does."""
    sheet = _sheet(backup_set, number, listing)
    name = sheet.value.get("set") if sheet is not None else None
    return name if isinstance(name, str) else ""


def _is_own(backup_set: BackupSet, number: int, listing: names.Listing) -> bool:
    """Return whether a manifest names this set, or a name that the set had before it was renamed.

    Manifests with another name are of consecutive versions, before all that have the set's own
    name, and an incremental version after them continues them.
    """
    own = _called(backup_set, number, listing)
    if own == backup_set.base:
        return True
    called = {n: name for n in sorted(listing.versions) if (name := _called(backup_set, n, listing))}
    rows = [name for name, _ in itertools.groupby(called.values())]
    if rows.count(own) != 1 or backup_set.base in rows[: rows.index(own)]:
        return False
    last = max(n for n, name in called.items() if name == own)
    after = _sheet(backup_set, _next(last, listing), listing)
    before = None if after is None or after.parent is None else _sheet(backup_set, after.parent, listing)
    if before is None or after is None:
        return True
    return after.parent_md5_sha256 == before.files[".md5"].sha256


def _next(number: int, listing: names.Listing) -> int:
    """Return the number of the version after this one, whether or not there is one."""
    return min(listing.above(number), default=number + 1)


def check_size(backup_set: BackupSet, version: Version) -> None:
    """Make sure that a diff file has the size in its manifest, or one that is possible.

    Raises MissingFile, DamagedFile or StoreUnreadable.
    """
    path = backup_set.path(version.number, version.suffix)
    try:
        size = backup_set.size(version.number, version.suffix)
    except FileNotFoundError:
        raise MissingFile(path) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None
    if version.manifest is not None:
        wanted = version.manifest.files[version.suffix].size
        if size != wanted:
            raise DamagedFile(path, f"it has {size} bytes, in its manifest are {wanted}")
    elif size < _LEAST[version.suffix] or (version.suffix == "" and not _can_be(size, version)):
        raise DamagedFile(path, f"it has {size} bytes, which no whole diff file of this version has")


def _can_be(size: int, version: Version) -> bool:
    """Return whether a plain diff file can have this size: whole records, of which the last one may be shorter."""
    record = difffile.OFFSET_SIZE + version.block_size
    whole, rest = divmod(size - difffile.HEADER_SIZE, record)
    records = whole + (rest > 0)
    fits = records == version.count if version.full else records <= version.count
    return fits and (rest == 0 or rest > difffile.OFFSET_SIZE)


def _manifest(
    backup_set: BackupSet, number: int, listing: names.Listing, deep: bool
) -> tuple[manifest.Manifest | None, manifest.Manifest | None, list[str]]:
    """Return (manifest that counts, manifest that does not, notes)."""
    suffixes = listing.versions[number]
    if ".json" not in suffixes:
        return None, None, []
    path = backup_set.path(number, ".json")
    try:
        sheet = listing.sheets[number] = backup_set.read_manifest(number)
    except manifest.NewerFormat as error:
        raise NewerManifest(path, error) from None
    except FormatError as error:
        hint = "move it away, and the version counts as one of the original"
        raise DamagedFile(path, error, hint=hint) from None
    expected = sheet.files[".md5"]
    agrees = all(
        suffix in suffixes and backup_set.size(number, suffix) == entry.size
        for suffix, entry in sheet.files.items()
        if suffix == ".md5" or suffix in names.DIFF_SUFFIXES
    )
    if (deep or not agrees) and backup_set.hash(number, ".md5") != expected:
        return None, sheet, [f"{path} does not describe the digest file beside it and is ignored"]
    return sheet, None, []


def _named_diff(
    backup_set: BackupSet, number: int, found: list[str], sheet: manifest.Manifest
) -> tuple[str, list[str]]:
    """Return the suffix of the diff file that the manifest that counts names, and notes of others beside it."""
    named = [suffix for suffix in sheet.files if suffix in names.DIFF_SUFFIXES]
    if len(named) != 1:
        raise NotOurFormat(backup_set.path(number, ".json"), "it does not name one diff file")
    if named[0] not in found:
        raise MissingFile(backup_set.path(number, named[0]))
    return named[0], [_foreign(backup_set.path(number, suffix)) for suffix in found if suffix != named[0]]


def _only_diff(
    backup_set: BackupSet, number: int, found: list[str], stale: manifest.Manifest | None
) -> tuple[str, list[str]]:
    """Return the suffix of the diff file where no manifest counts, and notes of those that do not count."""
    notes: list[str] = []
    if stale is not None and len(found) == 1 and backup_set.hash(number, found[0]) == stale.files.get(found[0]):
        # a program that overwrites a version replaces its diff file as well; here only the digest file is different
        why = "it is not the digest file that its diff file and its manifest were written with"
        hint = f"if another tool did write version {number}, move {backup_set.path(number, '.json')} away"
        raise DamagedFile(backup_set.path(number, ".md5"), why, hint=hint)
    if stale is not None and len(found) > 1:
        foreign = [s for s in found if s not in stale.files or backup_set.hash(number, s) != stale.files[s]]
        notes = [_foreign(backup_set.path(number, s)) for s in found if s not in foreign]
        found = foreign
    if not found:
        raise MissingFile(f"the diff file {backup_set.path(number, '')}, under every suffix,")
    if len(found) > 1:
        both = " and ".join(backup_set.path(number, suffix) for suffix in found)
        raise NotOurFormat(both, "two diff files of one version, and nothing shows which counts")
    return found[0], notes


def _foreign(path: str) -> str:
    return f"{path} is not of this version and is ignored"


def counts(backup_set: BackupSet, owner: Version, suffix: str) -> bool:
    """Return whether the file beside a version (.xxh128, .idx) is the one that its manifest lists."""
    if owner.manifest is None or suffix not in owner.manifest.files:
        return False
    try:
        if suffix == ".idx":  # of a diff file that was overwritten, too, even by the same blocks
            diff = owner.manifest.files.get(owner.suffix)
            if diff is None or backup_set.size(owner.number, owner.suffix) != diff.size:
                return False
        return backup_set.hash(owner.number, suffix) == owner.manifest.files[suffix]
    except (OSError, DamagedFile, NotOurFormat, Sealed):  # the last three where it is sealed
        return False


def files_of(backup_set: BackupSet, version: Version, opener: Opener | None = None) -> VersionFiles:
    """Return a version's files, which `opener` opens; whether its index counts is decided here alone."""
    path = functools.partial(backup_set.path, version.number)
    index = path(".idx") if counts(backup_set, version, ".idx") else None
    return VersionFiles(version, path(version.suffix), path(".md5"), index, opener or backup_set.place.open)


def is_listed(files: VersionFiles) -> bool:
    """Return whether a version's diff file has the SHA-256 that its manifest lists; all of it is read."""
    sheet = files.version.manifest
    try:
        with contextlib.closing(files.open(files.diff)) as blob:
            found = hash_of(blob).sha256
    except OSError:
        return True  # that is another fault, and told as such
    return sheet is not None and sheet.files[files.version.suffix].sha256 == found


def choose(
    backup_set: BackupSet, number: int | None, listing: names.Listing, force: bool = False
) -> tuple[int, list[str]]:
    """Return the version that is meant, and warnings; None means the newest.

    Raises NoSuchSet, NoSuchVersion, or ForeignFiles if NAME.ver is missing or damaged.
    """
    if not listing.versions and not listing.has_ver:
        raise NoSuchSet(backup_set.name)
    try:
        newest = backup_set.newest(listing)
    except ForeignFiles:
        if number is None or not force:
            raise
        newest = max(listing.versions, default=0)
    if number is None:
        return newest, unpublished(backup_set, newest, listing)
    if number not in listing.versions:
        raise NoSuchVersion(backup_set.name, number)
    if number > newest and not force:
        hint = f"its files exist, but NAME.ver names {newest}; --force takes them"
        raise NoSuchVersion(backup_set.name, number, hint=hint)
    return number, []


def unpublished(backup_set: BackupSet, newest: int, listing: names.Listing) -> list[str]:
    """Return a warning if there are versions above the one that NAME.ver names."""
    above = listing.above(newest)
    if not above:
        return []
    return [
        f"{backup_set.name}.ver names version {newest} as the newest, but there are files of version {above[-1]}; "
        "a run is publishing it or was killed before the end, or that file is damaged"
    ]
