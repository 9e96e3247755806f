"""Sets with a version for each night, and a prune of them by the engine."""

import datetime
import os
import random

import chains

from blockdiff import prune, restore, verify
from blockdiff.rewriting.survey import Wanted
from blockdiff.sets import verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.retention import Rules

BLOCK = 64
FIRST = datetime.datetime(2024, 2, 26, 3, 0, tzinfo=datetime.UTC)  # a Monday of a leap year


def begun(number):
    """When the version of a night was begun, as manifests have it."""
    return (FIRST + datetime.timedelta(days=number - 1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(backup_set, count, volumes=None, *, fulls=(), blocks=40, hot=6, seed=3, **options):
    """Write so many more nights, in each of which the same few blocks change; returns {number: volume} of all."""
    volumes = dict(volumes or {})
    choose = random.Random(f"{seed} {len(volumes)}")
    volume = bytearray(volumes[max(volumes)] if volumes else choose.randbytes(BLOCK * blocks))
    for _ in range(count):
        number = backup_set.newest() + 1
        volume[: hot * BLOCK] = choose.randbytes(hot * BLOCK)
        options.setdefault("codec", chains.codecs.GZIP)
        chains.write_version(
            backup_set, bytes(volume), BLOCK, full=number in fulls, begun=begun(number), **options
        )
        volumes[number] = bytes(volume)
    return volumes


def new(folder, count, base="vol", **options):
    """Return a set of so many nights in a new folder, and its volumes."""
    folder.mkdir(exist_ok=True)
    backup_set = chains.new_set(folder, base)
    return backup_set, write(backup_set, count, **options)


def pruned(backup_set, proofs=None, *, damage=None, now=None, over=lambda read: False, seen=lambda: None, exact=False, note=lambda line: None, **rules):
    """Prune a set by these rules; `proofs` is what is known, and gets what is new;
    `damage` is known, too; `seen` is called before the proof."""
    proofs = {} if proofs is None else proofs

    def prove(numbers, known, stop):
        seen()
        return verify.verify(backup_set, only=numbers, known=known, stop=stop)

    return prune.prune(
        backup_set, Wanted(Rules(**rules), exact=exact), prove, noted=verified.Notes(proofs, damage or {}), save=proofs.update,
        now=now or datetime.datetime.now(datetime.UTC), local=lambda time: time, over=over, note=note,
    )  # fmt: skip


def planned(backup_set, **rules):
    """What a prune by these rules would do."""
    now = datetime.datetime.now(datetime.UTC)
    return prune.plan(backup_set, Wanted(Rules(**rules)), now, lambda time: time)


def numbers(backup_set):
    return sorted(BackupSet(backup_set.name).listing().versions)


def check(backup_set, volumes, folder):
    """Every version that there is restores to its volume, and nothing lies about; returns their numbers."""
    found = numbers(backup_set)
    for number in found:
        target = folder / "restored"
        done = restore.restore(BackupSet(backup_set.name), number, str(target))
        assert done.failure is None and target.read_bytes() == volumes[number], number
        target.unlink()
    return found


def state(folder):
    """Every file of a folder: inode, time, size and bytes; but for locks."""
    rows = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not name.endswith(".lock"):
            found = os.stat(path)
            with open(path, "rb") as file:
                rows[name] = (found.st_ino, found.st_mtime_ns, file.read())
    return rows
