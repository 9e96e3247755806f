"""A file under its temporary name: counted, hashed, and never in the place of somebody else's."""

import errno
import hashlib
import os

import pytest

from blockdiff.errors import ForeignFiles, NoRoom, StoreFailed
from blockdiff.formats import names
from blockdiff.place import partfile
from blockdiff.place.partfile import Busy, PartFile

RUN = names.run_name(b"\x11" * 8)


def written(folder, data=b"some bytes"):
    part = PartFile(str(folder), "db.1.gz", RUN)
    part.write(data)
    part.close()
    return part


def test_what_was_written_is_counted_and_hashed(tmp_path):
    part = written(tmp_path)

    assert (part.stored().size, part.stored().sha256) == (10, hashlib.sha256(b"some bytes").hexdigest())
    assert os.listdir(tmp_path) == [f"db.1.gz.{RUN}.part"]
    part.publish()
    assert os.listdir(tmp_path) == ["db.1.gz"] and part.has_its_name()
    part.discard()
    assert (tmp_path / "db.1.gz").read_bytes() == b"some bytes"


def test_what_another_process_wrote_is_taken_over(tmp_path):
    part = PartFile(str(tmp_path), "db.1.gz", RUN)
    os.write(part.fileno(), b"theirs")
    part.close()
    part.take_over()

    assert (part.size, part.sha256()) == (6, hashlib.sha256(b"theirs").hexdigest())
    part.discard()


def test_a_name_that_somebody_has_is_not_taken(tmp_path):
    (tmp_path / "db.1.gz").write_bytes(b"somebody's")
    part = written(tmp_path)

    with pytest.raises(ForeignFiles, match="made by another run"):
        part.publish()

    assert not part.has_its_name() and part.withdraw()
    part.discard()
    assert (tmp_path / "db.1.gz").read_bytes() == b"somebody's"
    assert os.listdir(tmp_path) == ["db.1.gz"]


def test_what_was_published_can_be_withdrawn(tmp_path):
    part = written(tmp_path)
    part.publish()

    assert part.withdraw() and not os.listdir(tmp_path)
    part.release()


def test_what_a_run_that_lives_writes_is_not_removed(tmp_path):
    part = written(tmp_path)

    with pytest.raises(Busy):
        partfile.lock_alone(part.path)
    assert not partfile.remove_dead(part.path) and os.path.exists(part.path)
    part.release()
    assert partfile.remove_dead(part.path) and not os.path.exists(part.path)


@pytest.mark.parametrize("number, error", [(errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EIO, StoreFailed)])
def test_a_write_that_fails_has_the_error_of_its_cause(number, error):
    assert type(partfile.write_failed(OSError(number, os.strerror(number)), "/b/db.1.gz")) is error
