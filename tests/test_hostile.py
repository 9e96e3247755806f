"""Either side takes the other's bytes for hostile: a named error, bounded memory, nothing published.

What is not an error must be a whole version of exactly the volume: frames that mean the
same are no attack.
"""

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import zlib

import hostile
import pytest
import zstandard
from engine import back_up, files_of, restored
from hostile import CutTowardsAgent, Played, Recorded, data, extent, honest, put_together, raw, taken_apart, talk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory import peak_below

from blockdiff import push, verify
from blockdiff.errors import BlockdiffError
from blockdiff.formats import frames, messages
from blockdiff.formats.messages import CHANGED, SAME, ZERO
from blockdiff.store import Store

MIB = 1 << 20
BLOCK = 100
RNG = random.Random(3)
# 12 blocks, the last one short: noise, zeros, text
FIRST = RNG.randbytes(5 * BLOCK) + bytes(3 * BLOCK) + b"text " * 60 + RNG.randbytes(BLOCK // 2)
# blocks changed, zeroed, grown by two
SECOND = FIRST[:250] + b"edit" + FIRST[254:400] + bytes(100) + FIRST[500:] + RNG.randbytes(130)
HONEST = {1: honest(FIRST, BLOCK), 2: honest(SECOND, BLOCK, FIRST)}
VOLUMES = {1: FIRST, 2: SECOND}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A set of one version, made by a real agent."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "vol").write_bytes(FIRST)
    back_up(folder / "set", folder / "vol", block_size=BLOCK)
    return folder


class Set:
    """A set that is to get version `number`, in a folder of its own that is gone afterwards."""

    def __init__(self, begun, number):
        self.number = number
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="blockdiff-test-"))
        if number == 2:
            for path in begun.iterdir():
                if path.name.startswith("set."):
                    shutil.copyfile(path, self.folder / path.name)
        self.before = files_of(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        shutil.rmtree(self.folder)

    def back_up(self, stream, **how):
        played = how.pop("played", {})
        return back_up(
            self.folder / "set", "/vol", connect=lambda: Played(stream, **played), timeout_s=5.0,
            **{"block_size": BLOCK, "warn": how.pop("warn", lambda line: None), **how},
        )  # fmt: skip

    def refuses(self, stream, **how):
        """The run ends in a named error that is safe to print, and nothing has happened; returns the error."""
        with pytest.raises(BlockdiffError) as error:
            self.back_up(stream, **how)
        assert 20 <= error.value.exit_code < 60
        printable(str(error.value))
        assert files_of(self.folder) == self.before
        return error.value

    def survives(self, stream, **how):
        """The run ends in a named error and nothing, or in the whole version; the next one succeeds."""
        try:
            outcome = self.back_up(stream, **how)
        except BlockdiffError as error:
            assert 20 <= error.exit_code < 60
            printable(str(error))
            assert files_of(self.folder) == self.before
            self.back_up(put_together(HONEST[self.number]))
        else:
            for line in outcome.warnings:
                printable(line)
        self.is_whole()

    def is_whole(self):
        for number in range(1, self.number + 1):
            assert restored(self.folder / "set", number, self.folder / "out") == VOLUMES[number]
        report = verify.verify(Store(str(self.folder / "set")))
        assert all(version.restores and not version.faults for version in report.versions)


def printable(text):
    """Nothing in it steers a terminal."""
    assert all(character.isprintable() or character == "\n" for character in text), repr(text)


@pytest.mark.parametrize("number", [1, 2])
def test_an_honest_conversation_by_hand_is_taken(number, begun):
    """What is mutated below is right before: it is what a real agent says, but for its own facts."""
    with Set(begun, number) as it:
        assert it.back_up(put_together(HONEST[number])).warnings == []
        it.is_whole()
    recorded = Recorded()
    with Set(begun, number) as it:
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


# one lie at a time

E1, D1 = HONEST[1][2], HONEST[1][3]  # the first extent and its data
TAIL1 = HONEST[1][4:]
END1 = HONEST[1][-2]
HEAD1 = HONEST[1][:2]


def with_end(**changes):
    value = json.loads(END1[1])
    return [*HONEST[1][:-2], talk(messages.END, **{**value, **changes}), hostile.LEFT]


def with_opened(**changes):
    return [HONEST[1][0], hostile.opened(**{"size": len(FIRST), **changes}), *HONEST[1][2:]]


SNAPSHOT = {"name": "snap", "size": 1, "fill": 1.0}
LIES = {
    "no hello": HONEST[1][1:],
    "hello twice": [HONEST[1][0], *HONEST[1]],
    "hello without fields": [talk(messages.HELLO, protocol=1), *HONEST[1][1:]],
    "hello of another protocol": [hostile.hello(protocol=2), *HONEST[1][1:]],
    "hello of another program": [hostile.hello(program="0.0.1\x1b[31m"), *HONEST[1][1:]],
    "hello of an unknown digest": [hostile.hello(digest="sha1"), *HONEST[1][1:]],
    "hello that is no JSON": [(messages.HELLO, b"\xff{"), *HONEST[1][1:]],
    "hello too long": [hostile.hello(more="x" * 70_000), *HONEST[1][1:]],
    "md5 said, xxh128 told": [hostile.hello(digest="md5"), *HONEST[1][1:]],
    "not opened": [HONEST[1][0], *HONEST[1][2:]],
    "opened twice": [*HEAD1, HONEST[1][1], *HONEST[1][2:]],
    "size negative": with_opened(size=-1),
    "size 2**63": with_opened(size=1 << 63),
    "size 2**64": [HONEST[1][0], (messages.OPENED, b'{"kind":"file","size":18446744073709551616}'), *HONEST[1][2:]],
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
    "ready, where nothing waits": [HONEST[1][0], talk(messages.READY), talk(messages.READY), *HONEST[1][2:]],
    "nothing at all": [],
    "hello and nothing": HONEST[1][:1],
    "opened and nothing": HEAD1,
    "end at once": [*HEAD1, END1, hostile.LEFT],
    "end before the data": [*HEAD1, E1, END1, hostile.LEFT],
    "end instead of the last extent": [*HONEST[1][:-4], END1, hostile.LEFT],
    "left instead of end": [*HONEST[1][:-2], hostile.LEFT, END1],
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
    "more notes than anybody reads": [*HEAD1, *[talk(messages.NOTE, text="cannot remove x")] * 6000, *HONEST[1][2:]],
    "a flood of empty extents": [*HEAD1, *[(5, b"")] * 40_000],
    "a flood of what nobody asked for": [HONEST[1][0], *[(99, bytes(60_000))] * 300],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_an_error_and_publishes_nothing(lie, begun):
    with Set(begun, 1) as it:
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
def test_what_is_called_unchanged_must_have_been_there(lie, begun):
    """Even if all that the agent says fits together: the version could not be restored."""
    volume, extents = OLD_LIES[lie](FIRST[: 11 * BLOCK] + RNG.randbytes(77), FIRST[: 11 * BLOCK + 9])
    parent = Store(str(begun / "set"))
    with open(parent.path(1, ".xxh128"), "rb") as file:
        digests = file.read()
    count = sum(length for _, runs in extents for _, length in runs)
    told = {"xxh128": __import__("hashlib").sha256(digests[: 4 + 16 * count]).hexdigest()}
    spoken = [
        hostile.hello(), hostile.opened(len(volume)), *(extent(*each) for each in extents),
        talk(messages.END, total=count, changed=0, zero=0, read=0, snapshot=None, digests=told), hostile.LEFT,
    ]  # fmt: skip
    with Set(begun, 2) as it:
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
def test_a_failure_is_told_as_what_it_is_and_steers_no_terminal(name, words, code, place, begun):
    spoken = [*HONEST[1][:place], talk(messages.FAILED, error=name, args=words)]
    with Set(begun, 1) as it:
        assert it.refuses(put_together(spoken), played={"status": 1}).exit_code == code


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b'{"error":1,"args":[]}', b'{"error":"ReadFailed","args":{}}', b'{"error":"ReadFailed"}', b"[]"]
    + [b'{"error":"ReadFailed","args":["x",' + b"[" * depth + b"]" * depth + b"]}" for depth in (100, 900, 30_000)],
)
def test_a_failure_that_is_nonsense_is_an_error_too(payload, begun):
    with Set(begun, 1) as it:
        assert it.refuses(put_together([*HEAD1, (messages.FAILED, payload)])).exit_code in (23, 26, 33)


def test_what_is_said_beside_the_work_steers_no_terminal(begun):
    evil = "cannot \x1b]0;x\x07 \u202e\r\n\x00 /etc/passwd"
    lines = []
    spoken = [
        hostile.hello(host=evil, python=evil, codec=evil),
        talk(messages.NOTE, text=evil),
        *HONEST[1][1:4],
        talk(messages.NOTE, text=evil * 100),
        *HONEST[1][4:-1],
        talk(messages.LEFT, remains=evil),
    ]
    with Set(begun, 1) as it:
        outcome = it.back_up(put_together(spoken), warn=lines.append, pack_wire=True)
        assert outcome.exit_code == 3 and lines
        for line in [*lines, *outcome.warnings]:
            printable(line)
        printable(json.dumps(Store(str(it.folder / "set")).read_manifest(1).value, ensure_ascii=False))
        it.is_whole()


@pytest.mark.parametrize(
    "after",
    [[END1], [END1, END1], [E1], [talk(messages.FAILED, error="ReadFailed", args=["/x", "y"])], [(99, b"")], []],
    ids=["end again", "twice", "an extent", "a failure", "noise", "nothing"],
)
def test_what_comes_after_the_end_changes_nothing_any_more(after, begun):
    """The END proved the version; what follows is a warning, for a person must look at that host."""
    with Set(begun, 1) as it:
        outcome = it.back_up(put_together([*HONEST[1][:-1], *after]))
        assert outcome.exit_code == 3 and len(outcome.warnings) == 1
        it.is_whole()


@pytest.mark.parametrize("endless", [b"\0" * 4096, raw(messages.PING) * 100, raw(9, b'{"text":"x"}') * 100, b"\x06"])
@pytest.mark.parametrize("when", [0, 1, 2, 3])
def test_an_agent_that_never_stops_talking(endless, when, begun):
    """Noise is noticed.  Heartbeats alone are an agent that waits: then the run waits too, in bounded memory."""
    if endless.startswith(raw(messages.PING)) and when:
        pytest.skip("an agent may be slow for as long as it says that it lives")
    with Set(begun, 1) as it, peak_below(30 * MIB):
        stream = put_together(HONEST[1][: when + 1]) if when else b""
        it.refuses(stream, played={"endless": endless})


# any mutation


def numbers_of(value):
    """Keys of a JSON object that can be given another value."""
    return sorted(value)


ODD = st.sampled_from(
    [0, 1, -1, 2, 12, 13, 1 << 31, 1 << 32, 1 << 56, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 1.5, 1e308]
    + [True, False, None, "", "x", "\x1b[31m", [], {}, [1], {"xxh128": ""}, "0" * 64, float("inf"), float("nan")]
)  # fmt: skip
MUTATION = st.one_of(
    st.tuples(st.just("drop"), st.integers(0, 20)),
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("swap"), st.integers(0, 20), st.integers(0, 20)),
    st.tuples(st.just("flip"), st.integers(0, 20), st.integers(0, 3000), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 20), st.integers(0, 3000)),
    st.tuples(st.just("longer"), st.integers(0, 20), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("kind"), st.integers(0, 20), st.integers(0, 255)),
    st.tuples(st.just("lie"), st.integers(0, 20), st.integers(0, 1 << 32)),
    st.tuples(st.just("put"), st.integers(0, 20), st.integers(0, 20), st.binary(max_size=60)),
    st.tuples(st.just("field"), st.integers(0, 20), st.integers(0, 12), ODD),
    st.tuples(st.just("pack"), st.integers(0, 20), st.sampled_from([messages.ZLIB, messages.ZSTD])),
    st.tuples(st.just("stop"), st.integers(0, 20)),
)


def mutated(spoken, mutation):
    what, place, *how = mutation
    spoken = list(spoken)
    if not spoken:
        return spoken
    place %= len(spoken)
    frame = spoken[place]
    kind, payload = frame if isinstance(frame, tuple) else (0, b"")
    if what == "drop":
        del spoken[place]
    elif what == "again":
        spoken.insert(place, frame)
    elif what == "swap":
        other = how[0] % len(spoken)
        spoken[place], spoken[other] = spoken[other], spoken[place]
    elif what == "flip" and payload:
        damaged = bytearray(payload)
        damaged[how[0] % len(damaged)] ^= how[1]
        spoken[place] = kind, bytes(damaged)
    elif what == "cut" and payload:
        spoken[place] = kind, payload[: how[0] % len(payload)]
    elif what == "longer":
        spoken[place] = kind, payload + how[0]
    elif what == "kind":
        spoken[place] = how[0], payload
    elif what == "lie":
        spoken[place] = raw(kind, payload, min(how[0], 0xFFFFFFFF))
    elif what == "put":
        spoken.insert(place, (how[0], how[1]))
    elif what == "field" and payload[:1] == b"{":
        try:
            value = json.loads(payload)
        except ValueError:
            return spoken
        keys = numbers_of(value)
        if keys:
            value[keys[how[0] % len(keys)]] = how[1]
            spoken[place] = kind, json.dumps(value).encode()
    elif what == "pack" and kind == messages.DATA and payload[:1] == b"\0":
        body = payload[5:]
        body = zlib.compress(body) if how[0] == messages.ZLIB else zstandard.ZstdCompressor().compress(body)
        spoken[place] = kind, bytes([how[0]]) + payload[1:5] + body
    elif what == "stop":
        del spoken[place:]
    return spoken


@given(number=st.sampled_from([1, 2]), mutations=st.lists(MUTATION, min_size=1, max_size=3), piece=st.sampled_from([7, 65536]))
@example(number=2, mutations=[("field", 1, 1, 1 << 62)], piece=65536)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_mutation_of_a_conversation(number, mutations, piece, begun):
    spoken = HONEST[number]
    for mutation in mutations:
        spoken = mutated(spoken, mutation)
    with Set(begun, number) as it:
        it.survives(put_together(spoken), played={"piece": piece})


@given(noise=st.binary(max_size=400), where=st.integers(0, 12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_noise_in_a_conversation(noise, where, begun):
    with Set(begun, 1) as it:
        it.survives(put_together(HONEST[1][:where]) + noise + b"".join(raw(*frame) for frame in HONEST[1][where:]))


# the wire is cut


def some(length, borders, most):
    """All of 0 to length if that is few, else a sample with all borders and their neighbours."""
    near = {place + step for place in borders for step in (-1, 0, 1) if 0 <= place + step <= length}
    return sorted(near | set(range(0, length + 1, max(1, length // most))))


@pytest.mark.parametrize("number", [1, 2])
def test_the_wire_from_the_agent_is_cut_after_any_byte(number, begun):
    stream = put_together(HONEST[number])
    borders = [len(put_together(HONEST[number][:count])) for count in range(len(HONEST[number]) + 1)]
    proved = borders[-2]  # all of END is there
    for length in some(len(stream), borders, 150):
        with Set(begun, number) as it:
            if length < proved:
                it.refuses(stream[:length], played={"status": None, "words": "killed"})
                continue
            outcome = it.back_up(stream[:length], played={"status": 0})
            assert (outcome.exit_code == 0) == (length == len(stream))
            it.is_whole()
    with Set(begun, number) as it:
        it.refuses(stream[: proved - 1])
        it.back_up(stream)
        it.is_whole()


def test_the_wire_to_the_agent_is_cut_after_any_byte(begun, tmp_path):
    """The real agent ends by itself, and says nothing that is taken for a version."""
    (tmp_path / "vol").write_bytes(SECOND)
    whole = CutTowardsAgent(1 << 40)
    with Set(begun, 2) as it:
        back_up(it.folder / "set", tmp_path / "vol", connect=lambda: whole)
    bundle = len(push.bundle(True))
    assert bundle < whole.sent < bundle + 3000
    stage_1 = len(push.source("agent/assembler.py"))
    borders = [0, stage_1, bundle - 1, bundle, bundle + 5, whole.sent]
    lengths = [*some(whole.sent, borders, 8), *range(bundle + 2, whole.sent, max(1, (whole.sent - bundle) // 12))]
    results = set()
    for length in sorted(set(lengths)):
        cut = CutTowardsAgent(length)
        with Set(begun, 2) as it:
            try:
                back_up(it.folder / "set", tmp_path / "vol", connect=lambda cut=cut: cut, timeout_s=20.0)
            except BlockdiffError as error:
                assert 20 <= error.exit_code < 30
                results.add("refused")
                assert files_of(it.folder) == it.before
                assert length <= whole.sent
            else:
                results.add("published")
                assert length >= whole.sent - 40  # all that it needed had arrived
                it.is_whole()
        assert cut.wait(20) is not None
    assert "refused" in results


# a hostile server


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
        import threading

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
        timer = threading.Timer(40, self.process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(self.process.pid, 0)
        finally:
            timer.cancel()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for thread in threads[1:]:
            thread.join(10)
        return self.process.returncode, bytes(out), bytes(err), usage.ru_maxrss * 1024

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
        "ended": None, "snapshot": None, "path": str(path), "block_size": BLOCK, "digest": "md5", "others": False,
        "old": None, "compress": True, "jobs": 0, "bwlimit": 0, "timeout_s": 20,
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
    "a snapshot that must be": [request("{vol}", snapshot={"size": None, "set": "x", "run": "y", "must": True})],
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
        st.sampled_from(["block_size", "digest", "others", "old", "compress", "jobs", "timeout_s", "snapshot", "ended"]),
        ODD,
        max_size=2,
    ),
    more=st.lists(SERVER_SAYS, max_size=6),
    tail=st.binary(max_size=12),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_a_server_says_the_agent_ends(changes, more, tail, volume):
    if changes.get("ended") == "x":
        changes.pop("ended")
    made = Agent()
    try:
        stream = b"".join(raw(*frame) for frame in [request(volume, **changes), *more]) + tail
        ended_well(*made.hears(stream))
    finally:
        made.close()
