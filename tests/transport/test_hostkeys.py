"""Whom we believe and whom real ssh does: the same known_hosts, the same host, side by side."""

import base64
import hashlib
import hmac
import os
import subprocess

import pytest
from sshd import Lab, available, keygen, public
from ways import SOON_S, WELL

from blockdiff.errors import HostRefused
from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport as paramiko_way
from blockdiff.transport.sshconfig import NotHonoured


class Host:
    """A server with a plain key K, which the authority CA has certified; it lets nobody in."""

    def __init__(self, lab):
        self.lab = lab
        key, authority, other = (keygen(lab.folder / name) for name in ("certified", "authority", "other"))
        subprocess.run(
            ["ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1,db00", f"{key}.pub"],
            check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        server = lab.server(known=False, options=[f"HostKey {key}", f"HostCertificate {key}-cert.pub"])
        lab.authorized_keys.write_text("")
        self.port = server.port
        self.words = {
            "K": public(key), "CA": public(authority), "OTHER": public(other), "NAME": "127.0.0.1",
            "PORT": f"[127.0.0.1]:{server.port}", "ELSE": f"[127.0.0.1]:{server.port + 1}",
            "HASHED-NAME": hashed("127.0.0.1"), "HASHED-PORT": hashed(f"[127.0.0.1]:{server.port}"),
        }  # fmt: skip

    def learn(self, text):
        """Write known_hosts; names in capitals stand for keys and names of the host."""
        lines = []
        for line in text.split(";"):
            *names, key = line.split()
            for word in ("HASHED-NAME", "HASHED-PORT", "NAME", "PORT", "ELSE"):
                names[-1] = names[-1].replace(word, self.words[word])
            lines.append(" ".join([*names, self.words[key]]))
        self.lab.known_hosts.write_text("\n".join(lines) + "\n")

    def of_ssh(self, *options):
        command = ["ssh", "-F", self.lab.config, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", *options]
        done = subprocess.run(
            [*command, "source", "true"], env=self.lab.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return verdict(done.stderr)

    def of_paramiko(self):
        """Return what paramiko's way says, None if it leaves that to the program."""
        try:
            paramiko_way.connect(Destination("source"), "true", settings=self.lab.settings, timeout_s=SOON_S)
        except HostRefused as error:
            return verdict(str(error))
        except NotHonoured:
            return None

    def of_program(self):
        transport = OpenSshTransport(
            Destination("source"), "true", settings=self.lab.settings, timeout_s=SOON_S, rsh=self.lab.rsh
        )
        try:
            transport.read(1)
        except HostRefused as error:
            return verdict(str(error))
        finally:
            transport.close()


def verdict(text):
    text = text.lower()
    if "permission denied" in text or "accepted no key" in text:
        return "believed"  # as far as the host's key goes
    if "revoked" in text:
        return "revoked"
    if "changed" in text:
        return "changed"
    assert "not known" in text or "no ed25519 host key is known" in text or "verification failed" in text, text
    return "not known"


def hashed(name):
    salt = hashlib.sha1(name.encode()).digest()
    words = (salt, hmac.new(salt, name.encode(), hashlib.sha1).digest())
    return "|1|" + "|".join(base64.b64encode(word).decode() for word in words)


@pytest.fixture(scope="module")
def host():
    available()
    with Lab() as lab:
        yield Host(lab)


CASES = {
    "PORT K": "believed",
    "NAME K": "believed",
    "web,PORT K": "believed",
    "HASHED-NAME K": "believed",
    "HASHED-PORT K": "believed",
    "[127.0.0.?]:* K": "believed",
    "ELSE K": "not known",
    "*,!PORT K": "believed",  # by its name without the port
    "*,!PORT,!NAME K": "not known",
    "PORT OTHER": "changed",
    "NAME OTHER": "not known",
    "PORT OTHER;NAME K": "changed",
    "@cert-authority PORT CA": "believed",
    "@cert-authority NAME CA": "believed",
    "@cert-authority HASHED-NAME CA": "believed",
    "@cert-authority HASHED-PORT CA": "believed",
    "@cert-authority [127.0.*]:* CA": "believed",
    "@cert-authority * CA": "believed",
    "@cert-authority *,!PORT CA": "believed",
    "@cert-authority *,!PORT,!NAME CA": "not known",
    "@cert-authority ELSE CA": "not known",
    "@cert-authority web CA": "not known",
    "@cert-authority NAME OTHER": "not known",
    "@cert-authority NAME OTHER;NAME K": "believed",
    "@cert-authority NAME CA;PORT OTHER": "believed",
    "@revoked * CA;@cert-authority NAME CA": "revoked",
    "@revoked * K;@cert-authority NAME CA": "revoked",
    "@revoked PORT K;PORT K": "revoked",
    "@revoked NAME K;NAME K": "revoked",
    "@revoked * K;HASHED-PORT K": "revoked",
    "@revoked HASHED-PORT K;PORT K": "revoked",
    "@revoked * OTHER;PORT K": "believed",
    "@revoked * K": "revoked",
}


@pytest.mark.parametrize("text", CASES)
def test_we_believe_whom_ssh_believes(host, text):
    host.learn(text)
    # where no authority is known, the plain key is shown, as to paramiko
    assert host.of_ssh(*([] if "CA" in text else ["-o", "HostKeyAlgorithms=ssh-ed25519"])) == CASES[text]
    assert host.of_paramiko() in (CASES[text], None)
    if CASES[text] == "revoked":
        assert host.of_program() == "revoked"


def test_a_key_that_is_revoked_by_another_name_of_the_host_is_not_believed(host):
    """Real ssh does not look at the name without the port if it finds the key with it; we do."""
    host.learn("@revoked NAME K;PORT K")
    assert host.of_ssh() == "believed"
    assert host.of_paramiko() == "revoked"


def refused_by_program(host, *lines):
    """Return what the program's way says of a host that is certified, by a configuration with more lines."""
    host.lab.configure("source", *lines)
    host.learn("@cert-authority NAME CA")
    transport = OpenSshTransport(
        Destination("source"), "true", settings=host.lab.settings, timeout_s=SOON_S, rsh=host.lab.rsh
    )
    with pytest.raises(HostRefused) as caught:
        transport.read(1)
    transport.close()
    return str(caught.value)


def test_the_programs_true_reason_for_not_believing_is_told(host):
    """Those of a list of revoked keys, of one that cannot be read, and of a certificate for another name."""
    before = host.lab.config.read_text()
    listed = host.lab.folder / "listed"
    listed.write_text(host.words["K"])
    try:
        assert "its host key is revoked" in refused_by_program(host, f"RevokedHostKeys {listed}")
        listed.unlink()
        assert f"{listed}: No such file" in refused_by_program(host)
        host.lab.config.write_text(before)
        text = refused_by_program(host, "HostKeyAlias other")
        assert "not known" in text
        host.words["NAME"] = "other"
        text = refused_by_program(host)
        assert "Certificate invalid: name is not a listed principal" in text
    finally:
        host.words["NAME"] = "127.0.0.1"
        host.lab.config.write_text(before)


def test_an_unknown_host_key_is_refused_and_not_learned(run, ssh_lab):
    server = ssh_lab.server(known=False)
    before = ssh_lab.known_hosts.read_bytes()
    with pytest.raises(HostRefused) as caught:
        run()
    assert caught.value.exit_code == 21
    assert caught.value.hint
    assert ssh_lab.known_hosts.read_bytes() == before
    assert "Accepted" not in server.log.read_text()
    if run.name == "paramiko":
        assert "ssh-keyscan" in caught.value.hint
        assert f"[127.0.0.1]:{server.port}" in str(caught.value)


@pytest.mark.parametrize("wish", ["no", "accept-new", "off"])
def test_the_configuration_cannot_make_us_believe_strangers(run, ssh_lab, wish):
    ssh_lab.server(known=False, extra=[f"StrictHostKeyChecking {wish}", "NoHostAuthenticationForLocalhost yes"])
    with pytest.raises(HostRefused):
        run()


def test_a_changed_host_key_is_refused(run, ssh_lab):
    server = ssh_lab.server(known=False)
    ssh_lab.know(server, key=keygen(ssh_lab.folder / "former"))
    with pytest.raises(HostRefused) as caught:
        run()
    if run.name == "paramiko":
        assert "changed" in str(caught.value)


def test_a_known_key_of_another_type_is_asked_for(run, ssh_lab):
    """The server would rather show its ed25519 key; what is known is its ecdsa key."""
    key = keygen(ssh_lab.folder / "second", "-t", "ecdsa")
    server = ssh_lab.server(known=False, options=[f"HostKey {key}"])
    ssh_lab.know(server, key=key)
    assert run()[:2] == WELL


def test_a_hashed_name_is_found(run, ssh_lab):
    server = ssh_lab.server(known=False)
    salt = os.urandom(20)
    name = f"[127.0.0.1]:{server.port}".encode()
    words = (salt, hmac.new(salt, name, hashlib.sha1).digest())
    hashed = "|1|" + "|".join(base64.b64encode(word).decode() for word in words)
    ssh_lab.known_hosts.write_text(f"{hashed} {public(server.host_key)}\n")
    assert run()[:2] == WELL


def test_ssh_keygen_hashes_as_we_read(run, ssh_lab, sshd):
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", ssh_lab.known_hosts],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert ssh_lab.known_hosts.read_text().startswith("|1|")
    assert run()[:2] == WELL


def test_a_revoked_host_key_is_refused_though_it_is_known(run, ssh_lab, sshd):
    ssh_lab.know(sshd, "@revoked")
    with pytest.raises(HostRefused) as caught:
        run()
    assert "revoked" in str(caught.value).lower()


def test_a_key_alias_is_looked_up_instead(run, ssh_lab):
    server = ssh_lab.server(known=False, extra=["HostKeyAlias db00"])
    with pytest.raises(HostRefused):
        run()
    ssh_lab.known_hosts.write_text(f"db00 {public(server.host_key)}\n")
    assert run()[:2] == WELL
