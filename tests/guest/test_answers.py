"""What a guest says is believed only as far as it goes."""

import json

import pytest

from blockdiff.errors import ProtocolBroken
from blockdiff.guest import messages
from blockdiff.guest.answers import Data, End, Entry, Map, Step, answers

ENTRY = {
    "kind": "entry", "name": "etc/passwd", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "mtime": 1, "size": 10,
    "target": "", "shared": False, "device": [0, 0],
}  # fmt: skip
VOLUME = {"part": 1, "vg": "", "lv": "", "type": "ext4", "label": "", "size": 1, "holds": []}


def said(*received):
    return list(answers((kind, json.dumps(content).encode() if isinstance(content, dict) else content) for kind, content in received))


def data(offset, content):
    return messages.DATA, messages.OFFSET.pack(offset) + content


def entry(**changed):
    return messages.JSON, {**ENTRY, **changed}


def test_what_a_guest_sends_is_understood():
    found = said((messages.JSON, {"kind": "map", "parts": [VOLUME]}), entry(), data(2, b"ab"), data(8, b"cd"), (messages.JSON, {"kind": "end"}))
    assert [type(each) for each in found] == [Map, Entry, Data, Data, End]
    assert found[1].name == "etc/passwd" and found[3] == Data(8, b"cd")
    name = "\udcff"  # a byte that is no text
    assert said(entry(name=name))[0].name == name


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "/etc/passwd"}, {"name": "../x"}, {"name": "a/../../x"}, {"name": "a//b"}, {"name": "a/"}, {"name": "."},
        {"name": "a\0b"}, {"name": "\ud800"}, {"name": "a/" * 3000 + "a"}, {"name": 3}, {"name": None},
        {"type": "door"}, {"type": "link", "target": "../x"}, {"type": "link", "target": "/x"}, {"mode": 0o10000},
        {"mode": -1}, {"mode": True}, {"size": -1}, {"size": 2**63}, {"size": 1.5}, {"size": "1"}, {"uid": -1},
        {"uid": 2**33}, {"mtime": "now"}, {"shared": 1}, {"device": [1]}, {"device": [1, -1]}, {"device": "ab"},
        {"target": "a\0"}, {"target": "x" * 5000}, {"kind": "door"}, {"kind": []},
    ],
    ids=lambda changed: str(changed)[:40],
)  # fmt: skip
def test_what_no_guest_of_ours_sends_ends_it(changed):
    with pytest.raises(ProtocolBroken):
        said(entry(**changed))


STEP = {"kind": "step", "step": "query", "seconds": 0.25, "text": "200", "failed": False}


@pytest.mark.parametrize("changed", [
    {"step": 1}, {"seconds": 1}, {"seconds": "1"}, {"seconds": -0.5}, {"seconds": float("nan")}, {"seconds": float("inf")},
    {"text": None}, {"text": "a\0"}, {"text": "x" * 5000}, {"failed": 0},
], ids=str)  # fmt: skip
def test_a_step_of_a_drill_is_checked(changed):
    assert said((messages.JSON, STEP)) == [Step("query", 0.25, "200", False)]
    with pytest.raises(ProtocolBroken):
        said((messages.JSON, STEP | changed))


@pytest.mark.parametrize("key", sorted(ENTRY))
def test_nothing_may_be_missing(key):
    with pytest.raises(ProtocolBroken):
        said((messages.JSON, {name: value for name, value in ENTRY.items() if name != key}))


@pytest.mark.parametrize(
    "received",
    [
        [data(0, b"x")],
        [entry(type="dir"), data(0, b"x")],
        [entry(), data(9, b"xx")],
        [entry(), data(2**63, b"x")],
        [entry(), data(4, b"xx"), data(5, b"x")],
        [entry(), (messages.JSON, {"kind": "unread", "name": "a", "text": ""}), data(0, b"x")],
        [entry(), data(0, b"")],
        [entry(), (messages.DATA, b"123")],
        [(messages.JSON, b"[" * 100_000)],
        [(messages.JSON, b"[]")],
        [(messages.JSON, b"{")],
        [(messages.JSON, b"\xff")],
        [(messages.JSON, {"kind": "map", "parts": [{**VOLUME, "holds": [{}]}]})],
        [(messages.JSON, {"kind": "map", "parts": [VOLUME] * 20_000})],
        [(messages.JSON, {"kind": "mounted", "place": "p", "type": "ext4", "clean": 1})],
        [(messages.JSON, {"kind": "path", "path": -1})],
    ],
)
def test_so_does_what_comes_at_the_wrong_place(received):
    with pytest.raises(ProtocolBroken):
        said(*received)
