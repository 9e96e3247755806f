"""The receiver: what it writes is what was sent, in order, and counts and digests agree at the end."""

import types

import pytest
import xxhash
from hostile import BLOCK, FIRST, HONEST, end

from blockdiff import codecs
from blockdiff.errors import ProtocolBroken
from blockdiff.formats import difffile, digestfile
from blockdiff.ingest.comparison import Comparison
from blockdiff.ingest.receiver import Receiver

SPOKEN = HONEST[1][2:-1]  # extents and data, and the end


class Kept:
    """A Writer that keeps all in memory."""

    def __init__(self):
        self.parts = {"diff": b"", "index": [], "md5": b"", "xxh128": b""}

    def diff(self, data):
        self.parts["diff"] += data

    def index(self, member):
        self.parts["index"].append(member)

    def md5(self, data):
        self.parts["md5"] += data

    def xxh128(self, data):
        self.parts["xxh128"] += data

    def hashes(self):
        import hashlib

        header = digestfile.encode_header(BLOCK)
        return {kind: hashlib.sha256(header + self.parts[kind]).hexdigest() for kind in ("md5", "xxh128")}


def received(spoken, threads=2):
    frames = iter([(kind, memoryview(payload)) for kind, payload in spoken])
    session = types.SimpleNamespace(receive=lambda: next(frames), free=lambda places: None, host="db00", shared=None)
    kept, done = Kept(), []
    work = Receiver(session, kept, codecs.PLAIN, len(FIRST), Comparison(BLOCK, "xxh128"), done.append)
    return work.run(threads), kept.parts, sum(done)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_full_is_every_block_with_both_digests(threads):
    totals, parts, done = received(SPOKEN, threads)
    blocks = [FIRST[place : place + BLOCK] for place in range(0, len(FIRST), BLOCK)]
    records = b"".join(difffile.encode_offset(n * BLOCK) + block for n, block in enumerate(blocks))
    assert parts["diff"] == difffile.encode_header(BLOCK) + records
    assert parts["xxh128"] == b"".join(map(xxhash.xxh3_128_digest, blocks))
    assert len(parts["md5"]) == 16 * len(blocks) == 16 * totals.blocks
    assert (totals.changed, totals.zero, totals.read, totals.stored) == (12, 3, len(FIRST), len(parts["diff"]))
    assert done == len(FIRST)


@pytest.mark.parametrize("changes, complaint", [
    ({"changed": 11}, "it counted 11 changed blocks"), ({"zero": 4}, "it counted 4 zero blocks"),
    ({"read": len(FIRST) + 1}, "it read"), ({"digests": {}}, "the xxh128 digests differ"),
])  # fmt: skip
def test_an_end_that_does_not_agree_is_refused(changes, complaint):
    last = end(FIRST, BLOCK, **{"changed": 12, "zero": 3, **changes})
    with pytest.raises(ProtocolBroken, match=complaint):
        received([*SPOKEN[:-1], last])


def test_an_end_before_the_volumes_is_refused():
    with pytest.raises(ProtocolBroken, match="before the volume"):
        received([*SPOKEN[:2], SPOKEN[-1]])
