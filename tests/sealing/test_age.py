"""Other programs open what is sealed here, and what they sealed is opened here: Debian's age, and pyrage."""

import os
import subprocess

import pyrage
import pytest
from launched import needs
from seals import BORDERS, Key, opened, plain

from blockdiff.errors import DamagedFile
from blockdiff.sealing import keys, sealer

PLAIN = os.urandom(max(BORDERS))
SOME = [Key() for _ in range(3)]


def age(*words, data):
    return subprocess.run(["age", *words], input=data, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files of keys as age-keygen writes them, and one of their public keys."""
    needs("age", "age-keygen")
    folder = tmp_path_factory.mktemp("keys")
    paths = [str(folder / str(number)) for number in range(3)]
    lines = ["# who may open it"]
    for path in paths:
        subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
        lines += ["", subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True).stdout]
    (folder / "public").write_text("\n".join(lines))
    return paths, str(folder / "public")


@pytest.mark.parametrize("size", BORDERS)
def test_age_opens_what_is_sealed_here(made, size):
    paths, public = made
    data = sealer.seal(keys.recipients([], [public]), PLAIN[:size])
    for path in paths:
        assert age("-d", "-i", path, data=data).stdout == PLAIN[:size]


@pytest.mark.parametrize("size", BORDERS)
def test_what_age_sealed_is_opened_here(made, size):
    paths, public = made
    data = age("-R", public, data=PLAIN[:size]).stdout
    for path in paths:
        assert plain(data, *keys.identities([path])) == PLAIN[:size]


def test_age_refuses_what_was_not_ended(made):
    paths, public = made
    pieces = []
    sealer.Sealer(keys.recipients([], [public]), pieces.append).write(PLAIN)
    done = age("-d", "-i", paths[0], data=b"".join(pieces))
    assert done.returncode != 0 and done.stdout != PLAIN
    with pytest.raises(DamagedFile):
        opened(b"".join(pieces), *keys.identities(paths[:1]))


def test_pyrage_both_ways():
    for size in BORDERS:
        ours = sealer.seal([key.recipient for key in SOME], PLAIN[:size])
        theirs = pyrage.encrypt(PLAIN[:size], [key.their_recipient for key in SOME])
        for key in SOME:
            assert pyrage.decrypt(ours, [key.their_identity]) == PLAIN[:size]
            assert plain(theirs, key.identity) == PLAIN[:size]
