"""A sealed copy without the key: what is missing or damaged is found, and nothing more is claimed."""

import json
import os
import pathlib
import time

import chains
import instore
import pytest

from blockdiff import copy, verify
from blockdiff.errors import DamagedFile, MissingFile, NotOurFormat
from blockdiff.place.base import Access
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sets import backupset
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
KEY = Identity(bytes([7] * 32))
SEAL = Access(recipients=(Recipient(KEY.public),))
LOOK = Access(unopened=True)
FIRST = os.urandom(2000 * BLOCK)  # more than a chunk


@pytest.fixture
def source(tmp_path):
    """Two versions of ours and one of the original."""
    (tmp_path / "here").mkdir()
    made = chains.new_set(tmp_path / "here")
    for number in (1, 2, 3):
        chains.write_version(made, os.urandom(number * BLOCK) + FIRST[number * BLOCK :], BLOCK, original=number == 3)
    return made


@pytest.fixture
def folder(source, tmp_path):
    (tmp_path / "there").mkdir()
    assert copy.copy(source, BackupSet(f"{tmp_path}/there/vol", SEAL)).faults == []
    return tmp_path / "there"


def found(name, access=LOOK):
    """Each version's faults, by their classes, and what is wrong with the set."""
    result = verify.verify_unopened(BackupSet(str(name), access))
    assert result.proofs == {} and not any(version.restores for version in result.versions)
    shown = {version.number: [type(fault) for fault in version.faults] for version in result.versions}
    return shown, result


def test_nothing_is_wrong_and_nothing_is_claimed(folder, run_verb):
    shown, result = found(folder / "vol")
    files = list(folder.glob("*.age"))
    assert shown == {1: [], 2: [], 3: []} and result.exit_code == 55
    assert (result.outside.files, result.outside.unmarked) == (len(files), len(files))
    assert result.outside.stored == sum(path.stat().st_size for path in files) and result.outside.bare == [3]

    done = run_verb("verify", folder / "vol")
    assert done.returncode == 55 and done.err.count("\n") == 1 and "not proved" in done.err and "--identity" in done.err
    assert "versions 1-3: their files are there, with sizes that sealed files can have\n" in done.out
    assert "as they were sent" not in done.out and "versions without a manifest, as those of the original: 3\n" in done.out
    assert done.out.endswith("not proved: that any version restores; --identity FILE proves it\n")
    quiet = run_verb("verify", "-q", folder / "vol")
    assert (quiet.returncode, quiet.out, quiet.err) == (55, "", done.err)
    told = json.loads(run_verb("verify", "--json", folder).out)
    assert (told["exit_code"], told["restorable"], told["faults"]) == (55, [], [])
    assert (told["sealed"]["files"], told["sealed"]["not_compared"]) == (len(files), len(files))
    assert [(v["restores"], v["unknown"]) for v in told["versions"]] == [(False, True)] * 3
    assert not list(pathlib.Path(folder).parent.glob("state/**/*.json"))  # nothing is noted


def test_what_needs_the_key_still_does(folder, run_verb):
    for options in (["--to", "2"], ["--new"], ["--oldest-first"]):
        done = run_verb("verify", *options, folder / "vol")
        assert done.returncode == 55 and "a private key is needed" in done.err and "files are there" not in done.out


@pytest.mark.parametrize("name, fault", [
    ("vol.1.md5", MissingFile), ("vol.2.gz", MissingFile), ("vol.2.json", MissingFile), ("vol.3.gz", MissingFile),
    ("vol.3.md5", MissingFile),
])  # fmt: skip
def test_a_file_that_is_missing(folder, run_verb, name, fault):
    (folder / f"{name}.age").unlink()
    shown, result = found(folder / "vol")
    number = int(name.split(".")[1])
    assert shown[number] == [fault] and not any(faults for n, faults in shown.items() if n != number)
    assert result.exit_code == 51
    done = run_verb("verify", folder / "vol")
    assert done.returncode == 51 and f"versions with missing or damaged files: {number}\n" in done.out
    first, last = done.err.splitlines()
    assert first.startswith(f"blockdiff: version {number}: ") and "is missing" in first and "not proved" in last


def test_a_version_that_is_missing_and_ver(folder, monkeypatch):
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)
    (folder / "vol.ver").write_text("4\n")
    assert found(folder / "vol")[1].exit_code == 14
    (folder / "vol.ver").write_text("2\n")
    shown, result = found(folder / "vol")
    assert list(shown) == [1, 2] and "version 3" in result.warnings[0] and result.exit_code == 55


@pytest.mark.parametrize("cut, fault", [
    (0, NotOurFormat), (40, DamagedFile), (184, DamagedFile), (199, DamagedFile), (184 + 65552 + 16, DamagedFile),
])  # fmt: skip
def test_a_size_that_no_sealed_file_has(folder, cut, fault):
    os.truncate(folder / "vol.1.gz.age", cut)
    assert found(folder / "vol")[0] == {1: [fault], 2: [], 3: []}


def test_a_header_that_is_none_and_a_file_that_only_speeds_things_up(folder):
    (folder / "vol.2.md5.age").write_bytes(b"x" * 300)
    (folder / "vol.1.idx.age").write_bytes((folder / "vol.1.idx.age").read_bytes()[:100])
    shown, result = found(folder / "vol")
    assert shown == {1: [], 2: [NotOurFormat], 3: []} and result.exit_code == 50
    assert [line for line in result.all_warnings if "vol.1.idx.age" in line and "speeds things up" in line]


# in a store


@pytest.fixture
def stored(objectstore, store_environment, bucket, folder):
    instore.send(folder, f"s3://{bucket}/pre")
    return f"s3://{bucket}/pre/vol"


@pytest.mark.store
def test_the_bytes_are_those_that_were_sent(stored, run_verb, objectstore):
    shown, result = found(stored)
    assert shown == {1: [], 2: [], 3: []} and result.exit_code == 55 and result.outside.unmarked == 0
    done = run_verb("verify", f"{stored.rpartition('/')[0]}/", env=objectstore.environment)
    assert done.returncode == 55 and "and bytes as they were sent to the object store\n" in done.out
    assert done.out.count("not proved") == 1


@pytest.mark.store
@pytest.mark.parametrize("name", ["1.gz", "2.md5", "2.json", "3.gz", "1.idx"])
def test_other_bytes_than_were_sent(stored, bucket, objectstore, name):
    objectstore.rot(bucket, f"pre/vol.{name}.age", 230)
    number = int(name[0])
    shown, result = found(stored)
    if name.endswith(".idx"):
        assert result.exit_code == 55 and "vol.1.idx.age" in result.all_warnings[0]
        return
    assert [n for n, faults in shown.items() if faults == [DamagedFile]] == [number] and result.exit_code == 51
    assert f"vol.{name}.age is damaged: its bytes are not those that were sent" in str(result.all_faults[0])


@pytest.mark.store
@pytest.mark.long
def test_a_bucket_as_it_was(objectstore, store_environment, folder):
    bucket = objectstore.make_bucket(versions=True)
    instore.send(folder, f"s3://{bucket}")
    then = int(time.time()) + 1
    while time.time() < then + 1:
        time.sleep(0.1)
    objectstore.client.delete_object(Bucket=bucket, Key="vol.2.gz.age")
    assert found(f"s3://{bucket}/vol")[1].exit_code == 51
    shown, result = found(f"s3://{bucket}/vol", Access(unopened=True, as_of=then))
    assert shown == {1: [], 2: [], 3: []} and result.outside.unmarked == 0
