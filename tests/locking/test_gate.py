"""The gate: the command that a lock command runs while its lock is held."""

import contextlib
import signal
import socket
import subprocess
import threading

from programs import Program

from blockdiff.locking import gate


def test_a_gate_without_a_backup_ends_at_once(tmp_path):
    command = gate.command(str(tmp_path / "nobody"), 60)

    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert ended.returncode == 1
    assert "cannot reach the backup" in ended.stderr


def test_a_gate_knows_its_own_command():
    assert gate.path_in(gate.command("/x/gate", 60)) == "/x/gate"
    assert gate.path_in(["sleep", "60"]) is None
    assert gate.path_in(["/x/gate"]) is None


def test_a_gate_that_is_told_nonsense_fails(tmp_path):
    path = str(tmp_path / "gate")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer():
            with contextlib.closing(listener.accept()[0]) as caller:
                caller.recv(100)
                caller.sendall(b"falls\n")

        worker = threading.Thread(target=answer)
        worker.start()
        assert gate.wait(path, 10, "") == "the backup sent an unknown answer"
        worker.join()


def test_an_interrupted_gate_fails_without_a_traceback(tmp_path):
    path = str(tmp_path / "gate")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with (
            Program(gate.command(path, 60), stderr=subprocess.PIPE) as process,
            contextlib.closing(listener.accept()[0]) as caller,
        ):
            caller.recv(100)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (-signal.SIGINT, b"")
