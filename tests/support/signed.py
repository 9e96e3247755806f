"""Keys, files of allowed signers, and sets whose versions are signed, all by the real ssh-keygen."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import chains
import pytest
from launched import needs

from blockdiff.formats import manifest
from blockdiff.sets.backupset import BackupSet
from blockdiff.signing.allowed import AllowedSigners
from blockdiff.signing.signer import Signer

BLOCK = 512


def key(kind="ed25519", name="key", passphrase=""):
    """Return the path of a private key; the same one for all tests."""
    needs("ssh-keygen")
    path = _folder() / f"{kind}-{name}"
    if not path.exists():
        words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", path]
        words += ["-b", "2048"] if kind == "rsa" else []
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


@functools.cache
def _folder():
    folder = tempfile.TemporaryDirectory(prefix="blockdiff-keys-")
    _kept.append(folder)
    return pathlib.Path(folder.name)


_kept = []  # removed when the tests have ended


def line(path, before="*"):
    """Return the line of allowed signers for a key."""
    return f"{before} {pathlib.Path(f'{path}.pub').read_text()}"


def allowed(*lines):
    return AllowedSigners("".join(lines).encode(), os.environ)


def stock_sign(path, target, namespace="blockdiff", env=None):
    """Sign a file with ssh-keygen as a person does; returns the signature."""
    beside = pathlib.Path(f"{target}.sig")
    beside.unlink(missing_ok=True)
    words = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", path, target]
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=env)
    data = beside.read_bytes()
    beside.unlink()
    return data


def stock_verifies(allowed_path, principal, signature, target):
    """Return whether ssh-keygen finds a good signature of a file, as the manual page does it."""
    words = ["ssh-keygen", "-Y", "verify", "-f", allowed_path, "-I", principal, "-n", "blockdiff", "-s", signature]
    with open(target, "rb") as file:
        return subprocess.run(words, stdin=file, capture_output=True).returncode == 0


def edited(path, **changes):
    """Change a manifest, in canonical form and with its own hash right."""
    path = pathlib.Path(path)
    path.write_bytes(manifest.encode(json.loads(path.read_bytes()) | changes))


@pytest.fixture
def signed_set(tmp_path):
    """A set of three versions, signed; `volumes` by number."""
    signer = Signer(str(key()), os.environ)
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(20 * BLOCK))
    backup_set.volumes = {}
    for number in (1, 2, 3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK, signing=signer)
        backup_set.volumes[number] = bytes(volume)
    return backup_set


def trusting(backup_set, *lines):
    """Return the same set for a reader that believes what the test's key, or the keys of these lines, signed."""
    return BackupSet(backup_set.name, signers=allowed(*(lines or [line(key())])))


def forge(backup_set, number):
    """Replace a version by another volume, of which every file is as this program would have written it."""
    folder = pathlib.Path(backup_set.folder)
    volume = os.urandom(20 * BLOCK)
    ver = folder / "vol.ver"
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        for path in folder.iterdir():
            if path.is_file() and f"vol.{number}." not in path.name:
                shutil.copy(path, other)
        elsewhere = BackupSet(os.path.join(other, "vol"))
        (pathlib.Path(other) / "vol.ver").write_text(f"{number - 1}\n")
        chains.write_version(elsewhere, volume, BLOCK)
        for path in pathlib.Path(other).glob(f"vol.{number}.*"):
            shutil.copy(path, folder)
    assert ver.read_text() == "3\n"
    return volume
