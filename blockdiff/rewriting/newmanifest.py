"""The manifest of a version that was rewritten: it is still of the moment at which its source was read.

Format: blockdiff-formats(5), "Rewriting a version".
"""

import datetime
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from blockdiff import __version__
from blockdiff.formats import manifest
from blockdiff.rewriting.merge import Merged
from blockdiff.rewriting.plan import Plan
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.newversion import now, stamp
from blockdiff.sets.version import Version


def encode(
    plan: Plan, merged: Merged, read: int, files: Mapping[str, manifest.StoredFile], parent_md5: str | None
) -> bytes:
    """Return the manifest's bytes.

    `read`: bytes of diff files; `files`: the new diff file and its index; `parent_md5`: SHA-256 of
    the digest file of the version that it stands on.  Raises FormatError or OSError.
    """
    version = plan.version
    value = dict(version.manifest.value) if version.manifest is not None else _first(plan.backup_set, version)
    kept = {suffix: entry for suffix, entry in value["files"].items() if suffix in (".md5", ".xxh128")}
    before = value["kind"], value["parent"]
    value["kind"] = "full" if plan.onto is None else "incremental"
    value["parent"] = None if plan.onto is None else plan.onto.number
    value["format"] = manifest.format_of(version.number, value["parent"])
    value["parent_md5_sha256"] = parent_md5
    value["files"] = kept | {suffix: asdict(entry) for suffix, entry in files.items()}
    value["blocks"] = {"total": version.count, "changed": len(merged.records), "zero": merged.zero}
    moved = value.get("bytes")
    value["bytes"] = (moved if isinstance(moved, dict) else {}) | {
        "payload": merged.payload,
        "stored": files[version.suffix].size,
    }
    if version.size is None and merged.last_length is not None:
        value["source"] = value["source"] | {"size": (version.count - 1) * version.block_size + merged.last_length}
    value["rewritten"] = {
        "at": stamp(now()),
        "blockdiff": __version__,
        "kind": before[0],
        "parent": before[1],
        "versions": [plan.links[0].number, version.number],
        "bytes_read": read,
    }
    return manifest.encode(value)


def _first(backup_set: BackupSet, version: Version) -> dict[str, Any]:
    """Return the first manifest of a version that has none, or none that counts."""
    path = backup_set.path(version.number, ".md5")
    time = stamp(datetime.datetime.fromtimestamp(os.stat(path).st_mtime, datetime.UTC))
    value = asdict(
        manifest.NewManifest(
            blockdiff=__version__,
            set=backup_set.base,
            version=version.number,
            parent=version.parent,
            parent_md5_sha256=None,
            begun=time,
            ended=time,
            source=manifest.Source(None, None, None, version.size, None),
            block_size=version.block_size,
            blocks=manifest.Blocks(version.count, 0, 0),
            bytes=manifest.Transfer(None, 0, None),
        )
    )
    del value["command"], value["hint"], value["moment"]
    kind = "full" if version.full else "incremental"
    own = asdict(backup_set.hash(version.number, ".md5"))
    return value | {"kind": kind, "files": {".md5": own}}
