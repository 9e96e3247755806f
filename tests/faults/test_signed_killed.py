"""Runs on a signed set that are killed anywhere: what is there is signed, in every state."""

import os
import pathlib
import shutil
import signal

import chains
import pytest
import signed
from killed import child, watch
from rewrites import rewrite
from signed import BLOCK, signed_set, trusting

from blockdiff import consolidate, verify
from blockdiff.sets import backupset, recover
from blockdiff.sets.backupset import BackupSet
from blockdiff.signing.signer import Signer

__all__ = ["signed_set"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No reader waits for a run to publish: it is dead."""
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)


def states(signed_set, tmp_path, work):
    """Yield a copy of the set for each call of the kernel in its folder after which `work` was killed."""
    kept, count = tmp_path / "kept", 0
    shutil.copytree(signed_set.folder, kept, ignore=shutil.ignore_patterns("kept", "at*"))
    while True:
        count += 1
        folder = tmp_path / f"at{count}"
        shutil.copytree(kept, folder)
        backup_set = BackupSet(str(folder / "vol"))

        code, hit = child(str(folder), lambda to=backup_set: work(to), count, signal.SIGKILL, True)

        if not hit:
            assert code == 0
            break
        yield backup_set
        shutil.rmtree(folder)
    assert count > 8


def settle(backup_set):
    with backup_set.locked():
        return recover.settle(backup_set, lambda line: None)


def believed(backup_set):
    """The versions that a reader with allowed signers finds without any fault."""
    result = verify.verify(trusting(backup_set))
    assert not result.faults
    assert all(version.restores for version in result.versions), [version.faults for version in result.versions]
    return {version.number for version in result.versions}


def test_no_end_makes_a_version_that_was_to_be_signed_one_that_is_not(signed_set, tmp_path):
    signer, volume, adopted = Signer(str(signed.key()), os.environ), os.urandom(20 * BLOCK), set()

    def work(backup_set):
        settle(backup_set)
        chains.write_version(backup_set, volume, BLOCK, signing=signer)

    for backup_set in states(signed_set, tmp_path, work):
        before = believed(backup_set)
        newest = settle(backup_set)
        assert believed(backup_set) == set(range(1, newest + 1)) >= before
        files = {path.name for path in pathlib.Path(backup_set.folder).iterdir()}
        assert ("vol.4.sig" in files, newest) in ((True, 4), (False, 3))
        assert not backup_set.listing().parts
        adopted.add((4 in before, newest))
    assert adopted == {(False, 3), (False, 4), (True, 4)}


def test_a_first_version_that_was_not_published_leaves_no_signature(tmp_path, signed_set):
    signer, volume, seen = Signer(str(signed.key()), os.environ), os.urandom(5 * BLOCK), set()

    def work(backup_set):
        chains.write_version(BackupSet(os.path.join(backup_set.folder, "new")), volume, BLOCK, signing=signer)

    for backup_set in states(signed_set, tmp_path, work):
        new = BackupSet(os.path.join(backup_set.folder, "new"))
        newest = settle(new)
        seen.add(newest)
        if newest:
            assert believed(new) == {1}
        else:
            assert {path.name for path in pathlib.Path(new.folder).glob("new.*")} == {"new.lock"}
    assert seen == {0, 1}


@pytest.mark.parametrize("what", ["full", "onto"])
def test_a_rewrite_that_is_killed_leaves_every_version_signed(what, signed_set, tmp_path):
    """Also while the signature is new already and the manifest is not: who reads then, finds the manifest."""
    signer, between = Signer(str(signed.key()), os.environ), 0

    def work(backup_set):
        if what == "full":
            rewrite(backup_set, 3, None, signing=signer)
        else:
            consolidate.consolidate(backup_set, 3, 1, wait_s=0, signing=signer)

    for backup_set in states(signed_set, tmp_path, work):
        sheet, beside = (pathlib.Path(backup_set.path(3, suffix)).read_bytes() for suffix in (".json", ".sig"))
        between += signed.allowed(signed.line(signed.key())).fault("vol", sheet, beside) != ""
        assert believed(backup_set) >= {1, 3}
        assert settle(backup_set) == 3
        assert believed(backup_set) >= {1, 3}
        assert {path.suffix for path in pathlib.Path(backup_set.folder).iterdir()} & {".part"} == set()
    assert between > 0


def test_a_signature_is_on_the_disk_with_its_name_before_its_manifest(signed_set, monkeypatch):
    """However a file system orders names: their folder is synced in between."""
    signer, rows = Signer(str(signed.key()), os.environ), []

    def seen(name, paths, after):
        if not after:
            rows.append((name, os.path.basename(paths[-1])))

    with monkeypatch.context() as patched:
        watch(patched, seen)
        chains.write_version(signed_set, os.urandom(20 * BLOCK), BLOCK, signing=signer)
        rewrite(signed_set, 4, None, signing=signer)

    folder = ("fsync", os.path.basename(signed_set.folder))
    for gives in ("link", "rename"):
        beside, sheet = rows.index((gives, "vol.4.sig")), rows.index((gives, "vol.4.json"))
        assert folder in rows[beside:sheet]
    (temporary,) = {name for call, name in rows if call == "write" and name.startswith("vol.4.sig") and rows.index((call, name)) < rows.index(("link", "vol.4.sig"))}
    assert ("fsync", temporary) in rows[: rows.index(("link", "vol.4.sig"))]
