"""The agent's life: say hello, take one request, read the volume, send what changed, end.

Whatever ends the other side (end of input, a hangup, silence) ends the agent through its
`finally` blocks.  Format: blockdiff-protocol(5), "Life of a connection".
"""

import os
import signal
import sys
import threading
import time

from blockdiff import __version__
from blockdiff.formats import BYTES_OF_DIGEST, FormatError
from blockdiff.wire import messages, request
from blockdiff.wire.link import Link, LinkClosed, LinkSilent

from . import buffers, look, native, scan, sender, volume
from .errors import AgentError

_HELLO_TIMEOUT_S = 120.0  # until the request brings the server's own
_SAY_S = 5.0  # how long the server may be left without a word of what was read and is unchanged
_EXIT_FAILED = 1  # said so over the wire
_EXIT_LOST = 95  # the server is gone: nobody is there to read why
_EXIT_BUG = 99


class _Ended(Exception):
    """A signal asked us to end."""


def claim_wire():
    """Keep the wire to ourselves; children get /dev/null in and stderr out."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return wire_in, wire_out


def _writer(wire):
    def write(data):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(wire, rest) :]

    return write


class _Finish:
    """Whether the work is done: then the end of the connection is no news."""

    def __init__(self):
        self.done = False
        self.ended = False  # by a signal

    def dead(self, why):
        """Wake the main thread, which may be blocked in a write; if that fails, end without it."""
        if not self.done:
            os.kill(os.getpid(), signal.SIGTERM)
        timer = threading.Timer(20, os._exit, (_EXIT_LOST,))
        timer.daemon = True
        timer.start()


def main(show):
    """Serve one request on stdin and stdout; exits.  `show` lets a traceback find our lines."""

    asked = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def deaf(number, frame):
        """Take a signal that has nothing to say any more; SIG_IGN would have Python complain of one under way."""

    finish = _Finish()

    def end(number, frame):
        finish.ended = True
        for other in asked:  # what is under way now is the cleaning up
            signal.signal(other, deaf)
        raise _Ended(number)

    for number in asked:
        signal.signal(number, end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    status = _EXIT_LOST
    try:
        status = _live(finish, show)
        sys.stderr.flush()
        # threads may be blocked in reads that never end; nothing of ours is left to clean up
        os._exit(status)
    except _Ended:  # while the last words were said; it is raised only once
        os._exit(status)


def _live(finish, show):
    """Serve the request; returns the exit status, and what went wrong stands on stderr."""
    status = _EXIT_LOST
    try:
        wire_in, wire_out = claim_wire()
        write = _writer(wire_out)
        write(messages.SYNC_MARK)
        link = Link(lambda size: os.read(wire_in, size), write, _HELLO_TIMEOUT_S, finish.dead)
        status = _serve(link, finish)
    except (_Ended, LinkClosed, LinkSilent, OSError) as error:
        if not finish.done:
            sys.stderr.write("blockdiff agent: ended early: %s\n" % (error or "signal"))
    except FormatError as error:
        sys.stderr.write("blockdiff agent: the server broke the protocol: %s\n" % error)
    except Exception:
        if finish.ended:  # it fell into the midst of python's own work, such as starting a thread
            sys.stderr.write("blockdiff agent: ended early\n")
        else:
            import traceback

            show()
            traceback.print_exc()
            status = _EXIT_BUG
    return status


def _serve(link, finish):
    digester = native.digester("xxh128") or native.digester("md5")
    link.send(
        messages.HELLO,
        messages.encode_talk(
            {
                "protocol": messages.PROTOCOL,
                "program": __version__,
                "python": "%d.%d.%d" % sys.version_info[:3],
                "host": os.uname().nodename,
                "cores": os.cpu_count() or 1,
                "digest": digester.name,
                "codec": native.compressor().name,
            }
        ),
    )
    kind, payload = link.receive()
    if kind != messages.REQUEST:
        raise FormatError("expected a request, got frame %d" % kind)
    asked = request.decode(payload)
    link.set_timeout(max(1.0, float(asked.timeout_s)))
    try:
        if asked.ended is not None:
            _clear(link, asked.ended, finish)
        elif asked.look:
            link.send(*look.answer(asked, _say(link)))
            _say_last(link, finish, messages.LEFT, {"remains": None})
        else:
            _read_volume(link, asked, finish)
        status = 0
    except AgentError as error:
        _say_last(link, finish, messages.FAILED, {"error": error.error, "args": [str(a) for a in error.args]})
        status = _EXIT_FAILED
    return status


def _say_last(link, finish, kind, value):
    """Send what nothing follows; the server may end the connection as soon as it has it."""
    finish.done = True
    link.send(kind, messages.encode_talk(value))


class _OldDigests:
    """The parent's digests as they arrive, handed out by the extent."""

    def __init__(self, link, count):
        self._link = link
        self._left = count  # not yet handed out
        self._to_come = count * BYTES_OF_DIGEST
        self._held = bytearray()

    def __call__(self, count):
        count = min(count, self._left)
        self._left -= count
        size = count * BYTES_OF_DIGEST
        while len(self._held) < size:
            kind, payload = self._link.receive()
            if kind != messages.DIGESTS or not 0 < len(payload) <= min(messages.MAX_DIGESTS, self._to_come):
                raise FormatError("expected digests, got frame %d of %d bytes" % (kind, len(payload)))
            self._to_come -= len(payload)
            self._held += payload
        digests = bytes(self._held[:size])
        del self._held[:size]
        return digests


def _jobs(asked):
    """Return how many threads shall work: one core is left to the host where it has more than two."""
    if asked.jobs > 0:
        return min(64, asked.jobs)
    if asked.digest == "xxh128":
        return 1  # it is all but waiting for the disk, which reads ahead; more threads only wait for each other
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count() or 1
    return max(1, min(cores if cores <= 2 else cores - 1, 8))


def _say(link):
    """Return what sends a line for the log; a line is never worth an end."""

    def say(line):
        try:
            link.send(messages.NOTE, messages.encode_talk({"text": str(line)[:4000]}))
        except LinkClosed:
            pass

    return say


def _clear(link, ended, finish):
    from .snapshots import prepare

    prepare.clear(ended, _say(link))
    _say_last(link, finish, messages.LEFT, {"remains": None})


def _image(link, asked):
    """Return the image to read, standing; a snapshot is made when the server says so."""
    path = request.encode_path(asked.path)
    if asked.snapshot is None:
        return None, path
    from .snapshots import prepare  # LVM's part is pushed only where a snapshot may be wanted

    found = prepare.prepare(path, asked.snapshot, float(asked.timeout_s), link.heard, _say(link))
    if found is None:
        return None, path
    try:
        found.settle()
        link.send(messages.READY, messages.encode_talk(dict(found.plan, same=look.same(asked))))
        kind, payload = link.receive()
        if kind != messages.NOW:
            raise FormatError("expected the moment of the snapshot, got frame %d" % kind)
        places = messages.decode_talk(payload, places=(dict, type(None)))["places"]
        if places is not None:
            places = messages.check(
                places, pid_file=str, directories=list, hostname=(str, type(None)), client_port=(int, type(None))
            )
        found.take(places, lambda: link.send(messages.TAKEN, messages.encode_talk({})))
    except BaseException:
        _remove_failed(link, found)
        raise
    return found, found.path


def _remove_failed(link, held):
    """Remove a snapshot of which nothing came; what remains is said now, for the last words tell why."""
    remains = held.remove()
    if remains is not None:
        _say(link)(remains)


def _read_volume(link, asked, finish):
    digester = native.digester(asked.digest)
    if digester is None:
        raise FormatError("no digest %r here" % asked.digest)
    other = native.digester("xxh128" if digester.name == "md5" else "md5") if asked.others else None
    held, path = _image(link, asked)
    try:
        work = _scan(link, asked, held, path, digester, other)
        snapshot = held.check() if held is not None else None  # looked at after the last read
        link.send(
            messages.END,
            messages.encode_talk(
                {
                    "total": work.total,
                    "changed": work.changed,
                    "zero": work.zero,
                    "read": work.read,
                    "digests": work.digest_hashes(),
                    "snapshot": snapshot,
                }
            ),
        )
    except BaseException:
        if held is not None:
            _remove_failed(link, held)
        raise
    remains = held.remove() if held is not None else None
    _say_last(link, finish, messages.LEFT, {"remains": remains})


def _scan(link, asked, held, path, digester, other):
    """Read the whole image and send what became of it; returns the Scan."""
    source = volume.Volume(path)
    try:
        if held is None:
            told = look.facts(asked, source)
        else:
            told = dict(held.facts, size=source.size, same=look.same(asked), users=None)
        link.send(messages.OPENED, messages.encode_talk(told))
        old = None if asked.old is None else _OldDigests(link, asked.old)
        way = sender.Sender(link, max(0, asked.bwlimit), native.compressor().pays_below)
        compress = (lambda: way.slow) if asked.compress else (lambda: False)
        work = scan.Scan(
            source, asked.block_size, digester, other, old, compress, _jobs(asked), _buffers(link, asked)
        )
        try:
            _send(way, work)
        except AgentError as error:
            if held is not None and error.error == "ReadFailed":
                held.check()  # a snapshot that is lost reads as errors
            raise
        source.check_size()
        return work
    finally:
        source.close()


def _buffers(link, asked):
    """Return what makes the memory to read into, by the size of a buffer."""

    def make(size):
        offer = None if asked.compress or asked.bwlimit > 0 else asked.shared
        found = buffers.choose(offer, size)
        if isinstance(found, buffers.Shared):
            link.aside[messages.FREE] = found.given_back
        return found

    return make


def _send(way, work):
    """Send every extent, joining neighbours of which nothing is to be told."""
    first = count = 0
    said = time.monotonic()
    for extent, result in work.results():
        quiet = len(result.runs) == 1 and result.runs[0][0] == messages.SAME and not result.others
        now = time.monotonic()
        if quiet and count + extent.count <= messages.MAX_COUNT and now - said < _SAY_S:
            if not count:
                first = extent.first
            count += extent.count
            continue
        said = now
        if count:
            _send_extent(way, messages.Extent(first, [(messages.SAME, count)], b"", b""))
            count = 0
        if quiet:
            first, count = extent.first, extent.count
            continue
        _send_extent(way, messages.Extent(extent.first, result.runs, result.told, result.others))
        for codec, length, body in result.frames:
            way.send(messages.DATA, (messages.encode_data_header(codec, length), body))
    if count:
        _send_extent(way, messages.Extent(first, [(messages.SAME, count)], b"", b""))


def _send_extent(way, extent):
    way.send(messages.EXTENT, (messages.encode_extent(extent),))
