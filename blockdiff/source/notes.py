"""The lines of an agent for the log: each one once, with its host's name before it, and bounded.

An agent repeats itself: LVM warns at every call, and it is called once a second for hours.
It may also be any other program.  So its lines take bounded memory and a bounded part of the
log, and never end a run.
"""

from collections.abc import Callable

from blockdiff.formats import Buffer
from blockdiff.printable import printable
from blockdiff.wire import messages

MAX_LINES = 500  # of one session, no two alike
MAX_SIZE = 256 * 1024  # bytes of them, as they came
MAX_LINE = 2000  # characters


class Notes:
    """The notes of one session."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._times: dict[str, int] = {}  # how often each line came
        self._size = 0  # bytes
        self._dropped = 0

    def is_new(self, payload: Buffer) -> bool:
        """Count a NOTE and return whether it is to be logged; for the link's reader thread.  Raises FormatError."""
        text = self._text(payload)
        if text in self._times:
            self._times[text] += 1
            return False
        if len(self._times) >= MAX_LINES or self._size + len(payload) > MAX_SIZE:
            self._dropped += 1
            return False
        self._times[text] = 1
        self._size += len(payload)
        return True

    def line(self, payload: Buffer) -> str:
        """Return the line of a NOTE."""
        return f"{self._host}: {self._text(payload)}"

    def end(self, log: Callable[[str], None]) -> None:
        """Log how often each line came again, and how many were dropped; once."""
        times, self._times = self._times, {}
        dropped, self._dropped = self._dropped, 0
        for text, count in times.items():
            if count > 1:
                log(f"{self._host}: {text} (repeated {count - 1} times)")
        if dropped:
            log(f"{self._host}: {dropped} more lines were dropped")

    @staticmethod
    def _text(payload: Buffer) -> str:
        return printable(messages.decode_talk(payload, text=str)["text"], MAX_LINE)
