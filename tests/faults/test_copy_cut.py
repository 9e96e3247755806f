"""A copy into a real object store over a way that fails: once, which a request sent again heals, or for good."""

import os

import chains
import pytest
from test_copy_store import contents, stored, there

from blockdiff import copy
from blockdiff.errors import BlockdiffError
from blockdiff.place import bucket as buckets
from blockdiff.place import choose
from blockdiff.place.client import Client
from blockdiff.sets import backupset

BLOCK = 64
ON = 1000  # requests that follow
EVERY = pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)], ids=["some", "every"])


@pytest.fixture
def way(store_environment, cuts, monkeypatch):
    """Let this process reach the store through `cuts`, without a wait before a request is sent again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.url)
    monkeypatch.setattr(Client, "pause", lambda self, tried: None)
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)  # nobody is just publishing
    return cuts


@pytest.fixture
def source(tmp_path):
    """A full, and a version of the original on it, which has no manifest."""
    (tmp_path / "here").mkdir()
    made, volume = chains.new_set(tmp_path / "here"), os.urandom(12 * BLOCK + 5)
    chains.write_version(made, volume, BLOCK)
    chains.write_version(made, os.urandom(BLOCK) + volume[BLOCK:], BLOCK, original=True)
    return made


@pytest.fixture
def copied(way, source, objectstore, bucket, tmp_path):
    """Return a function that copies the set into an empty bucket over a way with these faults."""

    def copied(**faults):
        keys = [{"Key": one["Key"]} for one in objectstore.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        if keys:
            objectstore.client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
        way.reset(**faults)
        return again()

    def again():
        choose._store.cache_clear()
        return copy.copy(source, there(bucket, tmp_path))

    copied.again = again
    assert copied().exit_code == 0
    copied.requests = list(way.log)
    assert len(copied.requests) > 20
    return copied


def places(copied, step):
    """Where the way fails, and how; a request that only reads leaves nothing behind if its answer is lost."""
    for number in range(1, len(copied.requests) + 1, step):
        yield number, "before"
    writes = [n for n, request in enumerate(copied.requests, 1) if request.method not in ("GET", "HEAD")]
    for number in writes[::step]:
        yield number, "after"


@EVERY
def test_a_request_that_is_cut_once_is_sent_again(step, copied, source, objectstore, bucket):
    for number, kind in places(copied, step):
        done = copied(**{f"n{number}": kind})
        assert (done.faults, [one.number for one in done.versions]) == ([], [1, 2]), (number, kind)
        found, uploads = stored(objectstore, bucket, "off/")
        assert found == contents(source), (number, kind)
        # of an upload that was begun with no answer nothing is known; the next copy that has a version cancels it
        unknown = kind == "after" and copied.requests[number - 1].kind == "CreateMultipartUpload"
        assert len(uploads) == unknown, (number, kind)
        cancel(objectstore, bucket)


def cancel(objectstore, bucket):
    for each in objectstore.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        objectstore.client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])


@EVERY
def test_a_way_that_ends_leaves_whole_versions_and_the_next_copy_ends_it(
    step, copied, source, objectstore, bucket, way, monkeypatch
):
    whole, published = contents(source), set()
    for number, kind in places(copied, step):
        with monkeypatch.context() as patch:
            patch.setitem(buckets.Bucket.__init__.__kwdefaults__, "retries", 0)
            try:
                done = copied(**{f"n{number}": kind}, **{f"n{number + more}": "before" for more in range(1, ON)})
                faults = done.faults
            except BlockdiffError as error:
                faults = [error]
        codes = (15,) if copied.requests[number - 1].kind == "PutObject" else (15, 17)
        assert [fault.exit_code for fault in faults if fault.exit_code not in codes] == [], (number, kind)
        found, _ = stored(objectstore, bucket, "off/")
        newest = int(found.get("vol.ver", b"0"))
        published.add(newest)
        wanted = {name: data for name, data in whole.items() if name[4:5].isdigit() and int(name[4]) <= newest}
        assert found.items() >= wanted.items() and (faults or newest == 2), (number, kind)
        way.reset()
        assert copied.again().faults == []
        assert stored(objectstore, bucket, "off/") == (whole, []), (number, kind)
    assert published == {0, 1, 2}
