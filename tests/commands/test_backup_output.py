"""The line of numbers at a backup's end."""

import os

import pytest
from launched import Set

KIB = 1024
WARNINGS = 3


@pytest.fixture
def begun(tmp_path):
    """A set that has not begun, and its source."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.source.write_bytes(os.urandom(300 * KIB) + bytes(200 * KIB) + b"end")
    return found


def test_the_last_line_has_the_numbers(run, begun):
    """In units for people, exactly with -v, for each set, also with warnings; nothing with -q."""

    def last(*words, code=0, lines=1):
        done = run("blockdiff-backup", *words, begun.name, begun.source)
        assert done.returncode == code
        return [line.rpartition(", ")[0] for line in done.stderr.splitlines()[-lines:]]

    size = begun.source.stat().st_size
    begin = f"version 1 of {begun.name}: full, 500.0 KiB of 500.0 KiB changed, "
    assert last("--compress", "none") == [begin + "500.1 KiB stored"]
    with begun.source.open("r+b") as file:
        file.write(b"changed")
    stored = 4 + 8 + 64 * KIB
    assert last("--compress", "none", "-v") == [
        f"version 2 of {begun.name}: incremental, {64 * KIB} bytes of {size} bytes changed (1 of 8 blocks),"
        f" {stored} bytes stored"
    ]
    (begun.folder / "db.2.md5").write_bytes(b"torn")
    (one,) = last(code=WARNINGS)
    assert one.startswith(f"version 3 of {begun.name}: full, 500.0 KiB of 500.0 KiB changed, ")
    one, two = last("--with", begun.folder / "other", begun.source, lines=2)
    assert one.startswith(f"version 4 of {begun.name}: incremental, 0 bytes of 500.0 KiB changed, ")
    assert two.startswith(f"version 1 of {begun.folder / 'other'}: full, ")
    assert run("blockdiff-backup", "-q", begun.name, begun.source).stderr == ""
