"""The request: golden bytes both ways, and nothing taken on trust."""

import json

import pytest

from blockdiff.formats import FormatError
from blockdiff.wire import request
from blockdiff.wire.request import HintRequest, Request, RestoreRequest, SharedMemory, SnapshotRequest

SNAPSHOT = SnapshotRequest(size="15%", set="0123456789abcdef", run="feed", must=True, verbose=False)
MEMORY = SharedMemory(fd=5, device=1, inode=77, size=16777216)
LEAST = Request("/dev/vg/\udcff", 65536, "xxh128", 120.0)
FULLEST = Request(
    "/dev/vg/a", 512, "md5", 2, old=9, others=True, compress=True, jobs=3, bwlimit=1000, shared=MEMORY,
    snapshot=SNAPSHOT, users=True, known="/dev/b", look=True, ended="beef",
    restore=RestoreRequest(size=7, dry_run=True), hints=HintRequest(version=4, base=3, sha256="ab", whole=False),
)  # fmt: skip
# by hand, from blockdiff-protocol(5), "Messages"
WIRE = [
    (
        LEAST,
        b'{"block_size":65536,"bwlimit":0,"compress":false,"digest":"xxh128","ended":null,"jobs":0,"known":null,'
        b'"look":false,"old":null,"others":false,"path":"/dev/vg/\\udcff","restore":null,"shared":null,"snapshot":null,'
        b'"timeout_s":120.0,"users":false}',
    ),
    (
        FULLEST,
        b'{"block_size":512,"bwlimit":1000,"compress":true,"digest":"md5","ended":"beef",'
        b'"hints":{"base":3,"sha256":"ab","version":4,"whole":false},"jobs":3,"known":"/dev/b","look":true,"old":9,"others":true,"path":"/dev/vg/a","restore":{"dry_run":true,"size":7},'
        b'"shared":{"device":1,"fd":5,"inode":77,"size":16777216},'
        b'"snapshot":{"must":true,"run":"feed","set":"0123456789abcdef","size":"15%","verbose":false},'
        b'"timeout_s":2,"users":true}',
    ),
]


@pytest.mark.parametrize("value, wire", WIRE, ids=["least", "fullest"])
def test_a_request_goes_both_ways(value, wire):
    assert request.encode(value) == wire
    found = request.decode(memoryview(wire))
    assert found == value and [type(part) for part in found] == [type(part) for part in value]


def changed(name, value):
    """Return a request's bytes with one value of its JSON changed; "a.b" names a key of a nested object."""
    whole = json.loads(WIRE[1][1])
    *outer, key = name.split(".")
    place = whole[outer[0]] if outer else whole
    assert key in place
    place[key] = value
    return json.dumps(whole).encode()


KEYS = [*Request._fields, *(f"shared.{name}" for name in SharedMemory._fields)]
KEYS += [f"snapshot.{name}" for name in SnapshotRequest._fields]
KEYS += [f"restore.{name}" for name in RestoreRequest._fields]
KEYS += [f"hints.{name}" for name in HintRequest._fields]
OPEN = {"old", "known", "ended", "shared", "snapshot", "restore", "hints", "snapshot.size", "hints.base", "hints.sha256"}  # may be null


@pytest.mark.parametrize("name", [name for name in KEYS if name != "hints"])
def test_every_key_must_be_there(name):
    whole = json.loads(WIRE[1][1])
    *outer, key = name.split(".")
    del (whole[outer[0]] if outer else whole)[key]
    with pytest.raises(FormatError, match=repr(key)):
        request.decode(json.dumps(whole).encode())


@pytest.mark.parametrize("name", KEYS)
def test_every_value_must_be_of_its_type(name):
    with pytest.raises(FormatError, match=repr(name.rpartition(".")[2])):
        request.decode(changed(name, ["neither text, number, object nor null"]))


@pytest.mark.parametrize("name", KEYS)
def test_only_what_may_be_left_open_may_be_null(name):
    if name in OPEN:
        request.decode(changed(name, None))
    else:
        with pytest.raises(FormatError):
            request.decode(changed(name, None))


@pytest.mark.parametrize(
    "name, value",
    [
        ("block_size", 0), ("block_size", -1), ("block_size", (1 << 24) + 1), ("block_size", True),
        ("digest", "sha1"), ("old", -1), ("old", 1 << 56), ("timeout_s", float("inf")), ("timeout_s", float("nan")),
        ("path", "/\ud800"), ("known", "/\ud800"), ("jobs", 1 << 64), ("shared.size", 1.5), ("restore.size", -1),
        ("restore.size", 1 << 63), ("hints.version", 0), ("hints.version", 1 << 56),
    ],
)  # fmt: skip
def test_a_value_out_of_its_bounds_is_refused(name, value):
    with pytest.raises(FormatError):
        request.decode(changed(name, value))


def test_unknown_keys_are_ignored():
    whole = {**json.loads(WIRE[1][1]), "tomorrow": 1}
    whole["snapshot"]["tomorrow"] = 2
    assert request.decode(json.dumps(whole).encode()) == FULLEST


def test_a_path_is_the_kernels_bytes():
    assert request.encode_path("/dev/\udcff\u00e4") == b"/dev/\xff\xc3\xa4"
