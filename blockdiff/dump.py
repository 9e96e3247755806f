"""Dump a volume: payload to one descriptor, new digests to another, as the original's pipes have it.

The engine is the backup's; only where the bytes go differs, and that nothing is published:
whoever runs a dump must look at its exit code.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol

from blockdiff import codecs
from blockdiff.errors import BlockSizeDiffers
from blockdiff.formats import digestfile
from blockdiff.formats.index import Member
from blockdiff.ingest import receiver
from blockdiff.sets.digests import Digests, open_digests
from blockdiff.sets.parent import Log
from blockdiff.sets.partfile import write_failed
from blockdiff.source import leftovers, snapshots
from blockdiff.source.wanted import MUST, NONE, Wanted
from blockdiff.transport.base import Transport

Buffer = bytes | bytearray | memoryview


class Output(Protocol):
    """Where a dump's bytes go."""

    def write(self, data: Buffer, /) -> object:
        """Take all of data."""


class Descriptor:
    """An inherited descriptor as an Output."""

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name

    def write(self, data: Buffer) -> None:
        """Write all of data.  Raises NoRoom or StoreFailed."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._number, rest) :]
        except OSError as error:
            raise write_failed(error, self._name) from None


class _DumpWriter:
    """A receiver.Writer whose files are two Outputs."""

    def __init__(self, payload: Output, digests: Output, codec: codecs.Codec, block_size: int) -> None:
        self._payload, self._digests = payload, digests
        self._lzop = codecs.LzopWriter(payload.write) if codec is codecs.LZOP else None
        self._md5_hash, self._xxh_hash = hashlib.sha256(), hashlib.sha256()
        self.md5(digestfile.encode_header(block_size))
        self.xxh128(digestfile.encode_header(block_size))

    def diff(self, member: bytes) -> None:
        (self._lzop or self._payload).write(member)

    def index(self, member: Member) -> None:
        """A dump has no index."""

    def md5(self, digests: Buffer) -> None:
        self._md5_hash.update(digests)
        self._digests.write(digests)

    def xxh128(self, digests: Buffer) -> None:
        """Only its hash is wanted, to compare with the agent's."""
        self._xxh_hash.update(digests)

    def hashes(self) -> dict[str, str]:
        return {"md5": self._md5_hash.hexdigest(), "xxh128": self._xxh_hash.hexdigest()}

    def finish(self) -> None:
        """Write what is held back."""
        if self._lzop is not None:
            self._lzop.close()

    def abort(self) -> None:
        """End without finishing."""
        if self._lzop is not None:
            self._lzop.abort()


@dataclass(frozen=True)
class _OldFile:
    """A digest file that was handed in, checked and at hand by place."""

    block_size: int
    digests: Digests


def _read_old(stream: IO[bytes], name: str, spool: IO[bytes]) -> _OldFile:
    """Copy a digest stream into a file of ours, so that a pipe serves as well as a file.

    Raises DamagedFile, NotOurFormat.
    """
    shutil.copyfileobj(stream, spool)
    spool.flush()
    return _OldFile(*open_digests(f"/proc/self/fd/{spool.fileno()}", name))


def run(
    wanted: Wanted,
    connect: Callable[[], Transport],
    payload: Output,
    digests: Output,
    old: tuple[IO[bytes], str] | None,
    *,
    cores: int,
    quiet: snapshots.Quiesce | None = None,
    note: Log = lambda line: None,
    warn: Log = lambda line: None,
) -> receiver.Totals:
    """Dump a volume, and return what was done.

    `old` is the parent's digest file and its name: then only changed blocks are dumped, and
    its block size counts.  Raises the error that stopped it; what was written until then is
    no dump.
    """
    with tempfile.TemporaryFile() as spool:
        parent = None if old is None else _read_old(*old, spool)
        if parent is not None and wanted.block_size not in (None, parent.block_size):
            raise BlockSizeDiffers(old[1] if old else "", parent.block_size, wanted.block_size)
        block_size = parent.block_size if parent else wanted.block_size or wanted.default_block_size
        run_id = uuid.uuid4().hex

        def hear(line: str) -> None:
            (warn if leftovers.concerns(line) else note)(line)

        waits = False
        request: dict[str, Any] = {}
        try:
            with wanted.session(connect(), hear, note) as session:
                told = "md5" if parent is not None else session.hello.digest
                count = parent.digests.count if parent else None
                request = _request(wanted, block_size, told, count, run_id, session.offer)
                waits = session.ask(request)
                snapshots.snapshots([session] if waits else [], [] if waits else [session], quiet)
                size = session.opened(block_size).size
                if parent is not None:
                    session.feed(parent.digests)
                codec = codecs.BY_SUFFIX[wanted.suffix]
                writer = _DumpWriter(payload, digests, codec, block_size)
                try:
                    terms = receiver.Terms(size, block_size, told, others=False, keep_xxh=parent is None)
                    work = receiver.Receiver(session, writer, codec, terms, parent.digests if parent else None)
                    totals = work.run(max(1, wanted.jobs or cores))
                    writer.finish()
                except BaseException:
                    writer.abort()
                    raise
                for line in session.finish():
                    warn(line)
                return totals
        except leftovers.LOST:
            if waits:
                leftovers.clear(connect, request, run_id, wanted.timeout_s, note)
            raise


def _request(
    wanted: Wanted, block_size: int, told: str, old: int | None, run_id: str, offer: dict[str, int] | None
) -> dict[str, Any]:
    """Return what is asked of the agent; `old`: how many digests the parent has; `offer`: memory to share."""
    return {
        "ended": None,
        "look": False,
        "known": None,
        "users": False,
        "snapshot": None
        if wanted.snapshot == NONE
        else {
            "size": wanted.snapshot_size,
            "set": "dump",
            "run": run_id,
            "must": wanted.snapshot == MUST,
            "verbose": wanted.verbose,
        },
        "path": wanted.path,
        "block_size": block_size,
        "digest": told,
        "others": False,
        "old": old,
        "compress": wanted.pack_wire,
        "jobs": wanted.jobs,
        "bwlimit": wanted.bwlimit,
        "shared": offer,
        "timeout_s": wanted.timeout_s,
    }
