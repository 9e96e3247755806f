"""Memory shared with a local agent: the same versions as through the wire, and no way to be stuck or fooled."""

import json
import os
import random
import sys

import pytest
from engine import back_up, files_of, restored
from hostile import Played, data, end, extent, hello, opened, put_together
from xxhash import xxh3_128_digest

from blockdiff.errors import ProtocolBroken
from blockdiff.source import push
from blockdiff.transport.local import LocalTransport
from blockdiff.transport.sharedmemory import SIZE, Shared
from blockdiff.wire import messages
from blockdiff.wire.messages import CHANGED

MIB = 1 << 20
BLOCK = 65536


def through_the_wire():
    return LocalTransport(push.local_command())


def wire_of(folder, number):
    return json.loads((folder / f"set.{number}.json").read_text())["bytes"]["wire"]


def change(path, places, seed):
    """Write chance bytes at these places of a file."""
    choose = random.Random(seed)
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place)
            file.write(choose.randbytes(4096))


PATTERNS = {
    "one block of each extent": range(0, 40 * MIB, MIB),  # small pieces must not hold all the memory
    "half of the blocks": range(0, 40 * MIB, 2 * BLOCK),
    "all but every fourth": [place for place in range(0, 40 * MIB, BLOCK) if place // BLOCK % 4],
    "all": range(0, 40 * MIB, BLOCK),
    "none": (),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_shared_is_what_would_be_sent(pattern, tmp_path):
    volume = tmp_path / "volume"
    volume.write_bytes(random.Random(1).randbytes(40 * MIB + 100))
    for folder, connect in ((tmp_path / "shared", None), (tmp_path / "sent", through_the_wire)):
        folder.mkdir()
        volume.write_bytes(random.Random(1).randbytes(40 * MIB + 100))
        back_up(folder / "set", volume, connect=connect)
        change(volume, PATTERNS[pattern], 2)
        back_up(folder / "set", volume, connect=connect)
    shared, sent = files_of(tmp_path / "shared"), files_of(tmp_path / "sent")
    assert {name: text for name, text in shared.items() if not name.endswith(".json")} == {
        name: text for name, text in sent.items() if not name.endswith(".json")
    }
    assert restored(tmp_path / "shared" / "set", 2, tmp_path / "out") == volume.read_bytes()
    assert wire_of(tmp_path / "shared", 1) < MIB < 40 * MIB < wire_of(tmp_path / "sent", 1)


@pytest.mark.parametrize("block_size", [1000, 300_000, 1_300_000, 5 * MIB])
def test_blocks_of_any_size(block_size, tmp_path):
    volume = tmp_path / "volume"
    volume.write_bytes(os.urandom(21 * MIB + 17))
    for number in (1, 2):
        back_up(tmp_path / "set", volume, block_size=block_size)
        assert restored(tmp_path / "set", number, tmp_path / "out") == volume.read_bytes()
        change(volume, [5, 3 * MIB, 20 * MIB], number)


def test_memory_that_does_not_reach_the_agent_is_done_without(tmp_path):
    """As when sudo closes what it does not know."""
    (tmp_path / "volume").write_bytes(os.urandom(4 * MIB))
    closing = "import os,sys; os.closerange(3, 256); os.execvp(sys.argv[1], sys.argv[1:])"

    def connect():
        return LocalTransport([sys.executable, "-c", closing, *push.local_command()], share=True)

    back_up(tmp_path / "set", tmp_path / "volume", connect=connect)
    assert wire_of(tmp_path, 1) > 4 * MIB
    assert restored(tmp_path / "set", 1, tmp_path / "out") == (tmp_path / "volume").read_bytes()


def test_the_memory_cannot_be_made_smaller():
    shared = Shared()
    try:
        for size in (0, SIZE - 1, SIZE + 1):
            with pytest.raises(OSError):
                os.ftruncate(shared.fd, size)
        assert len(shared.view) == SIZE and shared.view.readonly
    finally:
        shared.close()


# what an agent may say of shared memory

VOLUME = random.Random(3).randbytes(4 * BLOCK)
HEAD = [hello(), opened(len(VOLUME))]
EXTENT = extent(0, [(CHANGED, 4)], b"".join(xxh3_128_digest(VOLUME[i : i + BLOCK]) for i in range(0, len(VOLUME), BLOCK)))
TAIL = [end(VOLUME, BLOCK, changed=4, zero=0), (messages.LEFT, b'{"remains":null}')]
LENGTH = len(VOLUME)


class Lending(Played):
    """Played, by somebody who shares memory."""

    def __init__(self, stream, content, place):
        super().__init__(stream)
        self.shared = Shared()
        os.pwrite(self.shared.fd, content, place)
        self.shared.close()


def lent(*places):
    return data(messages.encode_places(places), messages.SHARED, LENGTH)


def test_what_lies_in_the_memory_is_taken(tmp_path):
    stream = put_together([*HEAD, EXTENT, lent(7), *TAIL])
    back_up(tmp_path / "set", "/vol", connect=lambda: Lending(stream, VOLUME, 7), block_size=BLOCK)
    assert restored(tmp_path / "set", 1, tmp_path / "out") == VOLUME


@pytest.mark.parametrize(
    "frame",
    [
        lent(SIZE - LENGTH + 1),
        lent((1 << 64) - 1),
        lent(7, 7),
        data(b"", messages.SHARED, LENGTH),
        data(bytes(7), messages.SHARED, LENGTH),
        lent(8),  # other bytes than those that were told of
    ],
)
def test_a_place_that_cannot_be_is_refused(frame, tmp_path):
    stream = put_together([*HEAD, EXTENT, frame, *TAIL])
    with pytest.raises(ProtocolBroken):
        back_up(tmp_path / "set", "/vol", connect=lambda: Lending(stream, VOLUME, 7), block_size=BLOCK)
    with pytest.raises(ProtocolBroken):  # and any place where no memory was shared
        back_up(tmp_path / "set", "/vol", connect=lambda: Played(stream), block_size=BLOCK)
    assert [path.name for path in tmp_path.iterdir()] == ["set.lock"]
