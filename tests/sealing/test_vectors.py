"""The test vectors of age itself; tests/vectors/age/README.md says what they are."""

import hashlib
import zipfile
import zlib

import pytest
from places import VECTORS
from seals import opened, plain

from blockdiff.errors import DamagedFile, NotOurFormat, Sealed
from blockdiff.sealing import keys

ARCHIVE = VECTORS / "age" / "vectors.zip"


def all_of_them():
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            text, _, data = archive.read(name).partition(b"\n\n")
            facts = [line.split(": ", 1) for line in text.decode().splitlines()]
            identities = [keys.identity(value) for key, value in facts if key == "identity"]
            about = dict(facts)
            if about.get("compressed"):
                data = zlib.decompress(data)
            yield pytest.param(about["expect"], about.get("payload"), identities, data, id=name)


@pytest.mark.parametrize("expect, payload, identities, data", list(all_of_them()))
def test_each_vector(expect, payload, identities, data):
    if expect == "success":
        assert hashlib.sha256(plain(data, *identities)).hexdigest() == payload
        return
    if expect == "payload failure":
        with pytest.raises(DamagedFile):
            plain(data, *identities)
        return
    refusal = {"no match": Sealed, "header failure": (DamagedFile, NotOurFormat), "HMAC failure": DamagedFile}[expect]
    with pytest.raises(refusal):
        opened(data, *identities)
