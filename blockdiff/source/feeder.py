"""The parent's digests on their way to the agent, sent by a thread of their own as the agent asks for more.

Format: blockdiff-protocol(5), "Messages".
"""

import threading
from typing import Protocol

from blockdiff.formats import BYTES_OF_DIGEST, FormatError
from blockdiff.wire import link, messages

_DIGESTS_SIZE = 256 * 1024  # bytes of digests in a frame


class DigestSource(Protocol):
    """Where the parent's digests are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, b"" at the end."""


class Feeder:
    """Sends a digest file to the agent, from now on until the end of the file or of the link."""

    def __init__(self, link: link.Link, digests: DigestSource) -> None:
        """`digests` is a digest file of the parent's, past its header."""
        self._link, self._digests = link, digests
        self.failure: Exception | None = None  # why it could not be read; then the link was closed
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when all has been sent, or the link has ended."""
        self._thread.join()

    def _feed(self) -> None:
        try:
            waiting = b""
            while data := self._digests.read(_DIGESTS_SIZE):
                waiting += data
                whole = len(waiting) // BYTES_OF_DIGEST * BYTES_OF_DIGEST
                if whole:
                    self._link.send_metered(messages.DIGESTS, (waiting[:whole],))
                    waiting = waiting[whole:]
        except (link.LinkClosed, link.LinkSilent, FormatError):
            pass  # the receiving side raises why
        except Exception as error:
            self.failure = error
            self._link.close()
