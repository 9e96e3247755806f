"""Both ways to a host against a real sshd: who is let in, who is believed, how it ends."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from sshd import SHELL, USER, free_port, keygen, public, sudo_user
from threads import in_thread

from blockdiff.errors import HostRefused, HostUnreachable, ProgramMissing
from blockdiff.transport.choose import connect
from blockdiff.transport.destination import Destination, parse_host_argument
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport as paramiko_way
from blockdiff.transport.paramiko.transport import ParamikoTransport
from blockdiff.transport.sshconfig import NotHonoured

SOON_S = 20.0
MIB = 1024 * 1024
COMMAND = "echo agent; exit 7"


@pytest.fixture(params=["paramiko", "openssh"])
def run(request, ssh_lab):
    """Run a command by one transport and return its output, status and stderr."""

    def run(command=COMMAND, host="source", user=None, timeout_s=SOON_S):
        transport = open_transport(Destination(host, user), command, timeout_s)
        try:
            output = b""
            while piece := transport.read(MIB):
                output += piece
            return output, transport.wait(SOON_S), transport.diagnostics()
        finally:
            transport.close()
            transport.wait(SOON_S)

    def open_transport(destination, command, timeout_s=SOON_S):
        options = {"settings": ssh_lab.settings, "timeout_s": timeout_s}
        if request.param == "paramiko":
            return paramiko_way.connect(destination, command, **options)
        return OpenSshTransport(destination, command, rsh=ssh_lab.rsh, **options)

    run.open = open_transport
    run.name = request.param
    return run


WELL = b"agent\n", 7


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
    assert caught.value.hint == f"ssh-add {ssh_lab.key}, or take a key without passphrase"


def test_a_key_that_others_may_read_is_not_used(run, ssh_lab, sshd):
    ssh_lab.key.chmod(0o644)
    with pytest.raises(HostRefused) as caught:
        run()
    assert f"{ssh_lab.key} (others may read it)" in str(caught.value)
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
        assert "there is no key to show it" in str(caught.value)


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


def test_a_host_that_is_down(run, ssh_lab):
    ssh_lab.server().stop()
    with pytest.raises(HostUnreachable) as caught:
        run()
    assert caught.value.exit_code == 20
    assert "refused" in str(caught.value)


def test_a_host_without_a_name(run, ssh_lab):
    with pytest.raises(HostUnreachable) as caught:
        run(host="no-such-host.invalid")
    assert "no-such-host.invalid" in str(caught.value)


@pytest.mark.parametrize("greeting, ours, theirs", [(b"", 2, 0), (b"", 900, 1), (b"SSH-2.0-silent\r\n", 900, 1)])
def test_a_host_that_does_not_answer_is_given_up(run, ssh_lab, greeting, ours, theirs):
    """After our time to connect or the configured one, whichever is shorter."""
    if greeting and run.name == "openssh":
        pytest.skip("the ssh program itself waits for ever after the greeting")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = f"Port {listener.getsockname()[1]}"
        ssh_lab.configure("mute", "HostName 127.0.0.1", port, f"ConnectTimeout {theirs}")
        wait = open_in_thread(run, "mute", timeout_s=ours)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(greeting)
            assert isinstance(wait(), HostUnreachable)


def open_in_thread(run, host, timeout_s=2):
    """Begin to run a command on a host that must fail; return how to wait for its error."""
    thread, outcome = in_thread(lambda: run(host=host, timeout_s=timeout_s))

    def wait():
        thread.join(SOON_S)
        return outcome[0]

    return wait


def test_a_packet_that_is_announced_too_long(ssh_lab):
    """Nothing of it is waited for: the sender sends no more, and does not close. No thread stays."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ssh_lab.configure("liar", "HostName 127.0.0.1", f"Port {listener.getsockname()[1]}")
        thread, outcome = in_thread(
            lambda: paramiko_way.connect(Destination("liar"), COMMAND, settings=ssh_lab.settings, timeout_s=10 * SOON_S)
        )
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-liar\r\n" + (0x7FFFFFFC).to_bytes(4, "big") + bytes(4))
            thread.join(SOON_S)
            assert isinstance(outcome[0], HostUnreachable)
            assert "2147483640 bytes" in str(outcome[0])
    deadline = time.monotonic() + SOON_S / 4
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)


def test_something_that_is_not_ssh(run, ssh_lab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ssh_lab.configure("web", "HostName 127.0.0.1", f"Port {listener.getsockname()[1]}")
        wait = open_in_thread(run, "web")
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.shutdown(socket.SHUT_RDWR)
            assert isinstance(wait(), HostUnreachable)


@pytest.mark.skipif(not SHELL.endswith("bash"), reason=f"{SHELL} reads no .bashrc")
def test_a_banner_and_a_noisy_bashrc_do_not_hide_the_command(run, ssh_lab):
    banner = ssh_lab.folder / "banner"
    banner.write_text("Authorised\033[2J use only\n")
    ssh_lab.server(bashrc="echo Welcome; echo to stderr >&2\n", options=[f"Banner {banner}"])
    output, status, said = run()
    assert output.endswith(b"agent\n")
    assert b"Welcome\n" in output
    assert b"Authorised" not in output
    assert status == 7
    assert "to stderr" in said
    assert "\033" not in said


def test_a_path_without_python(run, ssh_lab):
    ssh_lab.server(path="/nonexistent")
    output, status, _ = run("exec python3 -c 'print(1)'; exit 97")
    assert output == b""
    assert status in (97, 126, 127)


def test_a_command_that_the_host_replaces(run, ssh_lab):
    ssh_lab.server(options=["ForceCommand echo only this"])
    assert run()[0] == b"only this\n"


def test_a_connection_that_is_cut(run, ssh_lab, sshd):
    transport = run.open(Destination("source"), "echo begun; exec cat")
    try:
        assert transport.read(100) == b"begun\n"
        sshd.cut()
        with pytest.raises(OSError):
            while transport.read(100):
                pass
            raise AssertionError("the cut looks like the end of the stream")
        assert transport.wait(SOON_S) is None
        with pytest.raises(OSError):
            for _ in range(1000):
                transport.write(bytes(64 * 1024))
    finally:
        transport.close()


def test_keys_are_renewed_under_load_both_ways(run, ssh_lab):
    server = ssh_lab.server(options=["RekeyLimit 2M", "LogLevel DEBUG"])
    data = os.urandom(MIB) * 24
    transport = run.open(Destination("source"), "cat")
    try:

        def write():
            transport.write(data)
            transport.close_write()

        thread, outcome = in_thread(write)
        digest = hashlib.md5()
        while piece := transport.read(MIB):
            digest.update(piece)
        thread.join(SOON_S)
        assert outcome == [None]
        assert digest.digest() == hashlib.md5(data).digest()
        assert transport.wait(SOON_S) == 0
    finally:
        transport.close()
    assert server.log.read_text().count("rekeying in") > 4


def test_jump_hosts_with_a_configuration_and_keys_of_their_own(run, ssh_lab):
    ssh_lab.server("outer")
    ssh_lab.server("inner")
    ssh_lab.server("source", extra=["ProxyJump outer,inner"])
    assert run("echo $SSH_CONNECTION; exit 7")[1] == 7
    assert [server.log.read_text().count("Accepted publickey") for server in ssh_lab.servers] == [1, 1, 1]


def test_a_jump_host_behind_a_jump_host(run, ssh_lab):
    ssh_lab.server("outer")
    ssh_lab.server("inner", extra=["ProxyJump outer"])
    ssh_lab.server("source", extra=[f"ProxyJump {USER}@inner"])
    assert run()[:2] == WELL


def test_a_jump_host_that_is_not_known_is_refused(run, ssh_lab):
    jump = ssh_lab.server("jump", known=False)
    source = ssh_lab.server("source", extra=["ProxyJump jump"])
    with pytest.raises((HostRefused, HostUnreachable)) as caught:
        run()
    assert "Accepted" not in jump.log.read_text() + source.log.read_text()
    if run.name == "paramiko":
        assert isinstance(caught.value, HostRefused)
        assert "jump" in str(caught.value)


def test_a_jump_host_cannot_reach_the_host(run, ssh_lab):
    ssh_lab.server("jump")
    ssh_lab.server("source", extra=["ProxyJump jump"]).stop()
    with pytest.raises(HostUnreachable):
        run()


def test_jump_hosts_in_a_circle(ssh_lab):
    ssh_lab.server("a", extra=["ProxyJump b"])
    ssh_lab.server("b", extra=["ProxyJump a"])
    with pytest.raises(HostUnreachable) as caught:
        paramiko_way.connect(Destination("a"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
    assert "circle" in str(caught.value)


def test_a_proxy_command(run, ssh_lab):
    server = ssh_lab.server("jump")
    source = ssh_lab.server("source", extra=[f"ProxyCommand ssh -F {ssh_lab.config} -W [%h]:%p jump"])
    assert run()[:2] == WELL
    assert "Accepted publickey" in server.log.read_text()
    assert "Accepted publickey" in source.log.read_text()


def test_a_proxy_command_that_fails(run, ssh_lab):
    ssh_lab.server("source", extra=["ProxyCommand echo no way to %h >&2; exit 1"])
    with pytest.raises(HostUnreachable) as caught:
        run()
    if run.name == "paramiko":
        assert "no way to 127.0.0.1" in str(caught.value)


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


# what decides between the two


def chosen(ssh_lab, destination="source", **options):
    """Return which transport `connect` takes, after its command has run well."""
    if isinstance(destination, str):
        destination = Destination(destination)
    transport = connect(destination, COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S, **options)
    try:
        assert transport.read(100) == b"agent\n"
        assert transport.wait(SOON_S) == 7
        return type(transport)
    finally:
        transport.close()
        transport.wait(SOON_S)


def test_paramiko_is_the_default(ssh_lab, sshd):
    assert chosen(ssh_lab) is ParamikoTransport


def test_rsh_is_obeyed(ssh_lab, sshd):
    assert chosen(ssh_lab, rsh=ssh_lab.rsh) is OpenSshTransport


def test_options_of_ssh_go_to_ssh(ssh_lab, sshd):
    text = f"-p {sshd.port} -i {ssh_lab.key} {USER}@127.0.0.1 -o UserKnownHostsFile={ssh_lab.known_hosts}"
    assert chosen(ssh_lab, parse_host_argument(text)) is OpenSshTransport


def certified(ssh_lab):
    """Give a server a host key with a certificate, and only its authority to the client."""
    authority = keygen(ssh_lab.folder / "authority")
    key = keygen(ssh_lab.folder / "certified")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1", f"{key}.pub"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = ssh_lab.server(known=False, options=[f"HostKey {key}", f"HostCertificate {key}-cert.pub"])
    ssh_lab.know(server, "@cert-authority", authority)
    return server


def test_an_authority_for_host_keys_goes_to_ssh(ssh_lab):
    certified(ssh_lab)
    assert chosen(ssh_lab) is OpenSshTransport
    with pytest.raises(NotHonoured, match="@cert-authority"):
        paramiko_way.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)


@pytest.mark.parametrize(
    "line, name",
    [
        ("KnownHostsCommand /bin/true", "KnownHostsCommand"),
        ("RevokedHostKeys /dev/null", "RevokedHostKeys"),
        ("Ciphers chacha20-poly1305@openssh.com", "ciphers"),
        ("BindInterface lo", "BindInterface"),
        ("ProxyCommand nc %h %p # %T", "%T"),
    ],
)
def test_what_paramiko_cannot_honour_is_named(ssh_lab, line, name):
    ssh_lab.server(extra=[line])
    with pytest.raises(NotHonoured, match=name):
        paramiko_way.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
    if line.startswith(("Ciphers", "KnownHosts", "RevokedHostKeys")):
        assert chosen(ssh_lab) is OpenSshTransport


def without_ssh(ssh_lab):
    """Let the client's PATH have no ssh program."""
    folder = ssh_lab.folder / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to(shutil.which("sh"))
    ssh_lab.environment["PATH"] = str(folder)


def test_without_the_ssh_program_plain_configurations_still_work(ssh_lab, sshd):
    without_ssh(ssh_lab)
    assert chosen(ssh_lab) is ParamikoTransport


@pytest.mark.parametrize("what", ["@cert-authority", "Include", "Match"])
def test_without_the_ssh_program_what_needs_it_is_named(ssh_lab, what):
    certified(ssh_lab)
    if what == "Include":
        ssh_lab.config.write_text(f"Include {ssh_lab.config}\n{ssh_lab.config.read_text()}")
    elif what == "Match":
        ssh_lab.config.write_text(f"Match exec true\nUser x\n{ssh_lab.config.read_text()}")
    without_ssh(ssh_lab)
    with pytest.raises(ProgramMissing) as caught:
        chosen(ssh_lab)
    assert what in str(caught.value)
    assert "ssh" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user")
@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is missing")
def test_a_user_with_sudo(run, ssh_lab):
    ssh_lab.server()
    with sudo_user() as name:
        output, status, _ = run("id -un; sudo -n id -un", user=name)
        assert (output.decode().split(), status) == ([name, "root"], 0)
