import base64
import hmac
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.errors import HostRefused
from blockdiff.transport.knownhosts import KnownHosts, fingerprint, matches, parse


def key(kind, content):
    name = kind.encode()
    return len(name).to_bytes(4, "big") + name + content


def line(names, blob, kind="ssh-ed25519", marker=""):
    return f"{marker} {names} {kind} {base64.b64encode(blob).decode()} comment\n".lstrip()


GOOD = key("ssh-ed25519", b"good")
BAD = key("ssh-ed25519", b"bad")
RSA = key("ssh-rsa", b"r")


def known(*lines):
    return KnownHosts(parse("".join(lines), "file"), [Path("file")])


def verdict(hosts, host="db00", port=22, blob=GOOD, kind="ssh-ed25519", alias=None):
    try:
        hosts.check(host, port, blob, kind, alias=alias)
    except HostRefused as error:
        text = str(error)
        return next(word for word in ("revoked", "changed", "not known") if word in text)
    return "believed"


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([line("db00", GOOD)], "believed"),
        ([line("DB00", GOOD)], "believed"),
        ([line("web,db00,10.0.0.1", GOOD)], "believed"),
        ([line("db*", GOOD)], "believed"),
        ([line("db?0", GOOD)], "believed"),
        ([line("db[0]0", GOOD)], "not known"),
        ([line("*,!db00", GOOD)], "not known"),
        ([line("!db00,*", GOOD)], "not known"),
        ([line("!web,*", GOOD)], "believed"),
        ([line("!web", GOOD)], "not known"),
        ([line("db", GOOD)], "not known"),
        ([], "not known"),
        ([line("db00", BAD)], "changed"),
        ([line("db00", BAD), line("db00", GOOD)], "believed"),
        ([line("db00", RSA, "ssh-rsa")], "not known"),
        ([line("db00", GOOD), line("*", GOOD, marker="@revoked")], "revoked"),
        ([line("db00", GOOD, marker="@revoked"), line("db00", GOOD)], "revoked"),
        ([line("db00", BAD, marker="@revoked"), line("db00", GOOD)], "believed"),
        ([line("web", GOOD, marker="@revoked"), line("db00", GOOD)], "believed"),
        ([line("db00", GOOD, marker="@cert-authority")], "not known"),
        ([line("db00", GOOD, marker="@unheard-of")], "not known"),
        (["# " + line("db00", GOOD)], "not known"),
        (["\n", "db00\n", "db00 ssh-ed25519 ###\n", line("db00", GOOD)], "believed"),
        ([line("db00", GOOD, kind="ssh-rsa")], "not known"),  # says one type and holds another
    ],
)
def test_who_is_believed(lines, expected):
    assert verdict(known(*lines)) == expected


@pytest.mark.parametrize(
    "names, port, expected",
    [
        ("[db00]:2222", 2222, "believed"),
        ("[db00]:2222", 22, "not known"),
        ("[db00]:2222", 2223, "not known"),
        ("[*]:2222", 2222, "believed"),
        ("db00", 2222, "believed"),  # as ssh does: known without the port, and the same key
    ],
)
def test_ports(names, port, expected):
    assert verdict(known(line(names, GOOD)), port=port) == expected


def test_another_key_without_the_port_is_another_server():
    hosts = known(line("db00", BAD))
    assert verdict(hosts, port=2222) == "not known"
    assert verdict(known(line("[db00]:2222", BAD), line("db00", RSA, "ssh-rsa")), port=2222) == "changed"


def test_ipv6():
    assert verdict(known(line("::1", GOOD)), host="::1") == "believed"
    assert verdict(known(line("[::1]:2222", GOOD)), host="::1", port=2222) == "believed"


def test_an_alias_is_looked_up_alone():
    hosts = known(line("alias", GOOD), line("[db00]:2222", BAD))
    assert verdict(hosts, port=2222, alias="alias") == "believed"
    assert verdict(known(line("db00", GOOD)), alias="alias") == "not known"


def hashed(name):
    salt = b"12345678901234567890"
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return "|1|" + base64.b64encode(salt).decode() + "|" + base64.b64encode(digest).decode()


def test_hashed_names():
    assert verdict(known(line(hashed("db00"), GOOD))) == "believed"
    assert verdict(known(line(hashed("db00"), BAD))) == "changed"
    assert verdict(known(line(hashed("[db00]:2222"), GOOD)), port=2222) == "believed"
    assert verdict(known(line(hashed("web"), GOOD))) == "not known"
    assert verdict(known(line("|1|###|###", GOOD), line("|1|x", GOOD))) == "not known"


def test_types_and_authorities():
    hosts = known(
        line("db00", RSA, "ssh-rsa"),
        line("db00", GOOD),
        line("db00", BAD),
        line("*.example.org", BAD, marker="@cert-authority"),
    )
    assert hosts.key_types("db00", 22) == ("ssh-rsa", "ssh-ed25519")
    assert hosts.key_types("web", 22) == ()
    assert hosts.authority("db00", 22) is None
    assert hosts.authority("db00.example.org", 22).place == "file:4"


def test_the_reason_leads_further():
    with pytest.raises(HostRefused) as caught:
        known(line("db00", BAD)).check("db00", 2222, GOOD, "ssh-ed25519", called="db")
    assert fingerprint(GOOD) in str(caught.value)
    assert str(caught.value).startswith("db ")
    assert "ssh-keyscan -p 2222 db00" in caught.value.hint
    with pytest.raises(HostRefused) as caught:
        known(line("db00", BAD)).check("db00", 22, GOOD, "ssh-ed25519")
    assert "file:1" in str(caught.value)
    assert "ssh-keygen -R 'db00' -f file" in caught.value.hint


def test_files(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_text(line("db00", GOOD))
    assert verdict(KnownHosts.read([first, second], "db00")) == "believed"
    first.mkdir()
    with pytest.raises(HostRefused):
        KnownHosts.read([first, second], "db00")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is missing")
def test_fingerprint_is_that_of_ssh_keygen(tmp_path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True, stdin=subprocess.DEVNULL
    )
    shown = subprocess.check_output(["ssh-keygen", "-lf", tmp_path / "k.pub"], text=True).split()[1]
    blob = base64.b64decode((tmp_path / "k.pub").read_text().split()[1])
    assert fingerprint(blob) == shown


@given(st.text())
def test_any_text_is_read(text):
    parse(text, os.devnull)


@given(st.lists(st.text(alphabet="ab*?![]", max_size=5), max_size=4), st.text(alphabet="ab", max_size=4))
def test_a_negated_pattern_always_wins(patterns, name):
    if any(pattern.startswith("!") and matches(name, [pattern[1:]]) for pattern in patterns):
        assert not matches(name, patterns)
