"""The process that owns a snapshot and ends after its reader.

It is forked before the snapshot is made, so that every snapshot has an owner from its first
moment; nothing is executed and no file is written.  It runs in a session of its own: a hangup
or a signal to the reader's process group does not reach it.  It removes the snapshot on
request, when its reader ends in any way, when the reader has sent nothing for too long (a cut
network ends no process), and on SIGTERM.  Only SIGKILL or a loss of power leaves a snapshot,
and then the next run's sweep finds its owner in its tags.  It also releases the pool's metadata
if the reader has it reserved, and a snapshot that becomes a base is not its own any longer.

One thread checks the fill of the snapshot and extends it; the other answers the reader's
requests: JSON, one line each way.
"""

import collections
import json
import os
import select
import signal
import threading
import time

from ..errors import AgentError
from . import bases, lvm, pool, sizing, snapshot, tags
from .runner import ProgramFailed, Runner
from .thindelta import Doubt

LOOK_MOST_S = 1.0  # between two checks of the fill
LOOK_LEAST_S = 0.1
TICK_S = 0.25  # between two checks of the reader
KILL_WAIT_S = 2.0  # from SIGTERM to SIGKILL, for a reader that is silent
GONE_WAITS_S = (0.2, 0.5, 1.0) + (2.0,) * 20  # at removal, if no reader waits for the answer
_CURVE_MOST = 200  # checks that are remembered


class Supervisor:
    """The forked process: `serve` runs until the snapshot is removed."""

    def __init__(self, channel, reader, silence_s, verbose, monotonic=time.monotonic, sleep=time.sleep):
        self._channel = channel
        self._reader = reader  # pid of the agent that forked us
        self._silence_s = silence_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._notes = collections.deque(maxlen=1000)
        self._run = Runner(self._notes.append, verbose)
        self._created = None  # (volume, room or None, owner) of the snapshot that was asked for
        self._snapshot = None
        self._metadata = None  # the pool.MetadataSnapshot that is reserved
        self._ended = False  # by SIGTERM
        self._stop = threading.Event()
        self._watcher = None
        self._looking = threading.Lock()  # one check at a time
        self._curve = []  # (monotonic seconds, percent)
        self._lock = threading.Lock()  # over what both threads use; never taken while LVM works
        self._seen = None  # the last SnapshotUsage
        self._extended = 0
        self._lost = None
        self._noted = False

    def end(self, number, frame):
        """Take a signal to end."""
        self._ended = True

    def serve(self):
        """Answer the reader until it ends or asks for the removal; the snapshot is removed afterwards."""
        try:
            self._listen()
        except OSError:
            pass  # the channel broke: the reader has ended
        finally:
            # Whatever went wrong.  After a removal that succeeded this does nothing; after one that
            # found the device busy it tries again for a limited time.
            self._remove(GONE_WAITS_S)

    def _listen(self):
        """Return when the reader asked for the removal, or has ended."""
        last_request = self._monotonic()
        buffer = b""
        while True:
            if self._ended or self._monotonic() - last_request > self._silence_s:
                self._end_reader()
                return
            if os.getppid() != self._reader:
                return  # its children may still have the other end of the channel open
            if not select.select([self._channel], [], [], TICK_S)[0]:
                continue
            data = self._channel.recv(65536)
            if not data:
                return
            buffer += data
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                request = json.loads(line.decode("utf-8"))
                self._answer(request)
                if request["do"] == "remove":
                    return
                if request["do"] != "state":
                    last_request = self._monotonic()  # after the answer, which may have taken long

    def _answer(self, request):
        """Do what a request asks, and reply."""
        reply = {"number": request["number"]}
        try:
            reply["value"] = getattr(self, "_do_" + request["do"])(*request["arguments"])
        except AgentError as error:
            reply["error"] = [error.error, *error.args]
        reply["notes"] = [self._notes.popleft() for _ in range(len(self._notes))]
        self._channel.sendall(json.dumps(reply).encode("utf-8") + b"\n")

    def _do_create(self, volume, wanted, its_owner):
        wanted = None if wanted is None else sizing.Room(*wanted)
        self._created = lvm.Volume(*volume), wanted, tags.Owner(*its_owner)
        snapshot.create(*self._created, run=self._run)

    def _do_find(self):
        self._snapshot, usage = snapshot.find(*self._created, run=self._run)
        with self._looking:
            self._see(usage)
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.daemon = True
        self._watcher.start()
        return list(self._snapshot)

    def _do_beat(self):
        return self._do_state(False)

    def _do_state(self, fresh):
        if fresh and self._snapshot is not None:
            try:
                self._look()
            except ProgramFailed as error:
                reason = "cannot check its snapshot: %s" % error
                raise AgentError("ReadFailed", self._snapshot.origin, reason) from error
        with self._lock:
            if self._seen is None:
                return None
            size = self._seen.extents * self._snapshot.extent_size or None
            return [self._seen.fill, size, self._extended, self._lost]

    def _do_remove(self):
        return self._remove(snapshot.REMOVE_WAITS_S)

    # hints

    def _do_reserve(self, found):
        """Return None if the metadata of a Pool is reserved, False while another run of ours has it, else why not."""
        metadata = pool.MetadataSnapshot(pool.Pool(*found), self._run)
        try:
            if not metadata.reserve():
                return False
        except (Doubt, ProgramFailed) as error:
            return str(error)
        self._metadata = metadata
        return None

    def _do_release(self):
        metadata, self._metadata = self._metadata, None
        trouble = None if metadata is None else metadata.release()
        if trouble is not None:
            self._notes.append(trouble)

    def _do_keep(self, base):
        """Make the snapshot a base, which is not removed here; return why it is not one, or None."""
        self._unwatch()
        try:
            bases.keep(self._snapshot, bases.Base(*base), self._created[2], self._run)
        except ProgramFailed as error:
            return str(error)
        self._snapshot = self._created = self._seen = None
        return None

    # the fill

    def _watch(self):
        wait_s = LOOK_LEAST_S if self._snapshot.pool is None else LOOK_MOST_S
        while not self._stop.wait(wait_s):
            try:
                wait_s = self._look()
            except ProgramFailed as error:
                wait_s = LOOK_MOST_S
                self._note_once(str(error))
            except Exception as error:
                # from here on the fill of the snapshot would not be checked
                with self._lock:
                    self._lost = "the check of its fill failed: %r" % error
                raise

    def _look(self):
        """Check the fill, extend if that is due; return after how many seconds to check again.

        LVM is asked only where a glance is not enough.  Raises ProgramFailed if LVM fails.
        """
        with self._looking:
            seen = snapshot.glance(self._snapshot, self._run)
            if seen is not None:
                self._see(seen)
            if seen is None or self._due(seen):
                seen = snapshot.look(self._snapshot, self._run)
                self._see(seen)
            if seen.lost is not None:
                return LOOK_MOST_S
            pace = self._pace()
            if seen.free is not None and self._snapshot.pool is None:
                self._extend(seen, pace)
        if pace <= 0:
            return LOOK_MOST_S
        # check a few times before it can be full
        return min(LOOK_MOST_S, max(LOOK_LEAST_S, (100.0 - seen.fill) / pace / 10.0))

    def _due(self, seen):
        """Return whether the snapshot would be extended if all that it can use were free."""
        most = self._snapshot.most
        return sizing.more(seen.extents, most, most, seen.fill, self._pace()) > 0

    def _see(self, seen):
        """Remember a SnapshotUsage."""
        self._curve = [*self._curve, (self._monotonic(), seen.fill)][-_CURVE_MOST:]
        with self._lock:
            self._seen = seen
            if seen.lost is not None and self._lost is None:
                self._lost = self._how_lost(seen)

    def _extend(self, seen, pace):
        count = sizing.more(seen.extents, self._snapshot.most, seen.free, seen.fill, pace)
        if not count:
            return
        try:
            snapshot.extend(self._snapshot, count, self._run)
        except ProgramFailed as error:
            self._note_once("cannot extend the snapshot: %s" % error)
            return
        with self._lock:
            self._extended += 1
        self._curve = []  # its percentages are of the old size
        self._notes.append(
            "extended %s from %s by %s when it was %.0f %% full"
            % (
                self._snapshot.name,
                sizing.amount(seen.extents * self._snapshot.extent_size),
                sizing.amount(count * self._snapshot.extent_size),
                seen.fill,
            )
        )

    def _pace(self):
        """Return percent per second, over the last few seconds."""
        if len(self._curve) < 2:
            return 0.0
        last, percent = self._curve[-1]
        for begin, before in self._curve:
            if last - begin <= 5.0:
                return (percent - before) / (last - begin) if last > begin else 0.0
        return 0.0

    def _how_lost(self, seen):
        """Return how it was lost: the reason, its fill over time, its size and the free extents."""
        begin = self._curve[0][0]
        points = self._curve[:-1][:: max(1, len(self._curve) // 4)]
        curve = ", ".join("%.0f %% after %.1f s" % (fill, at - begin) for at, fill in points)
        words = seen.lost + (" (%s)" % curve if curve else "")
        if self._snapshot.pool is None:
            size = sizing.amount(seen.extents * self._snapshot.extent_size)
            words += ", it had %s, extended %d times, %d extents are free in %s" % (
                size, self._extended, seen.free, self._snapshot.vg,
            )  # fmt: skip
        return words

    def _note_once(self, words):
        """Note the first failure of a check only."""
        if not self._noted:
            self._notes.append(words)
        self._noted = True

    # the end

    def _unwatch(self):
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _remove(self, waits_s):
        self._unwatch()
        self._do_release()
        waits = {"waits_s": waits_s, "sleep": self._sleep}
        if self._snapshot is not None:
            holder = snapshot.remove(self._snapshot, self._run, **waits)
        elif self._created is not None:
            volume, _, its_owner = self._created
            holder = snapshot.discard(volume, its_owner, self._run, **waits)
        else:
            return None
        if holder is None:
            self._snapshot = self._created = None
        return holder

    def _end_reader(self):
        """End a reader that hangs: a device that it has open could not be removed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = self._monotonic() + KILL_WAIT_S
            while os.getppid() == self._reader and self._monotonic() < deadline:
                try:
                    os.kill(self._reader, number)
                except OSError:
                    break
                self._sleep(TICK_S)
