"""NAME.N.lzop: one stream through Debian's lzop program, never members."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator

from blockdiff.codecs.base import PIECE, Read
from blockdiff.errors import CommandFailed, ProgramMissing
from blockdiff.formats import Buffer, FormatError, TornError

MOST_PACKED = 220  # at most so many bytes become one: zeros in lzop's blocks of 256 KiB


class Lzop:
    """NAME.N.lzop, through Debian's lzop program; one stream, never members."""

    suffix = ".lzop"

    def compress(self, payload: Buffer, step: int = 0) -> bytes:
        return bytes(payload)  # LzopWriter compresses

    def zeros(self, first: int, block_size: int, count: int) -> bytes | None:
        return None

    def zero_run(self, member: Buffer, block_size: int) -> tuple[int, int] | None:
        return None

    def decompress(self, member: Buffer, length: int) -> bytes:
        raise FormatError("an lzop file has no members")

    def stream(self, read: Read) -> Iterator[bytes]:
        process = _lzop("-dc")
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        unread: list[OSError] = []

        def feed() -> None:
            while True:
                try:
                    data = read(PIECE)
                except OSError as error:
                    unread.append(error)
                    break
                try:
                    if not data:
                        break
                    stdin.write(data)
                except OSError:  # lzop ended; its exit status is checked below
                    break
            with contextlib.suppress(OSError):
                stdin.close()  # or lzop would wait for more input

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            while piece := stdout.read(PIECE):
                yield piece
            feeder.join()
            if unread:
                raise unread[0]
            if process.wait() != 0:
                raise TornError("lzop stream is cut or damaged")
        finally:
            process.kill()
            process.wait()
            feeder.join()
            stdout.close()
            with contextlib.suppress(OSError):
                stdin.close()


class LzopWriter:
    """Compress what is written by one lzop process; `sink` gets what comes out, in another thread."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        """Raises ProgramMissing where there is no lzop."""
        self._process = _lzop("-c")
        self._sink = sink
        self._failure: Exception | None = None
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()

    def _drain(self) -> None:
        assert self._process.stdout
        try:
            while data := self._process.stdout.read(PIECE):
                self._sink(data)
        except Exception as error:
            self._failure = error
            self._process.kill()

    def write(self, data: Buffer) -> None:
        """Compress data; raises what the sink raised, CommandFailed if lzop ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write(data)
        except OSError as error:
            raise self._failure or CommandFailed("lzop", f"it ended early: {error.strerror}") from None

    def close(self) -> None:
        """Finish the stream; raises what the sink raised, CommandFailed if lzop failed."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._drainer.join()
        self._process.stdout.close()
        status = self._process.wait()
        if self._failure:
            raise self._failure
        if status:
            raise CommandFailed("lzop", f"it ended with exit code {status}")

    def abort(self) -> None:
        """End lzop without finishing."""
        self._process.kill()
        with contextlib.suppress(Exception):  # it was killed: its errors are expected
            self.close()


def _lzop(mode: str) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            ["lzop", mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise ProgramMissing("lzop", hint="apt-get install lzop, or choose --gzip or --zstd") from None
