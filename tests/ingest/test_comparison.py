"""Which digests decide what changed: the fastest that both sides have, and that the parent's manifest names."""

import contextlib

import pytest
from engine import back_up

from blockdiff.ingest import comparison
from blockdiff.sets import parent
from blockdiff.sets.backupset import BackupSet


@pytest.fixture
def chosen(tmp_path):
    """Return a function that chooses for a set of one version: (compared, others come, XXH3-128 is kept, parent's)."""
    (tmp_path / "vol").write_bytes(bytes(range(256)) * 64)
    back_up(tmp_path / "db", tmp_path / "vol", block_size=4096)
    backup_set = BackupSet(str(tmp_path / "db"))

    def choose(digest, *, rescan=False, full=False):
        with contextlib.closing(parent.find(backup_set, 1, print, print, full=full)) as found:
            with contextlib.closing(comparison.choose(backup_set, found, 4096, digest, rescan=rescan)) as it:
                old = None if it.old is None else it.old.path.rpartition(".")[2]
                return it.compared, it.other_digests, it.keep_xxh, old, it.old_size

    choose.folder = tmp_path
    return choose


def test_a_full_has_no_parent(chosen):
    assert chosen("md5", full=True) == ("md5", False, True, None, None)
    assert chosen("xxh128", full=True) == ("xxh128", False, True, None, None)


def test_xxh3_decides_where_both_sides_have_it(chosen):
    assert chosen("xxh128") == ("xxh128", False, True, "xxh128", 256 * 64)
    assert chosen("md5") == ("md5", False, True, "md5", 256 * 64)


def test_a_rescan_compares_md5_and_renews_the_other_digests(chosen):
    assert chosen("xxh128", rescan=True) == ("md5", True, True, "md5", 256 * 64)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_xxh3_digests_that_the_manifest_does_not_name_are_not_used(chosen, damage):
    path = chosen.folder / "db.1.xxh128"
    data = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert chosen("xxh128") == ("md5", True, True, "md5", 256 * 64)
    assert chosen("md5") == ("md5", False, False, "md5", 256 * 64)
