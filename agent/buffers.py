"""The buffers that extents are read into: private memory, or memory that the server shares.

Blocks in shared memory are not sent: DATA carries their place there, and FREE gives it back.
Format: blockdiff-protocol(5), "Shared memory".
"""

import mmap
import os
import threading

from blockdiff.formats import FormatError
from blockdiff.wire import messages

from . import native

_WORTH = 256 * 1024  # bytes; sending smaller buffers is as fast as sharing them
_LEAST = 12  # buffers: the server may keep up to half of them until a member is full


class Private:
    """Buffers in private memory, as many as are needed."""

    def __init__(self, size):
        self._size = size
        self._free = []

    def worth(self, length):
        """Return whether so many bytes of a buffer are left in place instead of sent: never."""
        return False

    def ready(self):
        """Return whether `take` returns without waiting."""
        return True

    def take(self):
        """Return a buffer."""
        return self._free.pop() if self._free else native.Buffer(bytearray(self._size), 0, self._size)

    def put(self, buffer):
        """Take back a buffer."""
        self._free.append(buffer)


class Shared:
    """Buffers in shared memory; one is in use until the server has given back all frames that refer to it."""

    def __init__(self, memory, size):
        self._size = size
        count = len(memory) // size
        self._buffers = [native.Buffer(memory, number * size, size) for number in range(count)]
        self._lent = [0] * count  # frames that the server has not given back
        self._free = list(range(count))
        self._state = threading.Condition()

    def worth(self, length):
        """Return whether so many bytes of a buffer are left in place instead of sent.

        The server may collect a whole member before it copies any of it.  Small pieces would
        keep all buffers in use until then, and none would be free for the next extent.
        """
        return 2 * length >= self._size

    def ready(self):
        """Return whether `take` returns without waiting."""
        return bool(self._free)

    def take(self):
        """Return a buffer, waiting for one."""
        with self._state:
            while not self._free:
                self._state.wait()
            return self._buffers[self._free.pop()]

    def lend(self, buffer, frames):
        """Note that so many frames refer to this buffer; it is free again when all are given back."""
        with self._state:
            self._lent[buffer.place // self._size] = frames

    def put(self, buffer):
        """Take back a buffer that was not lent."""
        with self._state:
            self._free.append(buffer.place // self._size)

    def given_back(self, payload):
        """Take a FREE frame; raises FormatError."""
        with self._state:
            for place in messages.decode_places(payload):
                number = place // self._size
                if number >= len(self._lent) or not self._lent[number]:
                    raise FormatError("memory given back that was not lent")
                self._lent[number] -= 1
                if not self._lent[number]:
                    self._free.append(number)
            self._state.notify()


def choose(offer, size):
    """Return buffers of this size, in shared memory if it is offered, was inherited and is large enough."""
    if offer is not None and size >= _WORTH and offer.size >= _LEAST * size:
        try:
            found = os.fstat(offer.fd)
            if (found.st_dev, found.st_ino, found.st_size) == (offer.device, offer.inode, offer.size):
                memory = mmap.mmap(offer.fd, offer.size)
                os.close(offer.fd)
                return Shared(memory, size)
        except (OSError, ValueError, OverflowError):
            pass  # closed, by sudo for example
    return Private(size)
