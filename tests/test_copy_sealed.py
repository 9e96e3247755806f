"""Copies that only a private key opens, which is not there: into a folder, into a store, and back; and signed ones."""

import gzip
import os
import pathlib
import shutil
import signal
import subprocess

import chains
import pytest
import signed
import tracing
import verbs
from killed import child
from launched import needs
from seals import Key

from blockdiff import copy, restore
from blockdiff.errors import ForeignFiles, Sealed
from blockdiff.place.base import Access
from blockdiff.sealing import keys
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sets import backupset
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
KEY = Identity(bytes([7] * 32))
SEAL = Access(recipients=(Recipient(KEY.public),))
OPEN = Access(identities=(KEY,))
FIRST = os.urandom(12 * BLOCK + 5)
VOLUMES = {n: os.urandom(n * BLOCK) + FIRST[n * BLOCK :] for n in range(1, 6)}


@pytest.fixture
def source(tmp_path):
    """Two versions of ours and one of the original."""
    (tmp_path / "here").mkdir()
    made = chains.new_set(tmp_path / "here")
    for number in (1, 2, 3):
        chains.write_version(made, VOLUMES[number], BLOCK, original=number == 3)
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def numbers(done):
    assert done.faults == [] and done.warnings == [], done
    return [one.number for one in done.versions]


def contents(folder, without=".xxh128"):
    files = pathlib.Path(folder).iterdir()
    return {path.name: path.read_bytes() for path in files if not path.name.endswith((".lock", without))}


def home(name, tmp_path):
    """Open all of a sealed set into a new folder."""
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    (tmp_path / "home").mkdir()
    dest = chains.new_set(tmp_path / "home")
    done = copy.copy(BackupSet(name, OPEN), dest, every=True)
    assert done.faults == []
    return dest


def test_only_the_key_opens_it(source, folder, tmp_path):
    dest = BackupSet(f"{folder}/vol", SEAL)
    assert numbers(copy.copy(source, dest)) == [1, 2, 3]
    found = set(contents(folder))
    assert found == {name if name.endswith(".ver") else f"{name}.age" for name in contents(source.folder)}
    with pytest.raises(Sealed):
        copy.copy(BackupSet(f"{folder}/vol"), chains.new_set(tmp_path))
    sealed = BackupSet(f"{folder}/vol", OPEN)
    restores_of(sealed, tmp_path)
    assert contents(home(f"{folder}/vol", tmp_path).folder) == contents(source.folder)


def restores_of(sealed, tmp_path):
    for number in (1, 2, 3):
        restore.restore(sealed, number, str(tmp_path / "out"), force=True)
        assert (tmp_path / "out").read_bytes() == VOLUMES[number]


def test_it_is_continued_without_the_key(source, folder, tmp_path):
    copy.copy(source, BackupSet(f"{folder}/vol", SEAL))
    chains.write_version(source, VOLUMES[4], BLOCK)
    assert numbers(copy.copy(source, BackupSet(f"{folder}/vol", SEAL))) == [4]
    assert numbers(copy.copy(source, BackupSet(f"{folder}/vol", SEAL))) == []
    assert contents(home(f"{folder}/vol", tmp_path).folder) == contents(source.folder)


def test_what_is_not_sealed_is_not_mixed_with_what_is(source, folder, tmp_path):
    copy.copy(source, BackupSet(f"{folder}/vol", SEAL))
    with pytest.raises(Sealed):
        copy.copy(source, BackupSet(f"{folder}/vol"))
    (tmp_path / "plain").mkdir()
    copy.copy(source, BackupSet(f"{tmp_path}/plain/vol"))
    before = contents(tmp_path / "plain")
    with pytest.raises(ForeignFiles):
        copy.copy(source, BackupSet(f"{tmp_path}/plain/vol", SEAL))
    assert contents(tmp_path / "plain") == before


def test_after_a_kill_anywhere_the_next_copy_ends_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)
    wanted, count, adopted = contents(source.folder), 1, 0
    while True:
        folder = tmp_path / str(count)
        folder.mkdir()
        name = f"{folder}/vol"
        _, hit = child(
            str(folder), lambda name=name: copy.copy(source, BackupSet(name, SEAL)), count, signal.SIGKILL, False
        )
        if not hit:
            break
        done = copy.copy(source, BackupSet(name, SEAL))
        assert done.faults == []
        adopted += len(done.warnings)
        assert {path.name for path in folder.iterdir() if path.suffix == ".part"} == set()
        assert contents(home(name, tmp_path).folder) == wanted
        shutil.rmtree(folder)
        count += 1
    assert count > 30 and adopted > 3


def test_the_distributions_age_restores_it_by_hand(source, folder, tmp_path):
    needs("age", "age-keygen")
    key, public = made_key(tmp_path)
    dest = BackupSet(f"{folder}/vol", Access(recipients=tuple(keys.recipients([public]))))
    assert numbers(copy.copy(source, dest)) == [1, 2, 3]
    for number in (1, 2):
        opened = subprocess.run(["age", "-d", "-i", key, f"{folder}/vol.{number}.gz.age"], capture_output=True, check=True)
        with gzip.open(source.path(number, ".gz")) as file:
            assert gzip.decompress(opened.stdout) == file.read()


def made_key(tmp_path):
    """A key as age-keygen writes it, and its public key."""
    done = subprocess.run(["age-keygen", "-o", tmp_path / "key"], capture_output=True, text=True, check=True)
    return tmp_path / "key", done.stderr.split()[-1]


def test_the_command(source, run_verb, folder, tmp_path):
    needs("age", "age-keygen")
    key, public = made_key(tmp_path)
    done = run_verb("copy", "-q", "--recipient", public, source.name, folder)
    assert (done.returncode, done.err) == (0, "")
    assert run_verb("copy", f"{folder}/vol", tmp_path).returncode == 55
    (tmp_path / "home").mkdir()
    done = run_verb("copy", "-q", "--identity", key, f"{folder}/vol", tmp_path / "home")
    assert (done.returncode, done.err) == (0, "")
    assert contents(tmp_path / "home") == contents(source.folder)
    assert run_verb("copy", "--recipient", "age1nonsense", source.name, folder).returncode == 2
    secret = next(line for line in key.read_text().splitlines() if line.startswith("AGE"))
    done = run_verb("copy", "--recipient", secret, source.name, folder)
    assert done.returncode == 2 and secret not in done.err


@pytest.mark.store
def test_the_private_key_is_never_opened_to_seal(source, folder, tmp_path, objectstore, bucket):
    """Whatever its file is called, and wherever it is; and the trace would show it."""
    tracing.needs_strace()
    key = Key()
    for name in ("recipients.key", "key.txt", "identity"):
        (tmp_path / name).write_text(f"# public key: {key.public}\n{key.secret}\n")
    (tmp_path / "recipients").write_text(f"{key.public}\n")
    env = {**verbs.environment(tmp_path), **objectstore.environment, "HOME": str(tmp_path)}

    def with_the_key(verb, *operands):
        """The files with the key of those that it opens."""
        paths, code = tracing.opened(verbs.words(verb, "-q", *operands), tmp_path, env=env, cwd=tmp_path)
        assert code == 0
        files = map(pathlib.Path, paths)
        return [path for path in files if path.is_file() and key.secret.encode() in path.read_bytes()]

    for dest in (f"{folder}/vol", f"s3://{bucket}/vol"):
        assert with_the_key("copy", "--recipients-file", "recipients", source.name, dest) == []
        assert with_the_key("merge", "--identity", "key.txt", dest, tmp_path / "out") == [tmp_path / "key.txt"]
        (tmp_path / "out").unlink()


def test_a_copy_signs_what_is_not_signed_and_takes_only_what_is(source, folder, run_verb, tmp_path):
    key, name = signed.key(), f"{folder}/vol"
    assert run_verb("copy", "-q", "--sign", key, source.name, folder).returncode == 0
    assert contents(folder).items() >= contents(source.folder).items()
    assert sorted(path.suffixes[0] for path in folder.glob("*.sig")) == [".1", ".2"]  # a manifest is signed
    allowed, (home, other) = tmp_path / "allowed", (tmp_path / "home", tmp_path / "other")
    allowed.write_text(signed.line(key))
    assert signed.stock_verifies(allowed, "vol", f"{name}.2.sig", f"{name}.2.json")
    for made in (home, other):
        made.mkdir()
    assert run_verb("copy", "--all", "--allowed-signers", allowed, source.name, home).returncode == 54
    assert contents(home) == {}
    done = run_verb("copy", "--all", "--allowed-signers", allowed, name, other)
    assert done.returncode == 54 and "version 2 copied" in done.err and "version 3 copied" not in done.err
    assert contents(other).keys() == {each for each in contents(folder) if "vol.3" not in each}


@pytest.mark.usefixtures("store_environment")
def test_in_a_store(objectstore, bucket, source, tmp_path):
    (tmp_path / "locks").mkdir()
    access = Access(recipients=SEAL.recipients, alone=True, locks=str(tmp_path / "locks"))
    assert numbers(copy.copy(source, BackupSet(f"s3://{bucket}/vol", access))) == [1, 2, 3]
    listed = objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert {each["Key"] for each in listed} == {
        name if name.endswith(".ver") else f"{name}.age" for name in contents(source.folder)
    }
    chains.write_version(source, VOLUMES[4], BLOCK)
    objectstore.client.create_multipart_upload(Bucket=bucket, Key="vol.4.gz.age")
    objectstore.client.put_object(Bucket=bucket, Key="vol.4.md5.age", Body=b"torn")
    assert numbers(copy.copy(source, BackupSet(f"s3://{bucket}/vol", access))) == [4]
    assert objectstore.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert contents(home(f"s3://{bucket}/vol", tmp_path).folder) == contents(source.folder)
