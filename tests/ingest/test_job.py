"""What the next version of a job's set continues, and which volumes it accepts."""

import dataclasses

import pytest
from engine import back_up, local_agent

from blockdiff.errors import BlockSizeDiffers, NoRoom, SourceChanged
from blockdiff.ingest.job import Job, JobLog, continued
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.opened import Opened
from blockdiff.source.wanted import AUTO, NONE, Wanted

SIZE, BLOCK = 10_000, 4096


@pytest.fixture
def job(tmp_path):
    (tmp_path / "vol").write_bytes(b"x" * SIZE)
    back_up(tmp_path / "db", tmp_path / "vol", block_size=BLOCK)
    return Job(BackupSet(str(tmp_path / "db")), Wanted(str(tmp_path / "vol")), local_agent(), label="db from vol")


def wanting(job, **changes):
    return dataclasses.replace(job, wanted=dataclasses.replace(job.wanted, **changes))


def test_warnings_bear_the_label_and_are_kept():
    lines = []
    log = JobLog(Job(None, None, None, label="db"), lines.append, lines.append)
    log.warn("careful")
    log.note("fine")
    assert (lines, log.warnings) == (["db: careful", "fine"], ["careful"])


def test_the_sets_block_size_counts_unless_a_full_is_made(job):
    log = JobLog(job, print, print)
    with continued(job, 1, log) as of:
        assert (of.parent.number, of.block_size) == (2, BLOCK)
    with continued(wanting(job, full=True, block_size=512), 1, log) as of:
        assert (of.parent.version, of.block_size) == (None, 512)
    with pytest.raises(BlockSizeDiffers), continued(wanting(job, block_size=512), 1, log):
        pass


def test_the_volume_must_be_the_sets_and_have_room(job):
    with continued(job, 1, JobLog(job, print, print)) as of:
        of.accept(Opened(SIZE, "file", same=True), keep_xxh=True)
        with pytest.raises(SourceChanged):
            of.accept(Opened(SIZE // 3, "file", same=True), keep_xxh=True)
    with continued(wanting(job, new_source=True), 1, JobLog(job, print, print)) as of, pytest.raises(NoRoom):
        of.accept(Opened(1 << 60, "file", same=True), keep_xxh=True)


@pytest.mark.parametrize("snapshot, warned", [(AUTO, 1), (NONE, 0)])
def test_a_volume_that_is_written_to_is_warned_of_unless_it_is_meant(job, snapshot, warned):
    notes = []
    log = JobLog(job, print, notes.append)
    with continued(wanting(job, snapshot=snapshot), 1, log) as of:
        of.accept(Opened(SIZE, "file", same=True, users="mariadbd"), keep_xxh=True)
    assert (len(log.warnings), len(notes)) == (warned, 1 - warned)


def test_a_version_takes_its_digest_files_at_least(job):
    with continued(job, 1, JobLog(job, print, print)) as of:
        assert of.least(SIZE, keep_xxh=True) == 2 * of.least(SIZE, keep_xxh=False) > 0
