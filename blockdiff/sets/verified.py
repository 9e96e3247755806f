"""Which versions of a set were verified before, kept outside the set.

A stamp is a SHA-256 over what identifies a version's files: the digest file's and the
manifest's own, the diff file's suffix and size.  A version that is replaced, or whose
digests change, has another stamp.  Accidental corruption of the diff file does not change the stamp;
only a verify of everything finds it.  The file is JSON and may be removed at any time.
Format: blockdiff-verify(1), "Files".
"""

import hashlib
import json
import os

from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import Version

FORMAT = 1


def of(backup_set: BackupSet, version: Version) -> str:
    """Return a version's stamp, in hex.  Raises OSError."""
    parts = [backup_set.hash(version.number, ".md5").sha256]
    parts.append(backup_set.hash(version.number, ".json").sha256 if version.manifest is not None else "")
    parts += [version.suffix, str(os.path.getsize(backup_set.path(version.number, version.suffix)))]
    return hashlib.sha256("\n".join(parts).encode("ascii")).hexdigest()


def load(path: str) -> dict[int, str]:
    """Return the stamps by version; none if the file is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        if value["format"] != FORMAT:
            return {}
        return {int(number): str(stamp) for number, stamp in value["versions"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def save(path: str, name: str, stamps: dict[int, str]) -> None:
    """Replace the stamps of set `name`.  Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    value = {"format": FORMAT, "set": name, "versions": {str(n): stamps[n] for n in sorted(stamps)}}
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
