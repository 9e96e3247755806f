"""The gate: the command that a lock helper is given in place of the snapshot's own.

A lock helper (mysqllock, or anybody's) takes its lock, runs the command that it is given
and releases the lock when that command ends. The snapshot, though, is made elsewhere, by a
backup that is already connected. So the helper is given this program: it tells the backup
through a socket that the lock is held, waits until the backup says that the snapshot
stands, and ends. It ends at once with exit code 1 when the backup is gone, and when it has
waited for longer than it may: the lock must not outlive its purpose.

Run by its path, standard library only, quick to start, since the database is locked
meanwhile. One line each way over a unix stream socket:

    gate -> backup      locked FACTS        FACTS: a JSON object, or nothing
    helper -> backup    released FACTS      on a connection of its own, after the unlocking
    backup -> gate      stands

A helper hands facts about its lock (see blockdiff-formats(5), "quiesce") to the gate in the
environment variable BLOCKDIFF_LOCK of the command that it runs; helpers that know nothing of
this need do nothing.
"""

import os
import signal
import socket
import sys

FACTS_VARIABLE = "BLOCKDIFF_LOCK"
MAX_LINE = 65536  # bytes
_TELL_S = 2.0


def command(path: str, hold_s: float) -> list[str]:
    """Return the command that is the gate to the socket at this path."""
    # -I -S: neither the environment nor site-packages; half the start-up time
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), f"{hold_s:g}", path]


def path_in(words: list[str]) -> str | None:
    """Return the socket's path if a command that a helper was given is a gate."""
    gate = len(words) >= 3 and os.path.basename(words[-3]) == os.path.basename(__file__)
    return words[-1] if gate and os.path.isabs(words[-1]) else None


def line(verb: str, facts: str = "") -> bytes:
    """Return a line as it travels; facts that are too long are left out."""
    # line ends inside JSON are white space
    data = f"{verb} {facts}".encode("utf-8", "replace").translate(bytes.maketrans(b"\r\n", b"  "))
    return (data if len(data) < MAX_LINE else verb.encode()) + b"\n"


def tell(path: str, verb: str, facts: str) -> None:
    """Say one thing to the backup at this path; raises OSError if it is not there any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as backup:
        backup.settimeout(_TELL_S)
        backup.connect(path)
        backup.sendall(line(verb, facts))


def wait(path: str, hold_s: float, facts: str) -> str:
    """Say "locked", wait until the snapshot stands; return why it does not, "" if it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as backup:
        backup.settimeout(hold_s)
        try:
            backup.connect(path)
            backup.sendall(line("locked", facts))
            answer = b""
            while not answer.endswith(b"\n"):
                piece = backup.recv(64)
                if not piece:
                    return "the backup went away before the snapshot stood"
                answer += piece
        except TimeoutError:
            return f"the snapshot did not stand within {hold_s:g} s"
        except OSError as error:
            return f"the backup is not there: {error.strerror}"
    return "" if answer == b"stands\n" else "the backup said something else"


def main(arguments: list[str]) -> int:
    """Be the gate: HOLD_S PATH; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a traceback, like any command
    problem = wait(arguments[1], float(arguments[0]), os.environ.get(FACTS_VARIABLE, ""))
    if problem:
        sys.stderr.write(f"blockdiff gate: {problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
