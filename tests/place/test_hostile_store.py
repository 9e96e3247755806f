"""An object store that lies: its answers are another machine's, and no more than data."""

import contextlib
import http.server
import threading

import pytest

from blockdiff.errors import SetChanged, StoreFailed, StoreRefused, StoreUnreadable
from blockdiff.place import listing
from blockdiff.place.bucket import Bucket

DATE = "Thu, 26 Nov 2026 08:00:00 GMT"
PAGE = "<ListBucketResult><Name>bucket</Name>{}</ListBucketResult>"
OBJECT = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{}</LastModified></Contents>"
NOW = "2026-11-26T08:00:00.000Z"


class Store(http.server.ThreadingHTTPServer):
    """A server of which every answer is `answer(method, path)`: status, headers, body."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answer, self.asked = None, []


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError):
            super().handle()

    def any(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path))
        status, headers, body = self.server.answer(self.command, self.path)
        self.send_response_only(status)
        for name, value in {"Date": DATE, "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = any


@pytest.fixture
def store():
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def bucket(store, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.server_address[1]}", "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "thesecret", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_DEFAULT_REGION": "default",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    bucket = Bucket("bucket", "pre/", retries=1, sleep=lambda seconds: None)
    yield bucket
    bucket.close()


def always(store, body="", status=200, **headers):
    data = body if isinstance(body, bytes) else body.encode()
    store.answer = lambda method, path: (status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def test_only_names_below_the_prefix_are_listed(store, bucket):
    keys = ("pre/db.1.gz", "../etc/passwd", "other/x", "pre/../x", "pre/%01%1b[2J", "pre", "")
    always(store, PAGE.format("".join(OBJECT.format(key, 1, NOW) for key in keys)))
    assert set(bucket.list()) == {"db.1.gz", "../x", "%01%1b[2J"}  # what is no name of a set's file is its callers' rule
    assert bucket.list("db").keys() == {"db.1.gz"}


NO_LISTS = ["", "x", "<html>Please log in</html>", PAGE.replace("bucket", "other").format(""), PAGE[:-9]]
NO_OBJECTS = [
    *(OBJECT.format("pre/a", size, NOW) for size in ("-1", "", "x", "1e9", "0x10")),
    *(OBJECT.format("pre/a", 1, when) for when in ("", "x", "99999-01-01")),
    "<Contents><Size>1</Size></Contents>", "<IsTruncated>true</IsTruncated>",
]  # fmt: skip


@pytest.mark.parametrize("ask", [Bucket.list, Bucket.versions, Bucket.uploads])
@pytest.mark.parametrize("page", NO_LISTS)
def test_what_is_no_list_is_not_taken_for_an_empty_one(store, bucket, page, ask):
    always(store, page)
    with pytest.raises(StoreUnreadable):
        ask(bucket)


@pytest.mark.parametrize("objects", [*NO_OBJECTS, '<!DOCTYPE a [<!ENTITY b SYSTEM "/etc/passwd">]>'])
def test_what_is_no_object_is_not_listed(store, bucket, objects):
    page = objects + PAGE.format(OBJECT.format("&b;", 1, NOW)) if "DOCTYPE" in objects else PAGE.format(objects)
    always(store, page)
    with pytest.raises(StoreUnreadable):
        bucket.list()


def test_a_list_without_an_end_is_ended(store, bucket, monkeypatch):
    monkeypatch.setattr(listing, "MOST_NAMES", 50)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
    always(store, PAGE.format(more.format("same")))
    with pytest.raises(StoreUnreadable, match=r"^cannot read s3://bucket/pre/: its list of names does not end$"):
        bucket.list()
    store.answer = lambda method, path: (200, {}, PAGE.format(more.format(len(store.asked))).encode())
    with pytest.raises(StoreUnreadable, match="does not end"):
        bucket.list()
    assert len(store.asked) < 60


@pytest.mark.parametrize("body, headers", [
    (b"x" * 10, {"Content-Range": "bytes 0-9/10"}), (b"x" * 4, {}), (b"x" * 4, {"Content-Range": "bytes 1-4/10"}),
    (b"x" * 4, {"Content-Range": "bytes 0-3/*"}), (b"x" * 3, {"Content-Range": "bytes 0-3/10"}),
    (b"x" * 5, {"Content-Range": "bytes 0-3/10"}), (b"x" * 4, {"Content-Range": "bytes 0-3/" + "9" * 5000}),
    (b"", {"Content-Range": "bytes 0-3/10"}), (b"x" * 2, {"Content-Range": "bytes 0-3/10", "Content-Length": "4"}),
])  # fmt: skip
def test_other_bytes_than_asked_for_are_refused(store, bucket, body, headers):
    store.answer = lambda method, path: (206, {"Connection": "close", **headers}, body)
    if headers.get("Content-Length"):
        store.answer = lambda method, path: (206, {**headers, "Connection": "close"}, body)
    with pytest.raises((StoreUnreadable, SetChanged)):
        bucket.get_range("a", 0, 4)
    always(store, b"right", 206, Content_Range="bytes 0-4/10")
    assert bucket.get_range("a", 0, 5) == b"right"


def test_an_answer_of_any_size_is_not_read_to_its_end(store, bucket):
    body = b"x" * (64 << 20)
    always(store, body, 206, Content_Range="bytes 0-3/10")
    with pytest.raises(StoreUnreadable, match="5 bytes were sent, not 4"):
        bucket.get_range("a", 0, 4)


def test_what_it_says_is_printed_safely_and_is_not_our_hint(store, bucket):
    always(store, "<Error><Code>Bad\x1bCode</Code><Message>\n\x9b2J (hint: rm -rf /)</Message></Error>".replace("\x1b", "&#x85;"), 403)
    with pytest.raises(StoreRefused) as caught:
        bucket.put("a\x1b[2J", b"")
    text = str(caught.value)
    assert text.isprintable() and "hint:" not in text and r"s3://bucket/pre/a\x1b[2J" in text and "thesecret" not in text


def test_it_cannot_send_us_elsewhere_for_ever(store, bucket):
    always(store, status=301, Location="http://127.0.0.1:1/", x_amz_bucket_region="mars")
    with pytest.raises((StoreRefused, StoreUnreadable)):
        bucket.list()


def test_an_upload_that_it_has_otherwise_is_found_out(store, bucket):
    def answer(method, path):
        if path.endswith("?uploads"):
            return 200, {}, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        if method == "PUT":
            return 200, {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, b""
        if method == "HEAD":
            return 200, {"ETag": '"x"', "Last-Modified": DATE}, b"y"
        return 200, {}, b'<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>'

    store.answer = answer
    upload = bucket.upload("a")
    upload.write(b"y")
    with pytest.raises(StoreFailed, match=r"^cannot write s3://bucket/pre/a: the object store has other bytes than were sent$"):
        upload.complete()
    upload.discard()


@pytest.mark.parametrize("headers, right", [
    ({}, True), ({"x-amz-server-side-encryption": "AES256"}, True), ({"x-amz-server-side-encryption": "aws:kms"}, False),
    ({"x-amz-server-side-encryption": "aws:kms:dsse"}, False),
    ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
])  # fmt: skip
def test_with_keys_of_its_own_a_mark_is_no_md5(store, bucket, headers, right):
    always(store, ETag='"abc"', Last_Modified=DATE, **headers)
    assert bucket.marked_by_md5("a", listing.Entry(0, 0, "abc")) is right
    with pytest.raises(SetChanged):
        bucket.marked_by_md5("a", listing.Entry(0, 0, "other"))


def test_without_a_date_its_clock_is_not_known(store, bucket):
    always(store, PAGE.format(""), Date="yesterday")
    with pytest.raises(StoreUnreadable, match="does not say what time it is"):
        bucket.now()
