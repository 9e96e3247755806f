"""Headers that no sealer of ours writes: everything before the MAC is a stranger's text."""

import os

import pyrage
import pytest
from memory import peak_below
from seals import Forger, Key, opened, plain, sealed_size, text

from blockdiff.errors import DamagedFile, NotOurFormat, Sealed
from blockdiff.sealing import header, sealer

KEY, OTHER = Key(), Key()
FORGER = Forger(KEY)
STANZA = FORGER.stanza()


def body(made):
    """A whole file with this header."""
    return FORGER.file((b"text", True), header=made)


def test_what_the_forger_writes_is_right_when_nothing_is_wrong():
    assert plain(body(FORGER.header(STANZA)), KEY.identity) == b"text"
    assert pyrage.decrypt(body(FORGER.header(STANZA)), [KEY.their_identity]) == b"text"


@pytest.mark.parametrize(
    "others",
    [
        (b"-> X25519-grease \x21~ \x7e\n\n",),
        (b"-> mlkem768x25519 AAAA\n" + b"A" * 64 + b"\n" + b"A" * 64 + b"\n\n",),
        (b"-> ssh-ed25519 abc " + b"x" * 5000 + b"\n" + b"A" * 62 + b"\n",),
        (b"-> a\n\n",) * 255,
    ],
)
def test_stanzas_of_other_kinds_are_passed_over(others):
    for stanzas in ((*others, STANZA), (STANZA, *others)):
        assert plain(body(FORGER.header(*stanzas)), OTHER.identity, KEY.identity) == b"text"


SHARE = text(os.urandom(32))
PASSPHRASE = b"-> scrypt %s 10\n%s\n" % (text(bytes(16)), text(bytes(32)))
WRONG = {
    "no stanza": FORGER.header(),
    "another version": FORGER.header(STANZA, version=b"age-encryption.org/v2\n"),
    "lines of windows": FORGER.header(STANZA).replace(b"\n", b"\r\n"),
    "no argument": FORGER.header(STANZA, b"->\n\n"),
    "an empty argument": FORGER.header(STANZA, b"-> \n\n"),
    "two blanks": FORGER.header(STANZA, b"-> a  b\n\n"),
    "a blank at the end": FORGER.header(STANZA, b"-> a \n\n"),
    "a control character": FORGER.header(STANZA, b"-> a\x1b\n\n"),
    "a letter of no alphabet": FORGER.header(STANZA, b"-> \xe9\n\n"),
    "no body": FORGER.header(STANZA, b"-> a\n"),
    "a body without a short line": FORGER.header(STANZA, b"-> a\n" + b"A" * 64 + b"\n"),
    "a body with a long line": FORGER.header(STANZA, b"-> a\n" + b"A" * 65 + b"\n" + b"A" * 63 + b"\n"),
    "a body with two short lines": FORGER.header(STANZA, b"-> a\nAAAA\nAAAA\n"),
    "a body with a line of windows": FORGER.header(STANZA, b"-> a\nAAAA\r\n"),
    "padding": FORGER.header(STANZA, b"-> a\nAA==\n"),
    "bits that are spare": FORGER.header(STANZA, b"-> a\nAB\n"),
    "a letter too many": FORGER.header(STANZA, b"-> a\nAAAAA\n"),
    "a word too many": FORGER.header(FORGER.stanza(lambda share: b"X25519 " + share + b" more")),
    "a word too few": FORGER.header(FORGER.stanza(lambda share: b"X25519")),
    "a short share": FORGER.header(FORGER.stanza(lambda share: b"X25519 " + share[:-4])),
    "a long share": FORGER.header(FORGER.stanza(lambda share: b"X25519 " + share + b"AAAA")),
    "a share with padding": FORGER.header(FORGER.stanza(lambda share: b"X25519 " + share + b"=")),
    "a share of low order": FORGER.header(FORGER.stanza(lambda share: b"X25519 " + text(bytes(32)))),
    "a malformed one of somebody else": FORGER.header(STANZA, b"-> X25519 %s\nAAAA\n" % SHARE),
    "a long file key": FORGER.header(FORGER.stanza(file_key=bytes(24))),
    "a short file key": FORGER.header(FORGER.stanza(file_key=bytes(8))),
    "a passphrase beside a key": FORGER.header(PASSPHRASE, STANZA),
    "a MAC of something else": FORGER.header(STANZA).replace(STANZA, STANZA + b"-> a\n\n"),
    "a cut MAC": FORGER.header(STANZA)[:-2] + b"\n",
    "a MAC with padding": FORGER.header(STANZA, end=b"--- %s=\n"),
    "a MAC and a blank": FORGER.header(STANZA, end=b"--- %s \n"),
    "a MAC after two blanks": FORGER.header(STANZA, end=b"---  %s\n"),
    "a MAC after none": FORGER.header(STANZA, end=b"---%s\n"),
    "a MAC and lines of windows": FORGER.header(STANZA, end=b"--- %s\r\n"),
    "more stanzas than are read": FORGER.header(*[b"-> a\n\n"] * 256, STANZA),
    "more bytes than are read": FORGER.header(b"-> a %s\n\n" % (b"x" * 65536), STANZA),
    "stanzas at the end": FORGER.header(STANZA) + STANZA,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_malformed_is_refused(name):
    with pytest.raises((DamagedFile, NotOurFormat)) as caught:
        plain(body(WRONG[name]), KEY.identity)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("db.1.gz.age is ")


def test_each_file_that_age_did_not_seal_is_named_so():
    for data, why in {
        b"": "it is not sealed by age",
        b"\x1f\x8b\x08": "it is not sealed by age",
        b"age-encryption.org/v2\n-> X25519": "it is of another version of age",
        pyrage.encrypt(b"text", [KEY.their_recipient], armored=True): "it is age's text format",
    }.items():
        with pytest.raises(NotOurFormat) as caught:
            opened(data, KEY.identity)
        assert str(caught.value) == f"db.1.gz.age is not of a format this program knows: {why}"


def test_no_identity_opens_it():
    data = sealer.seal([OTHER.recipient], b"text")
    for identities, why in {
        (): "a private key is needed",
        (KEY.identity,): "the identity does not open it",
        (KEY.identity, Key().identity): "none of the 2 identities opens it",
    }.items():
        with pytest.raises(Sealed) as caught:
            opened(data, *identities)
        assert caught.value.exit_code == 55
        assert str(caught.value) == f"db.1.gz.age is sealed: {why} (hint: --identity FILE gives a private key of one of its recipients)"
    with pytest.raises(Sealed):
        opened(body(FORGER.header(FORGER.stanza(lambda share: b"x25519 " + share))), KEY.identity)
    with pytest.raises(Sealed) as caught:
        opened(body(FORGER.header(PASSPHRASE)), KEY.identity)
    assert str(caught.value) == "db.1.gz.age is sealed: with a passphrase, not for keys (hint: age -d opens it)"


def test_what_is_in_each_header_of_ours():
    for count in (1, 2, 128):
        data = sealer.seal([Key().recipient for _ in range(count - 1)] + [KEY.recipient], b"text")
        found = header.parse(data)
        assert [arguments[0] for arguments, _ in found.stanzas] == [b"X25519"] * count
        assert len({share for (_, share), _ in found.stanzas}) == len({one for _, one in found.stanzas}) == count
        assert len(data) == sealed_size(4, count)
        assert plain(data, KEY.identity) == b"text"
    with pytest.raises(ValueError):
        sealer.seal([], b"text")


def test_nothing_is_sealed_with_the_same_key_twice():
    one, two = (sealer.seal([KEY.recipient], bytes(100)) for _ in range(2))
    first, second = header.parse(one), header.parse(two)
    assert header.file_key(first, [KEY.identity]) != header.file_key(second, [KEY.identity])
    assert one[first.size : first.size + 16] != two[second.size : second.size + 16]  # nonces
    assert first.stanzas[0][0][1] != second.stanzas[0][0][1]  # ephemeral keys


def test_a_hostile_header_costs_little():
    huge = b"age-encryption.org/v1\n" + b"-> a\n\n" * 3_000_000
    long = b"age-encryption.org/v1\n-> " + b"a " * 9_000_000
    lines = b"age-encryption.org/v1\n-> a\n" + (b"A" * 64 + b"\n") * 300_000
    with peak_below(1 << 20):
        for data in (huge, long, lines):
            with pytest.raises(DamagedFile):
                opened(data, KEY.identity)
    most = FORGER.header(*[Forger(OTHER).stanza()] * 255, STANZA)
    assert plain(body(most), Key().identity, KEY.identity) == b"text"
