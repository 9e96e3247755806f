"""A version that is being written: gone without a trace when it is discarded; times as manifests have them."""

import datetime
import hashlib
import os

import chains
import pytest

from blockdiff import codecs
from blockdiff.sets import newversion
from blockdiff.sets.newversion import NewVersion


@pytest.mark.parametrize(
    "codec, suffixes",
    [
        (codecs.GZIP, {".gz", ".md5", ".xxh128", ".idx"}),
        (codecs.PLAIN, {"", ".md5", ".xxh128"}),
        (codecs.LZOP, {".lzop", ".md5", ".xxh128"}),
    ],
    ids=["gzip", "plain", "lzop"],
)
def test_its_files_are_temporary_until_it_is_discarded(codec, suffixes, tmp_path):
    backup_set = chains.new_set(tmp_path)
    draft = NewVersion(backup_set, 1, codec, 512, keep_xxh=True)
    draft.md5(b"x" * 16)

    assert {name.partition(".r")[0] for name in os.listdir(tmp_path)} == {f"vol.1{suffix}" for suffix in suffixes}
    assert draft.hashes() == {
        "md5": hashlib.sha256(b"\0\2\0\0" + b"x" * 16).hexdigest(),
        "xxh128": hashlib.sha256(b"\0\2\0\0").hexdigest(),
    }
    draft.discard()
    assert not os.listdir(tmp_path)


def test_times_are_utc_to_the_second():
    time = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC)

    assert newversion.stamp(time) == "2026-01-02T03:04:05Z"
    assert newversion.now().tzinfo is datetime.UTC
