"""A dump: the payload to one output, the digests to another; with the old digests only what changed."""

import hashlib
import io
import os

import pytest
from engine import local_agent

from blockdiff import dump
from blockdiff.errors import BlockSizeDiffers, DamagedFile, NoRoom, NotOurFormat
from blockdiff.formats import difffile, digestfile
from blockdiff.source.wanted import NONE, Wanted

BLOCK = 4096


def digests_of(blocks):
    return digestfile.encode_header(BLOCK) + b"".join(hashlib.md5(block).digest() for block in blocks)


@pytest.fixture
def dumped(tmp_path):
    """Return a function that dumps blocks; it returns (payload, digests, totals)."""

    def dumped(blocks, old=None, **wanted):
        (tmp_path / "vol").write_bytes(b"".join(blocks))
        payload, digests = io.BytesIO(), io.BytesIO()
        asked = Wanted(str(tmp_path / "vol"), **{"suffix": "", "snapshot": NONE, "default_block_size": BLOCK, **wanted})
        old = None if old is None else (io.BytesIO(old), "descriptor 5")
        totals = dump.run(asked, local_agent(), payload, digests, old, cores=2)
        return payload.getvalue(), digests.getvalue(), totals

    return dumped


def records(blocks, *indexes):
    payload = b"".join(difffile.encode_offset(index * BLOCK) + blocks[index] for index in indexes)
    return difffile.encode_header(BLOCK) + payload


def test_all_then_what_changed(dumped):
    blocks = [os.urandom(BLOCK), bytes(BLOCK), os.urandom(BLOCK), b"end"]
    payload, digests, totals = dumped(blocks)
    assert (payload, digests) == (records(blocks, 0, 1, 2, 3), digests_of(blocks))
    assert (totals.blocks, totals.changed, totals.zero) == (4, 4, 1)
    blocks[2] = os.urandom(BLOCK)
    payload, digests, totals = dumped(blocks, digests)
    assert (payload, digests, totals.changed) == (records(blocks, 2), digests_of(blocks), 1)


@pytest.mark.parametrize("old, wanted, error", [
    (digests_of([b"x"])[:-1], {}, DamagedFile), (b"\0\0\0\0", {}, NotOurFormat),
    (digests_of([b"x"]), {"block_size": 512}, BlockSizeDiffers),
])  # fmt: skip
def test_old_digests_that_do_not_fit_are_refused(dumped, old, wanted, error):
    with pytest.raises(error):
        dumped([b"x"], old, **wanted)


def test_an_output_that_is_full_is_named():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(NoRoom, match="standard output"):
            dump.Descriptor(full, "standard output").write(b"x" * 100)
    finally:
        os.close(full)
