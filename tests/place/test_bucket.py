"""A bucket of a real object store, and the way to it that fails."""

import io
import os
import sys
import time

import pytest
from botocore.exceptions import ClientError
from pages import shorten_pages

from blockdiff.errors import (
    BlockdiffError,
    NoRoom,
    ProgramUnfit,
    SetChanged,
    StoreFailed,
    StoreRefused,
    StoreUnreachable,
    StoreUnreadable,
)
from blockdiff.place.bucket import Bucket

SOON = 1000  # seconds


def whole(bucket, name):
    return bucket.get_range(name, 0, bucket.head(name).size)


# what there is


def test_a_list_has_what_begins_so_and_no_folders(at):
    bucket = at("pre/")
    for name in ("db.1.gz", "db.1.md5", "db.1/x", "ä +%2\x01", "eb"):
        bucket.put(name, name.encode())
    at("other/").put("db.1.gz", b"")
    assert {name: entry.size for name, entry in bucket.list().items()} == {
        "db.1.gz": 7, "db.1.md5": 8, "ä +%2\x01": 7, "eb": 2,
    }  # fmt: skip
    assert set(bucket.list("db")) == {"db.1.gz", "db.1.md5"}
    assert bucket.list("q") == {}
    assert [bucket.any(begin) for begin in ("", "db.1/", "q")] == [True, True, False]
    assert [at(prefix).any() for prefix in ("pre", "", "pre/q")] == [True, True, False]
    listed = bucket.list()["eb"]
    assert listed == bucket.head("eb")._replace(version=listed.version)


def test_a_list_goes_on_over_all_pages(at, cuts):
    bucket = at(endpoint=cuts.url)
    names = [f"n{number}" for number in range(5)]
    for name in names:
        bucket.put(name, b"")
    shorten_pages(bucket)
    cuts.reset()
    assert list(bucket.list()) == names
    assert cuts.kinds() == {"ListObjectsV2": 3}


def test_what_is_not_there(at):
    bucket = at()
    assert bucket.head("a") is None
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 's3://test-\w+/a'"):
        bucket.get_range("a", 0, 1)
    bucket.delete("a")
    for ask in (Bucket.list, Bucket.any, Bucket.uploads, Bucket.versions, lambda one: one.get_range("a", 0, 1)):
        with pytest.raises(StoreRefused, match=r"^the object store refuses s3://nobody/.*: NoSuchBucket"):
            ask(at(name="nobody"))


def test_a_range_is_what_was_asked_for(at):
    bucket = at()
    bucket.put("a", b"0123456789")
    assert [bucket.get_range("a", *place) for place in ((0, 10), (3, 4), (9, 1))] == [b"0123456789", b"3456", b"9"]
    for place in ((0, 11), (9, 2), (10, 1), (100, 5)):
        with pytest.raises(SetChanged):
            bucket.get_range("a", *place)


def test_a_range_of_what_was_replaced_is_refused(at):
    bucket = at()
    bucket.put("a", b"old")
    mark = bucket.head("a").etag
    assert bucket.get_range("a", 0, 3, mark=mark) == b"old"
    bucket.put("a", b"new")
    with pytest.raises(SetChanged):
        bucket.get_range("a", 0, 3, mark=mark)


def test_the_clock_is_that_of_the_store(at):
    bucket = at()
    assert abs(bucket.now() - time.time()) < 100  # asked
    bucket.put("a", b"")
    assert 0 <= bucket.now() - bucket.head("a").modified < 100


# what is made


def test_what_is_created_once_stays(at):
    bucket = at()
    assert bucket.create_once("a", b"first") is True
    assert bucket.create_once("a", b"first") is False  # also with the same bytes
    assert whole(bucket, "a") == b"first"
    bucket.put("a", b"second")
    assert whole(bucket, "a") == b"second"
    bucket.delete("a")
    assert bucket.create_once("a", b"third") is True


@pytest.mark.parametrize("fault", ["before", "after", "body", 500, 503, 409])
@pytest.mark.parametrize("data", [b"mine" * 1000, io.BytesIO(b"mine" * 1000)], ids=["bytes", "file"])
def test_whoever_created_it_knows_so_though_the_first_answer_was_lost(at, cuts, fault, data):
    bucket = at(endpoint=cuts.url)
    cuts.reset(n1="after", n2=fault, n3=fault)
    assert bucket.create_once("a", data) is True
    cuts.reset(n1=fault)
    assert bucket.create_once("a", b"other") is False
    assert whole(bucket, "a") == b"mine" * 1000
    cuts.reset(n1=fault, n2=fault)
    assert bucket.create_once("b", data) is True
    assert whole(bucket, "b") == b"mine" * 1000


def test_a_store_that_knows_no_such_creation_is_found_out(at, cuts):
    bucket = at(endpoint=cuts.url)
    cuts.reset(n1=501)
    with pytest.raises(StoreRefused, match="501"):
        bucket.create_once("a", b"")


@pytest.mark.parametrize("fault", ["before", "after", "middle", 500, "answer"])
def test_what_can_be_asked_again_is(at, cuts, fault):
    bucket = at(endpoint=cuts.url)
    bucket.put("a", b"x" * 100_000)
    for ask in (Bucket.list, Bucket.uploads, Bucket.versions, lambda one: one.head("a")):
        right = ask(bucket)
        cuts.reset(n1=fault)
        assert ask(bucket) == right
    if fault != "answer":  # which bytes are right, those know who have their digests
        cuts.reset(n1=fault, n2=fault, n3=fault, n4=fault)
        assert whole(bucket, "a") == b"x" * 100_000
    for ask in (lambda: bucket.put("b", b"x"), lambda: bucket.delete("b")):
        cuts.reset(n1=fault)
        ask()
    assert set(bucket.list()) == {"a"}


def test_what_fails_five_times_has_failed(at, cuts):
    bucket = at(endpoint=cuts.url)
    for ask, error in (
        (Bucket.list, StoreUnreadable), (lambda one: one.put("a", b""), StoreFailed),
        (lambda one: one.create_once("a", b""), StoreFailed), (lambda one: one.upload("a"), StoreFailed),
    ):  # fmt: skip
        cuts.reset(since=(1, 503))
        with pytest.raises(error, match=r"^cannot (read|write) s3://test-\w+/a?: status 503, 503$"):
            ask(bucket)
        assert len(cuts.log) == 5
    cuts.reset(n1="before")
    with pytest.raises(StoreFailed, match=r": the connection was cut$"):
        at(retries=0).put("a", b"")


# errors


def test_each_refusal_has_its_error_and_no_secret(at, environment, objectstore, monkeypatch):
    def message(error, do=Bucket.list):
        with pytest.raises(error) as caught:
            do(at(name="bucket", retries=0))
        assert "secret" not in str(caught.value) and "Signature=" not in str(caught.value)
        return str(caught.value)

    environment({"AWS_SECRET_ACCESS_KEY": "wrongsecret"})
    assert message(StoreRefused) == "the object store refuses s3://bucket/: SignatureDoesNotMatch"
    environment({"AWS_ACCESS_KEY_ID": "nobody"})
    assert message(StoreRefused) == "the object store refuses s3://bucket/: InvalidAccessKeyId"
    environment({"AWS_ENDPOINT_URL": "http://user:secret@127.0.0.1:1"})
    assert message(StoreUnreachable) == "cannot reach s3://bucket at 127.0.0.1:1: Connection refused"
    environment({"AWS_ENDPOINT_URL": "127.0.0.1"})
    assert message(StoreRefused) == "the object store refuses s3://bucket: Invalid endpoint: 127.0.0.1"
    environment({"AWS_PROFILE": "nobody"})
    assert message(StoreRefused) == "the object store refuses s3://bucket: The config profile (nobody) could not be found"
    for name in ("AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", objectstore.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert message(StoreRefused) == "the object store refuses s3://bucket: Unable to locate credentials"


def test_no_room(at, cuts):
    bucket = at(endpoint=cuts.url)
    cuts.reset(n1=507)
    with pytest.raises(NoRoom, match=r"^no room to write s3://test-\w+/a "):
        bucket.put("a", b"")


def test_a_reader_reads(at, environment, objectstore, bucket):
    at("mine/").put("a", b"x")
    environment(objectstore.reader(bucket, "mine/"))
    reader = at("mine/")
    assert (list(reader.list()), reader.get_range("a", 0, 1), reader.any()) == (["a"], b"x", True)
    for ask in (
        lambda: reader.put("b", b""), lambda: reader.create_once("b", b""), lambda: reader.delete("a"),
        lambda: reader.upload("b"), lambda: at("other/").list(),
    ):  # fmt: skip
        with pytest.raises(StoreRefused, match="AccessDenied"):
            ask()


def test_without_the_library_one_line_says_what_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "blockdiff.place.client", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "botocore"] + ["botocore"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ProgramUnfit) as caught:
        Bucket("bucket")
    assert str(caught.value) == (
        "the Python library botocore is needed and cannot be used: it is not installed "
        "(hint: pip install 'blockdiff[s3]')"
    )


# versions and locks


@pytest.fixture
def locking(at, objectstore):
    return at(name=objectstore.make_bucket(lock=True))


def delete_version(objectstore, bucket, name, version):
    objectstore.client.delete_object(Bucket=bucket._bucket, Key=name, VersionId=version)


def test_what_is_locked_outlives_its_deletion(locking, objectstore):
    until = int(time.time()) + SOON
    assert locking.create_once("a", b"x", lock_until=until)
    entry = locking.head("a")
    assert entry.locked_until == until
    with pytest.raises(ClientError, match="AccessDenied"):
        delete_version(objectstore, locking, "a", entry.version)
    with pytest.raises(StoreRefused, match="AccessDenied"):
        locking.set_retention("a", entry.version, until - 1)
    locking.set_retention("a", entry.version, until + 1)
    assert locking.head("a", entry.version).locked_until == until + 1
    locking.delete("a")
    assert locking.list() == {} and locking.head("a") is None
    assert [(one.name, one.newest, one.deleted) for one in locking.versions()] == [("a", False, False), ("a", True, True)]
    old = locking.versions()[0].entry
    assert old._replace(modified=0) == entry._replace(locked_until=None, modified=0)  # lists may tell a later second
    assert locking.get_range("a", 0, 1, version=old.version) == b"x"


def test_an_upload_is_locked_when_it_is_completed(locking, objectstore):
    upload = locking.upload("a")
    upload.write(b"x")
    upload.complete()
    version = locking.head("a").version
    locking.set_retention("a", version, int(time.time()) + SOON)
    with pytest.raises(ClientError, match="AccessDenied"):
        delete_version(objectstore, locking, "a", version)


def test_a_bucket_without_locks_says_so(at):
    bucket = at()
    with pytest.raises(StoreRefused, match="hint: only a bucket that was made with object lock can lock"):
        bucket.create_once("a", b"", lock_until=int(time.time()) + SOON)
    assert bucket.list() == {}


def test_versions_that_are_deleted_for_good_are_not_there(at, objectstore):
    bucket = at(name=objectstore.make_bucket(versions=True))
    shorten_pages(bucket)
    for number in range(5):
        bucket.put("a", b"%d" % number)
        bucket.put("b", b"")
    versions = bucket.versions("a")
    assert [one.newest for one in versions] == [True, False, False, False, False]
    assert bucket.get_range("a", 0, 1, version=versions[0].entry.version) == b"4"
    for one in versions:
        delete_version(objectstore, bucket, "a", one.entry.version)
    assert bucket.versions("a") == [] and len(bucket.versions()) == 5
    with pytest.raises(FileNotFoundError):
        bucket.get_range("a", 0, 1, version=versions[0].entry.version)


def test_every_error_is_ours(at, cuts):
    bucket = at(endpoint=cuts.url)
    for status in (301, 400, 403, 405, 409, 413, 429, 500, 501, 503, 507):
        cuts.reset(since=(1, status))
        for ask in (Bucket.list, Bucket.uploads, lambda one: one.put(os.urandom(3).hex(), b""), lambda one: one.head("a")):
            with pytest.raises(BlockdiffError):
                ask(bucket)
