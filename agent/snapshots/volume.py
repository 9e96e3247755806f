"""A logical volume that is read from a snapshot.

A snapshot is prepared before the moment at which it is made, so that whatever lock is held
for that moment is held for as short as it can be: room is reckoned and the first sync is
done before it.
"""

import os
import threading

from ..errors import AgentError
from . import client, consistency, sizing

SILENCE_MORE_S = 15.0  # the supervisor waits so much longer than the wire before it gives up


class SnapshotVolume:
    """A logical volume that will be, and then is, a snapshot in a supervisor's custody."""

    def __init__(self, volume, wanted, timeout_s, heard, say):
        """`heard()` tells when the server was heard last; raises AgentError SnapshotRefused."""
        self._volume = volume
        self._wanted = wanted
        self._heard = heard
        self._room = sizing.extents(volume, wanted.size)
        self.plan = sizing.plan(volume, self._room)
        self._custody = client.SupervisorClient(timeout_s + SILENCE_MORE_S, say, wanted.verbose)
        self._beat_s = max(0.2, min(timeout_s / 4, 5.0))
        self._stop = threading.Event()
        self._watcher = None
        self._snapshot = None
        self.failure = None  # AgentError: why reading on is wrong
        self.path = None

    def settle(self):
        """Write out what is dirty, so that the same inside the lock is quick."""
        self._beat_while()
        os.sync()

    def take(self, places, stands):
        """Make the snapshot.

        `places` are the server's: where the locked application keeps its data, None without a lock.
        `stands()` is called when no lock is needed any more.
        """
        holds = None if places is None else consistency.holds(self._volume.path, places)
        os.sync()
        wanted = self._wanted
        self._snapshot = self._custody.make(self._volume, self._room, wanted.set, wanted.run, stands)
        begin = self._custody.beat()
        self.path = os.fsencode(self._snapshot.device)
        self.facts = {
            "kind": self._volume.kind,
            "lv_uuid": self._volume.uuid,
            "snapshot": {"name": self._snapshot.name, "size": begin.size, "fill": begin.fill},
            "holds": holds,
        }

    def _beat_while(self):
        self._watcher = threading.Thread(target=self._watch, name="custody", daemon=True)
        self._watcher.start()

    def _watch(self):
        """Tell the supervisor that the server lives, for as long as it is heard."""
        told = None
        while not self._stop.wait(self._beat_s):
            heard = self._heard()
            if heard == told:
                continue
            told = heard
            try:
                self._custody.beat()
            except AgentError as error:
                self.failure = error
                return

    def check(self):
        """Prove that the snapshot is whole, and return what END tells of it.

        Raises AgentError SnapshotOverflowed or AgentDied.
        """
        if self.failure is not None:
            raise self.failure
        state = self._custody.check()
        return {"fill": state.fill, "size": state.size, "extended": state.extended}

    def remove(self):
        """Remove the snapshot; return what remains on the host as text, or None."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join(client.ANSWER_S)
        holder = self._custody.remove()
        if holder is None:
            return None
        return "the snapshot %s could not be removed: %s" % (self._custody.name, holder)
