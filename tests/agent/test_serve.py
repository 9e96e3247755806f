"""One request, served over a real link: what is answered, in which order, and what is the last message."""

import os
import socket
import threading

import bundles
import pytest
from engine import back_up, restored

from agent import native, serve
from blockdiff.formats import FormatError
from blockdiff.wire import messages, request
from blockdiff.wire.link import Link
from blockdiff.wire.request import Request, SnapshotRequest

BLOCK = 100


def _link(end):
    return Link(end.recv, end.sendall, 60.0)


class Server:
    """The server's end of a link whose other end is served by a thread."""

    def __init__(self):
        self._ends = socket.socketpair()
        self.link, self._agent = (_link(end) for end in self._ends)
        self.result = self.failure = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        try:
            self.result = serve.serve(self._agent)
        except Exception as error:
            self.failure = error

    def ended(self):
        """Return what the agent's side returned or raised."""
        self._thread.join(30)
        return self.failure or self.result

    def receive(self):
        kind, payload = self.link.receive()
        return kind, payload if kind in messages.METERED else messages.decode_talk(payload)

    def close(self):
        self.link.close()
        self._agent.close()
        for end in self._ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._thread.join(30)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "vol"
    path.write_bytes(bytes(BLOCK) + b"x" * BLOCK + b"yz")
    return path


def ask(server, path, **fields):
    """Take the hello and send a request."""
    kind, hello = server.receive()
    assert (kind, hello["protocol"], hello["host"]) == (messages.HELLO, messages.PROTOCOL, os.uname().nodename)
    server.link.send(messages.REQUEST, request.encode(Request(str(path), BLOCK, "md5", 60.0, **fields)))


def test_a_full_version_is_sent_whole(server, volume):
    ask(server, volume)
    kind, opened = server.receive()
    assert (kind, opened) == (messages.OPENED, {"size": 202, "kind": "file", "same": False, "users": None})
    kind, payload = server.receive()
    one, two = (native.digester("md5").digest(block) for block in (b"x" * BLOCK, b"yz"))
    extent = messages.decode_extent(payload, 0, 3)
    assert (kind, extent.runs, extent.digests) == (messages.EXTENT, [(messages.ZERO, 1), (messages.CHANGED, 2)], one + two)
    kind, payload = server.receive()
    assert (kind, messages.decode_data(payload)) == (messages.DATA, (messages.RAW, 102, b"x" * BLOCK + b"yz"))
    kind, end = server.receive()
    assert kind == messages.END
    assert {name: end[name] for name in ("total", "changed", "zero", "read", "snapshot")} == {
        "total": 3, "changed": 3, "zero": 1, "read": 202, "snapshot": None,
    }  # fmt: skip
    assert server.ended() == (0, messages.LEFT, {"remains": None})


def test_an_incremental_is_compared_with_the_digests_that_come(server, volume):
    ask(server, volume, old=2)
    assert server.receive()[0] == messages.OPENED
    md5 = native.digester("md5")
    for block in (bytes(BLOCK), b"w" * BLOCK):  # in two pieces
        server.link.send_metered(messages.DIGESTS, (md5.digest(block),))
    extent = messages.decode_extent(server.receive()[1], 0, 3)
    assert extent.runs == [(messages.SAME, 1), (messages.CHANGED, 2)]


def test_a_look_reads_nothing(server, volume):
    ask(server, volume, look=True, known=str(volume))
    assert server.receive() == (messages.OPENED, {"size": 202, "kind": "file", "same": True, "users": None})
    assert server.ended() == (0, messages.LEFT, {"remains": None})


def test_a_failure_is_the_last_message(server, tmp_path):
    ask(server, tmp_path / "missing")
    reason = {"error": "NoSuchVolume", "args": [str(tmp_path / "missing"), "No such file or directory"]}
    assert server.ended() == (1, messages.FAILED, reason)


def test_what_must_be_a_logical_volume_is_refused_if_it_is_none(server, volume):
    ask(server, volume, snapshot=SnapshotRequest(None, "set", "run", must=True, verbose=False))
    assert server.ended() == (1, messages.FAILED, {"error": "NoSuchVolume", "args": [str(volume), "it is not a logical volume"]})


@pytest.mark.parametrize("kind", [messages.NOW, messages.DIGESTS])
def test_what_is_no_request_breaks_the_protocol(server, kind):
    server.link.send(kind, b"{}") if kind == messages.NOW else server.link.send_metered(kind, (bytes(16),))
    assert isinstance(server.ended(), FormatError)


def test_other_frames_than_digests_break_the_protocol(server, volume):
    ask(server, volume, old=2)
    server.link.send(messages.NOW, b"{}")
    assert isinstance(server.ended(), FormatError)


def test_what_snapshots_need_is_not_loaded_for_a_file(tmp_path):
    (tmp_path / "vol").write_bytes(b"x" * 9)
    with bundles.changed("agent/snapshots/volume.py", "class SnapshotVolume:\n", "nonsense = undefined_name\n\n\nclass SnapshotVolume:\n"):
        back_up(tmp_path / "set", tmp_path / "vol")
    assert restored(tmp_path / "set", 1, tmp_path / "out") == b"x" * 9
