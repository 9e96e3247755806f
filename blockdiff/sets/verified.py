"""Which versions of a set were proved, and when, and which were found damaged; kept outside the set.

A proof names a version's files: a SHA-256 over the digest file's and the manifest's own and the
diff file's suffix and size, and of the diff file size, time and inode.  A version that is replaced,
made anew, or whose digests change, is another one.  Accidental corruption of the diff file does not
change what a proof names; only reading everything again finds it.  Damage is noted until a verify
finds that the version restores.  The file is JSON and may be removed at any time.
Format: blockdiff-verify(1), "Files".
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from blockdiff.formats import names
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.catalogue import Listed
from blockdiff.sets.version import Version

FORMAT = 2  # format 1 had no times: its versions count as never proved


@dataclass(frozen=True)
class Proof:
    """When a version was proved, and which files it had then."""

    stamp: str  # hex
    at: int  # seconds since 1970
    size: int  # bytes of the diff file
    mtime_ns: int
    ino: int

    def same_files(self, other: "Proof | None") -> bool:
        """Return whether the other proof is of the same files."""
        return other is not None and asdict(self) | {"at": 0} == asdict(other) | {"at": 0}


@dataclass(frozen=True)
class Damage:
    """Why a version does not restore, as a verify found it."""

    at: int  # seconds since 1970
    what: str
    lost: tuple[tuple[int, int], ...] = ()  # bytes of the volume: begin, end; some of them if there are many


@dataclass
class Notes:
    """What is noted of a set's versions."""

    proofs: dict[int, Proof] = field(default_factory=dict)
    damage: dict[int, Damage] = field(default_factory=dict)

    def doubtful(self, parents: Mapping[int, int | None]) -> dict[int, int]:
        """Return the versions that need a damaged one, and which; whether they restore only a verify can tell.

        `parents`: of all versions of the set.
        """
        out: dict[int, int] = {}
        if not self.damage:  # as nearly always; chains are long
            return out
        for number in parents.keys() - self.damage.keys():
            at = parents[number]
            while at is not None and at not in self.damage:
                at = parents.get(at)
            if at is not None:
                out[number] = at
        return out

    def why(self, number: int, doubtful: Mapping[int, int]) -> str:
        """Return why a version does not restore, or perhaps not, as these notes have it; "" if there is no reason."""
        if number in self.damage:
            return f"a verify found {self.damage[number].what}"
        return f"version {doubtful[number]}, which it needs, is damaged" if number in doubtful else ""


def of(backup_set: BackupSet, version: Version, at: int) -> Proof:
    """Return the proof that a version with the files that it has now would get.  Raises OSError."""
    parts = [backup_set.hash(version.number, ".md5").sha256]
    parts.append(backup_set.hash(version.number, ".json").sha256 if version.manifest is not None else "")
    diff = backup_set.place.look(backup_set.path(version.number, version.suffix))
    parts += [version.suffix, str(diff.size)]
    stamp = hashlib.sha256("\n".join(parts).encode("ascii")).hexdigest()
    return Proof(stamp, at, diff.size, diff.mtime_ns, diff.inode)


def path_of(state: str, name: str) -> str:
    """Return the path of a set's file in a folder of state."""
    key = hashlib.sha256(os.fsencode(choose.absolute(name))).hexdigest()[:32]
    return os.path.join(state, "blockdiff", "verified", f"{key}.json")


def fits(backup_set: BackupSet, number: int, proof: Proof) -> bool:
    """Return whether a version still has the diff file that was proved, by its size, time and inode."""
    for suffix in names.DIFF_SUFFIXES:
        with contextlib.suppress(OSError):
            found = backup_set.place.look(backup_set.path(number, suffix))
            if (found.size, found.mtime_ns, found.inode) == (proof.size, proof.mtime_ns, proof.ino):
                return True
    return False


def fitting(listed: Listed, notes: Notes, access: Access = PLAIN) -> dict[int, int]:
    """Return when the versions of a set were proved that still have the diff file that was, in seconds since 1970."""
    if not listed.versions or not notes.proofs:
        return {}
    backup_set = BackupSet(listed.name, access)
    return {n: proof.at for n, proof in notes.proofs.items() if fits(backup_set, n, proof)}


def load(path: str) -> Notes:
    """Return what is noted; nothing if the file is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        if value["format"] != FORMAT:
            return Notes()
        return Notes(
            {int(number): _proof(entry) for number, entry in value["versions"].items()},
            {int(number): _damage(entry) for number, entry in value.get("damage", {}).items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Notes()


def _proof(entry: Mapping[str, Any]) -> Proof:
    """Raise ValueError, TypeError or KeyError if the entry is of no use."""
    numbers = [int(entry[key]) for key in ("at", "size", "mtime_ns", "ino")]
    return Proof(str(entry["stamp"]), *numbers)


def _damage(entry: Mapping[str, Any]) -> Damage:
    """Raise ValueError, TypeError or KeyError if the entry is of no use."""
    return Damage(int(entry["at"]), str(entry["what"]), tuple((int(a), int(b)) for a, b in entry["lost"]))


def save(path: str, name: str, notes: Notes) -> None:
    """Replace what is noted of set `name`.  Raises OSError."""
    part = f"{path}.{os.getpid()}.part"
    value = {
        "format": FORMAT,
        "set": name,
        "versions": {str(n): asdict(notes.proofs[n]) for n in sorted(notes.proofs)},
        "damage": {str(n): asdict(notes.damage[n]) for n in sorted(notes.damage)},
    }
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
