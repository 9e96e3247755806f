"""Serve one request: describe a volume, back it up, restore it, or remove what a lost run left.

Format: blockdiff-protocol(5), "Life of a connection".
"""

import os
import sys

from blockdiff import __version__
from blockdiff.formats import BYTES_OF_DIGEST, FormatError
from blockdiff.wire import messages, request
from blockdiff.wire.link import LinkClosed

from . import buffers, look, native, scan, volume
from .errors import AgentError
from .sender import Sender

_EXIT_FAILED = 1  # FAILED has the reason


def serve(link):
    """Serve one request; returns (exit status, kind, value): the last message is for the caller to send.

    Raises FormatError where the server breaks the protocol, and as the link does.
    """
    link.send(messages.HELLO, messages.encode_talk(_hello()))
    kind, payload = link.receive()
    if kind != messages.REQUEST:
        raise FormatError("expected a request, got frame %d" % kind)
    asked = request.decode(payload)
    link.set_timeout(max(1.0, float(asked.timeout_s)))
    remains = None
    try:
        if asked.ended is not None:
            from .snapshots import prepare  # LVM's part is pushed only where a snapshot may be wanted

            prepare.clear(asked.ended, _logger(link))
        elif asked.look:
            link.send(*look.answer(asked, _logger(link)))
        elif asked.restore is not None:
            from .target import restore  # pushed only for a restore

            restore.restore(link, asked, _logger(link))
        else:
            remains = _back_up(link, asked)
    except AgentError as error:
        return _EXIT_FAILED, messages.FAILED, {"error": error.error, "args": [str(a) for a in error.args]}
    return 0, messages.LEFT, {"remains": remains}


def _hello():
    return {
        "protocol": messages.PROTOCOL,
        "program": __version__,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "host": os.uname().nodename,
        "cores": os.cpu_count() or 1,
        "digest": (native.digester("xxh128") or native.digester("md5")).name,
        "codec": native.compressor().name,
    }


def _logger(link):
    """Return what sends a line for the log; a line that cannot be sent is dropped."""

    def log(line):
        try:
            link.send(messages.NOTE, messages.encode_talk({"text": str(line)[:4000]}))
        except LinkClosed:
            pass

    return log


def _back_up(link, asked):
    """Read the volume, or a snapshot of it; returns what could not be removed as text, or None."""
    if native.digester(asked.digest) is None:
        raise FormatError("no digest %r here" % asked.digest)
    snapshot = None
    if asked.snapshot is not None:
        from .snapshots import prepare

        path = request.encode_path(asked.path)
        snapshot = prepare.prepare(
            path, asked.snapshot, float(asked.timeout_s), link.last_received, _logger(link), asked.hints
        )
    if snapshot is None:
        if asked.hints is not None:
            _logger(link)("no hints, the whole volume is read: it has no snapshot")
        _send_end(link, asked, *_send_blocks(link, asked, None))
        return None
    try:
        _take(link, asked, snapshot)
        found = _send_blocks(link, asked, snapshot)
        _send_end(link, asked, *found, snapshot=snapshot.check(), keeps=snapshot.keeps)  # checked after the last read
        if snapshot.keeps:
            return snapshot.keep(*_published(link))
    except BaseException:
        remains = snapshot.remove()
        if remains is not None:  # as a note, since the last message has the reason why the backup failed
            _logger(link)(remains)
        raise
    return snapshot.remove()


def _take(link, asked, snapshot):
    """Make the snapshot as soon as the server wants it."""
    snapshot.settle()
    link.send(messages.READY, messages.encode_talk(dict(snapshot.plan, same=look.same(asked))))
    kind, payload = link.receive()
    if kind != messages.NOW:
        raise FormatError("expected the moment of the snapshot, got frame %d" % kind)
    places = messages.decode_talk(payload, places=(dict, type(None)))["places"]
    if places is not None:
        places = messages.check(
            places, pid_file=str, directories=list, hostname=(str, type(None)), client_port=(int, type(None))
        )
    snapshot.take(places, lambda: link.send(messages.TAKEN, messages.encode_talk({})))


def _published(link):
    """Wait until the server has published the version; returns its number, and the SHA-256 of its digest file."""
    kind, payload = link.receive()
    if kind != messages.KEEP:
        raise FormatError("expected the version of a base, got frame %d" % kind)
    version = messages.decode_talk(payload, version=int, sha256=str)
    return version["version"], version["sha256"]


def _send_blocks(link, asked, snapshot):
    """Read the image, or what a hint leaves to be read, and send what differs; returns the Scan, and END's hint."""
    hint = None
    if snapshot is not None and asked.hints is not None:
        hint = snapshot.hint(asked.hints)
    source = volume.Volume(request.encode_path(asked.path) if snapshot is None else snapshot.path)
    try:
        if snapshot is None:
            facts = look.facts(asked, source)
        else:
            facts = dict(snapshot.facts, size=source.size, same=look.same(asked), users=None)
        link.send(messages.OPENED, messages.encode_talk(facts))
        try:
            found = _read(link, asked, source, snapshot, hint)
        except AgentError as error:
            if snapshot is not None and error.error == "ReadFailed":
                snapshot.check()  # reading a lost snapshot gives read errors
            raise
        source.check_size()
        return found
    finally:
        source.close()


def _read(link, asked, source, snapshot, hint):
    """Read what a hint leaves to be read; or everything, if it is wrong, or there is none."""
    old = None if asked.old is None else _OldDigests(link, asked.old)
    sender = Sender(link, max(0, asked.bwlimit), native.compressor().pays_below)
    pool, stretches = _pool(link, asked, source), None
    if hint is not None:
        import random

        stretches = hint.stretches(
            source.size, asked.block_size, asked.old or 0, asked.hints.version, random.SystemRandom()
        )
    work = scan.Scan(source, asked, old, lambda: sender.slow, pool, stretches)
    wrong = None
    try:
        sender.send_extents(work.results())
    except scan.HintWrong as error:
        (wrong,) = error.args
    found = None
    if hint is not None:
        found = {"method": hint.method, "blocks": work.hinted, "audited": work.audited, "wrong": wrong}
    if wrong is not None:
        snapshot.distrust()
        if old is not None:
            old.skip()  # when all have come, the server can send them again
            old = _OldDigests(link, asked.old)
        link.send(messages.AGAIN, messages.encode_talk({"offset": wrong}))
        read = work.read
        # the server may still have some of the shared memory
        pool = buffers.Private(scan.buffer_size(source, asked.block_size))
        work = scan.Scan(source, asked, old, lambda: sender.slow, pool)
        sender.send_extents(work.results())
        work.read += read
    return work, found


def _pool(link, asked, source):
    """Return the buffers to read into: in memory that the server shares, if blocks need not go through the wire."""
    offer = None if asked.compress or asked.bwlimit > 0 else asked.shared
    pool = buffers.choose(offer, scan.buffer_size(source, asked.block_size))
    if isinstance(pool, buffers.Shared):
        link.aside[messages.FREE] = pool.given_back
    return pool


def _send_end(link, asked, work, hint, snapshot=None, keeps=False):
    end = {
        "total": work.total,
        "changed": work.changed,
        "zero": work.zero,
        "read": work.read,
        "digests": work.digest_hashes(),
        "snapshot": snapshot,
    }
    if asked.hints is not None:
        end.update(hint=hint, keeps=keeps)
    link.send(messages.END, messages.encode_talk(end))


class _OldDigests:
    """The parent's digests as they arrive, returned extent by extent."""

    def __init__(self, link, count):
        self._link = link
        self._left = count  # not yet returned
        self._to_come = count * BYTES_OF_DIGEST
        self._buffer = bytearray()

    def __call__(self, count):
        """Return the digests of the next count blocks, fewer where the parent has fewer."""
        count = min(count, self._left)
        self._left -= count
        size = count * BYTES_OF_DIGEST
        while len(self._buffer) < size:
            self._buffer += self._more()
        digests = bytes(self._buffer[:size])
        del self._buffer[:size]
        return digests

    def skip(self):
        """Receive all that have not come yet."""
        while self._to_come:
            self._more()

    def _more(self):
        kind, payload = self._link.receive()
        if kind != messages.DIGESTS or not 0 < len(payload) <= min(messages.MAX_DIGESTS, self._to_come):
            raise FormatError("expected digests, got frame %d of %d bytes" % (kind, len(payload)))
        self._to_come -= len(payload)
        return payload
