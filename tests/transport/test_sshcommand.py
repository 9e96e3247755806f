"""What the `ssh` program is told: whatever a configuration says, it learns, forwards and shares nothing."""

import subprocess
import time

import pytest
from sshd import Lab, available, keygen, public

from blockdiff.errors import HostRefused, HostUnreachable
from blockdiff.transport.destination import Destination, parse_host_argument
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.sshcommand import arguments
from blockdiff.transport.sshconfig import parse_options

SOON_S = 20.0

# one line for each that could change whom we believe, what is learnt, forwarded, shared or run
DANGEROUS = """
Host *
    AddKeysToAgent yes
    BatchMode no
    CheckHostIP yes
    ClearAllForwardings no
    ControlMaster auto
    ControlPath ~/.ssh/control-%C
    ControlPersist yes
    DynamicForward 1080
    EscapeChar ~
    ForkAfterAuthentication yes
    ForwardAgent yes
    ForwardX11 yes
    ForwardX11Trusted yes
    GSSAPIDelegateCredentials yes
    LocalCommand touch /tmp/ran
    LocalForward 8080 other:80
    LogLevel QUIET
    NoHostAuthenticationForLocalhost yes
    PermitLocalCommand yes
    RemoteCommand sh
    RemoteForward 9090 other:80
    RequestTTY force
    ServerAliveInterval 0
    SessionType none
    StdinNull yes
    StrictHostKeyChecking accept-new
    Tunnel yes
    UpdateHostKeys yes
    VerifyHostKeyDNS yes
"""
SAFE = {
    "addkeystoagent": "false",
    "batchmode": "yes",
    "checkhostip": "no",
    "clearallforwardings": "yes",
    "controlmaster": "false",
    "controlpath": None,
    "dynamicforward": None,
    "escapechar": "none",
    "forkafterauthentication": "no",
    "forwardagent": "no",
    "forwardx11": "no",
    "gssapidelegatecredentials": "no",
    "localforward": None,
    "loglevel": "INFO",
    "nohostauthenticationforlocalhost": "no",
    "permitlocalcommand": "no",
    "remotecommand": None,
    "remoteforward": None,
    "requesttty": "false",
    "serveraliveinterval": "15",
    "sessiontype": "default",
    "stdinnull": "no",
    "stricthostkeychecking": "true",
    "tunnel": "false",
    "updatehostkeys": "false",
    "verifyhostkeydns": "false",
}
# what stays as its user wants it
WISHES = """
Host *
    AddressFamily inet
    BindAddress 127.0.0.2
    Ciphers aes256-ctr
    Compression yes
    HostKeyAlias alias
    HostName 10.0.0.1
    IdentitiesOnly yes
    IdentityAgent /agent
    IdentityFile /key
    KexAlgorithms curve25519-sha256
    MACs hmac-sha2-256
    Port 2222
    ProxyCommand nc %h %p
    PubkeyAcceptedAlgorithms ssh-ed25519
    RekeyLimit 1073741824 0
    RevokedHostKeys /revoked
    ServerAliveInterval 7
    SendEnv THIS
    SetEnv A=B
    User backup
    UserKnownHostsFile /known
"""


@pytest.fixture(scope="module")
def lab():
    available()
    with Lab() as lab:
        yield lab


def effective(lab, text, host="db00", rsh=None):
    """Return what our command line makes of a configuration, by the program itself."""
    lab.config.write_text(text)
    destination = parse_host_argument(host)
    argv, _ = arguments(destination, "true", rsh=rsh, settings=lab.settings, timeout_s=30)
    done = subprocess.run(
        [argv[0], "-G", *argv[1:]], env=lab.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return parse_options(done.stdout)


HOST_WORDS = (
    "-A -X -Y -K -M -L 8081:other:80 -R 9091:other:80 -D 1081 -o ForwardAgent=yes -o StrictHostKeyChecking=no"
    " -o UpdateHostKeys=yes -o ClearAllForwardings=no -o StdinNull=yes db00"
)


@pytest.mark.parametrize("way", ["configuration", "rsh", "host words"])
def test_nothing_dangerous_comes_from_a_configuration(lab, way):
    host = HOST_WORDS if way == "host words" else "db00"
    found = effective(lab, DANGEROUS, host, rsh=lab.rsh if way == "rsh" else None)
    wanted = dict(SAFE)
    if way == "host words":
        wanted["controlmaster"] = "true"  # -M, which does nothing without a path
    assert {name: found.get(name, [None])[0] for name in wanted} == wanted


def test_without_our_words_it_would_all_be_so(lab):
    """The configuration above is what it says: each of its lines would change what the program does."""
    lab.config.write_text(DANGEROUS)
    done = subprocess.run(["ssh", "-F", lab.config, "-G", "db00"], capture_output=True, text=True, check=True)
    found = parse_options(done.stdout)
    assert [name for name, value in SAFE.items() if found.get(name, [None])[0] == value] == []


def test_what_a_user_may_choose_stays(lab):
    lab.config.write_text(WISHES)
    done = subprocess.run(["ssh", "-F", lab.config, "-G", "db00"], capture_output=True, text=True, check=True)
    wanted, found = parse_options(done.stdout), effective(lab, WISHES)
    for line in WISHES.splitlines()[2:]:
        keyword = line.split()[0].lower()
        assert found[keyword] == wanted[keyword], keyword


@pytest.mark.parametrize(
    "text, seconds", [("", 30), ("ConnectTimeout 7", 7), ("ConnectTimeout 1h", 30), ("ConnectTimeout 0", 30)]
)
@pytest.mark.parametrize("rsh", [False, True])
def test_the_shorter_time_to_connect_counts(lab, text, seconds, rsh):
    assert effective(lab, text, rsh=lab.rsh if rsh else None)["connecttimeout"] == [str(seconds)]


def test_a_program_that_is_too_old_is_not_given_what_it_does_not_know(lab):
    """It would refuse the command line. Nothing is asked of a program of another name."""
    old = lab.folder / "old" / "ssh"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho hostname db00\necho connecttimeout none\n")
    old.chmod(0o755)
    for program in (str(old), "/no/wrapper"):
        argv, _ = arguments(Destination("db00"), "true", rsh=program, settings=lab.settings, timeout_s=30)
        text = " ".join(argv)
        assert " -a " in text
        assert "UpdateHostKeys=no" in text
        assert "ConnectTimeout=30" in text
        assert "StdinNull" not in text
        assert "SessionType" not in text
        assert "ForkAfterAuthentication" not in text


def said(lab, command, host="source", rsh=None, **options):
    """Run a command on a host; returns its output. Raises what the transport raises."""
    transport = OpenSshTransport(
        Destination(host), command, settings=lab.settings, timeout_s=SOON_S, rsh=rsh, **options
    )
    try:
        output = b""
        while piece := transport.read(65536):
            output += piece
        return output.decode()
    finally:
        transport.close()
        transport.wait(SOON_S)


def test_a_host_gets_neither_our_agent_nor_our_display(ssh_lab):
    ssh_lab.server(options=["X11Forwarding yes"])
    ssh_lab.agent(keygen(ssh_lab.folder / "held"))
    ssh_lab.environment["DISPLAY"] = ":7"
    ssh_lab.configure("source", "ForwardAgent yes", "ForwardX11 yes", "ForwardX11Trusted yes")
    look = "echo agent=$SSH_AUTH_SOCK display=$DISPLAY"
    plain = subprocess.run(
        ["ssh", "-F", ssh_lab.config, "source", look],
        env=ssh_lab.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "agent=/" in plain.stdout  # it would, were it not for us
    for rsh in (None, ssh_lab.rsh, f"{ssh_lab.rsh} -A -X"):
        assert said(ssh_lab, look, rsh=rsh) == "agent= display=\n"


def test_a_server_cannot_teach_us_keys(ssh_lab):
    """It offers one more than is known, and the user's ssh would take it."""
    more = keygen(ssh_lab.folder / "more", "-t", "ecdsa")
    server = ssh_lab.server(options=[f"HostKey {more}"], extra=["UpdateHostKeys yes"])
    before = ssh_lab.known_hosts.read_bytes()
    assert said(ssh_lab, "echo done") == "done\n"
    assert ssh_lab.known_hosts.read_bytes() == before
    subprocess.run(
        ["ssh", "-F", ssh_lab.config, "source", "sleep 0.2"],
        env=ssh_lab.environment, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert public(more) in ssh_lab.known_hosts.read_text(), server.log.read_text()


def test_no_connection_is_shared_or_left_behind(ssh_lab):
    control = ssh_lab.folder / "control"
    server = ssh_lab.server(extra=["ControlMaster auto", f"ControlPath {control}", "ControlPersist yes"])
    assert said(ssh_lab, "echo done") == "done\n"
    assert not control.exists()
    deadline = time.monotonic() + SOON_S
    while server.connections():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["of the source", "of its jump host"])
def test_a_jump_host_teaches_us_no_keys_either(ssh_lab, where):
    """The user's configuration would learn it; the program starts another one for each jump host."""
    unknown = ssh_lab.server("unknown", known=False, extra=["StrictHostKeyChecking accept-new"])
    known = ssh_lab.server("known", extra=["ProxyJump unknown"] if where == "of its jump host" else [])
    hops = "known" if where == "of its jump host" else "unknown,known"
    source = ssh_lab.server("source", extra=[f"ProxyJump {hops}"])
    before = ssh_lab.known_hosts.read_bytes()
    for rsh in (None, ssh_lab.rsh):
        with pytest.raises(HostRefused):
            said(ssh_lab, "echo done", rsh=rsh)
    assert ssh_lab.known_hosts.read_bytes() == before
    for server in (unknown, known, source):
        assert "Accepted" not in server.log.read_text()
    ssh_lab.know(unknown)
    assert said(ssh_lab, "echo done") == "done\n"
    for server in (unknown, known, source):
        assert server.log.read_text().count("Accepted publickey") == 1


def test_a_jump_host_has_its_user_and_port(lab):
    text = "Host jump\n    ConnectTimeout 3\n    User other\nHost db00\n    ProxyJump me@jump:33,[::1]:44"
    command = effective(lab, text)["proxycommand"][0]
    assert command.endswith(" -p 44 -W '[%h]:%p' -- ::1")
    assert "-l me -p 33 -W " in command
    assert command.count("StrictHostKeyChecking=yes") == 2
    assert "ConnectTimeout=3" in command
    command = effective(lab, "", "-J a,b -p 7 db00")["proxycommand"][0]
    assert command.endswith("-- b")
    assert "-- a" in command


def test_jump_hosts_in_a_loop(lab):
    with pytest.raises(HostUnreachable, match="loop"):
        effective(lab, "Host a\n    ProxyJump b\nHost b\n    ProxyJump a", "a")
