"""One scan, from the question to the agent's end; and what follows a lost connection."""

import os

import pytest
from engine import local_agent
from hostile import HONEST, Played, put_together, raw, talk

from blockdiff import codecs
from blockdiff.errors import AgentDied, DamagedFile
from blockdiff.formats import difffile
from blockdiff.ingest.comparison import Comparison
from blockdiff.ingest.scan import Scan
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.wanted import Wanted
from blockdiff.wire import messages

BLOCK = 4096


class Discard:
    """A Writer that counts."""

    def __init__(self):
        self.size = 0

    def diff(self, data):
        self.size += len(data)

    def index(self, member):
        pass

    def md5(self, digests):
        self.digests = getattr(self, "digests", b"") + bytes(digests)

    def xxh128(self, digests):
        self.other = getattr(self, "other", b"") + bytes(digests)

    def hashes(self):
        import hashlib

        from blockdiff.formats import digestfile

        header = digestfile.encode_header(BLOCK)
        return {
            kind: hashlib.sha256(header + found).hexdigest() for kind, found in (("md5", self.digests), ("xxh128", self.other))
        }


def test_a_volume_is_asked_for_read_and_finished(tmp_path):
    path = tmp_path / "vol"
    path.write_bytes(os.urandom(5 * BLOCK + 1))
    lines, done, writer = [], [], Discard()
    wanted = Wanted(str(path), threads=2)
    with Scan(wanted, local_agent(), "tag", warn=lines.append, note=lines.append) as scan:
        comparison = Comparison(BLOCK, scan.session.hello.digest)
        found = scan.ask(comparison, str(path))
        assert isinstance(found, Opened) and found.same
        assert scan.opened(found, BLOCK) is found
        totals = scan.read(comparison, writer, codecs.PLAIN, found.size, 1, done.append)
        scan.finish()
    assert (totals.blocks, totals.changed, sum(done)) == (6, 6, 5 * BLOCK + 1)
    assert writer.size == difffile.HEADER_SIZE + 6 * difffile.OFFSET_SIZE + 5 * BLOCK + 1
    assert lines == []


READY = talk(messages.READY, size=9, kind="lvm-thick", lv_uuid="x", same=True, room=None)
TAKEN = talk(messages.TAKEN)
ASKS = {"a lost connection": (AgentDied("db00", "gone"), 2), "an error of ours": (DamagedFile("x", "y"), 1)}


@pytest.mark.parametrize("error, connections", ASKS.values(), ids=ASKS)
def test_after_a_lost_connection_the_snapshot_is_looked_for_once(error, connections):
    made, lines = [], []

    def connect():
        made.append(Played(put_together([HONEST[1][0], READY, TAKEN]), endless=raw(messages.PING)))
        return made[-1]

    scan = Scan(Wanted("/vol", timeout_s=2.0), connect, "tag", warn=lines.append, note=lines.append)
    with pytest.raises(type(error)), scan:
        assert isinstance(scan.ask(Comparison(BLOCK, "md5")), Prepared)
        scan.failed(error)
        raise error
    assert len(made) == connections


def test_what_the_agent_leaves_is_a_warning_and_all_else_a_note():
    notes, warnings = [], []
    spoken = [talk(messages.NOTE, text="cannot remove vg/s"), talk(messages.NOTE, text="thin pool is 9 % full")]
    stream = put_together([HONEST[1][0], *spoken, HONEST[1][1]])
    with Scan(Wanted("/vol"), lambda: Played(stream), "tag", warn=warnings.append, note=notes.append) as scan:
        scan.ask(Comparison(BLOCK, "md5"))
    assert (warnings, notes) == (["localhost: cannot remove vg/s"], ["localhost: thin pool is 9 % full"])
