"""What sets and versions there are, read from names, sizes, digest file headers and manifests.

Nothing large is read: a thousand versions are listed in well under a second.  Whether a
version can be restored is shown as far as these files show it; blockdiff-verify proves it.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from blockdiff.errors import BlockdiffError, ForeignFiles, NoSuchSet, Sealed, StoreUnreadable
from blockdiff.formats import difffile, names
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets import expected, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import Version, spelt


@dataclass(frozen=True)
class Entry:
    """One version."""

    number: int
    restores: bool
    why: str = ""  # why it does not restore, or what is unusual about it
    kind: str = ""  # "full" or "incremental"; "" where its files do not show it
    time: str = ""  # when the backup ended, UTC, ISO 8601
    begun: str = ""  # when it began; the time where that is not known
    recorded: bool = False  # the times are from the manifest, not from the digest file
    size: int | None = None  # bytes of the volume; None: at most blocks x block_size
    block_size: int = 0  # bytes
    blocks: int = 0
    changed: int | None = None  # blocks that it stores; None: not known without reading it
    stored: int = 0  # bytes of all its files
    diff: int = 0  # bytes of its diff file
    consistency: str = ""
    parent: int | None = None  # number of the version that it continues; None: it is a full, or not known
    rewritten: bool = False  # its diff file was made anew from stored versions
    signed: bool = False  # there is a signature, which is not looked at here
    host: str = ""  # of the source; "" where no manifest names it
    path: str = ""  # of the volume there
    moment: str = ""  # the same in all sets that were backed up at one moment
    lock_s: float | None = None  # for how long an application was locked; None: it was not
    hint: Mapping[str, Any] | None = None  # how it was read, if not all of the volume was; see manifest.Hint
    fill: float | None = None  # of the snapshot at its end, in percent; None: without a snapshot, or not known

    @property
    def source(self) -> str:
        """Where the volume was, as people write it; "" where that is not known."""
        return spelt(self.host, self.path) if self.host and self.path else ""


@dataclass
class Listed:
    """One set."""

    name: str
    newest: int = 0
    versions: list[Entry] = field(default_factory=list)
    dropping: list[int] = field(default_factory=list)  # versions that are being removed
    pinned: frozenset[int] = frozenset()  # numbers that a person keeps from being removed
    parts: tuple[str, ...] | None = None  # names of temporary files; None: not known
    problems: list[BlockdiffError] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Where the newest version that names its source has it from; "" if none does."""
        return next((entry.source for entry in reversed(self.versions) if entry.source), "")

    @property
    def parents(self) -> dict[int, int | None]:
        """Which version each continues; None: it is a full, or not known."""
        return {entry.number: entry.parent for entry in self.versions}

    @property
    def stored(self) -> int:
        """Bytes of all its versions' files."""
        return sum(entry.stored for entry in self.versions)


def sets(folder: str, access: Access = PLAIN) -> list[str]:
    """Return the NAMEs of the sets in a folder.  Raises NoSuchSet or StoreUnreadable, and as choose.at."""
    where = choose.at(folder, access)
    try:
        return [where.path(base) for base in names.set_names(where.names())]
    except FileNotFoundError:
        raise NoSuchSet(folder) from None
    except OSError as error:
        raise StoreUnreadable(folder, error.strerror) from None


@dataclass(frozen=True)
class Found:
    """A set, and the names of its files if its folder was listed for all sets in it."""

    name: str
    files: tuple[str, ...] | None = None  # they may have changed since
    problem: BlockdiffError | None = None  # why it is not known what there is
    access: Access = PLAIN


def find(operands: Iterable[str], access: Access = PLAIN) -> list[Found]:
    """Return each set that is named, or is in a folder that is named, once; whether it can be read shows `look`."""
    out: dict[str, Found] = {}
    for operand in operands:
        try:
            for found in _found(operand, access):
                out.setdefault(found.name, found)
        except OSError:
            out.setdefault(operand, Found(operand, access=access))
        except BlockdiffError as error:
            out.setdefault(operand, Found(operand, problem=error, access=access))
    return list(out.values())


def _found(operand: str, access: Access) -> Iterator[Found]:
    if choose.is_place(operand, access):
        where = choose.at(operand, access)
        listed = sorted(where.names())
        for base in names.set_names(listed):
            yield Found(where.path(base), tuple(names.beginning(listed, base)), access=access)
        return
    yield Found(operand, choose.listed(operand, access), access=access)


def look(found: Found) -> Listed:
    """Return a set; its errors are among its problems."""
    if found.problem is not None:
        return Listed(found.name, problems=[found.problem])
    if found.files is None and not choose.in_store(found.name) and choose.is_place(found.name):
        try:
            sets(found.name)
        except StoreUnreadable as error:
            return Listed(found.name, problems=[error])
    try:
        backup_set = BackupSet(found.name, found.access)
        if found.files is not None:
            with contextlib.suppress(BlockdiffError):
                out = describe(backup_set, found.files)
                numbers = [entry.number for entry in out.versions if entry.restores]
                if not out.problems and len(numbers) == len(out.versions) and out.newest == numbers[-1]:
                    return out
        return describe(backup_set)  # what is not well may have changed since its folder was listed
    except BlockdiffError as error:
        return Listed(found.name, problems=[error])


def every(operands: Iterable[str], access: Access = PLAIN) -> list[Listed]:
    """Return each set that is named, or is in a folder that is named; its errors are among its problems."""
    return [look(found) for found in find(operands, access)]


def describe(backup_set: BackupSet, files: Sequence[str] | None = None) -> Listed:
    """Return a set and its versions; `files` as of Found.  Raises NoSuchSet or StoreUnreadable."""
    listing = backup_set.settled_listing(above=False) if files is None else backup_set.listing(files)
    if not listing.versions and not listing.has_ver:
        raise NoSuchSet(backup_set.name)
    out = Listed(backup_set.name, 0, [], sorted(listing.dropping), listing.pinned, listing.parts)
    try:
        out.newest = backup_set.newest(listing)
    except ForeignFiles as error:
        out.problems.append(error)
    known: dict[int, Version] = {}
    source = ""  # of the versions so far
    broken: dict[int, str] = {}  # why a version does not restore, "" if it does
    for number in expected.ahead(backup_set, sorted(listing.versions), listing, deep=False, surely=True):
        stored = _stored(backup_set, number, listing.versions[number])
        if out.newest and number > out.newest:
            out.versions.append(Entry(number, False, "not published", stored=stored))
            continue
        try:
            version = versions.version(backup_set, number, listing, deep=False)
        except BlockdiffError as error:
            broken[number] = _spoiled(number, error)
            out.problems += [error] if isinstance(error, Sealed) and not out.problems else []
            out.versions.append(Entry(number, False, str(error), stored=stored))
            continue
        known[number] = version
        why = broken[number] = _broken(version, known, broken)
        try:
            versions.check_size(backup_set, version)
        except BlockdiffError as error:
            why, broken[number] = why or str(error), why or _spoiled(number, error)
        entry = _entry(backup_set, version, listing.versions[number], stored, why)
        if source and entry.source and entry.source != source:
            entry = replace(entry, why="; ".join(filter(None, [entry.why, f"its source was {source} before"])))
        source = entry.source or source
        out.versions.append(entry)
    return out


def _spoiled(number: int, error: BlockdiffError) -> str:
    return f"version {number} {'cannot be read' if isinstance(error, StoreUnreadable) else 'is damaged'}"


def _broken(version: Version, known: Mapping[int, Version], broken: Mapping[int, str]) -> str:
    """Return why a version does not restore, "" if it does; `broken` is the answer for those before."""
    if version.parent is None:
        return ""
    if version.parent not in broken:
        return f"version {version.parent} is missing"
    if broken[version.parent]:
        return broken[version.parent]
    before = known[version.parent]
    if before.block_size != version.block_size:
        return f"block size changes from {before.block_size} to {version.block_size}"
    if version.manifest is not None and before.md5_sha256 is not None:
        joined = version.manifest.parent_md5_sha256 == before.md5_sha256
        return "" if joined else f"it does not continue the version {before.number} that is here"
    return ""


def _stored(backup_set: BackupSet, number: int, suffixes: frozenset[str]) -> int:
    total = 0
    for suffix in suffixes:
        try:
            total += backup_set.place.look(backup_set.path(number, suffix)).size
        except OSError:
            continue  # gone since the folder was listed
    return total


def _entry(
    backup_set: BackupSet, version: Version, suffixes: frozenset[str], stored: int, broken: str
) -> Entry:
    value = version.manifest.value if version.manifest is not None else {}
    time = value.get("ended")
    recorded, begun = isinstance(time, str), value.get("begun")
    if not isinstance(time, str):
        time = _file_time(backup_set, version.number)
    consistency, moment = value.get("consistency"), value.get("moment")
    return Entry(
        number=version.number,
        restores=not broken,
        why=broken or "; ".join([*version.notes, *filter(None, [version.renamed])]),
        kind="full" if version.full else "incremental",
        time=time,
        begun=begun if recorded and isinstance(begun, str) else time,
        recorded=recorded,
        size=version.size,
        block_size=version.block_size,
        blocks=version.count,
        changed=_changed(backup_set, version, value.get("blocks")),
        stored=stored,
        diff=_stored(backup_set, version.number, frozenset((version.suffix,))),
        consistency=consistency if isinstance(consistency, str) else "",
        parent=version.parent,
        rewritten=version.manifest is not None and version.manifest.rewritten is not None,
        signed=".sig" in suffixes,
        host=_text(value, "host"),
        path=_text(value, "path"),
        moment=moment if isinstance(moment, str) else "",
        lock_s=_measured(value.get("quiesce"), "held_s"),
        fill=_measured(value.get("snapshot"), "fill_at_end"),
        hint=_hint(value.get("hint")),
    )


def _measured(facts: object, key: str) -> float | None:
    """Return a number of a manifest's object; None where it is none that was measured."""
    found = facts.get(key) if isinstance(facts, dict) else None
    known = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 1e9
    return float(found) if known and found is not None else None


def _hint(told: object) -> Mapping[str, Any] | None:
    """Return what a manifest has of a hint; None where that is not usable."""
    if not isinstance(told, dict) or not isinstance(told.get("method"), str):
        return None
    counts = {key: told[key] if type(told.get(key)) is int else None for key in ("blocks", "audited", "wrong")}
    return {"method": told["method"], **counts}


def _text(value: Mapping[str, Any], key: str) -> str:
    source = value.get("source")
    found = source.get(key) if isinstance(source, dict) else None
    return found if isinstance(found, str) else ""


def _file_time(backup_set: BackupSet, number: int) -> str:
    try:
        seconds = backup_set.place.look(backup_set.path(number, ".md5")).mtime_ns / 1e9
    except OSError:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _changed(backup_set: BackupSet, version: Version, blocks: object) -> int | None:
    if version.full:
        return version.count
    if isinstance(blocks, dict) and isinstance(blocks.get("changed"), int):
        return int(blocks["changed"])
    if version.suffix:
        return None
    try:
        payload = backup_set.size(version.number, "") - difffile.HEADER_SIZE
    except OSError:
        return None
    return -(-payload // (difffile.OFFSET_SIZE + version.block_size))
