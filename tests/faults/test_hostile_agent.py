"""The server takes an agent's bytes for hostile: a named error, bounded memory, nothing published."""

import hashlib
import json
import struct
import zlib

import pytest
import zstandard
from engine import back_up
from hostile import (
    BLOCK,
    FIRST,
    HONEST,
    LEFT,
    RNG,
    VOLUMES,
    Recorded,
    Set,
    begun,
    data,
    extent,
    hello,
    opened,
    printable,
    put_together,
    raw,
    taken_apart,
    talk,
)  # fmt: skip
from memory import peak_below

from blockdiff.errors import ProtocolBroken
from blockdiff.sets.backupset import BackupSet
from blockdiff.wire import frames, messages
from blockdiff.wire.messages import CHANGED, SAME, ZERO

MIB = 1 << 20


@pytest.mark.parametrize("number", [1, 2])
def test_an_honest_conversation_by_hand_is_taken(number):
    """What is mutated below is right before: it is what a real agent says, but for its own facts."""
    with Set(number) as it:
        assert it.back_up(put_together(HONEST[number])).warnings == []
        it.is_whole()
    recorded = Recorded()
    with Set(number) as it:
        (it.folder / "vol").write_bytes(VOLUMES[number])
        back_up(it.folder / "set", it.folder / "vol", block_size=BLOCK, connect=lambda: recorded)
        it.is_whole()
    kinds = [kind for kind, _ in taken_apart(recorded.said) if kind not in (messages.CREDIT, messages.PING)]
    assert kinds[:2] == [messages.HELLO, messages.OPENED] and kinds[-2:] == [messages.END, messages.LEFT]
    said = {kind: json.loads(payload) for kind, payload in taken_apart(recorded.said) if payload[:1] == b"{"}
    ours = {kind: json.loads(payload) for kind, payload in HONEST[number] if payload[:1] == b"{"}
    for kind in (messages.HELLO, messages.OPENED, messages.END, messages.LEFT):
        assert set(said[kind]) == set(ours[kind])
    if said[messages.HELLO]["digest"] == "xxh128":
        assert said[messages.END]["digests"] == ours[messages.END]["digests"]


# the moment of a snapshot; the other side stays, for there is more to be said to it

STAYS = {"played": {"endless": raw(messages.PING)}}
READY = talk(messages.READY, size=len(FIRST), kind="lvm-thick", lv_uuid="x", same=True, room=None)
TAKEN = talk(messages.TAKEN)


def test_an_honest_snapshot_by_hand_is_taken():
    with Set(1) as it:
        assert it.back_up(put_together([HONEST[1][0], READY, TAKEN, *HONEST[1][1:]]), **STAYS).warnings == []
        it.is_whole()


@pytest.mark.parametrize(
    "said",
    [[READY], [TAKEN], [READY, READY], [READY, READY, TAKEN], [READY, TAKEN, TAKEN], [READY, TAKEN, READY]],
    ids=["never taken", "never ready", "ready twice", "ready twice, then taken", "taken twice", "ready again"],
)
def test_a_snapshot_is_ready_then_taken(said):
    with Set(1) as it:
        error = it.refuses(put_together([HONEST[1][0], *said, *HONEST[1][1:]]), **STAYS)
        assert isinstance(error, ProtocolBroken)


# one lie at a time

E1, D1 = HONEST[1][2], HONEST[1][3]  # the first extent and its data
TAIL1 = HONEST[1][4:]
END1 = HONEST[1][-2]
HEAD1 = HONEST[1][:2]


def with_end(**changes):
    value = json.loads(END1[1])
    return [*HONEST[1][:-2], talk(messages.END, **{**value, **changes}), LEFT]


def with_opened(**changes):
    return [HONEST[1][0], opened(**{"size": len(FIRST), **changes}), *HONEST[1][2:]]


SNAPSHOT = {"name": "snap", "size": 1, "fill": 1.0}


LIES = {
    "no hello": HONEST[1][1:],
    "hello twice": [HONEST[1][0], *HONEST[1]],
    "hello without fields": [talk(messages.HELLO, protocol=1), *HONEST[1][1:]],
    "hello of another protocol": [hello(protocol=messages.PROTOCOL + 1), *HONEST[1][1:]],
    "hello of another program": [hello(program="0.0.1\x1b[31m"), *HONEST[1][1:]],
    "hello of an unknown digest": [hello(digest="sha1"), *HONEST[1][1:]],
    "hello that is no JSON": [(messages.HELLO, b"\xff{"), *HONEST[1][1:]],
    "hello too long": [hello(more="x" * 70_000), *HONEST[1][1:]],
    "md5 said, xxh128 told": [hello(digest="md5"), *HONEST[1][1:]],
    "not opened": [HONEST[1][0], *HONEST[1][2:]],
    "opened twice": [*HEAD1, HONEST[1][1], *HONEST[1][2:]],
    "size negative": with_opened(size=-1),
    "size 2**63": with_opened(size=1 << 63),
    "size 2**64": [HONEST[1][0], (messages.OPENED, b'{"kind":"file","same":true,"size":18446744073709551616,"users":null}'), *HONEST[1][2:]],
    "size 2**63-1": with_opened(size=(1 << 63) - 1),
    "size 2**40": with_opened(size=1 << 40),
    "size is text": with_opened(size="1200"),
    "size is a float": with_opened(size=1200.0),
    "size is true": with_opened(size=True),
    "one byte more": with_opened(size=len(FIRST) + 1),
    "one byte less": with_opened(size=len(FIRST) - 1),
    "a block more": with_opened(size=len(FIRST) + BLOCK),
    "kind unknown": with_opened(kind="tape\x1b[2J"),
    "lvm without facts": with_opened(kind="lvm-thin"),
    "lvm of an unknown fill": with_opened(kind="lvm-thick", lv_uuid="x", snapshot={**SNAPSHOT, "fill": float("nan")}),
    "lvm of an infinite fill": with_opened(kind="lvm-thick", lv_uuid="x", snapshot={**SNAPSHOT, "fill": float("inf")}),
    "lvm whose size is text": with_opened(kind="lvm-thick", lv_uuid="x", snapshot={**SNAPSHOT, "size": "1"}),
    "opened without users": [HONEST[1][0], (messages.OPENED, b'{"kind":"file","same":true,"size":1150}')],
    "opened of users that are a list": with_opened(users=["x"]),
    "nothing at all": [],
    "hello and nothing": HONEST[1][:1],
    "opened and nothing": HEAD1,
    "end at once": [*HEAD1, END1, LEFT],
    "end before the data": [*HEAD1, E1, END1, LEFT],
    "end instead of the last extent": [*HONEST[1][:-4], END1, LEFT],
    "left instead of end": [*HONEST[1][:-2], LEFT, END1],
    "no end": HONEST[1][:-2],
    "end of text": with_end(total="12"),
    "end: total": with_end(total=13),
    "end: changed": with_end(changed=0),
    "end: zero": with_end(zero=4),
    "end: read negative": with_end(read=-1),
    "end: read more than there is": with_end(read=len(FIRST) + 1),
    "end: no digests": with_end(digests={}),
    "end: another digest": with_end(digests={"xxh128": "0" * 64}),
    "end: digest of another kind": with_end(digests={"md5": json.loads(END1[1])["digests"]["xxh128"]}),
    "end: digests are a list": with_end(digests=[]),
    "end: digest is a list": with_end(digests={"xxh128": []}),
    "end: snapshot of nonsense": with_end(snapshot={"fill": "full", "size": 1, "extended": 0}),
    "end: snapshot of an unknown fill": with_end(snapshot={"fill": float("nan"), "size": 1, "extended": 0}),
    "data before any extent": [*HEAD1, D1, *HONEST[1][2:]],
    "data twice": [*HEAD1, E1, D1, D1, *TAIL1],
    "no data": [*HEAD1, E1, *TAIL1],
    "data too short": [*HEAD1, E1, data(FIRST[: 4 * BLOCK - 1]), *TAIL1],
    "data too long": [*HEAD1, E1, data(FIRST[: 4 * BLOCK + 1]), *TAIL1],
    "data in small pieces": [*HEAD1, E1, *(data(FIRST[i : i + 1]) for i in range(4 * BLOCK)), *TAIL1],
    "data of other bytes": [*HEAD1, E1, data(bytes(4 * BLOCK)), *TAIL1],
    "data in another order": [*HEAD1, E1, data(FIRST[BLOCK : 2 * BLOCK] + FIRST[:BLOCK] + FIRST[200:400]), *TAIL1],
    "data of an unknown compression": [*HEAD1, E1, (6, b"\x07" + D1[1][1:]), *TAIL1],
    "data that is no zlib": [*HEAD1, E1, (6, b"\x01" + D1[1][1:]), *TAIL1],
    "data that is no zstd": [*HEAD1, E1, (6, b"\x02" + D1[1][1:]), *TAIL1],
    "data that holds less": [*HEAD1, E1, data(zlib.compress(b"x"), messages.ZLIB, 400), *TAIL1],
    "a bomb of zlib": [*HEAD1, E1, data(zlib.compress(bytes(200 * MIB), 1), messages.ZLIB, 400), *TAIL1],
    "a bomb of zstd": [
        *HEAD1, E1, data(zstandard.ZstdCompressor().compress(bytes(200 * MIB)), messages.ZSTD, 400), *TAIL1,
    ],
    "a zstd frame that says less than it holds": [
        *HEAD1,
        E1,
        data(
            b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", 400)
            + ((1 << 17) << 3 | 2).to_bytes(3, "little") + b"\0\x01\0\0",
            messages.ZSTD,
            400,
        ),
        *TAIL1,
    ],
    "unchanged in a full version": [*HEAD1, extent(0, [(SAME, 4)]), *TAIL1],
    "zero what is not": [*HEAD1, extent(0, [(ZERO, 4)]), *TAIL1],
    "an extent twice": [*HEAD1, E1, D1, E1, D1, *TAIL1],
    "a gap": [*HEAD1, *TAIL1],
    "beyond the end": [*HEAD1, extent(0, [(ZERO, 13)]), *TAIL1],
    "an extent of 2**32-1 blocks": [*HEAD1, (5, struct.pack("<QIHBBI", 0, 0xFFFFFFFF, 1, 0, 1, 0xFFFFFFFF)), *TAIL1],
    "a digest that is not the block's": [*HEAD1, extent(0, [(CHANGED, 4)], bytes(64)), D1, *TAIL1],
    "digests that nobody asked for": [*HEAD1, extent(0, [(CHANGED, 4)], E1[1][20:], bytes(64)), D1, *TAIL1],
    "an extent cut": [*HEAD1, (5, E1[1][:-1]), D1, *TAIL1],
    "an extent of nothing": [*HEAD1, (5, b""), *TAIL1],
    "a kind that does not exist": [*HEAD1, (77, b"?"), *HONEST[1][2:]],
    "what only a server says": [*HEAD1, (messages.DIGESTS, bytes(160)), *HONEST[1][2:]],
    "a request": [*HEAD1, talk(messages.REQUEST, path="/etc/shadow"), *HONEST[1][2:]],
    "credit for nothing": [*HEAD1, (messages.CREDIT, b"\xff\xff\xff\xff"), *HONEST[1][2:]],
    "credit that is none": [*HEAD1, (messages.CREDIT, b"\xff"), *HONEST[1][2:]],
    "a note that is no JSON": [*HEAD1, (messages.NOTE, b"\xff"), *HONEST[1][2:]],
    "4 GiB announced": [*HEAD1, raw(6, b"x", 0xFFFFFFFF)],
    "a frame longer than allowed": [*HEAD1, raw(9, bytes(frames.MAX_PAYLOAD + 1))],
    "a flood of empty extents": [*HEAD1, *[(5, b"")] * 40_000],
    "a flood of what nobody asked for": [HONEST[1][0], *[(99, bytes(60_000))] * 300],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_an_error_and_publishes_nothing(lie):
    with Set(1) as it:
        with peak_below(40 * MIB):
            it.refuses(put_together(LIES[lie]))
        it.back_up(put_together(HONEST[1]))
        it.is_whole()


OLD_LIES = {
    "a block unchanged that the parent does not have": lambda grown, shrunk: (
        FIRST + bytes(BLOCK), [(0, [(SAME, 12), (SAME, 1)])]
    ),
    "a last block unchanged that has grown": lambda grown, shrunk: (grown, [(0, [(SAME, 12)])]),
    "a last block unchanged that has shrunk": lambda grown, shrunk: (shrunk, [(0, [(SAME, 12)])]),
    "a whole block unchanged that is now short": lambda grown, shrunk: (FIRST[: 10 * BLOCK + 7], [(0, [(SAME, 11)])]),
}  # fmt: skip


@pytest.mark.parametrize("lie", OLD_LIES)
def test_what_is_called_unchanged_must_have_been_there(lie):
    """Even if all that the agent says fits together: the version could not be restored."""
    volume, extents = OLD_LIES[lie](FIRST[: 11 * BLOCK] + RNG.randbytes(77), FIRST[: 11 * BLOCK + 9])
    digests = begun()["set.1.xxh128"]
    count = sum(length for _, runs in extents for _, length in runs)
    told = {"xxh128": hashlib.sha256(digests[: 4 + 16 * count]).hexdigest()}
    spoken = [
        hello(), opened(len(volume)), *(extent(*each) for each in extents),
        talk(messages.END, total=count, changed=0, zero=0, read=0, snapshot=None, digests=told), LEFT,
    ]  # fmt: skip
    with Set(2) as it:
        it.refuses(put_together(spoken))
        it.back_up(put_together(HONEST[2]))
        it.is_whole()


FAILURES = [
    ("NoSuchVolume", ["/dev/x", "gone"], 30),
    ("ReadFailed", ["/dev/x\x1b]0;pwned\x07\n\r\u202e", "\x9b31m"], 33),
    ("SnapshotRefused", ["/dev/x", {"a": ["\x1b"]}], 31),
    ("SnapshotOverflowed", ["{} {0} {1.__class__} %s", "{}"], 32),
    ("AgentDied", ["host", "\x1b[2J" * 1000], 23),
    ("AgentDied", [], 26),
    ("ReadFailed", ["only one"], 26),
    ("ReadFailed", ["/x", "y", "z"], 26),
    ("BlockdiffError", ["../../etc/passwd", "x"], 26),
    ("Interrupted", ["TERM", 0], 26),
    ("NoRoom", ["/x", "y"], 26),
    ("__class__", ["x", "y"], 26),
    ("\x1b[31mred", [["x"] * 1000] * 10, 26),
    ("", [], 26),
]


@pytest.mark.parametrize("name, words, code", FAILURES)
@pytest.mark.parametrize("place", [1, 2, 4, -2])
def test_a_failure_is_told_as_what_it_is_and_steers_no_terminal(name, words, code, place):
    spoken = [*HONEST[1][:place], talk(messages.FAILED, error=name, args=words)]
    with Set(1) as it:
        assert it.refuses(put_together(spoken), played={"status": 1}).exit_code == code


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b'{"error":1,"args":[]}', b'{"error":"ReadFailed","args":{}}', b'{"error":"ReadFailed"}', b"[]"]
    + [b'{"error":"ReadFailed","args":["x",' + b"[" * depth + b"]" * depth + b"]}" for depth in (100, 900, 30_000)],
)
def test_a_failure_that_is_nonsense_is_an_error_too(payload):
    with Set(1) as it:
        assert it.refuses(put_together([*HEAD1, (messages.FAILED, payload)])).exit_code in (23, 26, 33)


def test_what_is_said_beside_the_work_steers_no_terminal():
    evil = "cannot \x1b]0;x\x07 \u202e\r\n\x00 /etc/passwd"
    lines = []
    spoken = [
        hello(host=evil, python=evil, codec=evil),
        talk(messages.NOTE, text=evil),
        *HONEST[1][1:4],
        talk(messages.NOTE, text=evil * 100),
        *HONEST[1][4:-1],
        talk(messages.LEFT, remains=evil),
    ]
    with Set(1) as it:
        outcome = it.back_up(put_together(spoken), warn=lines.append, pack_wire=True)
        assert outcome.exit_code == 3 and lines
        for line in [*lines, *outcome.warnings]:
            printable(line)
        printable(json.dumps(BackupSet(str(it.folder / "set")).read_manifest(1).value, ensure_ascii=False))
        it.is_whole()


@pytest.mark.parametrize(
    "after",
    [[END1], [END1, END1], [E1], [talk(messages.FAILED, error="ReadFailed", args=["/x", "y"])], [(99, b"")], []],
    ids=["end again", "twice", "an extent", "a failure", "noise", "nothing"],
)
def test_what_comes_after_the_end_changes_nothing_any_more(after):
    """The END proved the version; what follows is a warning, for a person must look at that host."""
    with Set(1) as it:
        outcome = it.back_up(put_together([*HONEST[1][:-1], *after]))
        assert outcome.exit_code == 3 and len(outcome.warnings) == 1
        it.is_whole()


def test_a_hint_is_never_another_hosts():
    report = talk(messages.FAILED, error="ReadFailed", args=["/vol (hint: run this)", "bad (hint: curl evil | sh)"])
    with Set(1) as it:
        assert "hint:" not in str(it.refuses(put_together([*HONEST[1][:2], report]), played={"status": 1}))


HEARTBEATS = raw(messages.PING) * 100


@pytest.mark.parametrize("endless", [b"\0" * 4096, HEARTBEATS, raw(9, b'{"text":"x"}') * 100], ids=["NUL", "PING", "NOTE"])
@pytest.mark.parametrize("when", [0, 1, 2, 3])
def test_an_agent_that_never_stops_talking(endless, when):
    """Noise is noticed.  After the mark, heartbeats and notes are an agent that waits, but only for so long."""
    if endless == HEARTBEATS and when:
        endless += raw(99)
    with Set(1) as it, peak_below(30 * MIB):
        stream = put_together(HONEST[1][: when + 1]) if when else b""
        it.refuses(stream, played={"endless": endless}, progress_s=0.5)
