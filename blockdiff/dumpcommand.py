"""Back up with a program that is not ours, by the original's contract, and verify its output.

The program writes the payload to standard output and the new digests to descriptor 6, with
the old digests on descriptor 5.  Its output is not trusted: every record must have the
digest of its block, and there must be records of exactly the blocks that differ from the parent.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from blockdiff import __version__
from blockdiff.blocks import checker
from blockdiff.blocks.changes import changed
from blockdiff.blocks.diffreader import DiffFile
from blockdiff.errors import CommandFailed, DamagedFile, DigestMismatch, NotOurFormat, ProgramMissing
from blockdiff.formats import FormatError, manifest
from blockdiff.place.partfile import PartFile, in_folder, read_failed
from blockdiff.printable import Log
from blockdiff.sets import identity, newversion, publishing, recover
from blockdiff.sets import parent as parents
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests, open_digests
from blockdiff.sets.outcome import Outcome
from blockdiff.sets.signatures import Signing
from blockdiff.sets.version import LOCAL, Version

_OLD, _NEW = 5, 6
_FIRST_SPARE = 10  # descriptors of ours are kept above those of the contract
_GRACE_S = 10.0


def suffix_of(words: Sequence[str]) -> str:
    """Return the diff file's suffix that a command's words determine."""
    for word in words[1:]:
        if word in ("-z", "--gzip"):
            return ".gz"
        if word == "--lzop":
            return ".lzop"
    return ""


def run(
    backup_set: BackupSet,
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    auto_full: bool = True,
    full: bool = False,
    new_source: bool = False,
    signing: Signing | None = None,
    warn: Log = lambda line: None,
    note: Log = lambda line: None,
) -> Outcome:
    """Write the next version of a set with a command, and return what was done.

    Raises ProgramMissing, CommandFailed, and what is wrong with what it wrote: DamagedFile,
    NotOurFormat or DigestMismatch; then nothing was published.
    """
    if shutil.which(words[0], path=environment.get("PATH")) is None:
        hint = "two words or more behind NAME are a command; --with backs up several sources"
        raise ProgramMissing(words[0], hint=hint if len(words) > 1 else "")
    with backup_set.locked(), contextlib.ExitStack() as cleanup:
        warnings: list[str] = []

        def caution(line: str) -> None:
            warnings.append(line)
            warn(line)

        newest = recover.settle(backup_set, note)
        parent = parents.find(backup_set, newest, caution, note, full=full, auto_full=auto_full)
        cleanup.callback(parent.close)
        suffix = suffix_of(words)
        begun = newversion.now()
        parts = {}
        for name in (suffix, ".md5"):
            parts[name] = in_folder(backup_set.part(parent.number, name))
            cleanup.callback(parts[name].discard)
        _execute(parent.md5, words, environment, parts[suffix], parts[".md5"])
        for part in parts.values():
            part.close()
            _await_writers(part.path, words[0])
        for part in parts.values():
            part.take_over()
        version, totals = _check(parent, parts, suffix)
        size = totals["size"]
        if size is not None:  # the size of the source; only the command knows which volume it is
            identity.Check(backup_set, newest, LOCAL, "", new_source).see_size(size)
        value = manifest.NewManifest(
            blockdiff=__version__,
            set=backup_set.base,
            version=parent.number,
            parent=parent.parent_number,
            parent_md5_sha256=parent.link,
            begun=newversion.stamp(begun),
            ended=newversion.stamp(newversion.now()),
            source=manifest.Source("localhost", path=None, kind=None, size=size, lv_uuid=None),
            block_size=version.block_size,
            blocks=manifest.Blocks(version.count, totals["changed"], totals["zero"]),
            bytes=manifest.Transfer(read=None, payload=totals["payload"], wire=None),
            command=os.path.basename(words[0]),  # its words may hold a password: only its name is kept
        )
        publishing.publish(backup_set, parent.number, parts, value, lambda: parent.check(backup_set), signing)
        return Outcome(
            name=backup_set.name,
            version=parent.number,
            kind=value.kind,
            size=size,
            block_size=version.block_size,
            blocks=version.count,
            changed=totals["changed"],
            zero=totals["zero"],
            read=None,
            wire=None,
            payload=totals["payload"],
            stored=parts[suffix].size,
            seconds=(newversion.now() - begun).total_seconds(),
            consistency="none",
            warnings=warnings,
        )


def _execute(
    old: Digests | None,
    words: Sequence[str],
    environment: Mapping[str, str],
    diff: PartFile,
    digests: PartFile,
) -> None:
    """Run the command on the descriptors of the contract.  Raises CommandFailed."""
    with contextlib.ExitStack() as cleanup:

        def spare(number: int) -> int:
            copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_SPARE)
            cleanup.callback(os.close, copy)
            return copy

        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_DUP2, spare(diff.fileno()), 1),
            (os.POSIX_SPAWN_DUP2, spare(digests.fileno()), _NEW),
        ]
        if old is not None:
            actions.append((os.POSIX_SPAWN_DUP2, spare(old.fileno()), _OLD))
        else:
            actions.append((os.POSIX_SPAWN_CLOSE, _OLD))
        try:
            child = os.posix_spawnp(
                words[0], list(words), dict(environment), file_actions=actions, setpgroup=0,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # python ignores these; other programs need them
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(words[0], error.strerror) from None
        try:
            _, status = os.waitpid(child, 0)
        except BaseException:
            _end(child)
            raise
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise CommandFailed(words[0], f"it died with signal {-code}")
    if code:
        raise CommandFailed(words[0], f"it exited with code {code}")


def _await_writers(path: str, name: str) -> None:
    """Wait until no process can write to a file any more: a command may end before all that it started has.

    A read lease is granted only then, fcntl(2); without leases, only the command's end is waited for.
    Raises CommandFailed if a process still can after some seconds.
    """
    until = time.monotonic() + _GRACE_S
    with open(path, "rb") as file:
        while True:
            try:
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                return
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    return
            if time.monotonic() > until:
                raise CommandFailed(name, "it ended, but something that it started still has its output open")
            time.sleep(0.05)


def _end(child: int) -> None:
    """End a command and what it started; it has a group of its own."""
    for number, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if os.waitpid(child, os.WNOHANG)[0]:
                return
            time.sleep(0.05)


def _check(parent: parents.Parent, parts: Mapping[str, PartFile], suffix: str) -> tuple[Version, dict[str, Any]]:
    """Check both files against each other and the parent; returns the version, and what is in it."""
    diff_path = parts[suffix].path
    block_size, after = open_digests(parts[".md5"].path, "the command's output on descriptor 6")
    with after:
        if parent.version is not None and block_size != parent.version.block_size:
            why = f"it has blocks of {block_size} bytes, the set has others"
            raise NotOurFormat("the command's output on descriptor 6", why)
        version = Version(parent.number, parent.parent_number, suffix, block_size, after.count, None)
        expected = (index for first, stop in changed(parent.md5, after) for index in range(first, stop))
        try:
            totals = _check_records(diff_path, version, after, expected)
        except FormatError as error:
            raise DamagedFile("the command's standard output", error) from None
        except OSError as error:
            raise read_failed(error, diff_path) from None
    if totals["size"] is None and parent.version is not None and parent.version.count == version.count:
        totals["size"] = parent.version.size
    return version, totals


def _check_records(path: str, version: Version, digests: Digests, expected: Any) -> dict[str, Any]:
    blocks, last = checker.BlockChecker(digests, version.block_size), version.count - 1
    totals: dict[str, Any] = {"changed": 0, "zero": 0, "payload": 4, "size": 0 if version.count == 0 else None}
    with DiffFile(path, None, version) as diff:
        for piece in diff.pieces():
            totals["payload"] += piece.length
            faults = checker.Faults()
            for kind, index, _, block in blocks.check(diff, piece, faults):
                if index != next(expected, None):
                    raise FormatError(f"the record of block {index} is not the one that must be next")
                if kind == checker.WRONG:
                    why = f"block {index} does not have the digest that was written to descriptor 6"
                    raise DigestMismatch("the command's standard output", why)
                totals["zero"] += kind == checker.ZERO
                totals["changed"] += 1
                if index == last:
                    totals["size"] = last * version.block_size + (len(block) or version.block_size)
            if faults.count:
                raise FormatError("; ".join(faults.lines()))
    missing = next(expected, None)
    if missing is not None:
        raise FormatError(f"block {missing} changed, but its record is missing")
    return totals
