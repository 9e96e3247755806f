"""Keys of age and files of them; a private key is in no message, whatever is wrong with it."""

import os
import pickle

import pyrage
import pytest
from memory import peak_below
from seals import Key

from blockdiff.errors import StoreUnreadable
from blockdiff.sealing import bech32, keys
from blockdiff.sealing.keys import BadKey

KEY, OTHER = Key(), Key()
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def words_of(data):
    """Bytes as Bech32's words of five bits."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return [int(bits[place : place + 5], 2) for place in range(0, len(bits), 5)]


def encoded(prefix, data):
    """Bech32 of bytes, or of words."""
    words = data if isinstance(data, list) else words_of(data)
    lower = prefix.lower()
    expanded = [ord(c) >> 5 for c in lower] + [0] + [ord(c) & 31 for c in lower] + words
    check = bech32._polymod(expanded + [0] * 6) ^ 1
    found = lower + "1" + "".join(LETTERS[word] for word in words + [check >> 5 * (5 - i) & 31 for i in range(6)])
    return found if prefix == lower else found.upper()


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_keys_are_the_same_as_another_programs():
    for _ in range(20):
        key = Key()
        assert key.identity.public == key.recipient.public
        assert encoded("age", key.recipient.public) == key.public


def test_the_vectors_of_the_specification():
    # BIP 173, "Test vectors"; the keys of age's own specification
    for word in ("A12UEL5L", "a12uel5l", "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
                 "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "?1ezyfcl", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"):
        bech32.decode(word)
    for word in ("\x201nwldj5", "pzry9x0s0muk", "1pzry9x0s0muk", "x1b4n0q5v", "li1dgmt3", "A1G7SGD8", "10a06t8", "1qzzfhee", "A12uEL5L", "\xe91aa"):
        with pytest.raises(ValueError):
            bech32.decode(word)
    for words in ([1, 1], [1, 2, 0], [0, 0, 0]):  # spare bits that are set, and a spare letter
        with pytest.raises(ValueError, match="its last letter is wrong"):
            bech32.decode(encoded("a", words))
    identity = keys.identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
    assert identity.public == keys.recipient("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj").public


def test_files_are_read_as_age_reads_them(tmp_path):
    public = written(tmp_path / "public", "# a safe", "", KEY.public, "  ", "#" + OTHER.secret, OTHER.public + "\r")
    found = keys.recipients([OTHER.public], [public])
    assert [one.public for one in found] == [OTHER.recipient.public, KEY.recipient.public]
    private = written(tmp_path / "private", "# created: today", f"# public key: {KEY.public}", KEY.secret, "", OTHER.secret)
    assert [one.public for one in keys.identities([private, private])] == [KEY.recipient.public, OTHER.recipient.public]
    assert keys.recipients([]) == keys.identities([]) == []


def test_a_file_may_be_a_pipe():
    end, other = os.pipe()
    os.write(other, KEY.secret.encode())
    os.close(other)
    assert keys.identities([f"/dev/fd/{end}"])[0].public == KEY.recipient.public
    os.close(end)


PUBLIC = {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFxJ": "this is an SSH key; only age's X25519 keys are supported, age1...",
    "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t": "this key is for a plugin, or of a newer kind; only age's X25519 keys are supported",
    "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9r": "this key is for a plugin, or of a newer kind; only age's X25519 keys are supported",
    "github:somebody": "this is no public key of age, age1...",
    KEY.public.upper(): "this is no public key of age, age1...",
    KEY.secret: "this is a private key: give its public key, age1..., which age-keygen -y shows",
    KEY.secret.lower(): "this is a private key: give its public key, age1..., which age-keygen -y shows",
    KEY.public[:-1]: "this public key is mistyped or cut: its checksum is wrong",
    KEY.public[:20] + "b" + KEY.public[21:]: "this public key is mistyped or cut: it has letters that no key has",
    KEY.public[:-3] + KEY.public[-3:].upper() + "Q": "this public key is mistyped or cut: it has letters that no key has",
    encoded("age", os.urandom(31)): "this public key is mistyped or cut: it has the wrong length",
    encoded("age", bytes(32)): "this public key is worth nothing: it has no private key",
    encoded("age", [*words_of(KEY.recipient.public)[:-1], 1]): "this public key is mistyped or cut: its last letter is wrong",
    "age1": "this public key is mistyped or cut: it is too short",
}  # fmt: skip
PRIVATE = {
    KEY.public: "this is a public key, which opens nothing",
    "AGE-PLUGIN-YUBIKEY-1QGZ5ZQSTLV": "this key is for a plugin, or of a newer kind; only age's X25519 keys are supported",
    "AGE-SECRET-KEY-PQ-1XX76JRALNLX": "this key is for a plugin, or of a newer kind; only age's X25519 keys are supported",
    "-----BEGIN OPENSSH PRIVATE KEY-----": "this is another program's private key, such as one of SSH; only age's X25519 keys are supported",
    "secret": "this is no private key of age, AGE-SECRET-KEY-1...",
    KEY.secret.lower(): "this is no private key of age, AGE-SECRET-KEY-1...",
    KEY.secret[:-1]: "this private key is mistyped or cut: its checksum is wrong",
    KEY.secret + "A": "this private key is mistyped or cut: its checksum is wrong",
    encoded("AGE-SECRET-KEY-", os.urandom(33)): "this private key is mistyped or cut: it has the wrong length",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["public", "private"])
def test_a_bad_line_is_named(tmp_path, kind):
    read = (lambda path: keys.recipients([], [path])) if kind == "public" else (lambda path: keys.identities([path]))
    good = KEY.public if kind == "public" else KEY.secret
    for word, why in (PUBLIC if kind == "public" else PRIVATE).items():
        path = written(tmp_path / "keys", "# first", good, word)
        with pytest.raises(BadKey) as caught:
            read(path)
        assert str(caught.value) == f"{path}:3: {why}"
    for word, why in PUBLIC.items():
        with pytest.raises(BadKey) as caught:
            keys.recipients([word])
        assert str(caught.value) == why


def test_an_encrypted_file_of_keys_is_named_so(tmp_path):
    path = tmp_path / "keys"
    for armored in (False, True):
        path.write_bytes(pyrage.encrypt(KEY.secret.encode(), [KEY.their_recipient], armored=armored))
        with pytest.raises(BadKey) as caught:
            keys.identities([str(path)])
        assert str(caught.value) == f"{path}:1: the file of keys is encrypted: decrypt it with age -d first"


def test_files_that_are_no_files_of_keys(tmp_path):
    with pytest.raises(StoreUnreadable) as caught:
        keys.identities([str(tmp_path / "none")])
    assert str(caught.value) == f"cannot read {tmp_path}/none: No such file or directory"
    with pytest.raises(StoreUnreadable):
        keys.recipients([], [str(tmp_path)])
    empty = written(tmp_path / "empty", "# nothing")
    with pytest.raises(BadKey, match="empty has no private key"):
        keys.identities([empty])
    with pytest.raises(BadKey, match="empty has no public key"):
        keys.recipients([], [empty])
    with peak_below(1 << 20), pytest.raises(BadKey, match=r"is no file of keys: it is longer than 64\.0 KiB"):
        keys.identities(["/dev/zero"])
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\x00\x1b[2J")
    with pytest.raises(BadKey, match=r"bytes:1: this is no private key of age"):
        keys.identities([str(path)])


def test_more_keys_than_a_header_is_read_for(tmp_path):
    secrets = [Key() for _ in range(129)]
    assert len(keys.recipients([key.public for key in secrets[:128]])) == 128
    with pytest.raises(BadKey, match="129 recipients are too many: at most 128"):
        keys.recipients([key.public for key in secrets])
    with pytest.raises(BadKey, match="129 identities are too many: at most 128"):
        keys.identities([written(tmp_path / "keys", *(key.secret for key in secrets))])


def test_no_message_has_a_letter_of_a_private_key(tmp_path):
    secret = KEY.secret
    mistyped = [secret[:place] + "Q8"[secret[place] == "Q"] + secret[place + 1 :] for place in range(len(secret))]
    cut = [secret[:size] for size in range(1, len(secret))] + [secret[size:] for size in range(1, len(secret))]
    # each run of letters of the key's own part, in either case
    parts = {secret[place : place + 5].lower() for place in range(len("AGE-SECRET-KEY-1"), len(secret) - 4)}
    for word in [*mistyped, *cut, f"'{secret}'", f"key={secret}", secret + secret, f"{secret} # mine", secret.title()]:
        for read in (
            lambda word: keys.identities([written(tmp_path / "keys", word)]),
            lambda word: keys.recipients([], [written(tmp_path / "keys", word)]),
            lambda word: keys.recipients([word]),
        ):
            with pytest.raises(BadKey) as caught:
                read(word)
            message = str(caught.value).replace(str(tmp_path), "").lower()
            assert not {part for part in parts if part in message}
            assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_identity_shows_nothing():
    shown = f"{KEY.identity} {KEY.identity!r} {vars(KEY.identity)}".lower()
    assert KEY.secret[20:28].lower() not in shown and KEY.identity.key.private_bytes_raw().hex()[:8] not in shown
    assert repr(KEY.identity.key.private_bytes_raw()) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(KEY.identity)
