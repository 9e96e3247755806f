"""The connection itself: what a host may send, how long it may take, new session keys."""

import hashlib
import os
import socket
import struct
import threading
import time

import pytest
from threads import in_thread
from ways import COMMAND, MIB, SOON_S, open_in_thread

from blockdiff.errors import HostUnreachable
from blockdiff.transport.destination import Destination
from blockdiff.transport.paramiko import transport
from blockdiff.transport.paramiko import transport as paramiko_way


def test_a_connection_that_is_reset_is_told_in_words(ssh_lab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ssh_lab.configure("rude", "HostName 127.0.0.1", f"Port {listener.getsockname()[1]}")
        thread, outcome = in_thread(
            lambda: transport.connect(Destination("rude"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
        )
        connection, _ = listener.accept()
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        thread.join(SOON_S)
    assert isinstance(outcome[0], HostUnreachable)
    assert str(outcome[0]).endswith(": Connection reset by peer")
    assert "Errno" not in str(outcome[0])


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


@pytest.mark.parametrize(
    "offered, chosen",
    [
        ("", "aes128-gcm@openssh.com"),
        ("aes256-ctr,aes256-gcm@openssh.com", "aes256-gcm@openssh.com"),
        ("aes256-ctr,aes128-ctr", "aes128-ctr"),
    ],
)
def test_the_fastest_cipher_that_the_host_offers_is_used(ssh_lab, offered, chosen):
    """The host's order does not count; one without AES-GCM is reached all the same."""
    ssh_lab.server(options=[f"Ciphers {offered}"] if offered else [])
    way = transport.connect(
        Destination("source"), "head -c 300000 /dev/zero", settings=ssh_lab.settings, timeout_s=SOON_S
    )
    try:
        assert way._connection.remote_cipher == way._connection.local_cipher == chosen
        assert sum(map(len, iter(lambda: way.read(1 << 20), b""))) == 300000
    finally:
        way.close()


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
