"""A way to an object store that fails as networks and stores do: it is cut, slow, says 503, flips a bit.

It passes on what it is given, byte for byte, so that signatures stay valid: the client signs this proxy's name, and
the store checks the signature of the name that it is sent. It also notes what no client may ask for: a write that
depends on what is there, which some stores do whatever is there, and an object without its MD5.
"""

import contextlib
import socket
import socketserver
import threading
import time
import urllib.parse
from typing import NamedTuple

import pytest

PIECE = 1 << 16
CHUNKED = object()  # in place of a length
KINDS = (  # method, what its query has, what botocore calls it
    ("GET", "list-type", "ListObjectsV2"), ("GET", "versions", "ListObjectVersions"),
    ("GET", "versioning", "GetBucketVersioning"), ("GET", "uploads", "ListMultipartUploads"), ("GET", "uploadId", "ListParts"), ("GET", "", "GetObject"),
    ("HEAD", "", "HeadObject"), ("PUT", "partNumber", "UploadPart"), ("PUT", "retention", "PutObjectRetention"),
    ("PUT", "", "PutObject"), ("POST", "uploads", "CreateMultipartUpload"),
    ("POST", "uploadId", "CompleteMultipartUpload"), ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("DELETE", "", "DeleteObject"),
)  # fmt: skip


class Request(NamedTuple):
    """A request that came to the proxy."""

    method: str
    key: str  # without the bucket
    query: dict
    headers: dict  # by names in lower case
    answer: list  # its status, if the client was sent one

    @property
    def kind(self):
        """What botocore calls it, such as PutObject or UploadPart."""
        for method, name, kind in KINDS:
            if method == self.method and (not name or name in self.query):
                return kind
        return self.method


class Cuts(socketserver.ThreadingTCPServer):
    """The proxy; `url` is its endpoint.  Requests are counted from 1, and from `reset` on.

    `faults` has what happens at a request: "before": it is cut and never arrives; "after": it arrives, the answer not;
    "middle": half of the answer's body arrives; "body", "answer": a bit in its body, or the answer's, is flipped; a
    number: that status is the answer, and the request does not arrive; a function: it is called when all of the
    request has come, and before it is sent on.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self, endpoint, listener=None):
        """`listener`: a socket that listens on a loopback, if not on that of this process."""
        super().__init__(("127.0.0.1", 0), _Connection, bind_and_activate=listener is None)
        if listener is not None:
            self.socket.close()
            self.socket, self.server_address = listener, listener.getsockname()
        store = urllib.parse.urlsplit(endpoint)
        self.store = (store.hostname, store.port)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.delay_s = 0.0  # before each request is sent on
        self.violations = []
        self._mutex = threading.Lock()
        self._sockets = set()
        self.reset()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def reset(self, since=(0, None), **faults):
        """Forget all requests; `faults` as n1="before", for the first; `since`: a number and what happens from then on."""
        with self._mutex:
            self.log, self.since = [], since
            self.faults = {int(name[1:]): fault for name, fault in faults.items()}

    def kinds(self):
        """Return how often there was which kind of request."""
        found = {}
        for request in self.log:
            found[request.kind] = found.get(request.kind, 0) + 1
        return found

    def note(self, request):
        """Take up a request and return what is to happen to it."""
        with self._mutex:
            self.log.append(request)
            if request.method not in ("GET", "HEAD") and "if-match" in request.headers:
                self.violations.append(f"{request.kind} {request.key}: If-Match on a write")
            if request.kind in ("PutObject", "UploadPart") and "content-md5" not in request.headers:
                self.violations.append(f"{request.kind} {request.key}: no Content-MD5")
            first, fault = self.since
            return fault if first and len(self.log) >= first else self.faults.get(len(self.log))

    def close(self):
        self.shutdown()
        self.server_close()
        self._thread.join()
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Cut(Exception):
    """Nothing more comes over this connection."""


class _Connection(socketserver.StreamRequestHandler):
    """One connection of a client, with one of its own to the store."""

    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.upstream = None
        self.server._sockets.add(self.request)

    def handle(self):
        with contextlib.suppress(_Cut, OSError):
            while self.one():
                pass

    def finish(self):
        self.server._sockets.discard(self.request)
        if self.upstream is not None:
            self.upstream[1].close()
            self.upstream[0].close()
        with contextlib.suppress(OSError):
            super().finish()

    def one(self):
        """Pass one request on and its answer back; return whether there can be more."""
        first, headers, raw = self.head(self.rfile)
        if first is None:
            return False
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        key = urllib.parse.unquote(path.lstrip("/").partition("/")[2])
        request = Request(method, key, dict(urllib.parse.parse_qsl(query, True)), headers, [])
        fault = self.server.note(request)
        length = _length(headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "before" or isinstance(fault, int):
            self.body(self.rfile, length, None)
            if fault == "before":
                raise _Cut
            request.answer.append(fault)
            self.wfile.write(f"HTTP/1.1 {fault} No\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        time.sleep(self.server.delay_s)
        held = []
        if callable(fault):
            self.body(self.rfile, length, held.append)
            fault()
        if self.upstream is None:
            connection = socket.create_connection(self.server.store)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.upstream = connection, connection.makefile("rb", PIECE)
        connection, answers = self.upstream
        connection.sendall(raw)
        if callable(fault):
            connection.sendall(b"".join(held))
        else:
            self.body(self.rfile, length, connection.sendall, fault == "body")
        status = 100
        while status < 200:  # we have said "continue" already
            first, headers, raw = self.head(answers)
            if first is None:
                raise _Cut
            status = int(first.split(" ")[1])
        length = 0 if method == "HEAD" or status in (204, 304) else _length(headers)
        if fault == "after":
            self.body(answers, length, None)
            raise _Cut
        request.answer.append(status)
        self.wfile.write(raw)
        if fault == "middle":
            self.body(answers, 0 if length is CHUNKED else length // 2, self.wfile.write)
            raise _Cut
        self.body(answers, length, self.wfile.write, fault == "answer")
        return headers.get("connection", "").lower() != "close"

    def head(self, source):
        """Return the first line, the headers and all their bytes."""
        raw = source.readline(PIECE)
        if not raw.strip():
            return None, {}, b""
        first, headers = raw.decode("latin-1").strip(), {}
        while (line := source.readline(PIECE)) not in (b"\r\n", b"\n", b""):
            raw += line
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return first, headers, raw + line

    def body(self, source, length, send, flip=False):
        """Pass a body on, piece by piece; `send` None: to nobody."""
        send = send or (lambda data: None)
        if length is CHUNKED:
            size = 1
            while size:
                line = source.readline(PIECE)
                send(line)
                size = int(line.split(b";")[0], 16)
                self.body(source, size + 2, send, flip and size)
                flip = False
            return
        while length:
            piece = source.read1(min(length, PIECE))
            if not piece:
                raise _Cut
            if flip:
                piece, flip = bytes([piece[0] ^ 1]) + piece[1:], False
            send(piece)
            length -= len(piece)


def _length(headers):
    return CHUNKED if headers.get("transfer-encoding", "").lower() == "chunked" else int(headers.get("content-length", 0))


@pytest.fixture
def cuts(objectstore):
    """Yield a way to the store that fails as told; afterwards, no client must have asked for what none may."""
    proxy = Cuts(objectstore.endpoint)
    try:
        yield proxy
    finally:
        proxy.close()
    assert not proxy.violations
