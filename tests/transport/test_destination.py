import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.transport.destination import (
    Destination,
    parse_hop,
    parse_host_argument,
    parse_login,
    parse_source,
)

HERE = None


@pytest.mark.parametrize(
    "text, host, user, path",
    [
        ("db00:/dev/vg/data", "db00", None, "/dev/vg/data"),
        ("root@db00:/dev/vg/data", "db00", "root", "/dev/vg/data"),
        ("db00.example.org:/x y", "db00.example.org", None, "/x y"),
        ("db00:disk.img", "db00", None, "disk.img"),
        ("db00:/a:b", "db00", None, "/a:b"),
        ("db00:/a@b", "db00", None, "/a@b"),
        ("[::1]:/x", "::1", None, "/x"),
        ("root@[fe80::1%eth0]:/x", "fe80::1%eth0", "root", "/x"),
        ("me@domain@db00:/x", "db00", "me@domain", "/x"),
        ("10.0.0.1:/x\ny", "10.0.0.1", None, "/x\ny"),
    ],
)
def test_remote_sources(text, host, user, path):
    assert parse_source(text) == (Destination(host, user), path)


@pytest.mark.parametrize(
    "text",
    [
        "/dev/vg/data",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-1",
        "disk.img",
        "./db00:/x",
        "a/b:c",
        "a@b",
        "-x",
        "/x@y:z",
    ],
)
def test_local_sources(text):
    assert parse_source(text) == (HERE, text)


@pytest.mark.parametrize(
    "text", ["", ":", ":/x", "db00:", "@db00:/x", "root@:/x", "[::1:/x", "::1:/x", "-oProxyCommand=x:/y", "a b:/x"]
)
def test_sources_that_are_neither(text):
    with pytest.raises(ValueError):
        parse_source(text)


@given(st.text(max_size=40))
def test_a_source_is_taken_apart_or_refused(text):
    try:
        destination, path = parse_source(text)
    except ValueError:
        return
    if destination is None:
        assert path == text
    else:
        assert text.endswith(f":{path}")
        assert not destination.host.startswith("-")


@pytest.mark.parametrize("word", ["", "-x", "a b", "a;b", "$(x)", "a\nb", "a'b", "a/b"])
def test_what_could_be_more_than_a_name_is_none(word):
    with pytest.raises(ValueError):
        Destination(word)
    with pytest.raises(ValueError):
        Destination("host", word)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("db00", Destination("db00")),
        ("root@db00", Destination("db00", "root")),
        ("  root@db00\n", Destination("db00", "root")),
        ("-p 2222 root@db00", Destination("db00", "root", ("-p", "2222"))),
        ("-p2222 root@db00", Destination("db00", "root", ("-p2222",))),
        ("root@db00 -p 2222 -4", Destination("db00", "root", ("-p", "2222", "-4"))),
        ("-4Cp 2222 db00", Destination("db00", None, ("-4Cp", "2222"))),
        ("-4 -- db00", Destination("db00", None, ("-4",))),
        (
            "-o ProxyJump=a -i key -l root db00",
            Destination("db00", None, ("-o", "ProxyJump=a", "-i", "key", "-l", "root")),
        ),
        ("[::1]", Destination("::1")),
        ("root@[::1]", Destination("::1", "root")),
    ],
)
def test_the_originals_host_argument(text, expected):
    assert parse_host_argument(text) == expected


@pytest.mark.parametrize(
    "text", ["", "  ", "-p 2222", "db00 -p", "db00 nice", "-N db00", "-4f db00", "-t db00", "-V", "-W x:1 db00", "--"]
)
def test_host_arguments_that_cannot_be(text):
    with pytest.raises(ValueError):
        parse_host_argument(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("jump", (None, "jump", None)),
        ("a@jump:33", ("a", "jump", 33)),
        ("[::1]:44", (None, "::1", 44)),
        ("a@[::1]", ("a", "::1", None)),
        ("ssh://a@jump:33", ("a", "jump", 33)),
    ],
)
def test_hops(text, expected):
    assert parse_hop(text) == expected


@pytest.mark.parametrize("text", ["", "jump:x", "-x", "a@", "[::1", "a b"])
def test_hops_that_are_none(text):
    with pytest.raises(ValueError):
        parse_hop(text)


def test_spelling():
    assert str(Destination("::1", "root")) == "root@::1"
    assert parse_login(str(Destination("db00"))) == Destination("db00")
