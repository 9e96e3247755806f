"""nbdkit, with our plugin in it.

nbdkit embeds the Python of its distribution.  Compiled modules of another Python fail in it at the first
read, so it is asked before it is started which one it has.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import blockdiff
from blockdiff import errors
from blockdiff.errors import BlockdiffError, ProgramUnfit
from blockdiff.export.child import Child
from blockdiff.findprogram import find
from blockdiff.signing import keygen
from blockdiff.signing.allowed import AllowedSigners

THREADS = 8  # that answer requests; each may have a member in work
_PACKAGES = "nbdkit nbdkit-plugin-python"
_OURS = "{}.{}".format(*sys.version_info[:2])
_PACKAGE = os.path.dirname(os.path.abspath(blockdiff.__file__))
_KEPT = 32 * 1024 * 1024  # bytes of memory; the most that malloc takes for its threshold
_LONGEST = 107  # bytes of the path of a Unix socket


@dataclass
class Served:
    """What is served."""

    version: int
    begun: str | None  # UTC, ISO 8601
    size: int  # bytes
    warnings: list[str]
    md5_sha256: str  # of the version's digest file
    read: int | None = None  # bytes that clients read; known when it has ended


def uri_of(path: str) -> str:
    """Return the URI of a Unix socket.  Raises NotAllowedHere for a path that no socket can have."""
    from urllib.parse import quote

    if len(os.fsencode(path)) > _LONGEST:
        raise errors.NotAllowedHere("a socket", f"the path {path} has more than {_LONGEST} bytes")
    return f"nbd+unix:///?socket={quote(os.fsencode(path), safe='/')}"


def environment(nbdkit: str, environ: Mapping[str, str], scratch: str) -> dict[str, str]:
    """Return the environment in which nbdkit's Python finds our modules, and its own standard library.

    `scratch`: the folder for what clients write.
    """
    found = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
    packages = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    found["PYTHONPATH"] = os.pathsep.join([os.path.dirname(_PACKAGE), *packages])
    # it takes the python3 that it finds first for its own: that must not be one of a virtual environment
    path = [os.path.dirname(nbdkit), "/usr/bin", "/bin", *environ.get("PATH", "").split(os.pathsep)]
    found["PATH"] = os.pathsep.join(filter(None, path))
    found["TMPDIR"] = scratch
    found.setdefault("MALLOC_ARENA_MAX", "1")  # arenas of many threads keep half as much again as is in use
    # the memory of one member serves the next: from the kernel it would come page by page, each cleared
    found.setdefault("MALLOC_MMAP_THRESHOLD_", str(_KEPT))
    found.setdefault("MALLOC_TRIM_THRESHOLD_", str(_KEPT))
    return found


def check(nbdkit: str, environ: Mapping[str, str]) -> None:
    """Make sure that nbdkit can run our plugin.  Raises ProgramUnfit."""
    done = subprocess.run(
        [nbdkit, "python", "--dump-plugin"], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, errors="replace",
    )  # fmt: skip
    theirs = re.search(r"^python_version=(\d+\.\d+)", done.stdout, re.MULTILINE)
    if done.returncode or theirs is None:
        raise ProgramUnfit("nbdkit", "its plugin for python is missing", hint=f"apt-get install {_PACKAGES}")
    if theirs[1] != _OURS:
        hint = f"install blockdiff for python {theirs[1]}, which this nbdkit has"
        raise ProgramUnfit("nbdkit", f"it has python {theirs[1]}, and this is python {_OURS}", hint=hint)


@contextlib.contextmanager
def serving(
    name: str,
    number: int | None,
    path: str,
    *,
    cache: int,
    filters: Sequence[str],
    folder: str,
    sockets: Sequence[str],
    environ: Mapping[str, str],
    scratch: str,
    stderr: int,
    as_of: int | None = None,
    identity_files: Sequence[str] = (),
    signers: AllowedSigners | None = None,
) -> Iterator[tuple[Child, Served]]:
    """Serve version `number` of a set on the Unix socket `path`; clients can connect from here on.

    `cache`: bytes.  `filters`: of nbdkit.  `folder`: is made by the server, and removed even if we
    are killed, as are `sockets`.  `stderr`: descriptor for errors of reads.
    `signers`: see BackupSet.  Raises ProgramUnfit, or what opening the image raises.
    """
    nbdkit = find("nbdkit", _PACKAGES, environ)
    environ = environment(nbdkit, environ, scratch)
    check(nbdkit, environ)
    ours, theirs = socket.socketpair()
    plugin = os.path.join(_PACKAGE, "export", "plugin.py")
    words = [nbdkit, "--exit-with-parent", "--foreground", f"--threads={THREADS}", "--unix", path]
    words += [*(f"--filter={each}" for each in filters), "python", plugin, f"control={theirs.fileno()}"]
    request: dict[str, Any] = {"set": name, "version": number, "cache": cache, "folder": folder}
    request |= {"sockets": list(sockets), "as_of": as_of, "identities": list(identity_files), "signers": None}
    with ours:
        with theirs, os.fdopen(os.dup(stderr), "wb", 0) as told, contextlib.ExitStack() as given:
            keep = [theirs.fileno(), told.fileno()]
            request["stderr"] = told.fileno()  # its own stderr is another file
            if signers is not None:
                fd, _ = given.enter_context(keygen.in_memory(signers.data))
                request["signers"] = {"fd": fd, "path": environ["PATH"]}
                keep.append(fd)
            ours.sendall(json.dumps(request).encode() + b"\n")  # it is there even if we are killed now
            child = Child(words, environ, keep=keep)
        with ours.makefile("rb") as answers:
            with contextlib.closing(child):
                served = _begin(child, answers)
                yield child, served
            if line := answers.readline():
                served.read = json.loads(line)["read"]


def _begin(child: Child, answers: BinaryIO) -> Served:
    """Return what is served as soon as it is."""
    line = b""
    with contextlib.suppress(OSError):
        line = answers.readline()
    if not line:
        raise ProgramUnfit("nbdkit", child.text())
    answer = json.loads(line)
    if "error" in answer:
        kind: type[BlockdiffError] = getattr(errors, answer["error"])
        raise kind(*answer["args"], hint=answer["hint"])
    return Served(**answer)
