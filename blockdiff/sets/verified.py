"""Which versions of a set were proved, and when; kept outside the set.

A proof names a version's files: a SHA-256 over the digest file's and the manifest's own and the
diff file's suffix and size, and of the diff file size, time and inode.  A version that is replaced,
made anew, or whose digests change, is another one.  Accidental corruption of the diff file does not
change what a proof names; only reading everything again finds it.  The file is JSON and may be
removed at any time.
Format: blockdiff-verify(1), "Files".
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blockdiff.sets.backupset import BackupSet
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


def of(backup_set: BackupSet, version: Version, at: int) -> Proof:
    """Return the proof that a version with the files that it has now would get.  Raises OSError."""
    parts = [backup_set.hash(version.number, ".md5").sha256]
    parts.append(backup_set.hash(version.number, ".json").sha256 if version.manifest is not None else "")
    diff = os.stat(backup_set.path(version.number, version.suffix))
    parts += [version.suffix, str(diff.st_size)]
    stamp = hashlib.sha256("\n".join(parts).encode("ascii")).hexdigest()
    return Proof(stamp, at, diff.st_size, diff.st_mtime_ns, diff.st_ino)


def path_of(state: str, name: str) -> str:
    """Return the path of a set's file in a folder of state."""
    key = hashlib.sha256(os.fsencode(os.path.abspath(name))).hexdigest()[:32]
    return os.path.join(state, "blockdiff", "verified", f"{key}.json")


def load(path: str) -> dict[int, Proof]:
    """Return the proofs by version; none if the file is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        if value["format"] != FORMAT:
            return {}
        return {int(number): _proof(entry) for number, entry in value["versions"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _proof(entry: Mapping[str, Any]) -> Proof:
    """Raise ValueError, TypeError or KeyError if the entry is of no use."""
    numbers = [int(entry[key]) for key in ("at", "size", "mtime_ns", "ino")]
    return Proof(str(entry["stamp"]), *numbers)


def save(path: str, name: str, proofs: Mapping[int, Proof]) -> None:
    """Replace the proofs of set `name`.  Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    value = {"format": FORMAT, "set": name, "versions": {str(n): asdict(proofs[n]) for n in sorted(proofs)}}
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
