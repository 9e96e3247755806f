"""Volumes that change as those of a rewrite's tests do, and rewrites of the versions of them."""

import os

import original

from blockdiff import restore, verify
from blockdiff.rewriting.draft import draft
from blockdiff.sets import recover
from blockdiff.sets.backupset import BackupSet

KEPT = (".md5", ".xxh128")  # files of a version that a rewrite never touches


def changed(volume, rng, block_size, before):
    """Return what becomes of a volume until its next version; `before`: what it was."""
    volume = bytearray(volume)
    what = rng.choice(("noise", "noise", "reverted", "reverted", "zeros", "run", "log", "grown", "shrunk", "nothing"))
    count = max(1, len(volume) // block_size)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(count) * block_size
        if what == "noise":
            volume[place : place + block_size] = rng.randbytes(min(block_size, max(1, len(volume) - place)))
        elif what == "reverted" and before:
            old = rng.choice(before)
            end = place + rng.randrange(1, 4) * block_size
            if end <= len(old) and end <= len(volume):
                volume[place:end] = old[place:end]
        elif what in ("zeros", "run"):
            end = min(len(volume), place + (block_size if what == "zeros" else 9 * block_size))
            volume[place:end] = bytes(end - place)
    if what == "log":
        volume[place : place + 15 * block_size] = rng.randbytes(min(15 * block_size, len(volume) - place))
    if what == "grown":
        volume += bytes(rng.randrange(3 * block_size)) + rng.randbytes(rng.randrange(1, 5 * block_size))
    if what == "shrunk" and len(volume) > 8 * block_size:
        del volume[len(volume) - rng.randrange(1, 6 * block_size) :]
    return bytes(volume)


def identities(backup_set):
    """What tells whether a file that no rewrite may touch is still the same one."""
    names = [name for name in os.listdir(backup_set.folder) if name.endswith((*KEPT, ".ver"))]
    found = {name: os.stat(os.path.join(backup_set.folder, name)) for name in sorted(names)}
    return {name: (each.st_ino, each.st_mtime_ns, each.st_size) for name, each in found.items()}


def rewrite(backup_set, number, onto, threads=2, signing=None):
    """Rewrite a version as every verb does: settled, drafted without the lock, swapped with it."""
    with backup_set.locked():
        recover.settle(backup_set, lambda line: None)
    made = draft(backup_set, number, onto, threads=threads, signing=signing)
    try:
        with backup_set.locked():
            made.swap()
    finally:
        made.discard()
    return made


def restores(backup_set, volumes, folder):
    """Restore every version with ours and with the original's loop; `volumes` by number."""
    for number, volume in volumes.items():
        target = os.path.join(folder, "restored")
        done = restore.restore(BackupSet(backup_set.name), number, target)
        assert done.failure is None and not done.warnings, (number, done)
        with open(target, "rb") as file:
            assert file.read() == volume, f"version {number}"
        os.unlink(target)
        parts = []
        done = restore.stream(BackupSet(backup_set.name), number, lambda data: parts.append(bytes(data)))
        assert done.failure is None and b"".join(parts) == volume, (number, done)
        assert original.merged(backup_set.name, number)[: len(volume)] == volume, f"version {number} by the original"


def faults(backup_set):
    """What a verify of all versions finds."""
    found = verify.verify(backup_set)
    return [*map(str, found.all_faults), *found.all_warnings]
