""""""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from ways import WELL

from blockdiff.errors import HostRefused
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import DEFAULT_KEYS, NotHonoured, resolve

HOME = pwd.getpwuid(os.getuid()).pw_dir

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="the ssh program is missing")

CONFIG = """
# a comment
Host db00 db0?
    HostName 10.0.0.1
    Port 2222
    IdentityFile ~/.ssh/%n-%r
    IdentityFile "/keys/own one"
    SetEnv A=1 B=two

Host *.example.org !bad.example.org
    HostName=%h.internal
    User backup
    ProxyJump a@jump:33,other

Host quiet
    HostKeyAlias real
    ProxyCommand nc -X5 %h %p as %r 100%%
    UserKnownHostsFile ~/known /etc/known two
    GlobalKnownHostsFile none
    IdentityAgent ~/agent
    IdentitiesOnly yes
    AddressFamily inet6
    BindAddress 127.0.0.2
    ServerAliveInterval 7
    ConnectTimeout 9
    Ciphers aes256-gcm@openssh.com,aes256-ctr

Host none
    ProxyJump none
    IdentityAgent none

Host *
    Port 99
    User root
"""


@pytest.fixture(params=[pytest.param("program", marks=needs_ssh), "own"])
def ask(request, tmp_path):
    """Resolve a name by the program, and by our own reading: the answers must be the same."""
    config = tmp_path / "config"

    def ask(name, text=CONFIG, **options):
        config.write_text(text)
        environment = {"PATH": "/usr/bin:/bin" if request.param == "program" else "/nonexistent", "HERE": "/here"}
        settings = SshSettings(environment=environment, config=config)
        return resolve(name, settings, **options)

    return ask


def test_a_host_block(ask):
    found = ask("db00")
    assert (found.name, found.hostname, found.port, found.user) == ("db00", "10.0.0.1", 2222, "root")
    assert found.identity_files == (Path(HOME, ".ssh/db00-root"), Path("/keys/own one"))
    assert found.environment == (("A", "1"), ("B", "two"))
    assert found.jumps == ()
    assert found.proxy_command is None
    assert found.beyond == ()
    assert not found.identities_only


def test_the_caller_stands_above(ask):
    found = ask("db00", user="alice", port=5)
    assert (found.port, found.user) == (5, "alice")
    assert found.identity_files[0] == Path(HOME, ".ssh/db00-alice")


def test_patterns_and_jumps(ask):
    found = ask("db.example.org")
    assert (found.hostname, found.user, found.port) == ("db.example.org.internal", "backup", 99)
    assert found.jumps == ("a@jump:33", "other")
    assert ask("bad.example.org").jumps == ()
    assert ask("bad.example.org").hostname == "bad.example.org"


def test_everything_else(ask):
    found = ask("quiet")
    assert found.key_alias == "real"
    assert found.proxy_command == "nc -X5 quiet 99 as root 100%"
    assert found.known_hosts_files == (Path(HOME, "known"), Path("/etc/known two"))
    assert found.agent_socket == Path(HOME, "agent")
    assert found.identities_only
    assert found.address_family == "inet6"
    assert found.bind_address == "127.0.0.2"
    assert found.keepalive_s == 7
    assert found.connect_timeout_s == 9
    assert found.permits("ciphers", "aes256-ctr")
    assert not found.permits("ciphers", "aes128-ctr")
    assert found.permits("macs", "hmac-sha2-256")


def test_none_means_none(ask):
    found = ask("none")
    assert found.jumps == ()
    assert found.agent_socket is None


def test_defaults(ask):
    found = ask("some", text="")
    assert found.port == 22
    assert found.key_alias is None
    assert found.address_family == "any"
    assert {path.name for path in found.identity_files} >= set(DEFAULT_KEYS)
    assert {path.name for path in found.known_hosts_files} >= {"known_hosts", "ssh_known_hosts"}
    assert not found.beyond


@pytest.mark.parametrize(
    "line, name",
    [
        ("PKCS11Provider /lib/x.so", "PKCS11Provider"),
        ("KnownHostsCommand /bin/true", "KnownHostsCommand"),
        ("RevokedHostKeys /etc/revoked", "RevokedHostKeys"),
        ("ProxyUseFdpass yes", "ProxyUseFdpass"),
        ("BindInterface eth0", "BindInterface"),
        ("CertificateFile /x", "CertificateFile"),
        ("PubkeyAuthentication no", "PubkeyAuthentication no"),
        ("PreferredAuthentications password", "PreferredAuthentications"),
        ("RequiredRSASize 3072", "RequiredRSASize"),
    ],
)
def test_what_only_the_program_can_do_is_named(ask, line, name):
    assert ask("db00", text=line).beyond == (name,)


@pytest.mark.parametrize(
    "line",
    ["CheckHostIP yes", "VerifyHostKeyDNS yes", "StrictHostKeyChecking no", "PermitLocalCommand yes\nLocalCommand x"],
)
def test_what_nobody_may_choose_is_passed_over(ask, line):
    assert ask("db00", text=line).beyond == ()


def test_tokens_that_only_the_program_knows_are_named(ask):
    with pytest.raises(NotHonoured, match="%C in IdentityFile"):
        ask("db00", text="IdentityFile /x/%C")


def test_a_home_that_nobody_has(ask):
    with pytest.raises(NotHonoured, match="no-such-user"):
        ask("db00", text="IdentityFile ~no-such-user/key")


def test_variables(ask):
    assert ask("db00", text="IdentityAgent $HERE").agent_socket == Path("/here")
    assert ask("db00", text="IdentityFile ${HERE}/key").identity_files == (Path("/here/key"),)
    with pytest.raises((NotHonoured, HostRefused)):
        ask("db00", text="IdentityFile ${NOWHERE}/key")


@needs_ssh
def test_a_faulty_configuration_is_shown(tmp_path):
    (tmp_path / "config").write_text("Prot 22\n")
    settings = SshSettings(environment={"PATH": "/usr/bin:/bin"}, config=tmp_path / "config")
    with pytest.raises(HostRefused, match="prot"):
        resolve("db00", settings)


@needs_ssh
def test_a_configuration_that_hangs_is_given_up(tmp_path):
    def run(*_, timeout, **__):
        raise subprocess.TimeoutExpired("ssh", timeout)

    settings = SshSettings(environment={"PATH": "/usr/bin:/bin"})
    with pytest.raises(HostRefused, match="longer"):
        resolve("db00", settings, run=run)


@pytest.mark.parametrize(
    "text, name",
    [
        ("Include other", "Include"),
        ("Match all\nPort 5", "Match"),
        ("CanonicalizeHostname yes", "Canonicalizehostname"),
    ],
)
def test_own_reading_names_what_it_cannot_do(tmp_path, text, name):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text(text)
    (home / ".ssh/other").write_text("Port 5\n")
    settings = SshSettings(environment={"PATH": ""}, home=home, system_config=tmp_path / "none")
    with pytest.raises(NotHonoured, match=name):
        resolve("db00", settings)


def test_own_reading_takes_the_users_lines_before_the_systems(tmp_path):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text("Port 5\n")
    (tmp_path / "system").write_text(f"Include {tmp_path}/nothing.d/*.conf\nPort 6\nUser root\n")
    settings = SshSettings(environment={"PATH": ""}, home=home, system_config=tmp_path / "system")
    found = resolve("db00", settings)
    assert (found.port, found.user) == (5, "root")


def test_include_is_followed(run, ssh_lab):
    ssh_lab.server("source")
    inner = ssh_lab.folder / "included"
    ssh_lab.config.rename(inner)
    ssh_lab.config.write_text(f"Include {inner}\n")
    assert run()[:2] == WELL


def test_match_exec_is_followed(run, ssh_lab):
    server = ssh_lab.server("other")
    text = ssh_lab.config.read_text().replace("Host other", 'Match originalhost source exec "true"')
    ssh_lab.config.write_text(text)
    assert server.port
    assert run()[:2] == WELL
