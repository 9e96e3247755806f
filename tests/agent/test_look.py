"""What is said of a volume before anything is read."""

import json

import pytest

from agent import look
from agent.errors import AgentError
from blockdiff.wire import messages
from blockdiff.wire.request import Request, SnapshotRequest

MAY_BE = SnapshotRequest(None, "set", "run", must=False, verbose=False)


def asked(path, **fields):
    return Request(str(path), 100, "md5", 60.0, **fields)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "vol"
    path.write_bytes(b"x" * 202)
    (tmp_path / "link").symlink_to(path)
    return path


def test_the_path_that_the_set_knows_leads_to_the_same_volume_or_not(volume):
    assert not look.same(asked(volume))
    assert look.same(asked(volume, known=str(volume.parent / "link")))
    assert not look.same(asked(volume, known=str(volume.parent)))
    assert not look.same(asked(volume, known="/nonexistent"))


@pytest.mark.parametrize("snapshot", [None, MAY_BE])
def test_a_file_is_described_and_its_users_only_if_asked_for(volume, snapshot):
    with open(volume, "r+b"):
        for users in (False, True):
            kind, payload = look.answer(asked(volume, users=users, snapshot=snapshot), [].append)
            found = json.loads(payload)
            # this process is one of them
            assert (found.pop("users") is not None) is users
            assert (kind, found) == (messages.OPENED, {"size": 202, "kind": "file", "same": False})


def test_a_volume_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(AgentError, match="No such file"):
        look.answer(asked(tmp_path / "missing"), [].append)


def test_what_must_be_a_logical_volume_is_refused(volume):
    with pytest.raises(AgentError, match="not a logical volume"):
        look.answer(asked(volume, snapshot=MAY_BE._replace(must=True)), [].append)
