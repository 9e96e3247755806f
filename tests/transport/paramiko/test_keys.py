"""The keys that are tried on a host, by both ways; and those that the `ssh` program alone can use."""

import contextlib
import subprocess

import pytest
from sshd import USER, free_port, keygen, public
from ways import COMMAND, SOON_S, WELL, chosen, without_ssh

from blockdiff.errors import HostRefused
from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport
from blockdiff.transport.paramiko.transport import ParamikoTransport

LISTS = {  # PubkeyAcceptedAlgorithms -> the key of three that the server gets to see first, as real ssh shows it
    "ssh-ed25519": "ED25519",
    "ssh-rsa,ecdsa*": "ECDSA",
    "-rsa*": "ED25519",
    "-ssh-ed25519,rsa*": "ED25519-CERT",
    "+ssh-rsa": "RSA",
    "^ssh-ed25519": "RSA",
    "rsa-sha2-256": "RSA",
    "ssh-ed25519-cert-v01@openssh.com": "ED25519-CERT",
    "sk-*": None,
}


def test_only_accepted_kinds_of_keys_are_shown(ssh_lab):
    """By real ssh, by us with its help, and by us without it."""
    keys = [keygen(ssh_lab.folder / kind, "-t", kind) for kind in ("rsa", "ed25519", "ecdsa")]
    subprocess.run(
        ["ssh-keygen", "-q", "-s", ssh_lab.key, "-I", "test", "-n", USER, f"{keys[1]}.pub"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ssh_lab.authorized_keys.write_text("".join(f"{public(key)}\n" for key in keys))
    server = ssh_lab.server(options=[f"TrustedUserCAKeys {ssh_lab.key}.pub"])
    hosts = [f"list{number}" for number in range(len(LISTS))]
    for host, line in zip(hosts, LISTS, strict=True):
        lines = (f"IdentityFile {key}" for key in keys)
        ssh_lab.configure(
            host, "HostName 127.0.0.1", f"Port {server.port}", "IdentitiesOnly yes",
            f"PubkeyAcceptedAlgorithms {line}", *lines,
        )  # fmt: skip

    def shown(host):
        """Return the kind of the key with which paramiko gets in."""
        before = len(server.log.read_text())
        with contextlib.suppress(HostRefused):
            transport.connect(Destination(host), "true", settings=ssh_lab.settings, timeout_s=SOON_S).close()
        return accepted(server.log.read_text()[before:])

    def accepted(log):
        words = log.partition("Accepted publickey")[2].partition("ssh2: ")[2].split()
        return words[0] if words else None

    before = len(server.log.read_text())
    for host in hosts:
        command = ["ssh", "-F", ssh_lab.config, "-o", "BatchMode=yes", host, "true"]
        subprocess.run(command, env=ssh_lab.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = server.log.read_text()[before:]
    wanted = [kind for kind in LISTS.values() if kind]
    assert [accepted("Accepted publickey" + part) for part in log.split("Accepted publickey")[1:]] == wanted
    assert dict(zip(LISTS, map(shown, hosts), strict=True)) == LISTS
    without_ssh(ssh_lab)
    assert dict(zip(LISTS, map(shown, hosts), strict=True)) == LISTS


def test_a_key_that_is_not_accepted_is_said_so(ssh_lab):
    ssh_lab.server(extra=["PubkeyAcceptedAlgorithms ecdsa*"])
    with pytest.raises(HostRefused, match="PubkeyAcceptedAlgorithms has no ssh-ed25519"):
        transport.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)


@pytest.mark.parametrize("hash_", ["256", "512"])
def test_an_rsa_key_signs_as_it_may_only(ssh_lab, hash_):
    ssh_lab.key = keygen(ssh_lab.folder / "rsa", "-t", "rsa")
    ssh_lab.authorized_keys.write_text(public(ssh_lab.key))
    ssh_lab.server(
        extra=[f"PubkeyAcceptedAlgorithms rsa-sha2-{hash_}"], options=["PubkeyAcceptedAlgorithms rsa-sha2-512"]
    )
    if hash_ == "512":
        assert chosen(ssh_lab) is ParamikoTransport
    else:
        with pytest.raises(HostRefused):
            chosen(ssh_lab)


def test_a_signature_that_only_ssh_can_make(ssh_lab):
    key = keygen(ssh_lab.folder / "rsa", "-t", "rsa")
    ssh_lab.authorized_keys.write_text(public(key))
    ssh_lab.key = key
    ssh_lab.server(extra=["PubkeyAcceptedAlgorithms ssh-rsa"], options=["PubkeyAcceptedAlgorithms +ssh-rsa"])
    assert chosen(ssh_lab) is OpenSshTransport


def test_login_with_a_key_from_the_configuration(run, sshd):
    assert run()[:2] == WELL


def test_login_over_ipv6(run, ssh_lab):
    try:
        free_port("::1")
    except OSError:
        pytest.skip("no IPv6 on the loopback")
    server = ssh_lab.server("six", address="::1")
    assert run(host="six")[:2] == WELL
    # and with the address itself as the host
    ssh_lab.configure("::1", f"Port {server.port}", f"IdentityFile {ssh_lab.key}", f"User {USER}")
    assert run(host="::1")[:2] == WELL


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_login_with_other_kinds_of_keys(run, ssh_lab, kind):
    ssh_lab.key = keygen(ssh_lab.folder / kind, "-t", kind)
    ssh_lab.authorized_keys.write_text(public(ssh_lab.key))
    ssh_lab.server()
    assert run()[:2] == WELL


def test_user_of_the_destination_stands_above_the_configuration(run, sshd):
    with pytest.raises(HostRefused):
        run(user="no-such-user")


@pytest.mark.parametrize("named", [True, False])
def test_login_by_the_agent(run, ssh_lab, named):
    """Named: only the public half lies in IdentityFile. Else: the agent's keys are tried unasked."""
    ssh_lab.server()
    held = keygen(ssh_lab.folder / "held")
    other = keygen(ssh_lab.folder / "other")
    ssh_lab.authorized_keys.write_text(public(held))
    ssh_lab.agent(other, held)
    held.unlink()
    chosen = [f"IdentityFile {held}", "IdentitiesOnly yes"] if named else ["IdentitiesOnly no"]
    ssh_lab.configure("source", *chosen)
    assert run()[:2] == WELL


def test_identities_only_keeps_the_agents_other_keys_back(run, ssh_lab, sshd):
    held = keygen(ssh_lab.folder / "held")
    ssh_lab.authorized_keys.write_text(public(held))
    ssh_lab.agent(held)
    with pytest.raises(HostRefused):
        run()


def test_identity_agent_of_the_configuration(run, ssh_lab, sshd):
    path = ssh_lab.agent(ssh_lab.key)
    ssh_lab.key.unlink()
    del ssh_lab.environment["SSH_AUTH_SOCK"]
    ssh_lab.configure("source", f"IdentityAgent {path}")
    assert run()[:2] == WELL


def test_a_certificate_beside_the_key(run, ssh_lab):
    authority = keygen(ssh_lab.folder / "ca")
    ssh_lab.server(options=[f"TrustedUserCAKeys {authority}.pub"])
    ssh_lab.authorized_keys.write_text("")
    with pytest.raises(HostRefused):
        run()
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", USER, f"{ssh_lab.key}.pub"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert run()[:2] == WELL


def test_a_wrong_key_is_refused(run, ssh_lab, sshd):
    ssh_lab.authorized_keys.write_text(public(keygen(ssh_lab.folder / "another")))
    with pytest.raises(HostRefused) as caught:
        run()
    assert caught.value.exit_code == 21
    if run.name == "paramiko":
        assert str(ssh_lab.key) in str(caught.value)
        assert "authorized_keys" in caught.value.hint


def test_too_many_keys_in_the_agent(run, ssh_lab, sshd):
    ssh_lab.agent(*(keygen(ssh_lab.folder / f"key-{number}") for number in range(7)))
    ssh_lab.authorized_keys.write_text("")
    ssh_lab.configure("source", "IdentitiesOnly no")
    with pytest.raises(HostRefused) as caught:
        run()
    if run.name == "paramiko":
        assert "IdentitiesOnly" in caught.value.hint


def test_a_host_that_wants_more_than_a_key(run, ssh_lab):
    ssh_lab.server(options=["AuthenticationMethods publickey,password", "PasswordAuthentication yes"])
    with pytest.raises(HostRefused) as caught:
        run()
    if run.name == "paramiko":
        assert "password" in str(caught.value)


def test_two_keys_where_two_are_wanted(run, ssh_lab):
    ssh_lab.server(options=["AuthenticationMethods publickey,publickey"])
    second = keygen(ssh_lab.folder / "second")
    ssh_lab.authorized_keys.write_text(f"{public(ssh_lab.key)}\n{public(second)}\n")
    ssh_lab.configure("source", f"IdentityFile {second}")
    assert run()[:2] == WELL


def test_a_key_with_a_passphrase_is_skipped_and_said_so(run, ssh_lab):
    ssh_lab.key = keygen(ssh_lab.folder / "locked", "-N", "secret")
    ssh_lab.server()
    ssh_lab.authorized_keys.write_text(public(ssh_lab.key))
    with pytest.raises(HostRefused) as caught:
        run()
    assert f"{ssh_lab.key} (it has a passphrase" in str(caught.value)
    assert caught.value.hint == f"ssh-add {ssh_lab.key}, or use a key without a passphrase"


def test_a_key_that_others_may_read_is_not_used(run, ssh_lab, sshd):
    ssh_lab.key.chmod(0o644)
    with pytest.raises(HostRefused) as caught:
        run()
    assert f"{ssh_lab.key} (other users may read it)" in str(caught.value)
    assert caught.value.hint == f"chmod 600 {ssh_lab.key}"


def test_a_key_that_is_refused_and_one_that_cannot_be_used(run, ssh_lab, sshd):
    """Either may be the reason: both are named."""
    locked = keygen(ssh_lab.folder / "locked", "-N", "secret")
    ssh_lab.authorized_keys.write_text(public(locked))
    ssh_lab.configure("source", f"IdentityFile {locked}")
    with pytest.raises(HostRefused) as caught:
        run()
    assert f"{locked} (it has a passphrase" in str(caught.value)
    assert f"ssh-add {locked}" in caught.value.hint


def test_no_key_at_all(run, ssh_lab, sshd):
    ssh_lab.key.unlink()
    with pytest.raises(HostRefused) as caught:
        run()
    assert "authorized_keys" in caught.value.hint
    if run.name == "paramiko":
        assert "there is no key to log in with" in str(caught.value)
