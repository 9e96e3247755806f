"""Memory that a command on this machine shares with us: blocks pass through it without a copy.

It is a sealed memfd: its size cannot be changed, so reading it cannot fail.
Format: blockdiff-protocol(5), "Shared memory".
"""

import fcntl
import mmap
import os

SIZE = 16 * 1024 * 1024  # bytes
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Shared:
    """A piece of memory; the command inherits its descriptor."""

    def __init__(self) -> None:
        """Create it; raises OSError if the kernel does not support it."""
        self.fd = os.memfd_create("blockdiff", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, SIZE)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
            found = os.fstat(self.fd)
            self.offer = {"fd": self.fd, "device": found.st_dev, "inode": found.st_ino, "size": SIZE}
            self.view = memoryview(mmap.mmap(self.fd, SIZE, prot=mmap.PROT_READ))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close our descriptor; the mapping stays as long as `view` is used."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
