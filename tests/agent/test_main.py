"""The agent's process: its wire is its own, and every end has its exit code and its words."""

import os
import random
import signal
import subprocess

import bundles
import interpreters
import pytest
from engine import back_up, restored

from blockdiff.source import push
from blockdiff.transport.local import LocalTransport
from blockdiff.wire import frames, messages

VOLUME = random.Random(7).randbytes(1_500_000) + bytes(700_000) + b"text " * 100_000


@pytest.mark.parametrize("python", interpreters.some())
def test_stray_prints_and_childrens_chatter_do_not_break_the_wire(python, tmp_path):
    (tmp_path / "vol").write_bytes(VOLUME)
    lines = []
    old = "        runs, changed_digests, places = _Runs(), [], []\n"
    noise = (
        "        import os, subprocess, sys\n"
        "        print('a stray print')\n"
        "        sys.stdout.flush()\n"
        "        os.write(1, b'a stray write\\n')\n"
        "        if extent.first == 0:\n"
        "            subprocess.call(['sh', '-c', 'echo chatter; cat'])\n"
    )
    with bundles.changed("agent/scan.py", old, noise + old):
        back_up(
            tmp_path / "set", tmp_path / "vol",
            connect=lambda: LocalTransport(push.local_command(python), log=lines.append),
        )  # fmt: skip
    assert restored(tmp_path / "set", 1, tmp_path / "out") == VOLUME
    assert {"a stray print", "a stray write", "chatter"} <= {str(line) for line in lines}


@pytest.fixture
def agent():
    """A real agent that has sent its hello; gives its process."""
    process = subprocess.Popen(
        push.local_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    process.stdin.write(push.bundle())
    output = b""
    while messages.SYNC_MARK not in output or len(output) < len(messages.SYNC_MARK) + 100:
        data = os.read(process.stdout.fileno(), 65536)
        assert data, process.stderr.read()
        output += data
    yield process
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_with_a_word(agent, number):
    agent.send_signal(number)
    assert agent.wait(30) == 95
    assert agent.stderr.read().startswith(b"blockdiff agent: ended early")


def test_the_end_of_its_input_ends_it(agent):
    agent.stdin.close()
    assert agent.wait(30) == 95
    assert agent.stderr.read().startswith(b"blockdiff agent: ended early")


def test_a_server_that_breaks_the_protocol_is_named(agent):
    agent.stdin.write(frames.encode(messages.REQUEST, b"{}"))
    assert agent.wait(30) == 95
    assert agent.stderr.read() == b"blockdiff agent: the server broke the protocol: message has no usable 'path'\n"
