"""An agent's lines in the log: each once, counted, bounded."""

import pytest
from hostile import BLOCK, HONEST, Played, Set, put_together, talk
from memory import peak_below

from blockdiff import backup
from blockdiff.ingest.job import Job
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import notes
from blockdiff.source.wanted import Wanted
from blockdiff.wire import messages

MIB = 1 << 20


def noted(spoken):
    """Back up from an agent that says this; returns the lines for the log."""
    lines, stream = [], put_together(spoken)
    with Set(1) as it, peak_below(10 * MIB):
        wanted = Wanted("/vol", block_size=BLOCK)
        job = Job(BackupSet(str(it.folder / "set")), wanted, lambda: Played(stream))
        assert backup.run(job, cores=2, note=lines.append).warnings == []
        it.is_whole()
    return lines


def test_a_line_that_is_said_again_and_again_is_logged_once_and_counted():
    """As LVM's warnings, once a second for hours; the run is none the worse for it."""
    warning = [talk(messages.NOTE, text="lvs: WARNING: a device is missing")] * 3000
    other = [talk(messages.NOTE, text="lvs: another")]
    lines = noted([HONEST[1][0], *warning, HONEST[1][1], *warning, *other, *HONEST[1][2:4], *warning, *HONEST[1][4:]])
    assert lines == [
        "localhost: lvs: WARNING: a device is missing",
        "localhost: lvs: another",
        "localhost: lvs: WARNING: a device is missing (repeated 8999 times)",
    ]


@pytest.mark.parametrize("length, most", [(10, notes.MAX_LINES), (2000, notes.MAX_SIZE // 2000), (60_000, 5)])
def test_more_lines_than_anybody_reads_are_dropped_and_counted(length, most):
    count = 200 if length > 2000 else 2000
    flood = [talk(messages.NOTE, text=f"{number:<{length}}|") for number in range(count)]
    *lines, last = noted([*HONEST[1][:2], *flood, *HONEST[1][2:]])
    assert most - 20 <= len(lines) <= most
    assert last == f"localhost: {count - len(lines)} more lines were dropped"
    assert sum(map(len, lines)) <= notes.MAX_SIZE
