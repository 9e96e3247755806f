"""Versions that are rewritten or removed while a restore or verify reads them."""

import os
import subprocess
import sys
import textwrap

import chains
import pytest

from blockdiff import restore, verify
from blockdiff.sets import drop, held

BLOCK = 64


@pytest.fixture
def versions(tmp_path):
    """A set of five versions, and their volumes."""
    backup_set, volumes, volume = chains.new_set(tmp_path), {}, bytearray(os.urandom(20 * BLOCK))
    for number in range(1, 6):
        volume[number * BLOCK : (number + 2) * BLOCK] = os.urandom(2 * BLOCK)
        volumes[chains.write_version(backup_set, bytes(volume), BLOCK, member=200)] = bytes(volume)
    return backup_set, volumes


def prune(backup_set, number=5, onto=1, union=(2, 3, 4, 5), removed=(2, 3, 4)):
    """What a prune does: the rewrite replaces files, as it does, and does not write into them."""
    paths = [backup_set.path(number, suffix) for suffix in (".gz", ".json")]
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)  # who has it open keeps it
        with open(path, "wb") as file:
            file.write(data)
    chains.rewrite(backup_set, number, onto, union)
    drop.drop(backup_set, removed)


def when(monkeypatch, owner, name, call, before=True):
    """Let a prune happen once, before or after this call of the program."""
    real, done = getattr(owner, name), []

    def called(*args, **kwargs):
        if before and not done:
            done.append(call())
        result = real(*args, **kwargs)
        if not before and not done:
            done.append(call())
        return result

    monkeypatch.setattr(owner, name, called)
    return done


# where in the reader it happens: after the listing, before all is open, and after
MOMENTS = {
    "listed": (held.Held, "__init__", False),
    "not open": (held.Held, "hold", True),
    "open": (held.Held, "hold", False),
    "begun": (held.Held, "open", True),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [2, 5])
def test_a_restore_of_a_version_that_is_removed_or_rewritten(moment, number, versions, tmp_path, monkeypatch):
    backup_set, volumes = versions
    removed = (2, 3, 4) if number == 5 or moment == "begun" else (3, 4)
    union = (2, 3, 4, 5)
    onto = 1 if 2 in removed else 2
    done = when(monkeypatch, *MOMENTS[moment][:2],
                lambda: prune(backup_set, 5, onto, union[onto - 1 :], removed), MOMENTS[moment][2])  # fmt: skip

    found = restore.restore(backup_set, number, str(tmp_path / "out"))

    assert done and (found.exit_code, found.warnings, found.failure) == (0, [], None)
    assert (tmp_path / "out").read_bytes() == volumes[number]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_verify_of_versions_that_are_removed_and_rewritten(moment, versions, monkeypatch):
    backup_set, _ = versions
    done = when(monkeypatch, *MOMENTS[moment][:2], lambda: prune(backup_set), MOMENTS[moment][2])

    found = verify.verify(backup_set)

    assert done and (found.exit_code, found.all_faults, found.all_warnings) == (0, [], [])
    kept = [1, 2, 3, 4, 5] if moment == "begun" else [1, 5]
    assert [v.number for v in found.versions if v.restores] == kept
    after = verify.verify(backup_set, known=found.proofs)  # a proof is of the files that were read
    assert [v.before for v in after.versions] == [True, moment != "begun"]


def test_an_index_is_read_with_its_own_diff_file(versions, tmp_path, monkeypatch):
    """Both are replaced once the reader has decided that the index counts."""
    backup_set, volumes = versions
    used = []
    done = when(monkeypatch, held.Held, "open", lambda: prune(backup_set))
    real = held.Held.open
    monkeypatch.setattr(held.Held, "open", lambda self, path: used.append(path) or real(self, path))

    found = restore.restore(backup_set, 5, str(tmp_path / "out"))

    assert done and (found.exit_code, found.warnings) == (0, [])
    assert not os.path.exists(backup_set.path(5, ".idx")) and backup_set.path(5, ".idx") in used
    assert (tmp_path / "out").read_bytes() == volumes[5]


def test_what_is_too_much_to_hold_is_not_read_if_it_is_another_file(versions, tmp_path, monkeypatch):
    backup_set, _ = versions
    monkeypatch.setattr(held, "_room", lambda count: 0)
    when(monkeypatch, held.Held, "open", lambda: prune(backup_set, removed=()))

    found = restore.restore(backup_set, 5, str(tmp_path / "out"))

    assert found.exit_code == 17 and "replaced while this ran" in str(found.failure)


LIMITED = """
    import os, resource, sys
    from blockdiff import restore, verify
    from blockdiff.sets import held
    from blockdiff.sets.backupset import BackupSet

    name, out, soft, hard = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most, real = [0], held.Held.open

    def opened(self, path):
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
        return real(self, path)

    held.Held.open = opened
    found = restore.restore(BackupSet(name), None, out)
    assert found.failure is None and found.exit_code == 0, (found.failure, found.warnings)
    held_by_restore = most[0]
    proved = verify.verify(BackupSet(name))
    assert proved.exit_code == 0 and all(v.restores for v in proved.versions), proved.all_faults[:3]
    print(held_by_restore, len(proved.versions))
"""


def test_a_chain_of_a_thousand_links_with_few_descriptors(tmp_path):
    backup_set, volume = chains.new_set(tmp_path), bytearray(os.urandom(8 * BLOCK))
    for number in range(1000):
        place = number % 8 * BLOCK
        volume[place : place + BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK)
    for soft, hard, least, most in ((64, 64, 16, 64), (256, 256, 200, 256), (64, 4096, 3000, 4096)):
        words = [sys.executable, "-c", textwrap.dedent(LIMITED), backup_set.name, tmp_path / "out", soft, hard]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        held_at_once, count = map(int, done.stdout.split())
        assert least < held_at_once < most and count == 1000
        assert (tmp_path / "out").read_bytes() == volume
        os.unlink(tmp_path / "out")
