"""Use a version as a disk: an NBD export of it, read-only or with what is written kept aside."""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from blockdiff.blocks.image import CACHE
from blockdiff.childprocess import Signals, end_with_us, exit_code
from blockdiff.errors import CommandFailed, ProgramMissing, TargetRefused
from blockdiff.export import child, server
from blockdiff.export.child import Child
from blockdiff.export.clone import cloned
from blockdiff.export.mount import mounted
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.signing.allowed import AllowedSigners


@dataclass(frozen=True)
class Wanted:
    """How a version is to be exported."""

    number: int | None = None  # None: the newest
    cache: int = CACHE  # bytes
    socket: str | None = None  # path; None: one in a new folder
    writable: bool = False  # what is written is discarded at the end
    clone: str | None = None  # a qcow2 file, in which what is written is kept
    once: bool = False  # until the last client has left
    file: str | None = None  # folder in which it is mounted as a file; "": one of ours
    scratch: str = "/var/tmp"  # folder for what is written
    access: Access = PLAIN
    identity_files: Sequence[str] = ()  # paths; of what `access` has them
    signers: AllowedSigners | None = None  # only versions that they signed


@dataclass
class Export:
    """A version that clients can read now."""

    name: str
    served: server.Served
    uri: str
    file: str | None = None  # path, where it is mounted
    children: list[Child] = field(default_factory=list)

    def wait(self) -> None:
        """Return when one of its processes ends.  Raises CommandFailed if that is no proper end."""
        ended = child.wait(self.children)
        if ended is not None and ended.process.wait():
            raise CommandFailed(ended.name, f"it ended with exit code {exit_code(ended.process.returncode)}")

    def run(self, words: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run a command with the export in its environment; return its exit code.  Raises ProgramMissing.

        HUP, INT and TERM are passed on to it.
        """
        environ = {**environ, "BLOCKDIFF_URI": self.uri}
        if self.file is not None:
            environ["BLOCKDIFF_FILE"] = self.file
        with Signals() as signals:
            try:
                process = signals.start(
                    lambda: subprocess.Popen(list(words), env=environ, preexec_fn=end_with_us())
                )
            except OSError:
                raise ProgramMissing(words[0]) from None
            return exit_code(process.wait())


@contextlib.contextmanager
def exporting(
    name: str, wanted: Wanted, environ: Mapping[str, str], runtime: str, stderr: int
) -> Iterator[Export]:
    """Export a version of a set meanwhile.  Nothing of it is left afterwards, however this process ends.

    `runtime`: the folder for a folder with the socket.  `stderr`: descriptor that gets errors of reads.
    Raises BlockdiffError.
    """
    folder, base = choose.split(name)
    if not choose.in_store(folder) and os.path.isdir(folder) and os.path.samefile(folder, wanted.scratch):
        raise TargetRefused(wanted.scratch, "it is the folder of the set, in which nothing is written")
    private = os.path.join(os.path.abspath(runtime), f"blockdiff.{secrets.token_hex(4)}")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, private, ignore_errors=True)
        path = os.path.abspath(wanted.socket) if wanted.socket else os.path.join(private, "nbd")
        if os.path.lexists(path):
            raise TargetRefused(path, "it exists", hint="if no other export uses this socket, remove it")
        uri = server.uri_of(path)
        if wanted.socket:
            stack.callback(_unlink, path)
        below = path if wanted.clone is None else os.path.join(private, "below")
        filters = ["exitlast"] * (wanted.once and wanted.clone is None) + ["cow"] * wanted.writable
        work = server.serving(
            choose.absolute(name), wanted.number, below, cache=wanted.cache, filters=filters, folder=private,
            sockets=[path], environ=environ, scratch=wanted.scratch, stderr=stderr, as_of=wanted.access.as_of,
            identity_files=wanted.identity_files, signers=wanted.signers,
        )  # fmt: skip
        process, served = stack.enter_context(work)
        export = Export(name, served, uri, children=[process])
        if wanted.clone is not None:
            clone = cloned(
                wanted.clone, base, served, server.uri_of(below), path,
                os.path.join(private, "cloned"), once=wanted.once, environ=environ,
            )  # fmt: skip
            export.children.append(stack.enter_context(clone))
        if wanted.file is not None:
            pidfile, writable = os.path.join(private, "mounted"), wanted.writable or wanted.clone is not None
            place = wanted.file or os.path.join(private, "file")
            mount = mounted(uri, place, pidfile, writable=writable, environ=environ)
            process, export.file = stack.enter_context(mount)
            export.children.append(process)
        yield export


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
