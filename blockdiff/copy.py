"""Copy versions of a set into the same set at another place, oldest first, each proved before it is there.

A version exists there from the moment that NAME.ver names it, as after a backup: a run that is cut
leaves the versions that it had copied, and the next one continues.  Versions older than the newest
one there are never copied: what is missing there was removed there.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blockdiff.blocks import walk
from blockdiff.blocks.parallel import Progress, silent
from blockdiff.errors import BlockdiffError, ChainBroken, DamagedFile, DigestMismatch, NoRoom, NotOurFormat, NotSigned
from blockdiff.formats import names
from blockdiff.printable import Log, size
from blockdiff.sets import chain, copyfit, copying, publishing, retaining, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.copying import Original
from blockdiff.sets.held import Held, holding
from blockdiff.sets.signatures import Signing
from blockdiff.sets.version import VersionFiles

_DAMAGE = (DamagedFile, DigestMismatch, ChainBroken, NotOurFormat, NotSigned)  # of one version; others can be whole


@dataclass(frozen=True)
class One:
    """A version that was copied, or would be."""

    number: int
    full: bool
    stored: int  # bytes of its files
    seconds: float = 0.0


@dataclass
class Copied:
    """What was done, or would be."""

    name: str
    dest: str
    newest: int  # of the set that is copied
    before: int = 0  # the newest version there before; 0: there was none
    dry_run: bool = False
    extended: int = 0  # versions that were there, and are locked for longer now
    versions: list[One] = field(default_factory=list)
    faults: list[BlockdiffError] = field(default_factory=list)  # why a version was not copied, in order
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the first fault; else 0, or 3 if there are warnings."""
        for fault in self.faults:
            return fault.exit_code
        return 3 if self.warnings else 0


@dataclass
class _Found:
    """What is to be copied, as it was found; the files are open."""

    newest: int
    listing: names.Listing
    held: Held
    originals: dict[int, Original | BlockdiffError] = field(default_factory=dict)  # in order
    seen: dict[int, walk.Seen] = field(default_factory=dict)  # of those without a manifest, and what they continue

    @property
    def whole(self) -> dict[int, Original]:
        """Those whose files show what they are."""
        return {number: each for number, each in self.originals.items() if isinstance(each, Original)}


def copy(
    source: BackupSet,
    dest: BackupSet,
    *,
    every: bool = False,
    wait_s: float | None = None,
    dry_run: bool = False,
    rate: int = 0,
    until: int | None = None,
    signing: Signing | None = None,
    threads: int = 2,
    progress: Progress = silent,
    note: Log = lambda line: None,
    copied: Callable[[One], object] = lambda one: None,
) -> Copied:
    """Copy the versions of `source` that are newer than the newest one of `dest`.

    Into a set without versions: from the full on that the newest version needs, or `every` one.
    `wait_s`: how long to wait for the lock of `dest`; `rate`: bytes a second at most, 0: any;
    `until`: seconds since 1970, until when what the new versions need is locked, as they are themselves;
    `signing` signs versions that are not signed; `copied` is called after each version.  What is wrong with
    one version, or ended the run later, is in the result.  Raises BlockdiffError if nothing was copied
    because of what both sets are.
    """
    warnings: list[str] = []
    with contextlib.ExitStack() as cleanup:
        if not dry_run:
            cleanup.enter_context(dest.locked(wait_s))
            copyfit.settle(dest, source, warnings.append)
        there = dest.settled_listing() if dry_run else dest.listing()
        before = dest.newest(there)
        collect = functools.partial(_collect, source, before, every, dest.place.sealed)
        found = cleanup.enter_context(holding(source, collect))
        out = Copied(source.name, dest.name, found.newest, before, dry_run, warnings=warnings)
        if before > found.newest:
            there_is = f"{dest.name} has version {before}, which is newer than those of {source.name}"
            warnings.append(f"{there_is}: nothing is copied")
        copyfit.check(dest, there, before, source, found.listing, found.whole)
        if until is not None and not dry_run:
            parents = [each.version.parent for each in found.whole.values() if each.version.parent is not None]
            out.extended = retaining.extend(dest, there, parents, until, source)
        pool = cleanup.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="copy"))
        done = cleanup.enter_context(progress(_work(found)))
        run = _Run(source, dest, found, out, pool, signing, _limited(rate, done), done)
        for number in found.originals:
            one = run.step(number)
            if one is not None:
                out.versions.append(one)
                copied(one)
            if out.faults and not isinstance(out.faults[-1], _DAMAGE):
                break
        return out


def _work(found: _Found) -> int:
    """Return the bytes that are written, and read to be proved before."""
    written = sum(each.size for each in found.whole.values())
    return written + sum(each.stored[each.version.suffix] for each in found.whole.values() if each.sheet is None)


def _collect(
    source: BackupSet, before: int, every: bool, sealed: bool, listing: names.Listing, held: Held
) -> tuple[_Found, list[VersionFiles]]:
    """Return what is to be copied after version `before`."""
    newest, _ = versions.choose(source, None, listing)
    out = _Found(newest, listing, held)
    first = before + 1
    if not before and not every:
        try:
            first = chain.chain_of(source, newest, listing, deep=False)[0].number
        except _DAMAGE as error:
            error.hint = "--all copies the versions that are whole"
            raise
    for number in sorted(n for n in listing.versions if first <= n <= newest):
        try:
            out.originals[number] = copying.look(source, number, held, sealed)
        except BlockdiffError as error:
            out.originals[number] = error
    whole = out.whole
    if any(each.sheet is None for each in whole.values()):
        parents = {each.version.parent for each in whole.values()}
        for number in sorted(n for n in listing.versions if n in whole or n in parents):
            out.seen[number] = walk.look(source, number, held)
    return out, [each.files for each in whole.values()]


class _Run:
    """One version after the other."""

    def __init__(
        self, source: BackupSet, dest: BackupSet, found: _Found, out: Copied, pool: ThreadPoolExecutor,
        signing: Signing | None, written: Callable[[int], object], walked: Callable[[int], object],
    ) -> None:  # fmt: skip
        """`written` and `walked` are called with the bytes that were written, and read to prove them, since."""
        self._source, self._dest, self._found, self._out = source, dest, found, out
        self._pool, self._signing, self._written = pool, signing, written
        self._newest = out.before
        self._there = dict.fromkeys(dest.listing().versions, "")  # and SHA-256 of the digest file, if known
        self._lost: list[int] = []
        self._walk = walk.Walk(source, found.seen, found.held, {}, walked)
        for number in found.seen:
            if number not in found.originals:
                self._walk.assume(number)  # it is there, and was proved before it came there

    def step(self, number: int) -> One | None:
        """Copy a version; returns None if it is not copied, and the reason is the result's last fault."""
        begun = time.monotonic()
        try:
            original = self._found.originals[number]
            if isinstance(original, BlockdiffError):
                raise original
            copyfit.check_link(self._dest, self._source, original, self._there, self._lost)
            self._see_room(original)
            stored = self._size(original) if self._out.dry_run else self._copy(original)
        except BlockdiffError as error:
            self._lost.append(number)
            self._out.faults.append(error)
            return None
        self._newest = number
        return One(number, original.version.full, stored, time.monotonic() - begun)

    def _size(self, original: Original) -> int:
        """Take a version as copied; returns the bytes that it has."""
        number = original.version.number
        self._there[number] = original.version.md5_sha256 or copyfit.digests_of(self._source, number)
        return original.size

    def _see_room(self, original: Original) -> None:
        room = self._dest.place.room()
        if room is not None and original.size > room:
            what = f"version {original.version.number} of {self._dest.name}"
            raise NoRoom(f"{what}: it has {size(original.size)}, and {size(room)} are free")
        most = self._dest.place.most_beside
        beside = max(length for suffix, length in original.stored.items() if suffix != original.version.suffix)
        if most is not None and beside > most:
            path = self._dest.path(original.version.number, ".md5")
            raise NoRoom(f"{path}: it has {size(beside)}, and a store takes {size(most)} at once")

    def _copy(self, original: Original) -> int:
        """Copy and publish a version; returns the bytes that were written."""
        number = original.version.number
        self._prove(original)
        written = copying.write(original, self._source, self._dest, self._pool, self._written)
        try:
            self._there[number] = written.parts[".md5"].sha256()
            publishing.publish_as(
                self._dest, number, written.parts, original.sheet, self._newest, signed=self._signature(original)
            )
        finally:
            written.discard()
        self._out.warnings += written.warnings
        return written.size

    def _signature(self, original: Original) -> bytes | None:
        if original.signed is None and self._signing is not None and original.sheet is not None:
            return self._signing.sign(original.sheet)
        return original.signed

    def _prove(self, original: Original) -> None:
        """Walk the blocks of a version that no manifest describes.  Raises what is wrong with it."""
        number = original.version.number
        if number not in self._found.seen:
            return
        if original.sheet is not None:  # its bytes are compared with that while they are written
            self._walk.assume(number)
            return
        checked = self._walk.step(number, self._pool)
        for fault in checked.faults:
            raise fault
        if not checked.restores:
            raise ChainBroken(number, self._source.name, "blocks that an earlier version has are lost")


def _limited(rate: int, done: Callable[[int], object]) -> Callable[[int], object]:
    """Return a function that calls `done`, and then waits so that no more than `rate` bytes a second are done."""
    if not rate:
        return done
    begun, passed = time.monotonic(), 0

    def wait(length: int) -> None:
        nonlocal passed
        done(length)
        passed += length
        time.sleep(max(0.0, begun + passed / rate - time.monotonic()))

    return wait
