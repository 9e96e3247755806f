"""The agent takes a server's bytes for hostile: it ends by itself, says why, and has bounded memory."""

import json
import os
import subprocess
import threading
import time

import pytest
from hostile import ODD, put_together, raw, taken_apart
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak_of

from blockdiff.source import push
from blockdiff.wire import messages

MIB = 1 << 20
BLOCK = 100


class Agent:
    """A real agent, started by hand, that has said hello."""

    def __init__(self):
        self.process = subprocess.Popen(
            push.local_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._write(push.bundle(True))
        said = b""
        while messages.SYNC_MARK not in said:
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, self.process.stderr.read()
            said += data

    def _write(self, data):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.process.stdin.fileno(), rest) :]

    def hears(self, stream, close=True):
        """Say this to it, all at once, and wait for its end.

        Returns (exit status, what it said, its stderr, most memory in bytes).
        """
        def say():
            try:
                self._write(stream)
            except OSError:
                pass
            if close:
                self.process.stdin.close()

        def listen(pipe, into):
            while piece := os.read(pipe.fileno(), 1 << 16):
                into.extend(piece)

        out, err = bytearray(), bytearray()
        threads = [threading.Thread(target=say, daemon=True)]
        threads += [
            threading.Thread(target=listen, args=pair, daemon=True)
            for pair in ((self.process.stdout, out), (self.process.stderr, err))
        ]
        for thread in threads:
            thread.start()
        peak = 0
        deadline = time.monotonic() + 40
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            peak = max(peak, peak_of(self.process.pid))
            time.sleep(0.002)
        for thread in threads:
            thread.join(10)
        return self.process.returncode, bytes(out), bytes(err), peak

    def close(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture
def agent():
    made = Agent()
    yield made
    made.close()


def request(path, **changes):
    value = {
        "ended": None, "look": False, "known": None, "users": False, "snapshot": None, "restore": None, "path": str(path), "block_size": BLOCK, "digest": "md5", "others": False,
        "old": None, "compress": True, "jobs": 0, "bwlimit": 0, "shared": None, "timeout_s": 20,
    }  # fmt: skip
    return messages.REQUEST, json.dumps({**value, **changes}).encode()


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volume") / "vol"
    path.write_bytes(os.urandom(3 * MIB))
    return path


def ended_well(status, said, words, peak):
    """It ended by itself, said why, and had no more memory than it may have."""
    assert status in (0, 1, 95), (status, words)
    assert b"Traceback" not in words
    assert peak < 64 * MIB
    if status == 1:
        assert [kind for kind, _ in taken_apart(messages.SYNC_MARK + said)][-1] == messages.FAILED
    if status == 95:
        assert words.startswith(b"blockdiff agent: ")


REQUESTS = {
    "no request": [],
    "not a request": [(messages.DIGESTS, bytes(16))],
    **{
        f"no {name}": [(messages.REQUEST, json.dumps({k: v for k, v in json.loads(request("{vol}")[1]).items() if k != name}).encode())]
        for name in ("ended", "look", "known", "users", "snapshot", "restore", "path", "old", "jobs", "shared", "timeout_s")
    },
    "noise": [b"\xff" * 1000],
    "4 GiB announced": [raw(2, b"x", 0xFFFFFFFF)],
    "no JSON": [(2, b"{")],
    "no fields": [(2, b"{}")],
    "JSON without end": [(2, b"[" * 60_000)],
    "a path of NUL": [request("/x\0y")],
    "a path that is no text": [(2, request("@")[1].replace(b"@", b"\\ud800"))],
    "a path of a folder": [request("/")],
    "a path of a pipe": [request("/dev/null")],
    "a path that is long": [request("/" + "x" * 60_000)],
    "a path that is missing": [request("/nonexistent\x1b[31m")],
    "a path that is a number": [request(1)] and [(2, request("@")[1].replace(b'"@"', b"7"))],
    "blocks of nothing": [request("{vol}", block_size=0)],
    "blocks of 17 MiB": [request("{vol}", block_size=17 * MIB)],
    "blocks of 2**63": [request("{vol}", block_size=1 << 63)],
    "negative blocks": [request("{vol}", block_size=-1)],
    "an unknown digest": [request("{vol}", digest="sha1")],
    "a parent of 2**60 blocks": [request("{vol}", old=1 << 60)],
    "a negative parent": [request("{vol}", old=-1)],
    "a parent whose digests do not come": [request("{vol}", old=100)],
    "digests not asked for": [request("{vol}"), *[(4, bytes(160))] * 5],
    "digests of odd length": [request("{vol}", old=100), (4, bytes(17))],
    "empty digests": [request("{vol}", old=100), *[(4, b"")] * 10],
    "more digests than said": [request("{vol}", old=2), (4, bytes(48))],
    "digests too long": [request("{vol}", old=1 << 20), (4, bytes(512 * 1024 + 16))],
    "something else than digests": [request("{vol}", old=2), (messages.EXTENT, bytes(32))],
    "two requests": [request("{vol}"), request("{vol}")],
    "credit for nothing": [request("{vol}"), (11, b"\xff\xff\xff\xff")],
    "a million threads": [request("{vol}", jobs=1 << 40)],
    "negative threads": [request("{vol}", jobs=-5)],
    "negative bandwidth": [request("{vol}", bwlimit=-5)],
    "an infinite timeout": [(2, request("{vol}")[1].replace(b'"timeout_s": 20', b'"timeout_s": Infinity'))],
    "no timeout": [request("{vol}", timeout_s=0)],
    "a snapshot of nonsense": [request("{vol}", snapshot={"size": 1})],
    "a snapshot that must be": [
        request("{vol}", snapshot={"size": None, "set": "x", "run": "y", "must": True, "verbose": False})
    ],
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_ends_the_agent(name, agent, volume):
    spoken = [
        frame if isinstance(frame, bytes) else (frame[0], frame[1].replace(b"{vol}", str(volume).encode()))
        for frame in REQUESTS[name]
    ]
    ended_well(*agent.hears(put_together(spoken)[len(messages.SYNC_MARK) :]))


@pytest.mark.parametrize(
    "kind, payload",
    [(4, b""), (4, bytes(160)), (4, bytes(500_000)), (2, bytes(60_000)), (99, bytes(1_000_000)), (99, b"")],
)
def test_a_flood_ends_the_agent_in_bounded_memory(kind, payload, agent, volume):
    """Also while it reads a full version, slowly, and asks for nothing."""
    count = min(200_000, 64 * MIB // (len(payload) + 5))
    stream = raw(*request(volume, bwlimit=1000, jobs=1)) + raw(kind, payload) * count
    status, *rest = agent.hears(stream, close=False)
    assert status == 95
    ended_well(status, *rest)


def test_a_server_that_says_nothing_more_is_noticed(agent, volume):
    stream = raw(*request(volume, old=10_000, timeout_s=1))
    status, *rest = agent.hears(stream, close=False)
    assert status == 95
    ended_well(status, *rest)


SERVER_SAYS = st.one_of(
    st.tuples(st.just(4), st.binary(max_size=200)),
    st.tuples(st.just(4), st.integers(0, 40).map(lambda count: bytes(16 * count))),
    st.tuples(st.integers(0, 255), st.binary(max_size=60)),
    st.tuples(st.just(11), st.binary(max_size=5)),
    st.tuples(st.just(10), st.just(b"")),
)


@given(
    changes=st.dictionaries(
        st.sampled_from(["block_size", "digest", "others", "old", "compress", "jobs", "timeout_s", "snapshot", "restore", "ended", "look", "known", "users"]),
        ODD,
        max_size=2,
    ),
    more=st.lists(SERVER_SAYS, max_size=6),
    tail=st.binary(max_size=12),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_server_says_the_agent_ends(changes, more, tail, volume):
    if changes.get("ended") == "x":
        changes.pop("ended")
    made = Agent()
    try:
        stream = b"".join(raw(*frame) for frame in [request(volume, **changes), *more]) + tail
        ended_well(*made.hears(stream))
    finally:
        made.close()
