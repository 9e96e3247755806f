"""A clone: a qcow2 file with what clients write, over the export of one version.

It is kept between runs.  On another version it would be a mixture of both, so what it was made of is
noted in a file beside it.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from blockdiff.childprocess import end_with_us
from blockdiff.errors import CloneDiffers, ProgramUnfit, TargetFailed, TargetRefused
from blockdiff.export.child import Child
from blockdiff.export.server import Served
from blockdiff.findprogram import find

_PACKAGE = "qemu-utils"
_POLL_S = 0.01


@contextlib.contextmanager
def cloned(
    path: str,
    base: str,
    served: Served,
    uri: str,
    socket: str,
    pidfile: str,
    *,
    once: bool,
    environ: Mapping[str, str],
) -> Iterator[Child]:
    """Serve the clone `path` of an export on a socket of its own, meanwhile; it is made if there is none.

    `base`: the set's name.  `uri`: of the export.  `once`: until the last client has left.  Raises CloneDiffers,
    TargetRefused, TargetFailed or ProgramUnfit.
    """
    qemu_img, qemu_nbd = find("qemu-img", _PACKAGE, environ), find("qemu-nbd", _PACKAGE, environ)
    path = os.path.abspath(path)
    note = {"set": base, "version": served.version, "md5_sha256": served.md5_sha256}
    if os.path.lexists(path):
        _check(path, note)
        # the path of the export's socket is another one in each run
        _run([qemu_img, "rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", uri, path], path, environ)
    else:
        _note(path, note)
        part = f"{path}.part"
        with contextlib.suppress(FileNotFoundError):  # of a run that was killed
            os.unlink(part)
        _run([qemu_img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, part], path, environ)
        os.rename(part, path)
    words = [qemu_nbd, "--format=qcow2", f"--socket={socket}", f"--pid-file={pidfile}", "--shared=0"]
    child = Child([*words, "--discard=unmap", *(() if once else ("--persistent",)), path], environ)
    with contextlib.closing(child):
        while not os.path.exists(pidfile):
            if child.ended(_POLL_S):
                raise ProgramUnfit("qemu-nbd", child.text())
        yield child


def _check(path: str, note: Mapping[str, Any]) -> None:
    """Make sure that a clone is of this version."""
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            found = json.load(file)
        mine = f"version {found['version']} of {found['set']}"
    except (OSError, ValueError, TypeError, KeyError):
        why = f"it exists, and {path}.json does not tell which version it is a clone of"
        raise TargetRefused(path, why) from None
    if found != note:
        same = found["set"] == note["set"] and found["version"] != note["version"]
        hint = f"give --to {found['version']}, or another file" if same else "give another file"
        raise CloneDiffers(path, mine, f"version {note['version']} of {note['set']} as it is here", hint=hint)


def _note(path: str, note: Mapping[str, Any]) -> None:
    """Write what the clone is made of; without the clone it counts for nothing."""
    try:
        fd = os.open(f"{path}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(note, sort_keys=True) + "\n")
    except OSError as error:
        raise TargetFailed(f"{path}.json", error.strerror) from None


def _run(words: list[str], path: str, environ: Mapping[str, str]) -> None:
    """Run qemu-img.  Raises TargetFailed."""
    done = subprocess.run(
        words, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", umask=0o077, preexec_fn=end_with_us(), start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        lines = done.stdout.splitlines() or [f"qemu-img ended with exit code {done.returncode}"]
        raise TargetFailed(path, "; ".join(lines))
