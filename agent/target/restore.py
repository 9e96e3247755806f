"""Make a target what a version has: tell its digests, write the blocks that come, prove the whole.

Nothing is written before the server's GO, and no block whose bytes do not have the digest that came
with them.  Format: blockdiff-protocol(5), "Life of a restore".
"""

import hashlib
import os
import time

from blockdiff.errors import BlockdiffError, TargetFailed
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, digestfile
from blockdiff.target import inuse, state, writer
from blockdiff.wire import messages, placing, request

from .. import native, volume
from ..errors import AgentError
from .digesting import Digesting

_KEPT = 32 * 1024 * 1024  # bytes of digests that are kept; for more, the target is read again at the end
_DIGESTS_SIZE = 128 * 1024  # bytes of digests that are sent together
_REPORT_S = 5.0  # how long the server waits for a sign of progress at most
_SYNC_SIZE = 64 * 1024 * 1024  # bytes that are written before they are put on the disk
_MOST_USERS = 20  # users of a target that are named


def restore(link, asked, log):
    """Serve one restore; the answer to END was sent.  Raises AgentError, FormatError, and as the link does."""
    path = os.fsdecode(request.encode_path(asked.path))
    try:
        seen = state.look(path)
        link.send(messages.TARGET, messages.encode_talk(_facts(seen)))
        if inuse.is_blind():
            log("not all processes could be looked at; --sudo shows whether one of them has %s open" % path)
        kind, _ = link.receive()
        if kind != messages.GO:
            raise FormatError("expected the permission to write, got frame %d" % kind)
        if asked.restore.dry_run:
            writer.rehearse(seen)
            return
        with writer.Target(seen, asked.restore.size, keep=True) as sink:
            _Restore(link, asked, sink).run()
    except BlockdiffError as error:
        raise AgentError(type(error).__name__, *error.args) from None


def _facts(seen):
    used = list(seen.used[:_MOST_USERS])
    if len(seen.used) > _MOST_USERS:
        used.append("and %d more" % (len(seen.used) - _MOST_USERS))
    return {
        "kind": seen.kind,
        "size": seen.size,
        "content": seen.content[:500],
        "used": [user[:500] for user in used],
        "room": writer.room(seen),
    }


class _Restore:
    """One restore, from GO to END."""

    def __init__(self, link, asked, sink):
        self._link, self._asked, self._sink = link, asked, sink
        self._size, self._block_size = asked.restore.size, asked.block_size
        self._total = digestfile.blocks_of(self._size, self._block_size)
        self._digester = native.digester(asked.digest)
        if self._digester is None:
            raise FormatError("no digest %r here" % asked.digest)
        length = max(messages.MAX_DATA, self._block_size)
        self._buffer = native.Buffer(bytearray(length), 0, length)
        small = self._total * BYTES_OF_DIGEST <= _KEPT
        self._kept = bytearray() if small else None  # the digests that the target has, where they are not too many
        self._hash = ""  # of the digest file that the target made before it was written
        self._blocks = self._written = self._synced = self._read = 0  # blocks; bytes
        self._reported = time.monotonic()

    def run(self):
        for digests in self._digests():
            self._link.send_metered(messages.DIGESTS, (digests,))
        while True:
            kind, payload = self._link.receive()
            if kind == messages.END:
                break
            if kind != messages.PLACE:
                raise FormatError("expected a place, got frame %d" % kind)
            self._place(placing.decode_place(payload, self._total))
        wanted = messages.decode_talk(payload, sha256=str)["sha256"]
        self._sync()
        found = self._digest_file()
        if found == wanted:
            self._sink.finish(self._size)
        end = {"sha256": found, "blocks": self._blocks, "written": self._written, "read": self._read}
        self._link.send(messages.END, messages.encode_talk(end))

    def _digests(self):
        """Yield the digests of the target as it is, in block order, joined while they come quickly."""
        waiting, sent = bytearray(), time.monotonic()
        for digests in self._read_all():
            if self._kept is not None:
                self._kept += digests
            waiting += digests
            now = time.monotonic()
            if len(waiting) >= _DIGESTS_SIZE or now - sent >= _REPORT_S:
                yield bytes(waiting)
                waiting, sent = bytearray(), now
        if waiting:
            yield bytes(waiting)

    def _read_all(self):
        """Read the target and yield the digests of its blocks, extent by extent."""
        source = volume.Volume(os.fsencode(self._sink.written_path))
        try:
            source.size = self._size  # the rest of a larger device is not looked at
            work = Digesting(source, self._asked)
            for _, result in work.results():
                yield result.digests
            self._read += work.read
            self._hash = work.digest_hashes()[self._asked.digest]
        finally:
            source.close()

    def _digest_file(self):
        """Return the SHA-256 of the digest file that the target makes now, in hex."""
        if self._kept is not None:
            digest = hashlib.sha256(digestfile.encode_header(self._block_size))
            digest.update(self._kept)
            return digest.hexdigest()
        if self._blocks:
            for _ in self._read_all():
                self._report()
        return self._hash

    # writing

    def _place(self, place):
        offset = place.first * self._block_size
        length = min(place.blocks * self._block_size, self._size - offset)
        if place.digests:
            digests = self._take(place, length)
            self._sink.write(offset, [self._buffer.view[:length]])
        else:
            digests = self._zeros(place, length)
            self._sink.zero(offset, length)
        if self._kept is not None:
            start = place.first * BYTES_OF_DIGEST
            self._kept[start : start + len(digests)] = digests
        self._blocks += place.blocks
        self._written += length
        self._report()

    def _take(self, place, length):
        """Receive the blocks of a place into the buffer; returns their digests, which are those that came with it."""
        if length > len(self._buffer.view):
            raise FormatError("place of %d bytes" % length)
        done = 0
        while done < length:
            kind, payload = self._link.receive()
            if kind != messages.DATA:
                raise FormatError("expected data, got frame %d" % kind)
            codec, size, body = messages.decode_data(payload)
            if codec != messages.RAW or done + size > length:
                raise FormatError("data of %d bytes and compression %d, expected %d" % (size, codec, length - done))
            self._buffer.view[done : done + size] = body
            done += size
        digests = self._digester.digests(self._buffer, length, self._block_size)
        if digests != place.digests:
            where = "block %d and those after it arrived damaged and were not written" % place.first
            raise TargetFailed(self._sink.written_path, where)
        return digests

    def _zeros(self, place, length):
        tail = length - (place.blocks - 1) * self._block_size
        whole = self._digester.digest(bytes(self._block_size)) if place.blocks > 1 else b""
        return whole * (place.blocks - 1) + self._digester.digest(bytes(tail))

    def _sync(self):
        if self._written > self._synced:
            self._sink.sync()
            self._synced = self._written

    def _report(self):
        """Now and then put what was written on the disk, and tell the server, which is a sign of progress."""
        now = time.monotonic()
        if self._written - self._synced >= _SYNC_SIZE or now - self._reported >= _REPORT_S:
            self._sync()
            self._reported = now
            self._link.send(messages.PLACED, placing.encode_placed(self._synced))
