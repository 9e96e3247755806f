"""The agent's side of the supervisor: start it, have it make a snapshot, check and remove that.

The agent starts a supervisor before any lock is taken, calls `make` inside the lock, `beat`
whenever the server has sent something, and `remove` at its end, whatever happened.  Every call
fails if the supervisor has died: then the fill of the snapshot is not watched, and data that is
read from it cannot be trusted.
"""

import gc
import json
import os
import signal
import socket
import threading
import time
import typing

from ..errors import AgentError
from . import pool, snapshot, tags
from .runner import Runner
from .supervisor import Supervisor
from .thindelta import Doubt

ANSWER_S = 60.0  # for all requests but those that wait for LVM
REAP_S = 5.0
_SLOW = ("create", "find", "remove", "reserve", "release", "keep")  # they wait for LVM, or the device mapper
_SIGNALS = (  # that a terminal, a hangup or the agent could send; the supervisor ignores them
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)


class State(typing.NamedTuple):
    """State of a snapshot: fill in percent (of its pool's data for a thin one), size in bytes or None."""

    fill: float
    size: typing.Optional[int]
    extended: int  # times
    lost: typing.Optional[str]


class SupervisorClient:
    """One supervisor and its snapshot; every method may be called from any thread.

    `silence_s` is how long the supervisor waits for a `beat` before it ends this process and removes
    the snapshot: more than the timeout of the wire. `log` takes lines for the log, all of LVM's if `verbose`.
    """

    def __init__(self, silence_s, log, verbose=False):
        self._log = log
        self._verbose = verbose
        self._lock = threading.Lock()
        self._number = 0
        self._buffer = b""
        self._created = None  # (volume, owner) of the snapshot that was asked for
        self._snapshot = None
        self._reserved = None  # the Pool whose metadata is
        self._pid, self._channel = _fork(silence_s, verbose)

    def make(self, volume, wanted, set_hash, run_id, made=lambda: None):
        """Return the Snapshot of a volume, with the Room `wanted` (from sizing.extents); raises AgentError.

        `made()` is called as soon as it exists; only then LVM is asked for its properties.
        """
        self._created = volume, tags.current(set_hash, run_id, self._pid)
        self._ask("create", list(volume), wanted, self._created[1])
        made()
        self._snapshot = snapshot.Snapshot(*self._ask("find"))
        return self._snapshot

    @property
    def name(self):
        """The name of the snapshot that was asked for; None before."""
        return None if self._created is None else snapshot.name(*self._created)

    def beat(self):
        """Report a sign of life of the server; return the State as last seen (None before there is one).

        Raises AgentError: SnapshotOverflowed if the snapshot is lost, AgentDied if its owner is.
        """
        return self._checked(self._ask("beat"))

    def check(self):
        """Have the snapshot looked at now and return its State; raises as `beat` does.

        Call it after a read error, and after the last read: the data that was read is valid only if
        the snapshot is valid afterwards.
        """
        return self._checked(self._ask("state", True))

    def reserve(self, found):
        """Return whether the metadata of a Pool is reserved; False while another run of ours has it.

        Raises Doubt if it cannot be reserved, or AgentError.
        """
        refused = self._ask("reserve", list(found))
        if refused:
            raise Doubt(refused)
        self._reserved = found if refused is None else None
        return refused is None

    def release(self):
        """Release it.  Raises AgentError."""
        self._ask("release")
        self._reserved = None

    def keep(self, base):
        """Make the snapshot a Base: it is not removed any more.  Raises Doubt if it is none, or AgentError."""
        refused = self._ask("keep", list(base))
        if refused is not None:
            raise Doubt(refused)
        self._snapshot = self._created = None

    def remove(self):
        """Remove the snapshot if there is one, end the supervisor, return None or why it could not be removed.

        Never raises; without a supervisor it removes the snapshot itself.
        """
        try:
            holder = self._ask("remove")
        except AgentError:
            self._channel.close()
            self._reap(REAP_S)
            run = Runner(self._log, self._verbose)
            if self._reserved is not None:
                self._log(pool.release(self._reserved, run) or "released the metadata of %s" % self._reserved.name)
            if self._snapshot is not None:
                return snapshot.remove(self._snapshot, run)
            if self._created is not None:  # it may have died while it made one
                return snapshot.discard(*self._created, run=run)
            return None
        self._channel.close()
        if holder is None:
            self._reap(REAP_S)
        return holder

    def _checked(self, values):
        if values is None:
            return None
        state = State(*values)
        if state.lost is not None:
            raise AgentError("SnapshotOverflowed", self._snapshot.origin, state.lost)
        return state

    def _ask(self, do, *arguments):
        with self._lock:
            self._number += 1
            request = {"number": self._number, "do": do, "arguments": arguments}
            try:
                self._channel.settimeout(None if do in _SLOW else ANSWER_S)
                self._channel.sendall(json.dumps(request).encode("utf-8") + b"\n")
                reply = self._reply()
            except OSError as error:  # a timeout is one, too
                raise self._died(str(error) or "it does not answer") from error
        for note in reply["notes"]:
            self._log(note)
        if "error" in reply:
            raise AgentError(*reply["error"])
        return reply["value"]

    def _reply(self):
        """Return the reply to the newest request; a reply that a signal kept us from reading is skipped."""
        while True:
            while b"\n" not in self._buffer:
                data = self._channel.recv(65536)
                if not data:
                    raise self._died("it has ended")
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            reply = json.loads(line.decode("utf-8"))
            if reply["number"] == self._number:
                return reply

    def _died(self, why):
        reason = "the process that owns the snapshot has failed (%s)" % why
        return AgentError("AgentDied", os.uname()[1], reason)

    def _reap(self, wait_s):
        """Wait for the supervisor's exit, so that no zombie is left; bounded, since it may hang."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                if os.waitpid(self._pid, os.WNOHANG)[0] != 0:
                    return
            except ChildProcessError:
                return
            time.sleep(0.02)


def _fork(silence_s, verbose):
    """Fork a supervisor; return (its pid, the agent's end of the channel).

    It closes every descriptor but its own end of the channel, so that it does not keep the wire
    or the pipes of ssh open.
    """
    ours, supervisors = socket.socketpair()
    reader = os.getpid()
    # a descriptor of garbage would be closed in the child after its number is in use again
    gc.collect()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGTERM, signal.SIGCHLD))
    try:
        pid = os.fork()
        if pid == 0:
            _become(supervisors, reader, silence_s, verbose)  # never returns
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    supervisors.close()
    return pid, ours


def _become(channel, reader, silence_s, verbose):
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != channel.fileno():
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the descriptor of the listing, which is closed already
        supervisor = Supervisor(channel, reader, silence_s, verbose)
        signal.signal(signal.SIGTERM, supervisor.end)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        supervisor.serve()
        code = 0
    finally:
        os._exit(code)
