"""The plugin as nbdkit calls it, with nbdkit's module in its place: what it tells of a start that fails."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from chains import random_set
from places import ROOT
from programs import until

PLUGIN = ROOT / "blockdiff" / "export" / "plugin.py"
pytestmark = pytest.mark.usefixtures("nbdkit")


def started(tmp_path, request, **environ):
    """nbdkit with the plugin, our end of its socket, and the request sent."""
    import socket

    ours, theirs = socket.socketpair()
    path = f"{tmp_path}/f/nbd"
    whole = {"version": None, "cache": 0, "folder": f"{tmp_path}/f", "sockets": [path], "stderr": 2}
    whole |= {"signers": None, "as_of": None, "identities": [], **request}
    ours.sendall(json.dumps(whole).encode() + b"\n")
    packages = [each for each in sys.path if each.endswith("-packages")]
    environ = {"PATH": "/usr/sbin:/usr/bin", "PYTHONPATH": ":".join([str(ROOT), *packages]), **environ}
    words = ["nbdkit", "-f", "-U", path, "python", PLUGIN, f"control={theirs.fileno()}"]
    process = subprocess.Popen(
        words, env=environ, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    theirs.close()
    return process, ours


def answer(process, control):
    with control, control.makefile("rb") as lines:
        line = json.loads(lines.readline())
    process.communicate(timeout=30)
    return line


def test_an_error_comes_with_all_that_it_needs(tmp_path):
    random_set(tmp_path, 1, 64)
    found = answer(*started(tmp_path, {"set": f"{tmp_path}/vol", "version": 7}))
    assert (found["error"], found["args"]) == ("NoSuchVersion", [f"{tmp_path}/vol", "7"])
    assert found["hint"]
    assert not os.path.exists(f"{tmp_path}/f")


def test_compiled_modules_that_do_not_fit_are_told_before_there_is_a_socket(tmp_path):
    (tmp_path / "bad" / "isal").mkdir(parents=True)
    (tmp_path / "bad" / "isal" / "__init__.py").write_text("raise ImportError('no isal._isal here')")
    random_set(tmp_path, 1, 64)
    packages = [each for each in sys.path if each.endswith("-packages")]
    path = ":".join([f"{tmp_path}/bad", str(ROOT), *packages])
    found = answer(*started(tmp_path, {"set": f"{tmp_path}/vol"}, PYTHONPATH=path))
    assert found == {"error": "ProgramUnfit", "args": ["nbdkit", "in its python: no isal._isal here"], "hint": ""}
    assert not os.path.exists(f"{tmp_path}/f/nbd")


def test_a_folder_that_is_there_is_never_used(tmp_path):
    (tmp_path / "f").mkdir()
    found = answer(*started(tmp_path, {"set": f"{tmp_path}/vol"}))
    assert (found["error"], found["args"]) == ("NotAllowedHere", [f"the folder {tmp_path}/f", "File exists"])


def test_it_is_ended_before_clients_can_connect_and_leaves_nothing(tmp_path):
    os.mkfifo(tmp_path / "key")  # reading it waits
    process, control = started(tmp_path, {"set": f"{tmp_path}/vol", "identities": [f"{tmp_path}/key"]})
    until(lambda: os.path.isdir(f"{tmp_path}/f"))
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGTERM)  # one that comes just before it waits does not end that
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    process.communicate(timeout=1)
    control.close()
    assert not os.path.exists(f"{tmp_path}/f")


def test_what_it_leaves_is_removed_by_itself(tmp_path):
    random_set(tmp_path, 1, 64)
    process, control = started(tmp_path, {"set": f"{tmp_path}/vol"})
    with control, control.makefile("rb") as lines:
        found = json.loads(lines.readline())
    assert (found["version"], found["size"], found["warnings"]) == (1, 640, [])
    assert os.path.exists(f"{tmp_path}/f/nbd")
    process.terminate()
    process.communicate(timeout=30)
    assert not os.path.exists(f"{tmp_path}/f")
