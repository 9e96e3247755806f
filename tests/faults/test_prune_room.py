"""A disk that is full at any write of a prune: nothing is lost, and nothing of it lies about."""

import errno
import os

import nights
from killed import path_of

from blockdiff.errors import NoRoom
from blockdiff.sets.backupset import BackupSet


def full_from(count, folder, patched):
    """From the count-th write into a folder on, its disk is full; returns a function that says whether that came."""
    calls, real = 0, os.write

    def write(fd, data):
        nonlocal calls
        if path_of(fd).startswith(str(folder)):
            calls += 1
            if calls >= count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    patched.setattr(os, "write", write)
    return lambda: calls >= count


def test_no_room_at_any_write(tmp_path, monkeypatch):
    """1 to 3 go without a rewrite, and then 4 becomes a full or does not."""
    count, codes = 0, set()
    while True:
        count += 1
        folder = tmp_path / f"at{count}"
        backup_set, volumes = nights.new(folder, 7, fulls=(4,))
        before = nights.state(folder)
        with monkeypatch.context() as patched:
            hit = full_from(count, folder, patched)
            try:
                done = nights.pruned(backup_set, last=2)
                failure = done.failure
            except NoRoom as error:
                failure = error
        if not hit():
            assert failure is None and nights.numbers(backup_set) == [6, 7]
            break
        assert isinstance(failure, NoRoom) and done.exit_code == 13, count
        left = nights.check(backup_set, volumes, tmp_path)
        codes.add(tuple(left))
        assert left == [4, 5, 6, 7] and done.go == 3 and not BackupSet(backup_set.name).listing().parts
        after = nights.state(folder)
        assert all(after[name] == row for name, row in before.items() if name in after)
    assert count > 3
