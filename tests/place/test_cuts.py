"""The way to the object store that tests cut: it passes on what it is given, and notes what no client may ask for."""

import contextlib
import http.client
import os
import time

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from cuts import Cuts

MD5_OF_X = "ndTkYSaMgDT1yFZOFVxnpg=="
ETAG_OF_X = "9dd4e461268c8034f5c8564e155c67a6"  # unquoted, as this store wants it


@pytest.fixture
def proxy(objectstore):
    proxy = Cuts(objectstore.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def client(objectstore, proxy):
    client = botocore.session.get_session().create_client(
        "s3", endpoint_url=proxy.url, region_name="default",
        aws_access_key_id=objectstore.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=objectstore.environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )  # fmt: skip
    yield client
    client.close()


def test_what_is_passed_on_is_what_was_sent(client, proxy, bucket, tmp_path):
    data = os.urandom(20 << 20)
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb") as file:  # after "100 Continue"
        client.put_object(Bucket=bucket, Key="a b/ä%", Body=file)
    assert client.get_object(Bucket=bucket, Key="a b/ä%")["Body"].read() == data
    assert [(one.kind, one.key, one.answer) for one in proxy.log] == [
        ("PutObject", "a b/ä%", [200]), ("GetObject", "a b/ä%", [200]),
    ]  # fmt: skip
    assert proxy.log[0].headers["expect"] == "100-continue"


def test_a_body_in_chunks_ends_where_it_ends(proxy):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.server_address[1])) as connection:
        for _ in range(2):
            connection.request("PUT", "/bucket/a", iter([b"x" * 100_000, b"y"]), encode_chunked=True)
            answer = connection.getresponse()
            assert answer.status in (403, 404, 411) and answer.read()
    assert [one.kind for one in proxy.log] == ["PutObject"] * 2


def test_writes_that_no_client_may_ask_for_are_noted(client, proxy, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"x", ContentMD5=MD5_OF_X)
    client.get_object(Bucket=bucket, Key="a", IfMatch=ETAG_OF_X)
    assert proxy.violations == []
    client.put_object(Bucket=bucket, Key="a", Body=b"x", ContentMD5=MD5_OF_X, IfMatch=ETAG_OF_X)
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    upload = client.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    client.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"")
    assert proxy.violations == [
        "PutObject a: If-Match on a write", "PutObject a: no Content-MD5", "UploadPart a: no Content-MD5",
    ]  # fmt: skip


@pytest.mark.parametrize("fault, there", [("before", False), ("after", True), ("body", False), (503, False)])
def test_each_fault_is_what_it_says(client, proxy, bucket, fault, there):
    proxy.reset(n1=fault)
    with pytest.raises((ClientError, HTTPClientError)):
        client.put_object(Bucket=bucket, Key="a", Body=b"x", ContentMD5=MD5_OF_X)
    assert ("Contents" in client.list_objects_v2(Bucket=bucket)) == there


def test_answers_come_late_cut_or_changed(client, proxy, bucket):
    data = os.urandom(1 << 20)
    client.put_object(Bucket=bucket, Key="a", Body=data)
    proxy.reset(n1="answer", n2="middle")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(Exception, match=r"Read|Incomplete|broken"):
        client.get_object(Bucket=bucket, Key="a")["Body"].read()
    proxy.delay_s = 0.2
    begun = time.monotonic()
    client.head_object(Bucket=bucket, Key="a")
    assert time.monotonic() - begun >= 0.2
