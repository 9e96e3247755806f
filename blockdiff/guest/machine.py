"""The guest, from outside: a User-Mode Linux kernel, which is an ordinary process of the caller.

It has no network, and the machine's own / as its root, read-only.  Its disks are descriptors: the image,
read-only; an unnamed file that takes what a replay writes; and one with the command of its first process.
What it sends comes over a socket.  A shell beside it ends all of its processes when we end, however that is.
"""

import contextlib
import json
import math
import os
import resource
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import blockdiff
from blockdiff.childprocess import end_with_us
from blockdiff.errors import CommandFailed, HostSilent, ProgramUnfit, ProtocolBroken
from blockdiff.guest import messages
from blockdiff.printable import quoted

MEMORY = 256  # MiB; it takes of the machine what it touches
SCRATCH = 16 << 30  # bytes that replaying may write; the file is sparse
PACKAGES = {
    "linux.uml": "user-mode-linux", "lvm": "lvm2", "dmsetup": "dmsetup", "blkid": "util-linux", "modprobe": "kmod",
}  # fmt: skip
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_NAME = "the guest"
_SECTOR = 4096
_TEXT = 4000  # bytes of the kernel's own messages that are kept
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main(sys.argv[2])"
# Its standard input is at its end when we are gone.  The kernel has helpers, all of them in its process group.
_WATCH = 'read -r _; kill -s KILL -- "-$1"'


def programs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of all programs that it takes.  Raises ProgramUnfit, with the Debian package."""
    path = os.pathsep.join([environ.get("PATH", ""), *_SYSTEM])
    found = {}
    for name, package in PACKAGES.items():
        place = shutil.which(name, path=path)
        if place is None:
            hint = f"apt-get install {package}; or use the version with other programs: blockdiff-nbd(1)"
            raise ProgramUnfit(name, "it is not installed", hint=hint)
        found[name] = place
    return found


class Guest:
    """A running guest."""

    def __init__(
        self,
        image: int,
        request: dict[str, Any],
        environ: Mapping[str, str],
        scratch: str,
        program: str = "blockdiff.guest.inside",
        memory: int = MEMORY,
    ) -> None:
        """Boot it.

        `program`: module whose `main` is its first process; `memory`: MiB.  `image`: descriptor of the disk, which
        is only read.  `scratch`: folder for its memory and for what is written, both in unnamed files.
        Raises ProgramUnfit.
        """
        found = programs(environ)
        request = {**request, "programs": found}
        self._text = b""
        self._received = bytearray()
        with contextlib.ExitStack() as ours:
            command = _file(ours, scratch, _command(request, program))
            writes = _file(ours, scratch, b"", SCRATCH)
            self._wire, theirs = socket.socketpair()
            ours.callback(theirs.close)
            self._console, console = os.pipe()
            ours.callback(os.close, console)
            life, self._life = os.pipe()
            ours.callback(os.close, life)
            disks = {"ubdbrc": image, "ubdcc": writes, "ubddrc": command}
            words = [
                found["linux.uml"], f"mem={memory}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                *(f"{name}=/proc/self/fd/{fd}" for name, fd in disks.items()), f"ssl0=fd:{theirs.fileno()}",
                "con=null", "con0=null,fd:1", "uml_dir=/dev/null/", "quiet", "oops=panic",
                "init=/bin/sh", "--", "/dev/ubdd",
            ]  # fmt: skip
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/", start_new_session=True,
                pass_fds=(image, writes, command, theirs.fileno()), preexec_fn=end_with_us(signal.SIGKILL),
                env={**environ, "TMPDIR": _memory_folder(scratch, memory)},
            )  # fmt: skip
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))  # it aborts in a panic
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid)], stdin=life, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self._ended = os.pidfd_open(self._process.pid)

    def close(self) -> None:
        """End it."""
        self._watcher.kill()
        self._watcher.wait()
        os.close(self._life)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._ended)
        self._wire.close()
        os.close(self._console)

    def receive(self, timeout_s: float, until: float = math.inf) -> Iterator[tuple[bytes, bytes]]:
        """Yield its messages, kind and content, until it ends; each may take that long, all until that time.

        Raises HostSilent, ProtocolBroken, or CommandFailed if it ended in the middle of one.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire, selectors.EVENT_READ, self._read)
            selector.register(self._console, selectors.EVENT_READ, self._read_console)
            selector.register(self._ended, selectors.EVENT_READ, self._end)
            limit = min(time.monotonic() + timeout_s, until)
            while True:
                ready = selector.select(max(0, limit - time.monotonic()))
                if not ready and time.monotonic() >= limit:
                    raise HostSilent(_NAME, f"{timeout_s:g}", hint="--timeout sets how long to wait")
                for key, _ in ready:
                    if not key.data():
                        selector.unregister(key.fileobj)
                for message in self._complete():
                    yield message
                    limit = min(time.monotonic() + timeout_s, until)
                if self._wire not in selector.get_map():
                    break
        if self._received:
            raise self.died()

    def died(self) -> CommandFailed:
        """Return the error for a guest that ended too early."""
        lines = [line for line in self._text.decode("utf-8", "replace").splitlines() if line.strip()]
        lines = [line for line in lines if "Kernel panic" in line] or lines
        return CommandFailed("linux.uml", quoted(lines[-1]) if lines else "it ended before it had sent all")

    def _end(self) -> bool:
        """End its helpers, too, which keep the ends of what we read from open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return False

    def _read(self) -> bool:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._wire.recv(messages.MOST)
        self._received += data
        return bool(data)

    def _read_console(self) -> bool:
        data = os.read(self._console, 65536)
        self._text = (self._text + data)[-_TEXT:]
        return bool(data)

    def _complete(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the messages that are there, each once."""
        head = messages.HEADER.size
        start = 0
        try:
            while len(self._received) - start >= head:
                kind, length = messages.HEADER.unpack_from(self._received, start)
                if kind not in (messages.JSON, messages.DATA) or length > messages.MOST:
                    raise ProtocolBroken(_NAME, "that is no message")
                end = start + head + length
                if len(self._received) < end:
                    break
                content = bytes(self._received[start + head : end])
                start = end
                yield kind, content
        finally:
            del self._received[:start]


def _file(ours: contextlib.ExitStack, folder: str, content: bytes, size: int = 0) -> int:
    """Return an unnamed file with that content."""
    file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `ours`
    ours.callback(file.close)
    file.write(content)
    file.truncate(max(size, -(-len(content) // _SECTOR) * _SECTOR))
    return file.fileno()


def _command(request: dict[str, Any], program: str) -> bytes:
    """Return the shell script that the guest begins with."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(blockdiff.__file__)))
    words = [sys.executable, "-I", "-S", "-B", "-c", _CODE.format(program), root, json.dumps(request)]
    return os.fsencode("exec " + shlex.join(words) + "\n")


def _memory_folder(scratch: str, memory: int) -> str:
    """Return where its memory is: files of /dev/shm never get to a disk, but it may be small."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 2 * memory << 20 and not room.f_flag & os.ST_NOEXEC:
            return "/dev/shm"
    return scratch
