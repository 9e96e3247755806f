"""The gate: the command that a lock command runs while it holds its lock.

A lock command (mysqllock, or any other) takes its lock, runs the command that follows it and
releases the lock when that command ends. But the snapshot is made by a backup that is already
connected to the source host. So the lock command runs this program: it reports through a socket
that the lock is held, waits until the backup answers that the snapshot is made, and ends.
It ends at once with exit code 1 if the backup has ended or the time limit is over: then the
lock is not needed any more.

It is started by its path, uses the standard library only and starts quickly, since the database
is locked meanwhile. One line in each direction over a unix stream socket:

    gate -> backup              locked FACTS      FACTS: a JSON object, or nothing
    lock command -> backup      released FACTS    on a connection of its own, after unlocking
    backup -> gate              stands            the snapshot is made

A lock command gives facts about its lock (see blockdiff-formats(5), "quiesce") to the gate in the
environment variable BLOCKDIFF_LOCK; a lock command without facts need not set it.
"""

import os
import signal
import socket
import sys

FACTS_VARIABLE = "BLOCKDIFF_LOCK"
MAX_LINE = 65536  # bytes
_SEND_S = 2.0


def command(path: str, hold_s: float) -> list[str]:
    """Return the command that is the gate to the socket at this path."""
    # -I -S: neither the environment nor site-packages; half the start-up time
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), f"{hold_s:g}", path]


def path_in(words: list[str]) -> str | None:
    """Return the socket's path if this command is a gate, else None."""
    gate = len(words) >= 3 and os.path.basename(words[-3]) == os.path.basename(__file__)
    return words[-1] if gate and os.path.isabs(words[-1]) else None


def line(verb: str, facts: str = "") -> bytes:
    """Return the bytes of a line; facts that are too long are left out."""
    # line ends inside JSON are white space
    data = f"{verb} {facts}".encode("utf-8", "replace").translate(bytes.maketrans(b"\r\n", b"  "))
    return (data if len(data) < MAX_LINE else verb.encode()) + b"\n"


def send(path: str, verb: str, facts: str) -> None:
    """Send one line to the backup at this path; raises OSError if it is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as backup:
        backup.settimeout(_SEND_S)
        backup.connect(path)
        backup.sendall(line(verb, facts))


def wait(path: str, hold_s: float, facts: str) -> str:
    """Report the lock, wait for the snapshot; return why there is none, "" if it was made."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as backup:
        backup.settimeout(hold_s)
        try:
            backup.connect(path)
            backup.sendall(line("locked", facts))
            answer = b""
            while not answer.endswith(b"\n"):
                piece = backup.recv(64)
                if not piece:
                    return "the backup ended before the snapshot was made"
                answer += piece
        except TimeoutError:
            return f"the snapshot was not made within {hold_s:g} s"
        except OSError as error:
            return f"cannot reach the backup: {error.strerror}"
    return "" if answer == b"stands\n" else "the backup sent an unknown answer"


def main(arguments: list[str]) -> int:
    """Run the gate with the arguments HOLD_S PATH; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a traceback, like any command
    problem = wait(arguments[1], float(arguments[0]), os.environ.get(FACTS_VARIABLE, ""))
    if problem:
        sys.stderr.write(f"blockdiff gate: {problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
