"""Whether the bytes in a store are those that were sent, as far as their mark shows it."""

import os

import pytest

from blockdiff.formats import names
from blockdiff.place import choose, upload

pytestmark = pytest.mark.store
MIB = 1 << 20


@pytest.fixture
def place(store_environment, bucket, monkeypatch):
    monkeypatch.setattr(upload, "PART_SIZE", 5 * MIB)  # the least that a store takes
    monkeypatch.setattr(upload, "STEP", 1)  # so that the second part is larger
    return choose.at(f"s3://{bucket}/pre")


def put(place, name, data):
    part = place.part(name, names.run_name(b"\x11" * 8))
    part.write(data)
    part.close()
    part.publish()
    part.release()


def as_sent(place, name):
    """What a run that begins now says, and how many bytes it reads for that."""
    choose._store.cache_clear()
    place, read = choose.at(place.at), []
    return place.as_sent(place.path(name), read.append), sum(read)


@pytest.mark.parametrize("name, size", [("db.1.gz", 17 * MIB), ("db.1.gz", 0), ("db.1.md5", 300), ("db.1.md5", 0)])
def test_what_was_sent_is_known_again(place, objectstore, bucket, name, size):
    put(place, name, os.urandom(size))
    assert as_sent(place, name) == (True, size)
    if size:
        objectstore.rot(bucket, f"pre/{name}", size % 301 // 2)
        assert as_sent(place, name) == (False, size)


@pytest.mark.parametrize("sizes, before, after", [
    ((), (True, 12 * MIB), (False, 12 * MIB)),
    ((5, 7), (True, 12 * MIB), (None, 12 * MIB)),  # as we would have sent it
    ((6, 6), (None, 12 * MIB), (None, 12 * MIB)),
    ((5, 5, 2), (None, 0), (None, 0)),
])  # fmt: skip
def test_what_another_program_has_sent(place, objectstore, bucket, sizes, before, after):
    data = os.urandom(12 * MIB)
    where = {"Bucket": bucket, "Key": "pre/db.1.gz"}
    if sizes:
        where["UploadId"] = objectstore.client.create_multipart_upload(**where)["UploadId"]
        parts, at = [], 0
        for number, size in enumerate(sizes, 1):
            body, at = data[at : at + size * MIB], at + size * MIB
            sent = objectstore.client.upload_part(**where, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        objectstore.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    else:
        objectstore.client.put_object(**where, Body=data)
    assert as_sent(place, "db.1.gz") == before
    objectstore.rot(bucket, "pre/db.1.gz", 5)
    assert as_sent(place, "db.1.gz") == after
