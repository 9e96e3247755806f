"""What an agent says of a logical volume that waits for its snapshot."""

import pytest
from hostile import FIRST, HONEST, Set, put_together, raw, talk

from blockdiff.errors import ProtocolBroken
from blockdiff.source.prepared import Prepared, decode_prepared
from blockdiff.wire import messages

STAYS = {"played": {"endless": raw(messages.PING)}}  # there is more to be sent to it
TAKEN = talk(messages.TAKEN)


def test_it_is_what_the_agent_sent():
    _, payload = talk(messages.READY, size=7, kind="lvm-thin", lv_uuid="a-b", same=False, room=None)
    assert decode_prepared(payload) == Prepared(7, "lvm-thin", "a-b", False, None)


@pytest.mark.parametrize("changes", [
    {}, {"size": -1}, {"size": 1.5}, {"kind": "file"}, {"room": "1"}, {"room": -1}, {"same": None},
    {"lv_uuid": "\x1b[31m"}, {"lv_uuid": "x" * 65},
])  # fmt: skip
def test_what_waits_for_its_snapshot_is_told_as_it_must_be(changes):
    value = {"size": len(FIRST), "kind": "lvm-thick", "lv_uuid": "x", "same": True, "room": None, **changes}
    ready = talk(messages.READY, **value) if changes else talk(messages.READY)
    with Set(1) as it:
        error = it.refuses(put_together([HONEST[1][0], ready, TAKEN, *HONEST[1][1:]]), **STAYS)
        assert isinstance(error, ProtocolBroken)
