"""What an object store can answer, apart from what was asked for."""

import base64
import hashlib
from typing import Any, BinaryIO

from blockdiff.errors import BlockdiffError, NoRoom, StoreRefused
from blockdiff.printable import quoted

Answer = dict[str, Any]  # as botocore has it

_AGAIN = {"BadDigest", "XAmzContentSHA256Mismatch", "RequestTimeout", "SlowDown"}  # with a status below 500
_NO_ROOM = {"QuotaExceeded", "InsufficientCapacity"}


class Unknown(Exception):
    """The store has not done what was asked, or that is not known; it can be asked again."""

    def __init__(self, why: str, reached: bool = True) -> None:
        super().__init__(why)
        self.why, self.reached = why, reached


class Refused(Exception):
    """The store has not done what was asked, and would not when asked again."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(code)
        self.status, self.code, self.text = status, code, text

    def ours(self, shown: str, hint: str = "") -> BlockdiffError:
        """Return what to raise for it; `shown`: what was asked about."""
        if self.code in _NO_ROOM or self.status == 507:
            return NoRoom(shown, hint=f"nothing was published; the object store says {quoted(self.code)}")
        return StoreRefused(shown, quoted(f"{self.code}, {self.text}" if self.text else self.code), hint=hint)


def itself(answer: Answer) -> Answer:
    """Return an answer of which nothing more is to be seen."""
    return answer


def etag(answer: Answer) -> str:
    """Return the mark that a store has for an object's bytes, without its quotes."""
    return str(answer.get("ETag", "")).strip('"')


def sorted_out(status: int, code: str, text: str) -> Unknown | Refused:
    """Return what an answer means that is not a success."""
    if code in _AGAIN or status in (409, 429) or (status >= 500 and status not in (501, 507)):
        return Unknown(f"status {status}, {code}")
    return Refused(status, code, text)


def md5(data: bytes | BinaryIO) -> bytes:
    """Return the MD5 of data, of a file from its begin on."""
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(data, bytes):
        digest.update(data)
    else:
        data.seek(0)
        while piece := data.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def md5_header(digest: bytes) -> str:
    """Return an MD5 as Content-MD5 has it."""
    return base64.b64encode(digest).decode("ascii")
