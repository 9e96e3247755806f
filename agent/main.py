"""The agent as a process: claim the wire, serve one request, end.

Whatever ends the connection (end of input, a hangup, silence) ends the agent through its
`finally` blocks.  Format: blockdiff-protocol(5), "Life of a connection".
"""

import os
import signal
import sys
import threading

from blockdiff.formats import FormatError
from blockdiff.wire import messages
from blockdiff.wire.link import Link, LinkClosed, LinkSilent

from . import serve

_HELLO_TIMEOUT_S = 120.0  # until the request has the server's own
_EXIT_LOST = 95  # the connection ended, or the server broke the protocol
_EXIT_BUG = 99
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _Ended(Exception):
    """A signal ended the agent."""


class _State:
    """How far the process is; read by the link's threads and by the signal handler."""

    def __init__(self):
        self.done = False  # the last message is being sent: the end of the connection is no failure
        self.signalled = False

    def dead(self, why):
        """Wake the main thread, which may be blocked in a write; if that fails, end without it."""
        if not self.done:
            os.kill(os.getpid(), signal.SIGTERM)
        timer = threading.Timer(20, os._exit, (_EXIT_LOST,))
        timer.daemon = True
        timer.start()

    def end(self, number, frame):
        """Handle the first signal; further ones are ignored, since the agent is cleaning up now."""
        self.signalled = True
        for other in _SIGNALS:
            signal.signal(other, _ignore)
        raise _Ended(number)


def _ignore(number, frame):
    """Ignore a signal; with SIG_IGN Python would warn about a pending one."""


def claim_wire():
    """Return new descriptors (input, output) of the wire; children get /dev/null as stdin, stderr as stdout."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return wire_in, wire_out


def main(show):
    """Serve one request on stdin and stdout; exits.  `show` lets a traceback show pushed code."""
    state = _State()
    for number in _SIGNALS:
        signal.signal(number, state.end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    status = _EXIT_LOST
    try:
        status = _run(state, show)
        sys.stderr.flush()
        # threads may be blocked in reads that never end; nothing is left to clean up
        os._exit(status)
    except _Ended:  # while the last line was written to stderr; it is raised only once
        os._exit(status)


def _run(state, show):
    """Serve the request; returns the exit status, and writes the reason of a failure to stderr."""
    try:
        wire_in, wire_out = claim_wire()
        write = _writer(wire_out)
        write(messages.SYNC_MARK)
        link = Link(lambda size: os.read(wire_in, size), write, _HELLO_TIMEOUT_S, state.dead)
        status, kind, value = serve.serve(link)
        state.done = True  # the server may end the connection as soon as it has this message
        link.send(kind, messages.encode_talk(value))
        return status
    except (_Ended, LinkClosed, LinkSilent, OSError) as error:
        if not state.done:
            sys.stderr.write("blockdiff agent: ended early: %s\n" % (error or "signal"))
    except FormatError as error:
        sys.stderr.write("blockdiff agent: the server broke the protocol: %s\n" % error)
    except Exception:
        if not state.signalled:
            import traceback

            show()
            traceback.print_exc()
            return _EXIT_BUG
        # the signal came inside python's own work, such as starting a thread
        sys.stderr.write("blockdiff agent: ended early\n")
    return _EXIT_LOST


def _writer(wire):
    def write(data):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(wire, rest) :]

    return write
