import pytest
from sshd import available, keygen

from blockdiff.transport.keyfile import unused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    available()
    return tmp_path_factory.mktemp("keys")


@pytest.mark.parametrize("phrase", ["", "secret"])
@pytest.mark.parametrize(
    "kind, form", [("ed25519", "RFC4716"), ("ecdsa", "PKCS8"), ("ecdsa", "PEM")]
)  # the first is OpenSSH's own
def test_a_passphrase_is_seen(folder, kind, form, phrase):
    path = keygen(folder / f"{kind}-{form}-{phrase}", "-t", kind, "-m", form, "-N", phrase)
    found = unused(path)
    assert (found is not None) == bool(phrase)
    if found is not None:
        assert "passphrase" in found.why
        assert str(path) in found.remedy


def test_what_others_may_read(folder):
    path = keygen(folder / "open")
    path.chmod(0o640)
    found = unused(path)
    assert str(found) == f"{path} (other users may read it)"
    assert found.remedy == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----BEGIN OPENSSH PRIVATE KEY-----\n=b\xff\n"]
)
def test_what_is_no_key_is_not_called_locked(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    path.chmod(0o600)
    assert unused(path) is None
    assert "No such file" in str(unused(tmp_path / "none"))
