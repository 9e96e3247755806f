"""A file that goes to an object store in parts while it is made; it appears there whole, when it is completed."""

import collections
import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from blockdiff.errors import BlockdiffError, SetChanged, StoreFailed
from blockdiff.place.answers import Answer, Refused, Unknown, etag, itself, md5, md5_header

if TYPE_CHECKING:
    from blockdiff.place.client import Client

PART_SIZE = 8 << 20  # bytes; stores take 5 MiB or more, but for the last part
THREADS = 4
IN_FLIGHT = 64 << 20  # bytes that are being sent, or one part; one more is being filled
MAX_PARTS = 10_000
STEP = 1_000  # parts after which they become larger


def part_size(sent: int, count: int, most: int | None) -> int:
    """Return the next part's size, after so many bytes in so many parts, of `most` at most if that is known."""
    if count < STEP:
        return PART_SIZE
    if most is None:
        return PART_SIZE << count // STEP
    return max(PART_SIZE, -(-(most - sent) // max(MAX_PARTS - count, 1)))


def cancel(client: "Client", key: str, shown: str, upload_id: str) -> None:
    """Cancel an upload, if it is still open.  Raises as Client.call."""
    with contextlib.suppress(Refused):
        client.call(
            "abort_multipart_upload", shown, writes=True, expect=(404,), then=itself,
            Key=key, UploadId=upload_id,
        )  # fmt: skip


class Upload:
    """An upload under way; one thread writes.  Raises SetChanged when another run has cancelled it.

    Else raises as Bucket's methods that change something.
    """

    def __init__(self, client: "Client", key: str, shown: str, most: int | None, stored: dict[str, Any]) -> None:
        """Begin it; `most`: its bytes at most, where that is known; `stored`: how, as a request has it."""
        self._client, self._key, self._shown, self._most = client, key, shown, most
        self.size = 0  # bytes so far
        self.etag = ""  # as the store has it, known when completed
        self._buffer = bytearray()
        self._sent = 0
        self._digests: list[bytes] = []  # of the parts that have arrived, in order
        self._pending: collections.deque[Future[bytes]] = collections.deque()
        self._part_size = part_size(0, 0, most)
        self._ended = False
        self._id = client.call(
            "create_multipart_upload", shown, writes=True, then=lambda answer: str(answer["UploadId"]),
            Key=key, **stored,
        )  # fmt: skip
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append data; blocks while enough is under way."""
        self.size += len(data)
        self._buffer += data
        while len(self._buffer) >= self._part_size:
            part = bytes(memoryview(self._buffer)[: self._part_size])
            del self._buffer[: self._part_size]
            self._send(part)

    def finish(self) -> None:
        """Send the rest; nothing can be appended then."""
        if self._buffer or not (self._digests or self._pending):
            self._send(bytes(self._buffer))
            self._buffer.clear()
        self._settle(0)
        self._pool.shutdown()

    def complete(self) -> None:
        """Send the rest, and have the file appear; what there was of its name is replaced.

        After this, its bytes in the store are those that were written, or its etag there shows that they are not.
        """
        self.finish()
        whole = md5(b"".join(self._digests)).hex()
        self.etag = f"{whole}-{len(self._digests)}"
        parts = [{"PartNumber": number, "ETag": f'"{one.hex()}"'} for number, one in enumerate(self._digests, 1)]
        tried = 0
        while not self._completed(parts, last=tried >= self._client.retries):
            self._client.pause(tried)
            tried += 1
        self._ended = True

    def discard(self) -> None:
        """Cancel it unless it was completed; never raises."""
        if self._ended:
            return
        self._ended = True  # nothing is sent again
        self._pool.shutdown(cancel_futures=True)  # a part that arrives after the cancelling may stay for ever
        with contextlib.suppress(BlockdiffError, Refused, Unknown):  # once: a snapshot may be waiting for the end
            self._client.once("abort_multipart_upload", then=itself, Key=self._key, UploadId=self._id)

    def _send(self, part: bytes) -> None:
        """Hand a part to a thread, when few enough are under way."""
        self._settle(max(1, min(THREADS, IN_FLIGHT // len(part) if part else THREADS)) - 1)
        count = len(self._digests) + len(self._pending)
        self._pending.append(self._pool.submit(self._send_part, count + 1, part))
        self._sent += len(part)
        self._part_size = part_size(self._sent, count + 1, self._most)

    def _settle(self, most: int) -> None:
        """Wait until at most so many parts are under way.  Raises what sending one raised."""
        while len(self._pending) > most:
            self._digests.append(self._pending.popleft().result())

    def _send_part(self, number: int, part: bytes) -> bytes:
        """Send a part and return its MD5."""
        digest = md5(part)
        try:
            self._client.call(
                "upload_part", self._shown, writes=True, expect=(404,), then=itself,
                wanted=lambda: not self._ended, Key=self._key, UploadId=self._id, PartNumber=number, Body=part,
                ContentMD5=md5_header(digest),
            )  # fmt: skip
        except Refused:
            raise SetChanged(self._shown) from None
        return digest

    def _completed(self, parts: list[dict[str, object]], last: bool) -> bool:
        """Ask the store to complete it and return whether it has; `last`: or raise why not."""
        try:
            known = self._client.once(
                "complete_multipart_upload", then=etag, Key=self._key, UploadId=self._id,
                MultipartUpload={"Parts": parts},
            )  # fmt: skip
            if known not in ("", self.etag) and not self._is_there():  # some say nothing here
                raise StoreFailed(self._shown, "the object store has other bytes than were sent")
            return True
        except Unknown as error:
            why = error
        except Refused as error:
            if error.status != 404:
                raise error.ours(self._shown) from None
            why = Unknown(error.code)
        # in this order: what was completed between the two questions is there
        is_open = self._is_open()
        if self._is_there():
            return True
        if not is_open:
            raise SetChanged(self._shown)
        if last:
            raise self._client.failed(self._shown, why, writes=True)
        return False

    def _is_open(self) -> bool:
        try:
            self._client.call(
                "list_parts", self._shown, expect=(404,), then=itself,
                Key=self._key, UploadId=self._id, MaxParts=1,
            )  # fmt: skip
        except Refused:
            return False
        return True

    def _is_there(self) -> bool:
        def same(answer: Answer) -> bool:
            return (answer["ContentLength"], etag(answer)) == (self.size, self.etag)

        try:
            return self._client.call("head_object", self._shown, expect=(404,), then=same, Key=self._key)
        except Refused:
            return False
