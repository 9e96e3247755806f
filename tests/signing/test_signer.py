"""What signs: keys of every kind, with the real ssh-keygen and ssh-agent; nobody is ever asked for anything."""

import os
import pathlib
import pty
import socket
import subprocess

import pytest
import signed
from launched import needs

from blockdiff.errors import CannotSign, ProgramUnfit
from blockdiff.signing import keygen, signer
from blockdiff.signing.allowed import AllowedSigners
from blockdiff.signing.signer import Signer

DATA = b"what is signed\n"


@pytest.fixture
def agent(tmp_path):
    """The environment of an agent that has a key with a passphrase, and the path of that key."""
    needs("ssh-agent", "ssh-add")
    path = signed.key("ed25519", "secret", "secret")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o755)
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        env = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        while not socket.exists():
            assert process.poll() is None
        asking = {**env, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", path], check=True, env=asking, stdin=subprocess.DEVNULL)
        yield env, path
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_signature_is_good_for_ssh_keygen_and_theirs_for_us(kind, tmp_path):
    key, other = signed.key(kind), signed.key("ed25519", "other")
    target, signature, lines = tmp_path / "m", tmp_path / "m.sig", tmp_path / "allowed"
    target.write_bytes(DATA)
    lines.write_text(signed.line(key, "backup01"))

    ours = Signer(str(key), os.environ).sign(DATA)

    signature.write_bytes(ours)
    assert signed.stock_verifies(lines, "backup01", signature, target)
    theirs = signed.stock_sign(key, target)
    assert kind == "ecdsa" or ours == theirs  # which has a random number in it
    believed = AllowedSigners(lines.read_bytes(), os.environ)
    assert believed.fault("backup01", DATA, theirs) == ""
    assert "by no allowed signer" in believed.fault("backup02", DATA, theirs)
    assert "incorrect signature" in believed.fault("backup01", DATA + b"x", theirs)
    assert believed.fault("backup01", DATA, signed.stock_sign(key, target, "file")) != ""
    assert believed.fault("backup01", DATA, signed.stock_sign(other, target)) != ""
    assert all(believed.fault("backup01", DATA, theirs[:size]) for size in (0, 30, len(theirs) // 2, len(theirs) - 2))


def test_its_own_signatures_count_for_it_and_those_that_are_given_besides():
    key, other, third = (signed.key("ed25519", name) for name in ("key", "other", "third"))
    ours = Signer(str(key), os.environ, signed.allowed(signed.line(other)))

    assert ours.trusted.fault("vol", DATA, ours.sign(DATA)) == ""
    assert ours.trusted.fault("vol", DATA, Signer(str(other), os.environ).sign(DATA)) == ""
    assert ours.trusted.fault("vol", DATA, Signer(str(third), os.environ).sign(DATA)) != ""


@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_an_agent_signs_with_a_key_that_has_a_passphrase(suffix, agent):
    env, path = agent

    found = Signer(f"{path}{suffix}", env).sign(DATA)

    assert signed.allowed(signed.line(path)).fault("vol", DATA, found) == ""


def test_a_key_that_cannot_sign_is_an_error_and_nobody_is_asked(tmp_path):
    """Not even on a terminal, which is where ssh-keygen would ask, or by a program of the desktop."""
    path, asked = signed.key("ed25519", "secret", "secret"), tmp_path / "asked"
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    ask.chmod(0o755)
    process, terminal = pty.fork()
    if process == 0:
        code = 98
        try:
            env = {**os.environ, "DISPLAY": ":0", "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            env.pop("SSH_AUTH_SOCK", None)
            Signer(str(path), env)
        except CannotSign as error:
            code = error.exit_code if "incorrect passphrase" in error.message and "agent" in error.hint else 97
        finally:
            os._exit(code)
    said = b""
    try:
        while piece := os.read(terminal, 1000):
            said += piece
    except OSError:  # its end
        pass
    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 54
    assert (said, asked.exists()) == (b"", False)


def test_an_agent_that_waits_for_somebody_does_not_hang_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(keygen, "_LIMIT_S", 0.5)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(str(tmp_path / "agent"))
        waiting.listen()
        with pytest.raises(CannotSign, match="did not end within"):
            Signer(f"{signed.key()}.pub", {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")})


def test_what_is_signed_is_not_taken_for_a_passphrase():
    """It is on standard input, where ssh-keygen reads one if there is no terminal."""
    path = signed.key("ed25519", "read", signer.PROBE.decode().rstrip("\n"))
    with pytest.raises(CannotSign, match="incorrect passphrase"):
        Signer(str(path), {"PATH": os.environ["PATH"]})


@pytest.mark.parametrize("content", [None, "no key\n"])
def test_a_file_that_is_no_key_is_named(content, tmp_path):
    needs("ssh-keygen")
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)

    with pytest.raises(CannotSign, match=f"cannot sign with {path}: .*key") as caught:
        Signer(str(path), os.environ)

    assert caught.value.exit_code == 54


def test_without_the_program_its_package_is_named(monkeypatch):
    monkeypatch.setattr("blockdiff.findprogram._SYSTEM", ())
    with pytest.raises(ProgramUnfit, match="ssh-keygen is needed") as caught:
        Signer("key", {"PATH": "/nonexistent"})
    assert (caught.value.exit_code, caught.value.hint) == (60, "apt-get install openssh-client")


def test_authorities_and_ends_of_keys_work_as_in_the_manual(tmp_path):
    """What allowed signers can say besides: a certificate's authority, and when a key counts."""
    key, authority = signed.key("ed25519", "certified"), signed.key("ed25519", "authority")
    words = ["ssh-keygen", "-q", "-s", authority, "-I", "server", "-n", "vol", f"{key}.pub"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    certificate = pathlib.Path(f"{key}-cert.pub")
    by_authority = signed.allowed(signed.line(authority, "vol cert-authority"))

    found = Signer(str(certificate), os.environ).sign(DATA)

    assert by_authority.fault("vol", DATA, found) == ""
    assert by_authority.fault("other", DATA, found) != ""
    plain = Signer(str(signed.key()), os.environ).sign(DATA)
    assert by_authority.fault("vol", DATA, plain) != ""
    for day, good in (("20200101", False), ("20990101", True)):
        dated = signed.allowed(signed.line(signed.key(), f'* valid-before="{day}"'))
        assert (dated.fault("vol", DATA, plain) == "") is good
