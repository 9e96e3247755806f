"""In what order a version and a restored file come to the disk, and that a run which ends anywhere on the way
stops no later one.

What is recorded is what the kernel is asked for: files by the paths of their descriptors.
"""

import os
import signal

import chains
import pytest
from engine import back_up
from killed import CALLS, child, watch

from blockdiff import restore
from blockdiff.sets import parent, recover
from blockdiff.sets.backupset import BackupSet

VOLUME = os.urandom(300) + bytes(200)


def recorded(monkeypatch, folder, work):
    """The calls that work makes in a folder, as (name, base names)."""
    rows = []

    def seen(name, paths, after):
        if not after and all(path.startswith(str(folder)) for path in paths):
            rows.append((name, [os.path.relpath(path, folder) for path in paths]))

    with monkeypatch.context() as patched:
        watch(patched, seen)
        work()
    return rows


def named(rows):
    """{final name: (place of the call that gives it, temporary name)}."""
    return {paths[1]: (place, paths[0]) for place, (name, paths) in enumerate(rows) if name in ("link", "rename")}


def on_disk_first(rows, final, place, temporary):
    """What is written to a file is synced before the file gets its name, and nothing is written afterwards."""
    written = [n for n, (name, paths) in enumerate(rows) if name in CALLS[:3] and paths[0] in (temporary, final)]
    synced = [n for n, (name, paths) in enumerate(rows) if name == "fsync" and paths[0] == temporary]
    assert written, final
    assert any(max(written) < n < place for n in synced), f"{final} has its name before it is on the disk"


@pytest.mark.parametrize("before", [0, 1])
def test_a_version_is_on_the_disk_before_it_is_named(before, tmp_path, monkeypatch):
    source, folder = tmp_path / "source", tmp_path / "set"
    folder.mkdir()
    source.write_bytes(VOLUME)
    for _ in range(before):
        back_up(folder / "db", source, block_size=64)

    rows = recorded(monkeypatch, folder, lambda: back_up(folder / "db", source, block_size=64))

    names = named(rows)
    number = before + 1
    assert set(names) == {f"db.{number}{s}" for s in (".md5", ".gz", ".xxh128", ".idx", ".json")} | {"db.ver"}
    for final, (place, temporary) in names.items():
        on_disk_first(rows, final, place, temporary)
    order = sorted(names, key=names.get)
    assert (order[0], order[-2:]) == (f"db.{number}.md5", [f"db.{number}.json", "db.ver"])
    folders = [n for n, (name, paths) in enumerate(rows) if name == "fsync" and paths == ["."]]
    assert any(names[f"db.{number}.json"][0] < n < names["db.ver"][0] for n in folders), "names before .ver"
    assert folders[-1] > names["db.ver"][0]
    synced = [n for n, (name, _) in enumerate(rows) if name == "fsync" and n not in folders]
    assert max(n for n in synced if n < names[order[0]][0]) > 0
    ver_synced = max(synced)
    assert all(n < names[order[0]][0] for n in synced if n != ver_synced), "all is on the disk before any is named"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
def test_a_restored_file_is_on_the_disk_before_it_is_named(links, tmp_path, monkeypatch):
    backup_set, out = chains.new_set(tmp_path), tmp_path / "out"
    out.mkdir()
    chains.write_version(backup_set, VOLUME, 64)

    def work():
        if not links:
            monkeypatch.setattr(os, "link", refuse)
        assert restore.restore(backup_set, 1, str(out / "vol")).failure is None

    def refuse(*args):
        raise PermissionError(1, os.strerror(1))

    rows = recorded(monkeypatch, out, work)

    ((place, temporary),) = named(rows).values()
    on_disk_first(rows, "vol", place, temporary)
    assert rows[-1] == ("fsync", ["."])
    assert (out / "vol").read_bytes() == VOLUME


# a run that ends


def write(folder, volume):
    """Write a version as a backup does: the set locked and settled, its parent proved."""
    backup_set = BackupSet(str(folder / "db"))
    with backup_set.locked():
        newest = recover.settle(backup_set, lambda line: None)
        found = parent.find(backup_set, newest, pytest.fail, pytest.fail)
        found.close()
        return chains.write_version(backup_set, volume, 64)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("before", [0, 1])
def test_after_an_end_anywhere_the_next_run_goes_on(before, number, tmp_path):
    """Before and after each sync, name and removal of publishing the first and a later version."""
    volumes = [os.urandom(100) + VOLUME for _ in range(4)]
    count, after, hits = 1, False, 0
    while True:
        folder = tmp_path / f"at{count}{after}"
        folder.mkdir()
        for volume in volumes[:before]:
            write(folder, volume)

        code, hit = child(str(folder), lambda to=folder: write(to, volumes[before]), count, number, after)

        if not hit:
            assert code == 0
            break
        hits += 1
        assert code in (-signal.SIGKILL, 143), (count, after)
        backup_set = BackupSet(str(folder / "db"))
        if number == signal.SIGTERM:
            assert not backup_set.listing().parts, (count, after)
        done = write(folder, volumes[3])
        assert done in (before + 1, before + 2), (count, after)
        assert not backup_set.listing().parts
        expected = [*volumes[: done - 1], volumes[3]]
        for version, volume in enumerate(expected, 1):
            target = tmp_path / "out"
            assert restore.restore(backup_set, version, str(target)).failure is None
            assert target.read_bytes() == volume
            target.unlink()
        count, after = (count, True) if not after else (count + 1, False)
    assert hits > 30
