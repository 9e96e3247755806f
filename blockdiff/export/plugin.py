"""What nbdkit's python plugin runs: the image of one version, read-only, for NBD clients.

It runs in nbdkit's process and in its Python, not in ours.  All it needs comes over a socket that it
inherits: a line of JSON from us, and one back when clients can connect or when that failed.
Everything is opened, and each codec tried, before nbdkit makes its socket.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import threading
import time
import traceback
from typing import Any

from blockdiff import codecs
from blockdiff.blocks import image
from blockdiff.errors import BlockdiffError
from blockdiff.place.base import Access
from blockdiff.sets.backupset import BackupSet
from blockdiff.signing import allowed
from blockdiff.signing.allowed import AllowedSigners

API_VERSION = 2
_MOST_EXTENTS = 4096  # in one answer; nbdkit's client asks again for the rest
_PATIENCE_S = 5.0  # for a mount that ends when we do
# Bytes: least, preferred, most.  nbdcopy asks for the preferred length at once, else for 256 KiB: each
# request costs a turn of Python, and eight of those are but half a member.
_BLOCK_SIZES = (1, 1024 * 1024, 32 * 1024 * 1024)


class _State:
    """What the callbacks share."""

    control: socket.socket
    request: dict[str, Any]
    image: image.Image
    stack = contextlib.ExitStack()
    last = ""  # message, which is not repeated
    read = 0  # bytes
    lock = threading.Lock()


def config(key: str, value: str) -> None:
    """Take `control`, the number of the inherited socket, read the request from it, and make the folder."""
    _State.control = socket.socket(fileno=int(value))
    with _State.control.makefile("rb") as lines:
        _State.request = json.loads(lines.readline())
    signal.signal(signal.SIGTERM, _ended)  # until nbdkit has a handler of its own
    folder = _State.request["folder"]
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        _answer(error="NotAllowedHere", args=[f"the folder {folder}", error.strerror], hint="")
        raise


def _ended(number: int, frame: object) -> None:
    """End before clients can connect, and leave nothing."""
    _remove()
    raise InterruptedError


def thread_model() -> int:
    """Let all requests be answered side by side."""
    import nbdkit

    return int(nbdkit.THREAD_MODEL_PARALLEL)


def get_ready() -> None:
    """Open the image, or leave nothing."""
    request, failed = _State.request, contextlib.ExitStack()
    try:
        with failed:
            failed.callback(_remove)
            _try_codecs()
            backup_set = BackupSet(request["set"], _access(), _signers())
            opened = image.opened(backup_set, request["version"], request["cache"])
            _State.image = _State.stack.enter_context(opened)
            failed.pop_all()
    except BlockdiffError as error:
        _answer(error=type(error).__name__, args=[str(each) for each in error.args], hint=error.hint)
        raise
    except ImportError as error:
        _answer(error="ProgramUnfit", args=["nbdkit", f"in its python: {error}"], hint="")
        raise


def _access() -> Access:
    """Return how the set is read."""
    paths = _State.request["identities"]
    if not paths:
        return Access(as_of=_State.request["as_of"])
    from blockdiff.sealing import keys  # what it needs takes a while to load

    return Access(as_of=_State.request["as_of"], identities=tuple(keys.identities(paths)))


def _signers() -> AllowedSigners | None:
    """Return whose signatures count: what the server was given, in a file that has no name."""
    found = _State.request["signers"]
    if found is None:
        return None
    data = os.pread(found["fd"], allowed.MAX_SIZE, 0)
    os.close(found["fd"])
    return AllowedSigners(data, {"PATH": found["path"]})


def _try_codecs() -> None:
    """Fail here, not at a client's first read, where compiled modules do not fit this Python."""
    for codec in codecs.BY_SUFFIX.values():
        if codec.suffix != ".lzop":  # a program of its own
            codec.decompress(codec.compress(b"abcd"), 4)


def after_fork() -> None:
    """Report that clients can connect; from here on errors are told by us, and only once."""
    version = _State.image.version
    begun = version.manifest.value.get("begun") if version.manifest is not None else None
    _answer(version=version.number, begun=begun, size=_State.image.size, warnings=_State.image.warnings,
            md5_sha256=_State.image.md5_sha256())  # fmt: skip
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _answer(**values: object) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        _State.control.sendall(json.dumps(values).encode() + b"\n")


def open(readonly: bool) -> object:
    """Return the handle of a connection."""
    return _State


def get_size(handle: object) -> int:
    """Return the size of the volume in bytes."""
    return _State.image.size


def block_size(handle: object) -> tuple[int, int, int]:
    """Return the least, the preferred and the largest length of a request; any offset is answered."""
    return _BLOCK_SIZES


def can_multi_conn(handle: object) -> bool:
    """Tell that all connections see the same bytes."""
    return True


def can_extents(handle: object) -> bool:
    """Tell that zeros are known without reading."""
    return True


def pread(handle: object, buffer: bytearray, offset: int, flags: int) -> None:
    """Fill the buffer; what cannot be proved is EIO."""
    with _told():
        _State.image.read_into(offset, memoryview(buffer))
    with _State.lock:
        _State.read += len(buffer)


def extents(handle: object, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:
    """Return (offset, length, type) of the bytes from offset on, of fewer than count where there are many."""
    import nbdkit

    found: list[tuple[int, int, int]] = []
    with _told():
        for begin, length, zero in _State.image.extents(offset, count):
            found.append((begin, length, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO if zero else 0))
            if len(found) == _MOST_EXTENTS or (found and flags & nbdkit.FLAG_REQ_ONE):
                break
    return found


def cleanup() -> None:
    """Report what was read, and remove what nbdkit leaves, also if whoever started it is gone."""
    _answer(read=_State.read)
    _State.stack.close()
    _remove()


def _remove() -> None:
    for path in _State.request["sockets"]:
        with contextlib.suppress(OSError):
            os.unlink(path)
    folder = _State.request["folder"]
    limit = time.monotonic() + _PATIENCE_S
    while os.path.exists(folder) and time.monotonic() < limit:  # a mount in it may still be ending
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(folder):
            time.sleep(0.05)


@contextlib.contextmanager
def _told() -> Any:
    """Write an error to the descriptor that we were given for that, and let nbdkit answer it."""
    import nbdkit

    try:
        yield
    except Exception as error:
        text = f"blockdiff: {error}\n" if isinstance(error, BlockdiffError) else traceback.format_exc()
        if text != _State.last:
            _State.last = text
            with contextlib.suppress(OSError):
                os.write(_State.request["stderr"], text.encode("utf-8", "backslashreplace"))
        nbdkit.set_error(errno.EIO)
        raise
