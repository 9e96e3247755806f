"""The object store of the tests: what of it the code relies on, and that nothing of it is left."""

import contextlib
import datetime
import hashlib
import os
import pathlib
import subprocess

import botocore.session
import objectstores
import pytest
from botocore.exceptions import ClientError
from programs import until


@contextlib.contextmanager
def refused(*codes):
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in codes


@pytest.fixture
def client(objectstore):
    return objectstore.client


def test_of_two_creations_the_second_is_refused(client, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"first", IfNoneMatch="*")
    with refused(412):
        client.put_object(Bucket=bucket, Key="a", Body=b"second", IfNoneMatch="*")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"


def test_an_upload_appears_whole_or_not_at_all(client, bucket):
    begun = {"Bucket": bucket, "Key": "a"}
    begun["UploadId"] = client.create_multipart_upload(**begun)["UploadId"]
    etag = client.upload_part(**begun, PartNumber=1, Body=b"part")["ETag"]
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    client.abort_multipart_upload(**begun)
    with refused(404):
        client.upload_part(**begun, PartNumber=2, Body=b"part")
    with refused(404, 500):
        client.complete_multipart_upload(**begun, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_an_upload_has_the_etag_that_can_be_computed(client, bucket):
    begun = {"Bucket": bucket, "Key": "a"}
    begun["UploadId"] = client.create_multipart_upload(**begun)["UploadId"]
    parts = [os.urandom(5 << 20), b"rest"]
    sent = [client.upload_part(**begun, PartNumber=number, Body=part) for number, part in enumerate(parts, 1)]
    client.complete_multipart_upload(
        **begun, MultipartUpload={"Parts": [{"PartNumber": n, "ETag": one["ETag"]} for n, one in enumerate(sent, 1)]}
    )
    whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert client.head_object(Bucket=bucket, Key="a")["ETag"] == f'"{whole}-2"'


def test_other_bytes_than_their_md5_says_are_refused(client, bucket):
    with refused(400):
        client.put_object(Bucket=bucket, Key="a", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")


def test_what_is_locked_stays(objectstore, client):
    bucket = objectstore.make_bucket(lock=True)
    until_when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    locked = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until_when}
    version = client.put_object(Bucket=bucket, Key="a", Body=b"x", **locked)["VersionId"]
    with refused(403):
        client.delete_object(Bucket=bucket, Key="a", VersionId=version)
    client.delete_object(Bucket=bucket, Key="a")
    assert client.get_object(Bucket=bucket, Key="a", VersionId=version)["Body"].read() == b"x"


def test_the_reader_may_read_its_prefix_and_nothing_else(objectstore, client, bucket):
    for key in ("mine/a", "other/a"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    keys = objectstore.reader(bucket, "mine/")
    reader = botocore.session.get_session().create_client(
        "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], region_name="default",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    with contextlib.closing(reader):
        assert reader.get_object(Bucket=bucket, Key="mine/a")["Body"].read() == b"x"
        assert reader.list_objects_v2(Bucket=bucket, Prefix="mine/")["KeyCount"] == 1
        for call in (
            lambda: reader.get_object(Bucket=bucket, Key="other/a"),
            lambda: reader.list_objects_v2(Bucket=bucket, Prefix="other/"),
            lambda: reader.put_object(Bucket=bucket, Key="mine/b", Body=b""),
            lambda: reader.delete_object(Bucket=bucket, Key="mine/a"),
        ):
            with refused(403):
                call()


def processes(folder):
    """Return the processes whose command line or environment names a folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("whom", ["the run", "its own script"])
def test_nothing_is_left_when_it_is_killed(objectstore, tmp_path, whom):
    folder = tmp_path / "engine"
    with subprocess.Popen(["sleep", "600"]) as run:
        try:
            objectstores.start(folder, run.pid)
            assert len(processes(folder)) >= 4  # three daemons and their script
            script = objectstores._started.pop()
            killed = run if whom == "the run" else script
            killed.kill()
            killed.wait()
            script.wait(30)
            until(lambda: not processes(folder))
            assert whom != "the run" or not folder.exists()
        finally:
            run.kill()
