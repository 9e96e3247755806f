"""Uploads in parts to a real object store, cut at each of their requests."""

import os

import pytest
from pages import shorten_pages

from blockdiff.errors import SetChanged, StoreFailed, StoreUnreadable
from blockdiff.place import upload as uploads
from blockdiff.place.upload import MAX_PARTS, PART_SIZE, part_size

MIB = 1 << 20
DATA = os.urandom(5 * MIB) * 2 + b"rest"  # three parts of the smallest size that stores take


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(uploads, "PART_SIZE", 5 * MIB)


def send(bucket, name="a", data=DATA):
    upload = bucket.upload(name)
    try:
        for place in range(0, len(data), 3 * MIB):
            upload.write(memoryview(data)[place : place + 3 * MIB])
        upload.complete()
    finally:
        upload.discard()
    return upload


def test_parts_become_larger_so_that_they_suffice():
    for most in (None, 1, 100 << 30, 5 << 40):
        sent = count = 0
        while count < MAX_PARTS:
            sent += part_size(sent, count, most)
            count += 1
            if count == 1000:
                assert sent == 1000 * PART_SIZE  # what is short takes little memory
        assert sent >= (most or 5 << 40)
    assert part_size(1000 * PART_SIZE, 1000, 1 << 40) < 120 * MIB
    assert part_size(1000 * PART_SIZE, 1000, None) == 2 * PART_SIZE


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 22 * MIB])
def test_the_store_has_the_bytes_that_were_written(at, small_parts, size):
    bucket, data = at("pre/"), os.urandom(size)
    done = send(bucket, data=data)
    entry = bucket.head("a")
    assert (entry.size, entry.etag) == (done.size, done.etag) == (size, done.etag)
    assert done.etag.endswith(f"-{max(1, -(-size // (5 * MIB)))}")
    if size:
        assert bucket.get_range("a", 0, size) == data
    assert bucket.uploads() == []


def test_nothing_is_there_before_it_is_completed(at, small_parts):
    bucket = at()
    upload = bucket.upload("a")
    upload.write(DATA)
    assert [one.name for one in bucket.uploads()] == ["a"] and bucket.list() == {}
    upload.discard()
    assert bucket.uploads() == [] and bucket.list() == {}
    upload.discard()


def test_a_completed_one_is_not_discarded(at, cuts, small_parts):
    bucket = at(endpoint=cuts.url)
    send(bucket)
    assert "DELETE uploadId" not in cuts.kinds() and "AbortMultipartUpload" not in cuts.kinds()
    assert cuts.kinds()["UploadPart"] == 3 and sum(cuts.kinds().values()) <= 5


@pytest.mark.parametrize("fault", ["before", "after", "body", 500])
def test_one_cut_at_any_request_is_made_good(at, cuts, small_parts, fault):
    bucket = at(endpoint=cuts.url)
    for number in range(1, 7):
        cuts.reset(**{f"n{number}": fault})
        done = send(bucket, f"a{number}")
        cuts.reset()
        assert (bucket.head(f"a{number}").etag, done.size) == (done.etag, len(DATA))
        assert bucket.get_range(f"a{number}", 0, len(DATA)) == DATA


@pytest.mark.parametrize("fault", ["before", "after", 503])
def test_when_the_store_fails_for_good_it_is_there_whole_or_not_at_all(at, cuts, small_parts, fault):
    bucket = at(endpoint=cuts.url)
    bucket.put("old", b"x")
    for number in range(1, 6):  # the last is where its completion is asked for
        cuts.reset(since=(number, fault))
        with pytest.raises((StoreFailed, StoreUnreadable)):
            send(bucket)
        cuts.reset()
        there = bucket.list()
        assert there.pop("old").size == 1
        assert set(there) == ({"a"} if fault == "after" and number == 5 else set())
        if there:
            assert bucket.get_range("a", 0, len(DATA)) == DATA
            bucket.delete("a")
        for one in bucket.uploads("a"):
            bucket.abort(one)
            bucket.abort(one)
        assert bucket.uploads() == []


def test_one_that_another_run_has_cancelled_does_not_appear(at, small_parts):
    bucket = at()
    late, early = bucket.upload("a"), bucket.upload("b")
    late.write(DATA)
    late.finish()
    for one in bucket.uploads():
        bucket.abort(one)
    with pytest.raises(SetChanged, match=r"^s3://test-\w+/a was changed by another run"):
        late.complete()
    with pytest.raises(SetChanged):
        early.write(DATA)
        early.complete()
    early.discard()
    late.discard()
    assert bucket.list() == {}


def test_uploads_of_strange_names_are_listed(at, objectstore, bucket):
    for name in ("a b+%2", "ä", "\x01"):
        try:
            objectstore.client.create_multipart_upload(Bucket=bucket, Key=f"pre/{name}")
        except Exception:  # its answer is no XML, but it was made
            assert name == "\x01"
    assert sorted(one.name for one in at("pre/").uploads()) == ["\x01", "a b+%2", "ä"]


def test_uploads_are_listed_over_all_pages(at, objectstore, bucket):
    names = ["a b+%2", "a b+%2", "a b+%2", "b", "b", "ä", "ä"]
    for name in names:
        objectstore.client.create_multipart_upload(Bucket=bucket, Key=f"pre/{name}")
    opened = at("pre/")
    shorten_pages(opened)
    assert [one.name for one in opened.uploads()] == names
    assert len({one.id for one in opened.uploads()}) == len(names)


def test_few_parts_are_under_way_at_a_time(at, small_parts, monkeypatch):
    monkeypatch.setattr(uploads, "IN_FLIGHT", 10 * MIB)
    seen = []
    upload = at().upload("a")
    for _ in range(6):
        upload.write(bytes(5 * MIB))
        seen.append(len(upload._pending))
    assert max(seen) <= 2
    upload.discard()
