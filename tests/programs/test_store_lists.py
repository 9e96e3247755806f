"""Many sets at once, some of them in a real object store: from a list of blockdiff-run, and side by side."""

import json
import os

import chains
import pytest

from blockdiff.sets.backupset import BackupSet

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("store_environment")]
BLOCK = 65536


@pytest.fixture
def jobs(bucket, tmp_path):
    """A list of two backups, one of them straight into a store, and the NAMEs of both."""
    (tmp_path / "here").mkdir()
    (tmp_path / "volume").write_bytes(os.urandom(3 * BLOCK))
    names = [f"s3://{bucket}/pre/db", str(tmp_path / "here" / "files")]
    (tmp_path / "jobs").write_text("".join(f"{name} {tmp_path}/volume\n" for name in names))
    return tmp_path / "jobs", names


def test_a_list_has_sets_of_both_kinds(run_verb, jobs, bucket, tmp_path):
    path, names = jobs
    assert run_verb("run", path).returncode == 0
    listed = json.loads(run_verb("list", "--json", "--list", path).out)["sets"]
    assert [(one["set"], one["newest"]) for one in listed] == [(name, 1) for name in names]
    done = run_verb("verify", "-q", "--list", path)
    assert (done.returncode, done.err) == (0, "")
    checked = json.loads(run_verb("check", "--json", "--list", path).out)
    assert checked["state"] == "OK" and {one["proved"] for one in checked["sets"]} == {1}
    done = run_verb("copy", "-q", "--list", path, f"s3://{bucket}/other/")
    assert (done.returncode, done.err) == (0, "")
    assert [BackupSet(f"s3://{bucket}/other/{base}").newest() for base in ("db", "files")] == [1, 1]
    kept = run_verb("prune", "--dry-run", "--keep-last", "1", "--list", path)
    assert (kept.returncode, kept.err) == (0, "") and kept.out.count("newest; last 1") == 2


@pytest.mark.parametrize("words", [["verify"], ["prune", "--keep-last", "1"], ["copy"]], ids=lambda words: words[0])
def test_a_set_whose_store_refuses_is_told_and_the_others_are_done(run_verb, bucket, tmp_path, words):
    backup_set = chains.new_set(tmp_path)
    for _ in range(2):
        chains.write_version(backup_set, os.urandom(BLOCK), full=True)
    gone = "s3://no-such-bucket-here/pre/db"
    dest = [f"s3://{bucket}/to/"] if words[0] == "copy" else []
    done = run_verb(*words, gone, backup_set.name, *dest)
    assert done.returncode == 18 and f"blockdiff: {gone}: " in done.err and done.err.count("NoSuchBucket") == 1, (
        done.err
    )
    if words[0] == "verify":
        assert "versions that restore: 1-2" in done.out
    elif words[0] == "prune":
        assert not os.path.exists(backup_set.path(1, ".md5"))
    else:
        assert BackupSet(f"s3://{bucket}/to/vol").newest() == 2
    folder = run_verb(*words, "s3://no-such-bucket-here/", backup_set.name, *dest)
    assert folder.returncode == 18 and folder.err.count("\n") == 1
