"""The manifest: canonical or damaged, nothing between; unknown keys kept, newer formats refused."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff.formats import FormatError, manifest

SHA = "0123456789abcdef" * 4
VALUE = {
    "format": 1,
    "set": "db ä",
    "version": 2,
    "kind": "incremental",
    "parent": 1,
    "parent_md5_sha256": SHA,
    "source": {"path": "/v", "size": 20, "host": "localhost"},
    "block_size": 8,
    "files": {".md5": {"size": 52, "sha256": SHA}, "": {"size": 52, "sha256": SHA}},
}
# by hand, from blockdiff-formats(5), "Manifest": keys sorted, no spaces, UTF-8, one newline
BARE = (
    '{"block_size":8,"files":{"":{"sha256":"%s","size":52},".md5":{"sha256":"%s","size":52}},"format":1,'
    '"kind":"incremental","parent":1,"parent_md5_sha256":"%s","set":"db ä",'
    '"source":{"host":"localhost","path":"/v","size":20},"version":2}\n' % (SHA, SHA, SHA)
).encode()
WHOLE = BARE.replace(b',"set":', b',"self_sha256":"%s","set":' % hashlib.sha256(BARE).hexdigest().encode())


def sealed(**changes):
    """A manifest with these keys changed (None: taken out), whose own hash is right."""
    value = {**VALUE, **changes}
    value = {key: item for key, item in value.items() if item is not ...}
    bare = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    value["self_sha256"] = hashlib.sha256(bare).hexdigest()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def test_it_is_written_as_told():
    assert manifest.encode(VALUE) == WHOLE
    assert manifest.encode(dict(VALUE, self_sha256="an old one")) == WHOLE


# by hand, from blockdiff-formats(5), "Manifest": every key that is written
NEW = (
    '{"agent":{"codec":"gzip","digest":"xxh128","python":"3.6.8","sha256":"%s"},"begun":"2026-01-02T01:00:00Z",'
    '"block_size":8,"blockdiff":"1.2","blocks":{"changed":2,"total":3,"zero":1},'
    '"bytes":{"payload":36,"read":20,"stored":31,"wire":40},"consistency":"application",'
    '"ended":"2026-01-02T01:02:03Z","files":{".gz":{"sha256":"%s","size":31},".md5":{"sha256":"%s","size":52}},'
    '"format":1,"kind":"incremental","parent":1,"parent_md5_sha256":"%s","quiesce":{"held_s":1.5},'
    '"set":"db ä","snapshot":{"extended":0,"fill_at_begin":0.5,"fill_at_end":2.5,"name":"vg/s","size":4096},'
    '"source":{"host":"srv","kind":"lv","lv_uuid":"a-b","path":"/v","size":20},"version":2}\n' % (SHA, SHA, SHA, SHA)
)


def new(**changes):
    value = manifest.NewManifest(
        blockdiff="1.2",
        set="db ä",
        version=2,
        parent=1,
        parent_md5_sha256=SHA,
        begun="2026-01-02T01:00:00Z",
        ended="2026-01-02T01:02:03Z",
        source=manifest.Source("srv", "/v", "lv", 20, "a-b"),
        block_size=8,
        blocks=manifest.Blocks(3, 2, 1),
        bytes=manifest.Transfer(20, 36, 40),
        consistency="application",
        quiesce={"held_s": 1.5},
        snapshot=manifest.Snapshot("vg/s", 4096, 0.5, 2.5, 0),
        agent=manifest.Agent("3.6.8", "xxh128", "gzip", SHA),
    )
    return dataclasses.replace(value, **changes)


FILES = {".md5": manifest.StoredFile(52, SHA), ".gz": manifest.StoredFile(31, SHA)}


def test_a_new_one_has_every_key_in_canonical_form():
    bare = NEW.encode()
    seal = b',"self_sha256":"%s","set":' % hashlib.sha256(bare).hexdigest().encode()

    assert new().encode(FILES, ".gz") == bare.replace(b',"set":', seal)


def test_a_new_one_has_the_key_command_only_if_a_command_read_the_volume():
    found = manifest.decode(new(agent=None, command="dd", parent=None, parent_md5_sha256=None).encode(FILES, ".gz"))

    assert (found.value["command"], found.value["agent"], found.kind) == ("dd", None, "full")
    assert "command" not in manifest.decode(new().encode(FILES, ".gz")).value


def test_a_new_one_has_the_key_hint_only_if_a_hint_chose_what_was_read():
    """In the format of all programs, which keep keys that they do not know."""
    found = manifest.decode(new(hint=manifest.Hint("thin_delta", 12, 300, None)).encode(FILES, ".gz"))

    assert found.value["hint"] == {"method": "thin_delta", "blocks": 12, "audited": 300, "wrong": None}
    assert found.value["format"] == 1
    assert "hint" not in manifest.decode(new().encode(FILES, ".gz")).value


def test_a_new_one_that_cannot_be_read_back_is_not_written():
    for parent in (2, 3):
        with pytest.raises(FormatError):
            new(parent=parent).encode(FILES, ".gz")


@pytest.mark.parametrize(
    ("version", "parent", "format_"), [(2, 1, 1), (7, 6, 1), (1, None, 1), (9, None, 1), (7, 5, 2), (7, 1, 2)]
)
def test_only_one_that_continues_an_older_one_is_of_format_2(version, parent, format_):
    link = parent and SHA
    found = manifest.decode(new(version=version, parent=parent, parent_md5_sha256=link).encode(FILES, ".gz"))

    assert (found.value["format"], found.parent) == (format_, parent) and manifest.format_of(
        version, parent
    ) == format_


def test_one_of_format_1_continues_the_one_before_and_of_format_2_any_older_one():
    for parent in range(1, 7):
        assert manifest.decode(sealed(format=2, version=7, parent=parent)).parent == parent
    for parent in range(1, 6):
        with pytest.raises(FormatError):
            manifest.decode(sealed(format=1, version=7, parent=parent))
        with pytest.raises(FormatError):
            manifest.encode({**VALUE, "version": 7, "parent": parent})
    with pytest.raises(FormatError):
        manifest.decode(sealed(format=2, version=7, parent=7))


def test_one_of_a_newer_format_is_told_from_damage():
    data = sealed(format=3, kind="of another kind")
    with pytest.raises(manifest.NewerFormat, match="of format 3, newer than this program knows"):
        manifest.decode(data)
    for damaged in (data[:-2], data.replace(b'"version":2', b'"version":3')):
        with pytest.raises(FormatError) as raised:
            manifest.decode(damaged)
        assert not isinstance(raised.value, manifest.NewerFormat)


def test_it_is_read_as_told():
    found = manifest.decode(WHOLE)
    assert (found.version, found.kind, found.full, found.parent, found.parent_md5_sha256) == (
        2, "incremental", False, 1, SHA,
    )  # fmt: skip
    assert (found.size, found.block_size) == (20, 8)
    assert found.files == {".md5": manifest.StoredFile(52, SHA), "": manifest.StoredFile(52, SHA)}
    assert manifest.encode(found.value) == WHOLE


def test_every_cut_and_every_flipped_bit_is_damage():
    for cut in range(len(WHOLE)):
        with pytest.raises(FormatError):
            manifest.decode(WHOLE[:cut])
    for place in range(len(WHOLE)):
        for bit in range(8):
            damaged = bytearray(WHOLE)
            damaged[place] ^= 1 << bit
            with pytest.raises(FormatError):
                manifest.decode(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        WHOLE + b"\n",
        WHOLE[:-1],
        b" " + WHOLE,
        WHOLE.replace(b'":', b'": ', 1),
        WHOLE.replace(b"\xc3\xa4", b"\\u00e4"),  # escaped though it need not be
        WHOLE.replace(b'"block_size":8', b'"block_size":8,"block_size":8'),
        WHOLE.replace(b":8", b":8.0"),
        b"\xef\xbb\xbf" + WHOLE,
        b"[]\n",
        b"null\n",
        b"[" * 100_000,
        b'{"a":NaN}\n',
        b'{"a":' + b"9" * 6000 + b"}\n",
        b'{"a":"' + b"x" * (1 << 20) + b'"}\n',
    ],
)
def test_what_is_not_canonical_is_damage(data):
    with pytest.raises(FormatError):
        manifest.decode(data)


def test_sealing_is_done_as_the_program_does():
    assert sealed() == WHOLE


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"format": 0},
        {"format": True},
        {"format": "1"},
        {"format": ...},
        {"version": 0},
        {"version": -1},
        {"version": 1 << 63},
        {"version": 2.0},
        {"version": ...},
        {"kind": "synthetic"},
        {"kind": ...},
        {"kind": "full"},  # with a parent
        {"parent": None},  # an incremental without
        {"parent": ...},
        {"parent": 2},
        {"parent": 3},
        {"parent": 0},
        {"parent": "1"},
        {"parent_md5_sha256": ...},
        {"parent_md5_sha256": SHA.upper()},
        {"parent_md5_sha256": SHA[:-1]},
        {"source": ...},
        {"source": []},
        {"source": {"size": -1}},
        {"source": {"size": "20"}},
        {"block_size": 0},
        {"block_size": 16777217},
        {"block_size": ...},
        {"files": ...},
        {"files": {}},
        {"files": {"": {"size": 1, "sha256": SHA}}},  # no digest file
        {"files": {".md5": None}},
        {"files": {".md5": {"size": -1, "sha256": SHA}}},
        {"files": {".md5": {"size": 1, "sha256": "g" * 64}}},
        {"files": {".md5": {"size": 1}}},
    ],
    ids=str,
)
def test_a_field_that_decides_must_be_right(changes):
    with pytest.raises(FormatError):
        manifest.decode(sealed(**changes))


REWRITTEN = {
    "at": "2026-01-02T01:00:00Z", "blockdiff": "1.2", "kind": "incremental", "parent": 1, "versions": [1, 2],
    "bytes_read": 99,
}  # fmt: skip


def test_what_was_rewritten_is_told():
    found = manifest.decode(sealed(kind="full", parent=None, parent_md5_sha256=None, rewritten=REWRITTEN))

    assert found.rewritten == manifest.Rewritten("2026-01-02T01:00:00Z", "1.2", "incremental", 1, (1, 2), 99)
    assert manifest.encode(found.value) == manifest.encode(dict(found.value))
    assert manifest.decode(WHOLE).rewritten is None
    was_full = {**REWRITTEN, "kind": "full", "parent": None}
    assert manifest.decode(sealed(rewritten=was_full)).rewritten.parent is None


@pytest.mark.parametrize(
    "changes",
    [
        {"at": 1}, {"at": ...}, {"blockdiff": None}, {"kind": "whole"}, {"kind": "full"}, {"parent": None},
        {"parent": 2}, {"parent": 0}, {"versions": ...}, {"versions": [1]}, {"versions": [1, 2, 2]},
        {"versions": [0, 2]}, {"versions": [2, 1]}, {"versions": [1, 3]}, {"versions": [True, 2]},
        {"versions": [1, "2"]}, {"bytes_read": -1}, {"bytes_read": ...}, {"bytes_read": 1.5},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_told_of_a_rewrite_must_be_right(changes):
    told = {key: item for key, item in {**REWRITTEN, **changes}.items() if item is not ...}
    with pytest.raises(FormatError):
        manifest.decode(sealed(rewritten=told))
    with pytest.raises(FormatError):
        manifest.decode(sealed(rewritten=None))


def test_what_cannot_be_read_back_is_never_written():
    with pytest.raises(FormatError):
        manifest.encode({**VALUE, "version": 0})
    with pytest.raises((FormatError, ValueError)):
        manifest.encode({**VALUE, "rate": float("nan")})


def test_a_full_one_and_one_whose_size_nobody_knew():
    full = manifest.decode(sealed(kind="full", parent=None, parent_md5_sha256=None, source={"size": None}))
    assert full.full and full.parent is None and full.parent_md5_sha256 is None and full.size is None


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key not in VALUE), TREES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_unknown_keys_are_kept(more):
    more.pop("self_sha256", None)
    data = manifest.encode({**VALUE, **more})
    found = manifest.decode(data)
    assert {key: found.value[key] for key in more} == more
    assert manifest.encode(found.value) == data


@pytest.mark.parametrize("path", ["/v/\udcff\udc80", '/v/"\\\n\x00\x7f', "/v/\u2028😀"])
def test_any_path_is_kept(path):
    data = manifest.encode({**VALUE, "source": {"path": path, "size": 1}})
    assert manifest.decode(data).value["source"]["path"] == path
