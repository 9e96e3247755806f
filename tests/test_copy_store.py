"""Copies in a real object store: the same bytes, what a kill at any request leaves, and what nobody can delete."""

import os
import pathlib
import signal
import time

import chains
import places
import pytest
import seals
from rewrites import rewrite

from blockdiff import copy
from blockdiff.errors import ForeignFiles, StoreRefused
from blockdiff.place import choose
from blockdiff.place.base import Access
from blockdiff.place.client import Client
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sets import backupset, drop
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
FIRST = os.urandom(12 * BLOCK + 5)

pytestmark = pytest.mark.usefixtures("store_environment")


def written(source, count, **how):
    for _ in range(count):
        number = source.newest() + 1
        chains.write_version(source, os.urandom(number * BLOCK) + FIRST[number * BLOCK :], BLOCK, **how)


@pytest.fixture
def source(tmp_path):
    """Three versions, of which the second is a full."""
    (tmp_path / "here").mkdir()
    made = chains.new_set(tmp_path / "here")
    written(made, 1)
    written(made, 1, full=True)
    written(made, 1)
    return made


def stored(engine, bucket, prefix=""):
    """All objects, and uploads that are open, by a client that is none of ours."""
    found = engine.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    keys = [each["Key"] for each in found]
    assert all(key.startswith(prefix) for key in keys)
    open_ones = engine.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return {
        key.removeprefix(prefix): engine.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
    }, [each["Key"].removeprefix(prefix) for each in open_ones]


def contents(backup_set, *numbers):
    """What is in a set's folder: NAME.ver and these versions, or all."""
    begins = tuple(f"vol.{number}" for number in numbers) or ("vol.",)
    files = pathlib.Path(backup_set.folder).iterdir()
    wanted = (*begins, "vol.ver")
    return {path.name: path.read_bytes() for path in files if path.name.startswith(wanted) and path.suffix != ".lock"}


def there(bucket, tmp_path, **how):
    (tmp_path / "locks").mkdir(exist_ok=True)
    return BackupSet(f"s3://{bucket}/off/vol", Access(alone=True, locks=str(tmp_path / "locks"), **how))


def numbers(done):
    assert done.faults == [] and done.warnings == [], done
    return [one.number for one in done.versions]


def home(bucket, tmp_path, folder="home"):
    """Copy all of a set in a store to a new folder, and return the set there."""
    (tmp_path / folder).mkdir()
    dest = chains.new_set(tmp_path / folder)
    assert copy.copy(BackupSet(f"s3://{bucket}/off/vol"), dest, every=True).exit_code == 0
    return dest


def test_there_and_back(objectstore, bucket, source, tmp_path):
    dest = there(bucket, tmp_path)
    assert numbers(copy.copy(source, dest)) == [2, 3]
    assert stored(objectstore, bucket, "off/") == (contents(source, 2, 3), [])
    assert numbers(copy.copy(source, there(bucket, tmp_path))) == []
    written(source, 1)
    written(source, 1, original=True)
    assert numbers(copy.copy(source, there(bucket, tmp_path))) == [4, 5]
    assert stored(objectstore, bucket, "off/") == (contents(source, 2, 3, 4, 5), [])
    back = home(bucket, tmp_path)
    assert contents(back) == contents(source, 2, 3, 4, 5)
    other = BackupSet(f"s3://{bucket}/other/vol", Access(alone=True, locks=str(tmp_path / "locks")))
    assert numbers(copy.copy(BackupSet(f"s3://{bucket}/off/vol"), other)) == [2, 3, 4, 5]
    keys = [each["Key"] for each in objectstore.client.list_objects_v2(Bucket=bucket, Prefix="other/")["Contents"]]
    assert keys == [f"other/{name}" for name in sorted(contents(source, 2, 3, 4, 5))]


def test_few_requests_copy_an_increment(cuts, bucket, source, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.url)
    copy.copy(source, there(bucket, tmp_path))
    written(source, 1)
    cuts.reset()
    assert numbers(copy.copy(source, there(bucket, tmp_path))) == [4]
    kinds = cuts.kinds()
    parts = sum(kinds.pop(kind) for kind in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"))
    assert parts == 3 and sum(kinds.values()) <= 12, kinds


def test_a_golden_set(objectstore, bucket, tmp_path):
    source = BackupSet(str(places.GOLDEN / "grow" / "grow"))
    (tmp_path / "locks").mkdir()
    dest = BackupSet(f"s3://{bucket}/grow", Access(alone=True, locks=str(tmp_path / "locks")))
    assert numbers(copy.copy(source, dest)) == [1, 2, 3, 4]
    files = (places.GOLDEN / "grow").iterdir()
    assert stored(objectstore, bucket)[0] == {path.name: path.read_bytes() for path in files}


def test_what_is_another_set_is_refused(objectstore, bucket, source, tmp_path):
    copy.copy(source, there(bucket, tmp_path))
    (tmp_path / "other").mkdir()
    other = chains.new_set(tmp_path / "other")
    written(other, 4)
    before = stored(objectstore, bucket)
    with pytest.raises(ForeignFiles, match="is not version 3 of"):
        copy.copy(other, there(bucket, tmp_path))
    assert stored(objectstore, bucket) == before


def test_what_another_program_left_is_not_touched(objectstore, bucket, source, tmp_path):
    objectstore.client.put_object(Bucket=bucket, Key="off/vol.2.md5", Body=b"not ours")
    with pytest.raises(ForeignFiles, match="vol"):
        copy.copy(source, there(bucket, tmp_path))
    assert stored(objectstore, bucket, "off/") == ({"vol.2.md5": b"not ours"}, [])


def test_uploads_of_dead_runs_are_ended_and_those_of_other_sets_stay(objectstore, bucket, source, tmp_path):
    for key in ("off/vol.2.gz", "off/vol.1.2.gz", "off/vol.other", "off/vol2.2.gz"):
        objectstore.client.create_multipart_upload(Bucket=bucket, Key=key)
    assert numbers(copy.copy(source, there(bucket, tmp_path))) == [2, 3]
    assert sorted(stored(objectstore, bucket, "off/")[1]) == ["vol.1.2.gz", "vol.other", "vol2.2.gz"]


def test_after_a_kill_before_any_request_the_next_copy_ends_it(objectstore, bucket, source, tmp_path, monkeypatch):
    """Before each request that changes something: a version of ours, and one of the original."""
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)  # nobody is just publishing
    with source.locked():
        drop.drop(source, [1])
    rewrite(source, 3, None)
    written(source, 1, original=True)
    whole, states, count = contents(source, 3, 4), set(), 1
    while killed(lambda: copy.copy(source, there(bucket, tmp_path)), count):
        found, _ = stored(objectstore, bucket, "off/")
        newest = int(found.get("vol.ver", b"0"))
        states.add((newest, frozenset(found)))
        versions = contents(source, *range(3, newest + 1)) | {"vol.ver": b"%d\n" % newest} if newest else {}
        assert found.items() >= versions.items()
        done = copy.copy(source, there(bucket, tmp_path))
        assert done.faults == [] and done.exit_code in (0, 3)
        assert stored(objectstore, bucket, "off/") == (whole, [])
        keys = [{"Key": f"off/{name}"} for name in whole]
        objectstore.client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
        count += 1
    assert count > 12 and len(states) > 6 and {newest for newest, _ in states} == {0, 3}
    assert contents(home(bucket, tmp_path)) == whole


def killed(work, count):
    """Run work in a child that is killed before its count-th request that writes; return whether it was."""
    process = os.fork()
    if process == 0:
        try:
            choose._store.cache_clear()
            real, calls = Client.once, 0

            def once(self, operation, **asked):
                nonlocal calls
                calls += operation.startswith(("put", "create", "upload", "complete", "delete", "abort"))
                if calls == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(self, operation, **asked)

            Client.once = once
            work()
            os._exit(0)
        finally:
            os._exit(98)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


# what nobody can delete


def deletable(engine, bucket):
    """The objects of which a version can be deleted."""
    found = []
    for each in engine.client.list_object_versions(Bucket=bucket)["Versions"]:
        try:
            engine.client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
            found.append(each["Key"])
        except engine.client.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return sorted(found)


def until_of(engine, bucket, key):
    return int(engine.client.head_object(Bucket=bucket, Key=key)["ObjectLockRetainUntilDate"].timestamp())


def test_all_that_a_version_needs_is_locked_as_long_as_it_is(objectstore, source, tmp_path):
    bucket, now = objectstore.make_bucket(lock=True), int(time.time())
    until = now + 30 * 86400
    assert numbers(copy.copy(source, there(bucket, tmp_path, lock_until=until), until=until)) == [2, 3]
    written(source, 1)
    later = until + 2 * 86400
    done = copy.copy(source, there(bucket, tmp_path, lock_until=later), until=later)
    assert numbers(done) == [4] and done.extended == 2
    names = [name for name in contents(source, 2, 3, 4) if name != "vol.ver"]
    assert {until_of(objectstore, bucket, f"off/{name}") for name in names} == {later}
    written(source, 1)
    soon = later + 3600
    assert copy.copy(source, there(bucket, tmp_path, lock_until=soon), until=soon).extended == 0
    assert set(deletable(objectstore, bucket)) == {"off/vol.ver"}


def test_what_a_sealed_version_needs_is_locked_as_well(objectstore, source, tmp_path):
    bucket, until = objectstore.make_bucket(lock=True), int(time.time()) + 30 * 86400
    seal = (Recipient(Identity(bytes([7] * 32)).public),)
    for later in (0, 2 * 86400):
        access = {"lock_until": until + later, "recipients": seal}
        done = copy.copy(source, there(bucket, tmp_path, **access), until=until + later)
        written(source, 1)
    assert numbers(done) == [4] and done.extended == 2
    names = [f"off/{name}.age" for name in contents(source, 2, 3, 4) if not name.endswith((".ver", ".xxh128"))]
    assert {until_of(objectstore, bucket, name) for name in names} == {until + 2 * 86400}


def test_a_bucket_without_locks_is_refused(objectstore, bucket, source, tmp_path):
    until = int(time.time()) + 86400
    done = copy.copy(source, there(bucket, tmp_path, lock_until=until), until=until)
    assert [type(fault) for fault in done.faults] == [StoreRefused] and done.exit_code == 18
    assert "vol.ver" not in stored(objectstore, bucket, "off/")[0]


def test_the_command(objectstore, bucket, source, run_verb, tmp_path):
    name = f"s3://{bucket}/far"
    done = run_verb("copy", source.name, f"{name}/", env=objectstore.environment)
    assert (done.returncode, done.out) == (0, "") and "version 3 copied" in done.err
    done = run_verb("copy", "-n", source.name, f"{name}/vol", env=objectstore.environment)
    assert f"nothing to copy, {name}/vol has version 3" in done.err
    (tmp_path / "home").mkdir()
    assert run_verb("copy", "-q", "--all", f"{name}/", tmp_path / "home", env=objectstore.environment).err == ""
    assert contents(BackupSet(f"{tmp_path}/home/vol")) == contents(source, 2, 3)
    done = run_verb("copy", "--retain-days", 3, source.name, f"{name}2/", env=objectstore.environment)
    assert done.returncode == 18 and "object lock" in done.err


def test_only_diff_files_are_of_the_storage_class(objectstore, bucket, source, run_verb, tmp_path):
    """Of a store that has a second one; it refuses one that it does not have."""
    cold = ("--placement-id=default-placement", "--storage-class=COLD")
    objectstore.admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", *cold)
    objectstore.admin("zone", "placement", "add", "--rgw-zone=default", "--data-pool=default.rgw.buckets.data", *cold)
    public = str(seals.Key().public)
    with objectstore.gateway() as env:
        for prefix, options in (("plain", []), ("sealed", ["--recipient", public])):
            words = ["--storage-class", "COLD", *options, source.name, f"s3://{bucket}/{prefix}/"]
            done = run_verb("copy", "-q", *words, env=env)
            assert (done.returncode, done.err) == (0, "")
        done = run_verb("copy", "--storage-class", "OTHER", source.name, f"s3://{bucket}/other/", env=env)
        assert done.returncode == 18 and done.err.startswith("blockdiff: the object store refuses ")
    keys = [each["Key"] for each in objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]]
    classes = {key: objectstore.client.head_object(Bucket=bucket, Key=key).get("StorageClass") for key in keys}
    assert len(keys) == 11 + 9
    assert {key: "COLD" if ".gz" in key else None for key in keys} == classes
