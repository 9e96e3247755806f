"""Sets that the original tool wrote: every version restores to the bytes that its volume had."""

import hashlib
import json
import shutil

import places
import pytest

from blockdiff import restore
from blockdiff.sets.backupset import BackupSet

GOLDEN = places.GOLDEN
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
VERSIONS = [
    pytest.param(name, facts, version, id=f"{name}.{version['version']}")
    for name, facts in EXPECTED.items()
    for version in facts["versions"]
]


def needs(facts):
    if facts["suffix"] == ".lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")


def test_there_are_golden_sets():
    assert set(EXPECTED) == {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert len(VERSIONS) == 17


@pytest.mark.parametrize("name, facts, version", VERSIONS)
def test_a_golden_version_restores_exactly(name, facts, version, tmp_path):
    needs(facts)
    target = tmp_path / "out"

    done = restore.restore(BackupSet(str(GOLDEN / name / name)), version["version"], str(target))

    assert (done.failure, done.warnings) == (None, [])
    data = target.read_bytes()
    assert len(data) == version["size"] == done.size
    assert hashlib.sha256(data).hexdigest() == version["sha256"]


@pytest.mark.parametrize("name, facts, version", VERSIONS)
def test_a_golden_version_restores_over_a_file_that_was_there(name, facts, version, tmp_path):
    needs(facts)
    target = tmp_path / "out"
    target.write_bytes(b"\xa5" * 90001)

    done = restore.restore(BackupSet(str(GOLDEN / name / name)), version["version"], str(target), force=True)

    assert done.failure is None
    assert hashlib.sha256(target.read_bytes()).hexdigest() == version["sha256"]
