"""Dump a volume: payload to one descriptor, new digests to another, as the original's pipes have it.

It reads the volume as a backup does, but the bytes go to descriptors and nothing is published:
the caller of a dump must check its exit code.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol

from blockdiff import codecs
from blockdiff.errors import BlockSizeDiffers
from blockdiff.formats import Buffer, digestfile
from blockdiff.formats.index import Member
from blockdiff.ingest.comparison import Comparison
from blockdiff.ingest.scan import Scan
from blockdiff.place.partfile import write_failed
from blockdiff.printable import Log
from blockdiff.sets.digests import Digests, open_digests
from blockdiff.source import snapshots
from blockdiff.source.wanted import Wanted
from blockdiff.transport.base import Transport

if TYPE_CHECKING:
    from blockdiff.ingest import receiver


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
        """Hash them only, to compare with the agent's hash."""
        self._xxh_hash.update(digests)

    def hashes(self) -> dict[str, str]:
        return {"md5": self._md5_hash.hexdigest(), "xxh128": self._xxh_hash.hexdigest()}

    def finish(self) -> None:
        """Write what is still buffered."""
        if self._lzop is not None:
            self._lzop.close()

    def abort(self) -> None:
        """End without finishing."""
        if self._lzop is not None:
            self._lzop.abort()


def _read_old(stream: IO[bytes], name: str, spool: IO[bytes], wanted: Wanted) -> tuple[int, Digests]:
    """Return the same as `open_digests`, for a stream; it is copied to a file first, since it may be a pipe.

    Raises DamagedFile, NotOurFormat or BlockSizeDiffers.
    """
    shutil.copyfileobj(stream, spool)
    spool.flush()
    block_size, digests = open_digests(f"/proc/self/fd/{spool.fileno()}", name)
    if wanted.block_size not in (None, block_size):
        digests.close()
        raise BlockSizeDiffers(name, block_size, wanted.block_size)
    return block_size, digests


def run(
    wanted: Wanted,
    connect: Callable[[], Transport],
    payload: Output,
    digests: Output,
    old: tuple[IO[bytes], str] | None,
    *,
    cores: int,
    quiesce: snapshots.Quiesce | None = None,
    note: Log = lambda line: None,
    warn: Log = lambda line: None,
) -> "receiver.Totals":
    """Dump a volume, and return what was done.

    `old` is the parent's digest file and its name: then only changed blocks are dumped, and
    its block size is used.  Raises the error that stopped it; then the output is not a
    complete dump.
    """
    with tempfile.TemporaryFile() as spool, contextlib.ExitStack() as cleanup:
        block_size, md5 = wanted.block_size or wanted.default_block_size, None
        if old is not None:
            block_size, md5 = _read_old(*old, spool, wanted)
            cleanup.callback(md5.close)
        scan = cleanup.enter_context(Scan(wanted, connect, "dump", warn=warn, note=note))
        kind = scan.session.hello.digest if md5 is None else "md5"
        comparison = Comparison(block_size, kind, keep_xxh=md5 is None, md5=md5)
        found = scan.ask(comparison)
        snapshots.snapshots([scan.session], quiesce)
        size = scan.opened(found, block_size).size
        codec = codecs.BY_SUFFIX[wanted.suffix]
        writer = _DumpWriter(payload, digests, codec, block_size)
        try:
            totals = scan.read(comparison, writer, codec, size, cores)
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        scan.finish()
        return totals
