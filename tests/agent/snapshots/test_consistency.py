"""Whether the application that holds a lock is a process of this host: told by its live connection."""

import os
import platform
import socket
import subprocess
import sys

import pytest

from agent.snapshots import consistency


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request):
    """Yield the far end's port of a connection that this process holds, as a server does."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError as error:
            pytest.skip(f"no {request.param} here: {error}")
        listener.listen()
        # the near end belongs to another process, as with a lock command
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, request.param, str(listener.getsockname()[1])], stdin=subprocess.PIPE
        )
        server, address = listener.accept()
        with client, server:
            yield client.pid, address[1]
            client.stdin.close()


CLIENT = "import socket, sys; s = socket.create_connection(sys.argv[1:]); sys.stdin.read()"
HERE = platform.node()


def test_the_server_is_the_process_that_holds_the_far_end(connection):
    client, port = connection
    assert consistency._here(os.getpid(), HERE, port)
    assert consistency._here(os.getpid(), None, port)
    assert not consistency._here(client, HERE, port)  # sees the connection, but holds its other end
    assert not consistency._here(os.getppid(), HERE, port)
    assert not consistency._here(os.getpid(), "another", port)


def test_through_a_socket_of_its_host_the_name_must_do():
    assert consistency._here(os.getpid(), HERE, None)
    assert not consistency._here(os.getpid(), "another", None)


def test_a_connection_that_has_ended_proves_nothing(connection):
    client, port = connection
    os.kill(client, 9)
    os.waitid(os.P_PID, client, os.WEXITED | os.WNOWAIT)
    assert not consistency._here(os.getpid(), HERE, port)


@pytest.mark.parametrize("pid", [None, "", "x", "0x1", "99999999"])
def test_without_its_process_it_is_not_here(tmp_path, pid):
    path = tmp_path / "pid"
    if pid is not None:
        path.write_text(pid)
    places = {"pid_file": str(path), "directories": [str(tmp_path)], "hostname": None, "client_port": None}
    assert consistency.holds("/dev/null", places) is False
