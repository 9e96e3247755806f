"""Back up volumes: write the next version of each set.

The order is important.  First come all checks that can refuse the run, before anything is written:
the set's lock and state, the parent, the agent's hello, the room for a snapshot.  Then the
snapshots of all sources are made at one moment.  Then each source is read, and its version is
published only if the agent's END agrees with what was received.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockdiff import __version__, codecs
from blockdiff.errors import BlockdiffError
from blockdiff.formats import manifest
from blockdiff.ingest import comparison
from blockdiff.ingest.comparison import Comparison, HintWrong
from blockdiff.ingest.job import Continuation, Job, JobLog, continued
from blockdiff.ingest.scan import Scan
from blockdiff.printable import Log
from blockdiff.sets import signatures, unfinished
from blockdiff.sets.newversion import NewVersion, now, stamp
from blockdiff.sets.outcome import Outcome
from blockdiff.sets.parent import Parent
from blockdiff.source import push, snapshots
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.wanted import NONE, set_tag
from blockdiff.wire.request import HintRequest

if TYPE_CHECKING:
    from blockdiff.ingest import receiver


def run(job: Job, **options: Any) -> Outcome:
    """Write the next version of one set, and return what was done; see `run_all`.

    Raises the error that stopped it; then nothing was published.
    """
    (result,) = run_all([job], **options)
    if isinstance(result, BlockdiffError):
        raise result
    return result


def run_all(
    jobs: Sequence[Job],
    *,
    cores: int,
    quiesce: snapshots.Quiesce | None = None,
    warn: Log = lambda line: None,
    note: Log = lambda line: None,
) -> list[Outcome | BlockdiffError]:
    """Write the next version of each job's set, from snapshots made at one moment.

    Whatever fails before all snapshots are made stops all jobs and is raised; after that an
    error concerns its own job only, and is its result.  `cores`: threads for a job that asks
    for none; `quiesce` makes the lock around the snapshots; `note` takes lines for the log.
    """
    with contextlib.ExitStack() as cleanup:
        begun = []
        moment = os.urandom(8).hex() if len(jobs) > 1 else None
        for job in jobs:
            try:
                begun.append(cleanup.enter_context(_begin(job, JobLog(job, warn, note), moment)))
            except BlockdiffError as error:
                error.concern(job.label)
                raise
        facts = snapshots.snapshots([each.scan.session for each in begun], quiesce)
        if facts is not None:
            note(f"the lock was held for {facts['held_s']} s")
        volumes = [_open(each) for each in begun]
        results: list[Outcome | BlockdiffError] = []
        for each, opened in zip(begun, volumes, strict=True):
            try:
                results.append(_write(each, opened, facts, cores))
            except BlockdiffError as error:
                each.scan.failed(error)
                error.concern(each.of.job.label)
                results.append(error)
        return results


@dataclass(frozen=True)
class _Begun:
    """One job that has begun: its set is locked, its agent has the request."""

    of: Continuation
    scan: Scan
    compared: Comparison
    found: Prepared | Opened
    time: datetime.datetime
    moment: str | None  # the same for all jobs of a run, where there are several


@contextlib.contextmanager
def _begin(job: Job, log: JobLog, moment: str | None) -> Iterator[_Begun]:
    """Do all checks that can refuse the run, and write nothing."""
    backup_set, wanted = job.backup_set, job.wanted
    with backup_set.locked(), contextlib.ExitStack() as cleanup:
        newest, number = unfinished.settle(backup_set, log.note)
        of = cleanup.enter_context(continued(job, newest, log, number))
        if of.source.unknown:
            log.note(f"{backup_set.name} did not name its source until now: it is of {of.source.spelt}")
        time = now()
        scan = Scan(wanted, job.connect, set_tag(backup_set), about=job.label, warn=log.warn, note=log.note)
        digest = cleanup.enter_context(scan).session.hello.digest
        compared = comparison.choose(
            backup_set, of.parent, of.block_size, digest, rescan=wanted.rescan, use_xxh=_trusts_parent(of)
        )
        cleanup.callback(compared.close)
        found = scan.ask(compared, of.source.known, _hints(of, compared))
        of.accept(found, keep_xxh=compared.keep_xxh)
        yield _Begun(of, scan, compared, found, time, moment)


def _trusts_parent(of: Continuation) -> bool:
    """Return whether the parent's XXH3-128 digests may be used.

    A version that is to be signed must not take over what nobody signed: whoever forges a parent can give a
    block the XXH3-128 that the source has and another MD5, which the new version would have, too.
    """
    job, before = of.job, of.parent.version
    if job.signing is None or before is None:
        return True
    path = job.backup_set.path(before.number, ".sig")
    try:
        why = signatures.doubt(job.backup_set.place, path, job.backup_set.base, before, job.signing.trusted)
    except OSError as error:
        why = str(error.strerror)
    if why:
        there = ".sig" in job.backup_set.listing().versions.get(before.number, ())
        log = of.log.warn if there else of.log.note
        log(f"version {before.number} is not signed with this key ({why}): comparing the MD5 of every block")
    return not why


def _open(begun: _Begun) -> Opened:
    """Return the open volume; a snapshot's values are checked again."""
    opened = begun.scan.opened(begun.found, begun.of.block_size)
    if opened is not begun.found:
        begun.of.accept(opened, keep_xxh=begun.compared.keep_xxh)
    return opened


def _hints(of: Continuation, compared: Comparison) -> HintRequest | None:
    """Return what the agent needs for hints, if they are asked for."""
    wanted, before = of.job.wanted, of.parent
    if not wanted.hints:
        return None
    # the digests of all blocks that a whole comparison is for come only of blocks that are read
    whole = before.version is not None and (wanted.rescan or compared.other_digests)
    return HintRequest(before.number, before.parent_number, before.link, whole)


def _write(begun: _Begun, opened: Opened, facts: dict[str, Any] | None, cores: int) -> Outcome:
    """Write what the agent reads, and publish it; `facts` are the lock's."""
    try:
        return _write_pass(begun, opened, facts, cores)
    except HintWrong as error:
        begun.of.log.warn(_wrong(begun.of.parent, error.offset))
        return _write_pass(begun, opened, facts, cores)


def _wrong(before: Parent, offset: int) -> str:
    """Return the warning for a hint that left out the block at an offset."""
    line = f"a hint left out the block at byte {offset}, so the whole volume is read"
    since = None
    for version in reversed(before.links):
        hint = version.manifest.value.get("hint") if version.manifest is not None else None
        if not isinstance(hint, dict) or hint.get("method") != "thin_delta" or hint.get("wrong") is not None:
            break
        since = version.number
    if since is not None:
        line += f"; versions {since} to {before.number - 1}, which were read by hints, may have older bytes there"
    return line


def _write_pass(begun: _Begun, opened: Opened, facts: dict[str, Any] | None, cores: int) -> Outcome:
    """Write what the agent reads, and publish it.  Raises HintWrong if a second pass follows."""
    job, before = begun.of.job, begun.of.parent
    codec = codecs.BY_SUFFIX[job.wanted.suffix]
    new = NewVersion(job.backup_set, before.number, codec, begun.of.block_size, begun.compared.keep_xxh)
    try:
        totals = begun.scan.read(
            begun.compared, new, codec, opened.size, cores, lambda length: job.progress(length, opened.size)
        )
        value = _manifest(begun, opened, totals, facts)
        new.publish(value, totals.payload, lambda: before.check(job.backup_set), job.signing)
    finally:
        new.discard()
    begun.scan.finish((before.number, new.hashes()["md5"]) if totals.keeps else None)
    return Outcome(
        name=job.backup_set.name,
        version=before.number,
        kind=value.kind,
        size=opened.size,
        block_size=begun.of.block_size,
        blocks=totals.blocks,
        changed=totals.changed,
        zero=totals.zero,
        read=totals.read,
        wire=value.bytes.wire,
        payload=totals.payload,
        stored=new.stored,
        seconds=(now() - begun.time).total_seconds(),
        consistency=value.consistency,
        hint=value.hint,
        warnings=begun.of.log.warnings,
    )


def _manifest(
    begun: _Begun, opened: Opened, totals: "receiver.Totals", facts: dict[str, Any] | None
) -> manifest.NewManifest:
    """Return the manifest without its files."""
    job, before, session = begun.of.job, begun.of.parent, begun.scan.session
    consistency, snapshot = "none", None
    if opened.snapshot is not None:
        consistency = "application" if facts is not None and opened.holds else "crash"
        end = totals.snapshot or {"fill": None, "size": None, "extended": None}
        snapshot = manifest.Snapshot(
            name=opened.snapshot["name"],
            size=end["size"],
            fill_at_begin=opened.snapshot["fill"],
            fill_at_end=end["fill"],
            extended=end["extended"],
        )
    return manifest.NewManifest(
        blockdiff=__version__,
        set=job.backup_set.base,
        version=before.number,
        parent=before.parent_number,
        parent_md5_sha256=before.link,
        begun=stamp(begun.time),
        ended=stamp(now()),
        source=manifest.Source(session.host, job.wanted.path, opened.kind, opened.size, opened.lv_uuid),
        block_size=begun.of.block_size,
        blocks=manifest.Blocks(totals.blocks, totals.changed, totals.zero),
        bytes=manifest.Transfer(totals.read, totals.payload, session.wire),
        quiesce=facts,
        snapshot=snapshot,
        consistency=consistency,
        moment=begun.moment,
        hint=totals.hint,
        agent=manifest.Agent(
            python=session.hello.python,
            digest=begun.compared.compared,
            codec=session.hello.codec if job.wanted.pack_wire else "none",
            sha256=push.bundle_sha256(job.wanted.snapshot != NONE),
        ),
    )
