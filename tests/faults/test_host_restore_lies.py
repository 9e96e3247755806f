"""A restore to a host whose agent lies, and an agent whose server lies: a named error or the truth, nothing before GO."""

import os
import subprocess

import chains
import pushing
import pytest
from hostile import LEFT, ODD, Played, expected, hello, printable, put_together, raw, taken_apart, talk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pushing import BLOCK, MD5, NEW, SHA256, pushed

from blockdiff.errors import BlockdiffError, ProtocolBroken
from blockdiff.source import push
from blockdiff.wire import messages, placing
from blockdiff.wire.placing import Place

name = pushing.name

# an agent that lies

TARGET = {"kind": "file", "size": len(NEW), "content": "", "used": [], "room": None}
HELLO = hello(digest="md5")
DIGESTS = (messages.DIGESTS, MD5)
END = talk(messages.END, sha256=SHA256, blocks=0, written=0, read=len(NEW))
HONEST = [HELLO, talk(messages.TARGET, **TARGET), DIGESTS, END, LEFT]


def plays(name, conversation, path="/target", **played):
    return pushed(
        name, 2, path, connect=lambda: Played(put_together(conversation), endless=raw(messages.PING), **played), force=True,
        timeout_s=4.0, progress_s=0.5,
    )  # fmt: skip


def test_an_honest_agent_that_is_played(name):
    done, target = plays(name, HONEST)
    assert done.failure is None and target.durable and (done.differed, done.sent) == (0, 0)


def changed(index, frame):
    return [*HONEST[:index], *([frame] if frame is not None else []), *HONEST[index + 1 :]]


LIES = {
    "no target": changed(1, None),
    "opened instead": changed(1, talk(messages.OPENED, size=5, kind="file", same=True, users=None)),
    "digests too few": changed(2, (messages.DIGESTS, MD5[:-16])),
    "digests too many": changed(2, (messages.DIGESTS, MD5 + MD5[:16])),
    "digests twice": [*HONEST[:3], DIGESTS, *HONEST[3:]],
    "half a digest": changed(2, (messages.DIGESTS, MD5[:-8])),
    "no digest": changed(2, (messages.DIGESTS, b"")),
    "another SHA-256": changed(3, talk(messages.END, sha256="0" * 64, blocks=0, written=0, read=0)),
    "a SHA-256 that steers": changed(3, talk(messages.END, sha256="\x1b[31m", blocks=0, written=0, read=0)),
    "no SHA-256": changed(3, talk(messages.END, blocks=0, written=0, read=0)),
    "no end": changed(3, None),
    "a place": changed(3, (messages.PLACE, placing.encode_place(Place(0, 1, b"")))),
    "placed without a number": [*HONEST[:3], (messages.PLACED, b"x"), *HONEST[3:]],
    "an unknown kind": changed(3, (200, b"")),
    **{
        f"{key}: {value!r}": changed(1, talk(messages.TARGET, **{**TARGET, key: value}))
        for key, values in {
            "kind": ["folder", 1, "\x1b[31m"],
            "size": [-1, 1 << 63, 1 << 64, "1", None, 1.5],
            "content": [None, 5],
            "used": [None, "x", {}],
            "room": [-1, "x", 1 << 64],
        }.items()
        for value in values
    },
    "used by what steers": changed(1, talk(messages.TARGET, **{**TARGET, "used": ["\x1b[31m (hint: rm -rf /)"] * 300})),
    "refused by what steers": [HELLO, talk(messages.FAILED, error="TargetRefused", args=["/x\x1b", "no\n(hint: rm -rf /)"])],
    "refused without a word": [HELLO, talk(messages.FAILED, error="TargetRefused", args=[])],
    "another error": [HELLO, talk(messages.FAILED, error="SystemExit", args=["a", "b"])],
    "much of nothing": [HELLO, *[talk(messages.NOTE, text="x" * 60_000)] * 90],
}


@pytest.mark.parametrize("lie", LIES)
def test_an_agent_that_lies(name, lie):
    with pytest.raises(BlockdiffError) as error:
        done, target = plays(name, LIES[lie])
        assert not target.durable
        raise done.failure
    assert expected(error.value) and error.value.exit_code >= 20
    printable(str(error.value))
    assert str(error.value).count("hint:") <= 1


@given(index=st.integers(1, 4), key=st.integers(0, 5), value=ODD, flip=st.tuples(st.integers(0, 400), st.integers(0, 255)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_whatever_an_agent_says_it_is_a_named_error_or_the_truth(name, index, key, value, flip):
    conversation = list(HONEST)
    kind, payload = conversation[index]
    if payload.startswith(b"{"):
        whole = messages.decode_talk(payload)
        names = sorted(whole)
        whole[names[key % len(names)]] = value
        payload = messages.encode_talk(whole)
    else:
        damaged = bytearray(payload)
        damaged[flip[0] % len(damaged)] ^= flip[1]
        payload = bytes(damaged)
    conversation[index] = kind, payload
    try:
        done, target = plays(name, conversation)
    except BlockdiffError as error:
        assert expected(error)
        printable(str(error))
    else:
        assert (done.failure is None) == target.durable
        for line in [*done.warnings, *done.notes, str(done.failure or ""), done.target]:
            printable(line)


# a server that lies


def hears(stream, path):
    """Have a real agent hear this; returns (exit status, its frames, its stderr)."""
    done = subprocess.run(
        push.local_command(), input=push.bundle(False, True) + b"".join(raw(*frame) for frame in stream), capture_output=True, timeout=60
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, taken_apart(done.stdout), done.stderr


def request(path, size=len(NEW), **changes):
    value = {
        "ended": None, "look": False, "known": None, "users": False, "snapshot": None, "path": str(path), "block_size": BLOCK,
        "digest": "md5", "others": False, "old": None, "compress": False, "jobs": 0, "bwlimit": 0, "shared": None, "timeout_s": 20,
        "restore": {"size": size, "dry_run": False},
    }  # fmt: skip
    return talk(messages.REQUEST, **{**value, **changes})


def blocks(first, data, digests=None):
    """A place and its data."""
    digests = digests or b"".join(map(chains.md5, chains.blocks_of(data, BLOCK)))
    place = messages.PLACE, placing.encode_place(Place(first, -(-len(data) // BLOCK), digests))
    return [place, (messages.DATA, messages.encode_data_header(messages.RAW, len(data)) + data)]


GO = (messages.GO, b"")
DATA = (messages.DATA, messages.encode_data_header(messages.RAW, BLOCK) + b"x" * BLOCK)
X = b"x" * BLOCK
SERVERS = {
    "no GO": blocks(0, X),
    "a place before GO": [*blocks(0, X), GO],
    "GO twice": [GO, GO, *blocks(0, X)],
    "data without a place": [GO, DATA],
    "a place beyond the volume": [GO, *blocks(21, X)],
    "a place that reaches beyond": [GO, *blocks(19, X * 2)],
    "a place of 2**63": [GO, (messages.PLACE, (1 << 63).to_bytes(8, "little") + b"\1\0\0\0\0")],
    "wrong bytes": [GO, *blocks(0, X, bytes(16))],
    "too much data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.RAW, BLOCK + 1) + X + b"x")],
    "packed data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.ZLIB, BLOCK) + b"x")],
    "too little data": [GO, blocks(0, X)[0], (messages.DATA, messages.encode_data_header(messages.RAW, 5) + b"x" * 5)],
    "another frame in between": [GO, blocks(0, X)[0], (messages.END, b"{}")],
    "an end that is none": [GO, (messages.END, b"{}")],
    "an unknown frame": [GO, (99, b"")],
    "an extent": [GO, (messages.EXTENT, b"x" * 20)],
}


@pytest.mark.parametrize("lie", SERVERS)
def test_a_server_that_lies_writes_nothing(lie, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(NEW)
    status, said, words = hears([request(path), *SERVERS[lie]], path)
    assert status in (1, 95) and (status == 1 or words.startswith(b"blockdiff agent: "))
    assert messages.END not in {kind for kind, _ in said}
    assert path.read_bytes() == NEW and os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize(
    "restore", [{}, {"size": -1, "dry_run": False}, {"size": 1 << 63, "dry_run": False}, {"size": "1", "dry_run": False}, {"size": 1}, [], 5]
)
def test_a_request_that_cannot_be(restore, tmp_path):
    path = tmp_path / "target"
    path.write_bytes(NEW)
    assert hears([request(path, restore=restore), GO], path)[0] == 95
    assert path.read_bytes() == NEW


def test_protocol_errors_are_the_hosts(name):
    with pytest.raises(ProtocolBroken, match="expected nothing, got frame 4"):
        done, _ = plays(name, [*HONEST[:2], (messages.DIGESTS, bytes(16 * len(MD5[::16]))), DIGESTS])
        raise done.failure
