"""A logical volume that is read from a snapshot.

The snapshot is prepared before the lock of the application: its size is computed and the
first sync is done.  So the lock lasts as short as possible.
"""

import os
import threading

from ..errors import AgentError
from . import client, consistency, sizing
from .runner import Runner

SILENCE_MORE_S = 15.0  # added to the timeout of the wire: how long the supervisor waits


class SnapshotVolume:
    """A logical volume whose snapshot a supervisor makes, watches and removes."""

    def __init__(self, volume, wanted, timeout_s, last_received, log, rows):
        """`last_received()` returns when the server sent something last, `rows` are all of LVM's report.

        Raises AgentError SnapshotRefused.
        """
        self._volume = volume
        self._rows = rows
        self._wanted = wanted
        self._log = log
        self._hints = None
        self._last_received = last_received
        self._room = sizing.extents(volume, wanted.size)
        self.plan = sizing.plan(volume, self._room)
        self._supervisor = client.SupervisorClient(timeout_s + SILENCE_MORE_S, log, wanted.verbose)
        self._beat_s = max(0.2, min(timeout_s / 4, 5.0))
        self._stop = threading.Event()
        self._watcher = None
        self._snapshot = None
        self.failure = None  # AgentError: the reason why reading must stop
        self.path = None

    def settle(self):
        """Write dirty pages to disk now, so that the sync inside the lock is quick."""
        self._start_watcher()
        os.sync()

    def take(self, places, made):
        """Make the snapshot.

        `places` come from the server: where the locked application keeps its data; None without a
        lock.  `made()` is called when no lock is needed any more.
        """
        holds = None if places is None else consistency.holds(self._volume.path, places)
        os.sync()
        wanted = self._wanted
        self._snapshot = self._supervisor.make(self._volume, self._room, wanted.set, wanted.run, made)
        begin = self._supervisor.beat()
        self.path = os.fsencode(self._snapshot.device)
        self.facts = {
            "kind": self._volume.kind,
            "lv_uuid": self._volume.uuid,
            "snapshot": {"name": self._snapshot.name, "size": begin.size, "fill": begin.fill},
            "holds": holds,
        }

    def _start_watcher(self):
        self._watcher = threading.Thread(target=self._watch, name="supervisor client", daemon=True)
        self._watcher.start()

    def _watch(self):
        """Send the supervisor a sign of life whenever the server has sent something."""
        reported = None
        while not self._stop.wait(self._beat_s):
            last_received = self._last_received()
            if last_received == reported:
                continue
            reported = last_received
            try:
                self._supervisor.beat()
            except AgentError as error:
                self.failure = error
                return

    def check(self):
        """Check that the snapshot is valid, and return its state for END.

        Raises AgentError SnapshotOverflowed or AgentDied.
        """
        if self.failure is not None:
            raise self.failure
        state = self._supervisor.check()
        return {"fill": state.fill, "size": state.size, "extended": state.extended}

    def hint(self, wanted):
        """Return the Hint of what is to be read, for a HintRequest, or None: the whole volume.  Raises AgentError."""
        from . import hints  # loaded only where they are asked for

        run = Runner(self._log, self._wanted.verbose)
        self._hints = hints.Hints(
            self._volume, self._snapshot, wanted, self._wanted.set, self._supervisor, run, self._log, self._rows
        )
        return self._hints.hint()

    @property
    def keeps(self):
        """Return whether the snapshot may become the base for the next version, after `hint`."""
        return self._hints is not None and self._hints.keeps

    def distrust(self):
        """Remove the base, whose hint was wrong; and keep no other one."""
        self._hints.keeps = False
        remains = self._hints.drop()
        if remains is not None:
            self._log(remains)

    def keep(self, version, md5):
        """Make the snapshot the base for what continues this version; returns what is left over as text, or None."""
        remains = self._hints.keep(version, md5)
        return "; ".join(filter(None, (remains, self.remove()))) or None

    def remove(self):
        """Remove the snapshot; return what could not be removed as text, or None."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join(client.ANSWER_S)
        holder = self._supervisor.remove()
        if holder is None:
            return None
        return "the snapshot %s could not be removed: %s" % (self._supervisor.name, holder)
